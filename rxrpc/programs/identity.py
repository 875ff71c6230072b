"""Who the programs are, and whom they take calls from: with a keytab, rxkad; nobody otherwise."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rxrpc import (
    NULL,
    LocalError,
    ParseError,
    Principal,
    RxkadClient,
    RxkadServer,
    SecurityLevel,
    ServiceKeys,
)
from rxrpc.programs.failures import EXIT_SYSTEM, EXIT_USAGE, Failure

if TYPE_CHECKING:
    import argparse

    from rxrpc import ClientSecurity, ServerSecurity

_WHO: Final = Principal("afs", "", "")
"""What OpenAFS's servers take for the cell's administrator. Source: auth.h (AUTH_SUPERUSER)"""


def client_security(known: argparse.Namespace) -> ClientSecurity:
    """With which identity to call."""
    if known.keytab is None:
        return NULL
    keys = _keys(known.keytab)
    try:
        return RxkadClient.of_service(keys, _WHO, _level(known), clock=time.time)
    except LocalError as exc:
        raise Failure(f"{known.keytab}: {exc}", EXIT_USAGE) from None


def server_security(known: argparse.Namespace) -> ServerSecurity:
    """Whom to take calls from."""
    if known.keytab is None:
        return NULL
    return RxkadServer(_keys(known.keytab), clock=time.time, min_level=_level(known))


def _level(known: argparse.Namespace) -> SecurityLevel:
    return SecurityLevel[known.level.upper()]


def _keys(path: str) -> ServiceKeys:
    try:
        return ServiceKeys.from_keytab(Path(path).read_bytes())
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror}", EXIT_SYSTEM) from None
    except ParseError as exc:
        raise Failure(f"{path}: {exc}", EXIT_USAGE) from None
