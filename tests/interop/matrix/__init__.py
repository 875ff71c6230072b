"""Faults of a cell, each met by five loads at once on one mount; see docs/reliability.md."""
