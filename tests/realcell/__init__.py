"""A real OpenAFS cell on one machine, for tests, demonstrations and measurements.

Hosts are Linux namespaces joined by a bridge; see `cell.RealCell` for the handle that tests hold,
`keeper` for how it all ends with its owner, `dump` for how contents get in without any AFS client,
and `seed` for the standard contents.
"""
