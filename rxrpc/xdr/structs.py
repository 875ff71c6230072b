"""The decorator that compiles a structure, and the two functions that use what it made."""

import struct
from collections import namedtuple
from collections.abc import Iterator, Sequence
from typing import (
    Annotated,
    Any,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from rxrpc.errors import LocalError, ParseError
from rxrpc.xdr.fields import (
    Array,
    ArrayField,
    Data,
    Fixed,
    Flag,
    Names,
    Read,
    StructField,
    Variable,
    Vector,
    VectorField,
    Word,
    Write,
)

T = TypeVar("T")

u32 = Annotated[int, Word("I")]
i32 = Annotated[int, Word("i")]
u64 = Annotated[int, Word("Q")]
i64 = Annotated[int, Word("q")]
Bool = Annotated[bool, Flag("I")]
# `char` and `short`, on which RXGEN spends a word each; C looks at the low bytes only.
i8 = Annotated[int, Word("3xb", "i")]
i16 = Annotated[int, Word("2xh", "i")]

_FIELDS: dict[type, Fixed | Variable] = {}  # a structure as a field of another
_READERS: dict[type, Read] = {}
_WRITERS: dict[type, Write] = {}


@dataclass_transform(frozen_default=True)
def xdr_struct(cls: type[T]) -> type[T]:
    """Class decorator: an immutable structure with a codec. See the package's docstring."""
    hints = get_type_hints(cls, include_extras=True)
    own = vars(cls)
    defaults = [own[name] for name in hints if name in own]
    make: Any = namedtuple  # mypy knows it with literal arguments only
    made = make(cls.__name__, tuple(hints), defaults=defaults, module=cls.__module__)
    for name, value in own.items():
        if name not in hints and name not in ("__dict__", "__weakref__"):
            setattr(made, name, value)
    fields = [_field(hint, f"{cls.__name__}.{name}") for name, hint in hints.items()]
    fixed = [field for field in fields if isinstance(field, Fixed)]
    whole: Fixed | Variable
    if len(fixed) == len(fields):
        whole = StructField(made, fixed)
    else:
        whole = Variable(*_compile_mixed(made, fields))
    _FIELDS[made] = whole
    _READERS[made], _WRITERS[made] = _compile(whole)
    return cast("type[T]", made)


def encode(value: object) -> bytes:
    """The bytes of an `@xdr_struct` value; `LocalError` when a field does not fit."""
    try:
        return _WRITERS[type(value)](value)
    except struct.error as exc:
        raise LocalError(f"{value!r} cannot be sent: {exc}") from None


def decode(cls: type[T], data: Data) -> T:
    """The one value of class `cls` that fills `data`; `ParseError` when it does not."""
    try:
        value, end = _READERS[cls](data, 0)
    except struct.error:
        raise ParseError(f"{cls.__name__}: {len(data)} bytes are too few") from None
    if end != len(data):
        raise ParseError(f"{cls.__name__}: {len(data) - end} bytes too many")
    return cast("T", value)


def reader_of(cls: type) -> Read:
    """The function that reads a value of an `@xdr_struct` class at an offset."""
    return _READERS[cls]


def _field(hint: object, where: str) -> Fixed | Variable:
    """What an annotation says about its field."""
    if isinstance(hint, type) and hint in _FIELDS:
        return _FIELDS[hint]
    if get_origin(hint) is Annotated:
        base, mark = get_args(hint)[:2]
        if isinstance(mark, Fixed | Variable):
            return mark
        if isinstance(mark, Array | Vector):
            element = _field(get_args(base)[0], where)
            if isinstance(mark, Array):
                return ArrayField(mark.max, element, _compile(element))
            if isinstance(element, Fixed):
                return VectorField(mark.length, element)
    raise TypeError(f"{where}: {hint!r} says nothing of its encoding")


def _compile(field: Fixed | Variable) -> tuple[Read, Write]:
    """Read and write functions of one field that stands alone."""
    if isinstance(field, Variable):
        return field.read, field.write
    names = Names()
    unpack, pack = _bind_struct(names, [field])
    return _execute(
        names,
        f"def read(data, offset):\n"
        f" t = {unpack}(data, offset)\n"
        f" return {field.load(names, 0)}, offset + {field.size}\n"
        f"def write(v):\n"
        f" return {pack}({field.dump(names, 'v')})\n",
    )


def _compile_mixed(cls: type, fields: Sequence[Fixed | Variable]) -> tuple[Read, Write]:
    """Read and write functions of a structure in which not every field is fixed.

    The generated code reads each field into a variable `f<number>`: one `Struct` for each run of
    fixed fields, one call for each variable one.
    """
    names = Names()
    reads: list[str] = []
    writes: list[str] = []
    first = 0
    for run in _runs(fields):
        if isinstance(run, Variable):
            reads.append(f" f{first}, offset = {names.bind(run.read)}(data, offset)\n")
            writes.append(f"{names.bind(run.write)}(v[{first}])")
            first += 1
            continue
        unpack, pack = _bind_struct(names, run)
        reads.append(f" t = {unpack}(data, offset)\n")
        dumps = []
        at = 0
        for number, field in enumerate(run, first):
            reads.append(f" f{number} = {field.load(names, at)}\n")
            dumps.append(field.dump(names, f"v[{number}]"))
            at += field.slots
        reads.append(f" offset += {sum(field.size for field in run)}\n")
        writes.append(f"{pack}({', '.join(dumps)})")
        first += len(run)
    new = f"{names.bind(tuple.__new__)}({names.bind(cls)}, "
    values = "".join(f"f{number}, " for number in range(len(fields)))
    return _execute(
        names,
        f"def read(data, offset):\n{''.join(reads)} return {new}({values})), offset\n"
        f"def write(v):\n return b''.join(({', '.join(writes)},))\n",
    )


def _runs(fields: Sequence[Fixed | Variable]) -> Iterator[list[Fixed] | Variable]:
    """The fields in their order, neighbouring fixed ones together."""
    run: list[Fixed] = []
    for field in fields:
        if isinstance(field, Fixed):
            run.append(field)
            continue
        if run:
            yield run
            run = []
        yield field
    if run:
        yield run


def _bind_struct(names: Names, run: Sequence[Fixed]) -> tuple[str, str]:
    """Names of `unpack_from` and `pack` for a run of fixed fields."""
    load = struct.Struct("!" + "".join(field.load_format for field in run))
    dump = struct.Struct("!" + "".join(field.dump_format for field in run))
    return names.bind(load.unpack_from), names.bind(dump.pack)


def _execute(names: Names, source: str) -> tuple[Read, Write]:
    """Run generated code; its text holds nothing but our own numbers and bound names."""
    made: dict[str, Any] = {}
    exec(source, dict(names), made)
    return made["read"], made["write"]
