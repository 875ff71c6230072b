import errno
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afsfuse import errors
from afsfuse.errors import (
    ABORT_CODES,
    AfsError,
    NotPermitted,
    ServerError,
    StaleInode,
    TokenExpired,
    TokenRefused,
    UsageError,
    ViceCode,
    VlCode,
    VolumeBusy,
    VolumeMissing,
    VolumeOffline,
    abort_name,
    errno_of_abort,
    from_abort,
)

UAE = 0x2F6DF00


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_code_becomes_a_legal_errno(code: int) -> None:
    assert 1 <= errno_of_abort(code) <= 4095


def test_every_known_code_becomes_an_errno_that_programs_know() -> None:
    for code in [*ABORT_CODES, *range(-1100, 1100), *range(UAE, UAE + 256)]:
        assert errno_of_abort(code) in errno.errorcode, code


def test_no_code_becomes_enoent() -> None:
    # The kernel remembers that a name is absent; only a directory may prove that.
    assert errno.ENOENT not in {number for _, number, _ in ABORT_CODES.values()}


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (0, errno.EREMOTEIO),
        (-1, errno.ETIMEDOUT),
        (-5, errno.EPROTO),
        (-100, errno.EBUSY),
        (-455, errno.EOPNOTSUPP),
        (ViceCode.VNOVNODE, errno.ESTALE),
        (ViceCode.VNOVOL, errno.ENODEV),
        (ViceCode.VNOSERVICE, errno.ETIMEDOUT),
        (ViceCode.VBUSY, errno.EBUSY),
        (ViceCode.VDISKFULL, errno.ENOSPC),
        (ViceCode.VOVERQUOTA, errno.EDQUOT),
        (VlCode.NOENT, errno.ENODEV),
        (363520 + 26, errno.EACCES),  # VL_PERM
        (UAE, errno.EPERM),
        (UAE + 1, errno.ESTALE),  # UAENOENT
        (UAE + 0x0C, errno.EACCES),
        (UAE + 0x1B, errno.ENOSPC),
        (UAE + 0x1D, errno.EROFS),
        (UAE + 0x23, errno.ENAMETOOLONG),
        (UAE + 0x26, errno.ENOTEMPTY),
        (UAE + 0x6C, errno.ETIMEDOUT),
        (UAE + 0x78, errno.EDQUOT),
        (UAE + 0x81, errno.ESHUTDOWN),  # the last one of the table
        (UAE + 0x82, errno.EREMOTEIO),
        (19270400 + 4, errno.EPROTO),  # RXKADOUTOFSEQUENCE
        (19270400 + 9, errno.EACCES),  # RXKADEXPIRED: programs know no EKEYEXPIRED
        (errno.EACCES, errno.EACCES),  # sent raw by servers without error translation
        (errno.EDQUOT, errno.EDQUOT),
        (99999, errno.EREMOTEIO),
    ],
)
def test_codes_mean_what_their_servers_mean(code: int, number: int) -> None:
    assert errno_of_abort(code) == number


def test_codes_have_names() -> None:
    assert abort_name(103) == "103 VNOVOL"
    assert abort_name(VlCode.NOENT) == "363524 VL_NOENT"
    assert abort_name(UAE + 12) == f"{UAE + 12} UAEACCES"
    assert abort_name(99999) == "99999"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ViceCode.VNOVOL, VolumeMissing),
        (VlCode.NOENT, VolumeMissing),
        (ViceCode.VBUSY, VolumeBusy),
        (ViceCode.VRESTARTING, VolumeBusy),
        (ViceCode.VOFFLINE, VolumeOffline),
        (ViceCode.VSALVAGE, VolumeOffline),
        (ViceCode.VNOVNODE, StaleInode),
        (UAE + 1, StaleInode),
        (UAE + 12, NotPermitted),
        (errno.EACCES, NotPermitted),
        (19270400 + 2, TokenRefused),
        (19270400 + 7, TokenRefused),
        (19270400 + 8, TokenRefused),
        (19270400 + 9, TokenExpired),
        (19270400 + 4, ServerError),
        (-5, ServerError),
    ],
)
def test_aborts_become_errors_that_say_what_they_are_about(code: int, kind: type[AfsError]) -> None:
    error = from_abort(code, cell="example.org", volume="root.cell", server="192.0.2.1")
    assert type(error) is kind
    assert error.errno == errno_of_abort(code)
    assert error.code == code
    for word in ("example.org", "root.cell", "192.0.2.1", str(code)):
        assert word in str(error)


def test_an_error_without_context_is_its_message() -> None:
    assert str(AfsError("it broke")) == "it broke"
    assert AfsError("it broke").errno == errno.EIO
    assert AfsError("it broke", errno=errno.ELOOP).errno == errno.ELOOP


def test_an_error_can_be_told_again() -> None:
    error = VolumeMissing("gone", cell="example.org", code=103)
    again = error.again()
    assert again is not error
    assert (type(again), str(again), again.code) == (VolumeMissing, str(error), 103)
    usage = UsageError("no such folder", exit_code=3).again()
    assert (usage.exit_code, usage.errno) == (3, errno.EINVAL)


def test_the_tree_in_the_docstring_is_complete() -> None:
    classes = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, AfsError) and cls is not AfsError
    ]
    assert errors.__doc__ is not None
    for cls in classes:
        assert f"── {cls.__name__} " in errors.__doc__
        if cls.errno != errno.EIO:
            assert errno.errorcode[cls.errno] in errors.__doc__
