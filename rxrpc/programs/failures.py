"""How a program ends when it could not do what it was asked for."""

from __future__ import annotations

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_SYSTEM = 2
EXIT_ABORTED = 3
EXIT_BUG = 4
EXIT_NO_REPLY = 5
EXIT_INTERRUPTED = 8

STATUSES = """\
exit status:
  0  done
  1  wrong command line
  2  the system does not allow it: a port, a file, a host name
  3  the call was aborted; the message has the code
  4  a bug of rxrpc
  5  no reply: nobody there, too slow, too busy
  8  interrupted by the user
"""


class Failure(Exception):
    """One line for the user, and the exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
