"""Security classes: who the two ends of a connection are, and what protects its packets."""
