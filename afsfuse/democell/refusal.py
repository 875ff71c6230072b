"""How an operation says no."""

from __future__ import annotations

from afsfuse.errors import abort_name


class Refused(Exception):
    """The call is to end with this code: an errno of Linux, or one of the service's own codes.

    An errno is told in the unified form to clients that understand it, unless it is `plain`: some
    calls are refused before the server looks who calls.
    """

    def __init__(self, code: int, why: str = "", *, plain: bool = False) -> None:
        super().__init__(why or abort_name(code))
        self.code = int(code)
        self.plain = plain
