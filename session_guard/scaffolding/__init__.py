"""What `session-guard init` writes into a project that has no handler."""
