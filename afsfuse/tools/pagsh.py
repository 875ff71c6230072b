"""`afsfuse pagsh`: a shell in a PAG of its own.

Three processes: the command, which waits for the shell and ends as it ends; the *keeper*, which is
the root of the PAG; the shell, a child of the keeper. The keeper stays while anything that the
shell started lives, for processes whose parents end become its children (it is a child subreaper,
see prctl(2)), and with the keeper the PAG ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from afsfuse.auth import keyring
from afsfuse.control.places import Place, places
from afsfuse.errors import AfsError, ControlRefused, NoDaemon
from afsfuse.tools.common import EXIT_FAILED, STATUSES, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELL = "/bin/sh"
_SUBREAPER, _SET_NAME = 36, 15  # PR_SET_CHILD_SUBREAPER, PR_SET_NAME
_LOOK_SECONDS = 2.0  # between two looks for a daemon that came later
_NOT_STARTED = 127


def parser() -> Parser:
    """The command line: all of it is the shell's, but for a lone --help."""
    return Parser(
        "pagsh",
        f"Run {SHELL} with the ARGUMENTS in a new PAG: it begins without tokens, and those that\n"
        "are got in it are for it and what it starts, and for nobody else.\n\n"
        "usage: afsfuse pagsh [ARGUMENT...]",
        "exit status: that of the shell, or\n" + STATUSES.partition("\n")[2],
    )


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit status of the shell."""
    if list(arguments) in (["--help"], ["-h"], ["-help"]):
        parser().parse_args(["--help"])
    reader, writer = os.pipe()
    for number in (signal.SIGINT, signal.SIGQUIT):  # they are meant for the shell
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    if os.fork() == 0:
        os.close(reader)
        _keep(arguments, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.readline().decode()
    if told.startswith("failed "):
        raise ControlRefused(told[7:].strip())
    return int(told) if told else EXIT_FAILED


def _keep(arguments: Sequence[str], writer: int) -> NoReturn:
    """Be the root of a PAG, with a shell in it, as long as anything is left. Never returns."""
    shell = 0
    try:
        missing = begin(places())
        keyring.begin_session()
        _become_keeper()
        shell = os.fork()
        if shell == 0:
            _be_shell(arguments, writer)
        _leave_terminal(writer)
        _wait(shell, missing, writer)
    except AfsError as exc:
        os.write(writer, f"failed {' '.join(str(exc).split())}\n".encode())
    finally:
        os._exit(0)


def begin(where: Sequence[Place]) -> list[Place]:
    """Make this process the root of a PAG at all places. -> those that are not there (yet)

    Raises `AfsError` when a place refuses, or when there is none.
    """
    missing = []
    for place in where:
        try:
            place.ask("begin-pag")
        except NoDaemon:
            missing.append(place)
    if len(missing) == len(where):
        raise NoDaemon("no daemon is running that could keep a PAG")
    return missing


def _become_keeper() -> None:
    """Be the parent of all orphans below, and have a name for `ps`."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise ControlRefused(f"no PAG can be kept: {os.strerror(ctypes.get_errno())}")
    prctl(_SET_NAME, b"afsfuse-pag", 0, 0, 0)


def _be_shell(arguments: Sequence[str], writer: int) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(SHELL, [SHELL, *arguments])
    except OSError as exc:
        os.write(writer, f"failed {SHELL}: {exc.strerror}\n".encode())
    finally:
        os._exit(_NOT_STARTED)


def _leave_terminal(writer: int) -> None:
    """Hold nothing that somebody waits for the end of, and outlive the session."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")  # or a mount that we were started in could not be removed
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _wait(shell: int, missing: list[Place], writer: int) -> None:
    """Reap until there is nobody left; tell how the shell ended.

    Meanwhile the PAG is told of at places where there was no daemon at its beginning: to one that
    starts later we would be nothing but processes of our user.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == shell:
                    code = os.waitstatus_to_exitcode(ended[1])
                    with contextlib.suppress(BrokenPipeError):
                        os.write(writer, b"%d\n" % (code if code >= 0 else 128 - code))
                    os.close(writer)
        except ChildProcessError:
            return
        if not missing:
            signal.sigwaitinfo([signal.SIGCHLD])
        elif signal.sigtimedwait([signal.SIGCHLD], _LOOK_SECONDS) is None:
            with contextlib.suppress(AfsError):
                missing = begin(missing)
