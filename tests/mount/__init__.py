"""A toy file system behind a real kernel mount: what the fuse room promises, seen from outside."""
