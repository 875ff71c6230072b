"""An AFS cell in one process: for trying AFS out, and for tests. Not for data that matters.

`DemoCell` is a real server of the protocol, built on `rxrpc` and on the same RPC tables as the
client: location, file, protection and authentication service. Callers are anonymous, or users who
come with tickets of the cell's own making; what each may do is said by the access lists. Volumes
live in memory, or in a folder.

What a service does on the wire follows OpenAFS's servers (src/viced, src/vlserver, src/ptserver,
src/kauth); `tests/cell` asks the same of both.
"""

from afsfuse.democell.cell import DemoCell

__all__ = ["DemoCell"]
