"""What is known across the files of a project, and which of them is its handler."""
