"""`make demo`: a real cell, a mount, a look around."""
