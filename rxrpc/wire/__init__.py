"""Bytes and values: what each Rx packet looks like on the wire, and nothing of what it means."""
