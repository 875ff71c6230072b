"""Hypothesis strategies for XDR structures, derived from their declarations."""

import struct
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from rxrpc.xdr.fields import AfsUuid, Array, CharVector, Flag, Opaque, String, Vector, Word

_LISTED = 3  # elements of a counted array; more of them make slow tests and find nothing new


def values(cls: type) -> st.SearchStrategy[Any]:
    """Instances of an `@xdr_struct` class."""
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{name: of_hint(hint) for name, hint in hints.items()})


def of_hint(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field with this annotation."""
    if isinstance(hint, type):
        return values(hint)
    base, mark = get_args(hint)[:2]
    match mark:
        case Flag():
            return st.booleans()
        case Word():
            return _numbers(mark.load_format)
        case CharVector():
            return _strings(mark.length)
        case AfsUuid():
            return st.uuids()
        case String():
            return _strings(min(mark.max, 40))
        case Opaque():
            return st.binary(max_size=min(mark.max, 40))
        case Array():
            element = of_hint(get_args(base)[0])
            return st.lists(element, max_size=min(mark.max, _LISTED)).map(tuple)
        case Vector():
            return st.tuples(*[of_hint(get_args(base)[0])] * mark.length)
    raise AssertionError(f"no strategy for {hint!r}")


def _numbers(code: str) -> st.SearchStrategy[int]:
    bits = 8 * struct.calcsize("!" + code.lstrip("0123456789x"))
    if code[-1].isupper():
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _strings(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=length).map(lambda value: value.replace(b"\0", b"\xff"))
