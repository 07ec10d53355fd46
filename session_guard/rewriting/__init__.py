"""From rewrites, which are nodes, to edits of the bytes of a file and of its imports."""
