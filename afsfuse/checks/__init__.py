"""Looks an installation over: `machine` (FUSE, files), `kerberos` (the KDC's clock), `cell`.

Each finding is one line: what was looked at, how it is, and what to do if it is not well. Nothing
is changed by looking. What is asked for over the network has a bound each, and all go at once.
"""

from afsfuse.checks.findings import Finding, State

__all__ = ["Finding", "State"]
