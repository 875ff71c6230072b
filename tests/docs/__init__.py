"""The documentation, held against the program: its commands, its links, its pictures."""
