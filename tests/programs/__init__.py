"""Programs of everyday let loose on a mount: what they make is judged by programs, not by us."""
