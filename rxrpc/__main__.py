"""`python -m rxrpc`: see `rxrpc.programs.cli`."""

import sys

from rxrpc.programs.cli import main

if __name__ == "__main__":
    sys.exit(main())
