"""Programs around the real cell: a long line, and the client that this project measures up to."""
