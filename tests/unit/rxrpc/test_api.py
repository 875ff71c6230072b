"""What `import rxrpc` gives: all of it explained, and enough to write both ends."""

import inspect
import re
import types

import pytest

import rxrpc

CLASSES = [name for name in rxrpc.__all__ if inspect.isclass(getattr(rxrpc, name))]


def test_everything_that_is_named_is_there_and_in_order() -> None:
    assert all(hasattr(rxrpc, name) for name in rxrpc.__all__)
    assert len(set(rxrpc.__all__)) == len(rxrpc.__all__)
    assert rxrpc.__all__ == sorted(rxrpc.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_and_what_is_public_in_it_is_explained(name: str) -> None:
    cls = getattr(rxrpc, name)
    assert (cls.__doc__ or "").strip(), name
    for member, value in vars(cls).items():
        plain = isinstance(value, types.FunctionType | property | classmethod | staticmethod)
        if plain and not member.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_and_result_has_a_type(name: str) -> None:
    cls = getattr(rxrpc, name)
    for member, value in vars(cls).items():
        if (
            not isinstance(value, types.FunctionType)
            or value.__module__.partition(".")[0] != "rxrpc"
        ):
            continue
        if member.startswith("_") and member != "__init__":
            continue
        parameters = [p for p in inspect.signature(value).parameters if p != "self"]
        missing = {*parameters, "return"} - value.__annotations__.keys()
        assert not missing or not value.__code__.co_filename.startswith(rxrpc.__path__[0]), (
            f"{name}.{member}: {missing}"
        )


def test_errors_are_of_one_tree() -> None:
    for name in CLASSES:
        cls = getattr(rxrpc, name)
        if issubclass(cls, Exception):
            assert issubclass(cls, rxrpc.RxError)
            assert name in (rxrpc.errors.__doc__ or "") or cls is rxrpc.RxError


def test_what_af_rxrpc_has_is_in_the_table_of_the_package() -> None:
    """Each name in the right column of the table exists."""
    table = (rxrpc.__doc__ or "").split("=" * 20)
    assert len(table) > 2
    for reference in re.findall(r"(?<!`)`([A-Za-z_.]+)`(?!`)", rxrpc.__doc__ or ""):
        target: object = rxrpc
        for part in reference.split("."):
            target = getattr(target, part, None)
        if target is None:
            target = getattr(rxrpc.CallStream, reference, None)
        assert target is not None, reference
