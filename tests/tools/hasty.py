"""`afsfuse` with other times than its own, for tests that cannot wait for those:

    python -m tests.tools.hasty PLACE=SECONDS … -- COMMAND …

A PLACE is where the source has a number of seconds: a module's constant, or the default of a
class's, such as `afsfuse.fileserver.health.HealthLimits.answering_interval`. A place that is not
there ends the program.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys

from afsfuse import cli

PROBES = "afsfuse.fileserver.health.HealthLimits.answering_interval"
"""Between two probes of a server that answers."""
KEEPALIVE = "rxrpc.Parameters.nat_interval"
"""Between two packets that keep NATs open."""
RENEWALS = "afsfuse.auth.renewing.LOOK_SECONDS"
"""Between two looks at which tokens are to be renewed."""


DEAD = "afsfuse.fileserver.limits.RetryLimits.dead_time"
"""Until a call ends at the only file server left, when that is silent."""
AGAIN = "afsfuse.fileserver.health.HealthLimits.probe_interval"
"""Between two probes of a server that is silent."""
UNLOCATED = "afsfuse.cell.location.LocationLimits.failure_memory"
"""Until location servers are asked again of which none answered."""


def settings(**times: float) -> list[str]:
    """Places with their seconds: `settings(PROBES=4.0)`."""
    return [f"{globals()[name]}={seconds}" for name, seconds in times.items()]


def program(**times: float) -> tuple[str, ...]:
    """What Python is to run, but for the command's own words; without any time `afsfuse` itself."""
    if not times:
        return ("-m", "afsfuse")
    return ("-m", __name__, *settings(**times), "--")


def hasten(place: str, seconds: float) -> None:
    """Raises LookupError."""
    owner, _, name = place.rpartition(".")
    found = pkgutil.resolve_name(owner)
    defaults = found.__init__.__kwdefaults__ if inspect.isclass(found) else vars(found)
    if not defaults or not isinstance(defaults.get(name), float):
        raise LookupError(f"no number of seconds at {place}")
    defaults[name] = seconds


def hasten_all(words: list[str]) -> None:
    """What `settings` says, done in this process. Raises LookupError."""
    for place, _, seconds in (each.partition("=") for each in words):
        hasten(place, float(seconds))


def main() -> int:
    """Entry point; see the head of the file."""
    end = sys.argv.index("--")
    hasten_all(sys.argv[1:end])
    return cli.main(sys.argv[end + 1 :])


if __name__ == "__main__":
    sys.exit(main())
