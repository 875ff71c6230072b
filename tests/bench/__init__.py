"""This project beside `afsd.fuse`, on the same cell in the same run: `make bench`."""
