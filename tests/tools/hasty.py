"""`afsfuse` with other times between its looks at servers, for tests that cannot wait for them:

    python -m tests.tools.hasty ANSWERING KEEPALIVE COMMAND …

ANSWERING is how many seconds pass between two probes of a server that answers
(`HealthLimits.answering_interval`), KEEPALIVE those between two packets that keep NATs open
(`Parameters.nat_interval`).
"""

from __future__ import annotations

import sys

from afsfuse import cli
from afsfuse.fileserver.health import HealthLimits
from rxrpc import Parameters


def main() -> int:
    """Entry point; see the head of the file."""
    answering, keepalive, *arguments = sys.argv[1:]
    for kind, field, value in (
        (HealthLimits, "answering_interval", answering),
        (Parameters, "nat_interval", keepalive),
    ):
        defaults = kind.__init__.__kwdefaults__
        assert defaults
        assert field in defaults
        defaults[field] = float(value)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
