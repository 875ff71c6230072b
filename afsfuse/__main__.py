"""`python -m afsfuse`: the command line."""

import sys

from afsfuse.cli import main

if __name__ == "__main__":
    sys.exit(main())
