"""The commands beside `mount` and `umount`, one a file; `cli` loads the one that is run.

Each has `main(arguments)`, which returns the exit status, and raises `AfsError` with the line that
the user is to see. Start-up counts here: nothing loads an event loop, rxrpc or FUSE.
"""

import sys

from afsfuse.errors import printable

COMMANDS = {
    "config": "show what is set, and where it comes from",
    "aklog": "get tokens with the Kerberos tickets that you have",
    "check": "look over the installation, and say what to do",
    "fs": "access lists, quotas and more, as OpenAFS's fs",
    "klog": "get a token with a password or a keytab",
    "tokens": "show your tokens",
    "unlog": "drop your tokens",
    "log": "show or change how much the daemons log",
    "mounts": "show which volumes are in use, and what holds them",
    "pagsh": "start a shell whose tokens are its own",
    "serverprefs": "show file servers, and say which to ask first",
    "status": "show servers, caches, calls, tokens, and what is not stored yet",
    "top": "watch the mounts, live",
    "trace": "show what goes on, event by event",
    "why": "say what a path hangs on, or where its answer came from",
}
"""What the help says of each."""


def complain(message: str) -> None:
    """One line on standard error, whatever is in the message."""
    print(f"afsfuse: {printable(' '.join(message.split()))}", file=sys.stderr)
