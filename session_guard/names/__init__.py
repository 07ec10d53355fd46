"""What names are bound to and what they stand for; nothing is imported or run to find out."""
