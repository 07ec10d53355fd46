"""The built-in rules, one file each. They are found by walking this package."""
