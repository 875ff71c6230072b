"""aklog, klog, tokens and unlog, without a daemon and without a KDC: what they do and say."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afsfuse import cli
from afsfuse.auth.acquire import Wanted
from afsfuse.auth.complaints import Krb5
from afsfuse.auth.token import Secret, Token
from afsfuse.control.places import Place
from afsfuse.errors import ControlRefused, TicketRefused
from afsfuse.tools import COMMANDS, aklog, klog, unlog
from afsfuse.tools.common import Cells
from tests.unit.afsfuse.auth.test_token import token

if TYPE_CHECKING:
    from collections.abc import Callable

FAR = 4_000_000_000
ME = f"uid-{os.geteuid()}"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A Kerberos in this process that knows example.org and other.org; what it was asked."""
    asked: list[tuple[Any, ...]] = []

    def answer(wanted: Wanted, *more: Any) -> Token:
        asked.append((wanted, *(one for one in more if not callable(one))))
        if wanted.cell not in ("example.org", "other.org"):
            raise TicketRefused("no such service")
        return token(cell=wanted.cell, end=FAR)

    def within(seconds: float, work: Callable[[], Token]) -> Token:
        return work()

    def no_fresh_one(wanted: Wanted, *more: Any) -> Token:
        raise TicketRefused("no KDC answers")

    monkeypatch.setattr(aklog, "fresh", no_fresh_one)
    monkeypatch.setattr(aklog, "from_cache", answer)
    monkeypatch.setattr(klog, "by_password", answer)
    monkeypatch.setattr(klog, "by_keytab", answer)
    for tool in (aklog, klog):
        monkeypatch.setattr(tool, "within", within)
        monkeypatch.setattr(tool, "harden", lambda: None)
    return asked


def cells(place: Path) -> list[str]:
    return [one["cell"] for one in Place(place).ask("tokens")["tokens"]]


NO_MOUNT = "no mount is running: the token is kept for one that you make"


def test_aklog_for_the_local_cell(
    confdir: Path, place: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["aklog", "--confdir", str(confdir)]) == 0
    assert asked == [(Wanted("example.org", None, "db1.example.org"),)]
    assert cells(place) == ["example.org"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"afsfuse: example.org: {NO_MOUNT}\n"


def test_aklog_for_several_cells_one_of_which_fails(
    confdir: Path, place: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["Example.ORG", "bad.org", "-c", "other", "-k", "REALM"]
    assert cli.main(["aklog", *words, "--confdir", str(confdir)]) == 32
    assert [(one.cell, one.realm, one.host) for (one,) in asked] == [
        ("example.org", "REALM", "db1.example.org"),
        ("bad.org", "REALM", None),
        ("other.org", "REALM", None),
    ]
    assert cells(place) == ["example.org", "other.org"]
    assert "afsfuse: bad.org: no such service\n" in capsys.readouterr().err


def test_aklog_tells_what_it_tries(confdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["aklog", "-d", "--confdir", str(confdir)]) == 0
    out = capsys.readouterr().out
    assert "Authenticating to cell example.org\n" in out
    assert "token for alice@EXAMPLE.ORG\n" in out
    assert "byte key" not in out


def test_aklog_takes_a_fresh_ticket_before_one_from_the_cache(
    confdir: Path, place: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aklog, "fresh", lambda wanted, say: token(cell=wanted.cell, end=FAR))
    assert cli.main(["aklog", "--confdir", str(confdir)]) == 0
    assert asked == []
    assert cells(place) == ["example.org"]


def test_aklog_asks_once_for_a_service_that_is_not_there(
    confdir: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(wanted: Wanted, *more: Any) -> Token:
        raise TicketRefused("no such service", kerberos=Krb5.SERVICE_UNKNOWN)

    monkeypatch.setattr(aklog, "fresh", unknown)
    assert cli.main(["aklog", "--confdir", str(confdir)]) == 32
    assert asked == []


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_klog_with_a_password_from_a_pipe(
    confdir: Path, place: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, b"open sesame \r\nand more\n")
    words = ["klog", "alice@REALM", "-cell", "other.org", "--password-stdin"]
    assert cli.main([*words, "--confdir", str(confdir)]) == 0
    assert asked == [(Wanted("other.org"), "alice@REALM", Secret(b"open sesame "))]
    assert cells(place) == ["other.org"]


def test_klog_asks_at_the_terminal(
    confdir: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return "geheim\udcff"

    monkeypatch.setattr("getpass.getpass", typed)
    monkeypatch.setattr("builtins.open", lambda *_: io.BytesIO())
    monkeypatch.setattr(Cells, "load", lambda _: FakeCells())
    assert klog.main(["alice"]) == 0
    assert prompts == ["Password for alice in cell example.org: "]
    assert asked[0][1:] == ("alice", Secret(b"geheim\xff"))


class FakeCells:
    def local(self) -> str:
        return "example.org"

    def wanted(self, cell: str, realm: str | None) -> Wanted:
        return Wanted(cell, realm)


def test_klog_with_a_keytab(confdir: Path, asked: list[Any], tmp_path: Path) -> None:
    keytab = tmp_path / "keytab"
    keytab.touch()
    for given in (str(keytab), f"FILE:{keytab}"):
        words = ["klog", "alice", "--keytab", given, "--confdir", str(confdir)]
        assert cli.main(words) == 0
        assert asked.pop()[1:] == ("alice", f"FILE:{keytab}")


def test_klog_is_for_oneself_by_default(
    confdir: Path, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, b"secret")
    assert cli.main(["klog", "-pipe", "--confdir", str(confdir)]) == 0
    import pwd

    assert asked[0][1] == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aklog", "-x"], "unrecognized arguments: -x: see afsfuse aklog --help"),
        (["aklog", "a/b"], "a/b: not a cell's name"),
        (["klog", "a", "--keytab", "/none"], "/none: No such file or directory"),
        (["klog", "a", "--keytab", "/none", "-pipe"], "not allowed with argument --keytab"),
        (["klog", "a", "-pipe"], "no password was given"),
        (["tokens", "extra"], "unrecognized arguments: extra"),
        (["unlog", "-all"], "unrecognized arguments: -all"),
    ],
)
def test_mistakes_are_told_in_a_line(
    words: list[str],
    said: str,
    confdir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdin(monkeypatch, b"")
    more = ["--confdir", str(confdir)] if words[0] in ("aklog", "klog") else []
    assert cli.main([*words, *more]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("afsfuse: ")
    assert err.count("\n") == 1


def test_no_cell_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if any(Path(folder, "ThisCell").exists() for folder in ("/etc/afsfuse", "/etc/openafs")):
        pytest.skip("this machine has a local cell")
    assert cli.main(["aklog", "--confdir", str(tmp_path)]) == 1
    assert "which cell? name one" in capsys.readouterr().err


def test_klog_says_whom_it_failed_for(
    confdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(monkeypatch, b"secret\n")
    words = ["klog", "alice", "-c", "bad.org", "-pipe", "--confdir", str(confdir)]
    assert cli.main(words) == 32
    assert capsys.readouterr().err == "afsfuse: bad.org: alice: no such service\n"


def test_without_a_terminal_there_is_no_prompt(confdir: Path) -> None:
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "afsfuse", "klog", "alice", "--confdir", str(confdir)],
        start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        cwd=root,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"there is no terminal to ask for the password at" in done.stderr


def put(place: Path, **changes: Any) -> None:
    Place(place).ask("set", token=token(**{"end": FAR, **changes}).encode())


def test_tokens_in_the_words_of_openafs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(place, cell="a.org", viceid=1001)
    put(place, cell="b.org")
    assert cli.main(["tokens"]) == 0
    end = time.ctime(FAR)[4:16]
    assert capsys.readouterr().out == (
        "\nTokens held by the Cache Manager:\n\n"
        f"User's (AFS ID 1001) rxkad tokens for a.org [Expires {end}]\n"
        f"User alice@EXAMPLE.ORG's rxkad tokens for b.org [Expires {end}]\n"
        "   --End of list--\n"
    )


def test_an_expired_token(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place)
    monkeypatch.setattr("time.time", lambda: float(FAR + 1))
    assert cli.main(["tokens"]) == 0
    assert "for example.org [>> Expired <<]\n" in capsys.readouterr().out
    assert cli.main(["tokens", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["tokens"]
    assert told["expired"] is True


def test_tokens_for_programs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(place)
    assert cli.main(["tokens", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["identity"] == ME
    assert told["tokens"] == [
        {
            "identity": ME,
            "cell": "example.org",
            "client": "alice@EXAMPLE.ORG",
            "viceid": None,
            "start": 1_700_000_000,
            "end": FAR,
            "kept": False,
            "expired": False,
        }
    ]


def test_a_token_that_two_places_keep_is_shown_once() -> None:
    from afsfuse.tools.tokens import merged

    shown = [
        {"identity": "pag-1", "cell": "a.org", "end": 5},
        {"identity": "pag-2", "cell": "a.org", "end": 6},
        {"identity": "uid-5", "cell": "a.org", "end": 7},
    ]
    assert merged(shown) == shown[1:]


def test_unlog_of_some_and_of_all(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in ("a.org", "b.org", "c.org"):
        put(place, cell=cell)
    assert cli.main(["unlog", "A.org"]) == 0
    assert cells(place) == ["b.org", "c.org"]
    assert cli.main(["unlog", "-c", "b.org", "a.org"]) == 32
    assert capsys.readouterr().err == "afsfuse: a.org: you have no token for this cell\n"
    assert cells(place) == ["c.org"]
    assert cli.main(["unlog"]) == 0
    assert cli.main(["unlog"]) == 0
    assert cells(place) == []
    assert capsys.readouterr().err == ""


def test_unlog_says_what_it_could_not_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "system" / "tokens").mkdir(parents=True)
    never = tmp_path / "never"
    system = tmp_path / "system"
    monkeypatch.setattr("afsfuse.control.places.is_ours", lambda folder: False)
    monkeypatch.setattr(unlog, "places", lambda: [Place(never), Place(system)])
    assert cli.main(["unlog"]) == 32
    err = capsys.readouterr().err
    assert f"tokens that {system} may hold for you stay there: no mount for all users" in err
    assert err.count("\n") == 1


def test_unlog_says_when_a_daemon_refuses(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Place, verb: str, **_: object) -> dict[str, Any]:
        raise ControlRefused("the daemon does not answer: see its log")

    monkeypatch.setattr(Place, "ask", refuse)
    assert cli.main(["unlog"]) == 32
    said = f"afsfuse: {place}: the daemon does not answer: see its log\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_has_a_help_with_its_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):  # argparse's way
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: afsfuse {command}")
    statuses = [int(n) for n in re.findall(r"^  (\d+) ", out, re.MULTILINE)]
    needs_others = command != "config"  # daemons, Kerberos, servers
    assert statuses == [0, 1, 4, 8, 32][: 5 if needs_others else 4]


def test_the_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert re.search(rf"^    {name}\s+{re.escape(text)}$", out, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_nothing_heavy_is_loaded(command: str) -> None:
    code = (
        f"import sys, pkgutil, importlib, afsfuse.cli, afsfuse.tools.{command} as tool;"
        "[importlib.import_module(f'{tool.__name__}.{m.name}')"
        " for m in pkgutil.iter_modules(getattr(tool, '__path__', []))];"
        "from afsfuse.control import verbs; from afsfuse.auth import store;"
        "heavy = {'trio', 'pyfuse3', 'dns', 'asyncio', 'ssl', 'cryptography', 'rxrpc', 'email'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(cli.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout == "[]\n"


def test_a_reader_that_went_away_is_no_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(cli.__file__).parent.parent
    command = f"{sys.executable} -m afsfuse tokens | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, cwd=root)
    assert done.stdout == b"0\n"
    assert done.stderr == b""
