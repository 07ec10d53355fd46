"""`python -m session_guard`."""

from session_guard.cli import main

main()
