"""What rxkad ends connections with."""

from __future__ import annotations

import enum


class RxkadCode(enum.IntEnum):
    """Abort codes of rxkad, in the order of rxkad_errs.et of OpenAFS."""

    INCONSISTENCY = 19270400
    PACKET_SHORT = 19270401
    LEVEL_FAIL = 19270402
    TICKET_LENGTH = 19270403
    OUT_OF_SEQUENCE = 19270404
    NO_AUTH = 19270405
    BAD_KEY = 19270406
    BAD_TICKET = 19270407
    UNKNOWN_KEY = 19270408
    EXPIRED = 19270409
    SEALED_INCONSISTENT = 19270410
    DATA_LENGTH = 19270411
    ILLEGAL_LEVEL = 19270412
