"""XDR as RXGEN speaks it: structures declared once, codecs compiled at import.

A structure is declared like a dataclass, with annotations that say how a field travels::

    @xdr_struct
    class Fid:
        volume: u32
        vnode: u32
        unique: u32

    encode(Fid(1, 2, 3))       # 12 bytes
    decode(Fid, data)          # exactly one Fid and nothing after it, else ParseError

The decorator turns the class into a named tuple: immutable, without an instance dictionary,
hashed and compared in C (a `Fid` is the key of many dictionaries) and built straight from what
one `Struct.unpack_from` gives. Like every named tuple it equals any tuple of the same values, so
values of two different structures must not be mixed as keys of one dictionary.

Neighbouring fields of fixed size, those of nested structures included, are fused into one
`struct.Struct`. No length found in the data makes us allocate more than the bound that its field
declares, nor more than what the data still holds.

Annotations are resolved when the decorator runs: a module whose structures refer to names that
are local to a function must not use ``from __future__ import annotations``.

Source of the encodings: RFC 4506; rx/xdr.c and rx/xdr_afsuuid.c of OpenAFS.
"""

from rxrpc.xdr.fields import AfsUuid, Array, CharVector, Data, Opaque, String, Vector
from rxrpc.xdr.reader import Reader
from rxrpc.xdr.structs import Bool, decode, encode, i8, i16, i32, i64, u32, u64, xdr_struct

__all__ = [
    "AfsUuid",
    "Array",
    "Bool",
    "CharVector",
    "Data",
    "Opaque",
    "Reader",
    "String",
    "Vector",
    "decode",
    "encode",
    "i8",
    "i16",
    "i32",
    "i64",
    "u32",
    "u64",
    "xdr_struct",
]
