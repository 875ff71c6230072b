"""Who asks, and how the servers are told."""
