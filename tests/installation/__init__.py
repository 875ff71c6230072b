"""What is installed: wheel, sdist, and the files that `make install` puts into their places."""
