"""Manual pages in man(7)'s language."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING

from afsfuse import config, configfile, helper, version
from afsfuse.manual.parsers import arguments, commands, help_of, operand_of, summaries, whole
from afsfuse.tools.config import settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping

SEE = {
    "afsfuse.1": ("mount.fuse.afs(8)", "afsfuse.toml(5)", "kinit(1)"),
    "afsfuse-fs.1": ("afsfuse(1)",),
    "mount.fuse.afs.8": ("afsfuse(1)", "afsfuse.toml(5)", "mount(8)", "fstab(5)"),
    "afsfuse.toml.5": ("afsfuse(1)", "mount.fuse.afs(8)"),
}
_ROW = re.compile(r"  (\S.*?)\s{2,}(\S.*)")


def all_pages() -> dict[str, str]:
    """The pages by the names of their files."""
    top = whole()
    pages = {
        "afsfuse.1": _program("afsfuse.1", top, "an AFS client in user space", {"fs"}),
        "mount.fuse.afs.8": _helper(),
        "umount.fuse.afs.8": ".so man8/mount.fuse.afs.8\n",
        "afsfuse.toml.5": _file(),
    }
    if "fs" in commands(top):
        fs = commands(top)["fs"]
        pages["afsfuse-fs.1"] = _program("afsfuse-fs.1", fs, "look at and change AFS", set())
    return pages


def escaped(text: str) -> str:
    """Text that man(7) shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _head(page: str, summary: str) -> Iterator[str]:
    name, _, section = page.rpartition(".")
    yield f'.TH {escaped(name.upper())} {section} "" "afsfuse {version()}" "AFS in user space"'
    yield ".SH NAME"
    yield f"{escaped(name)} \\- {escaped(summary)}"


def _tail(page: str) -> Iterator[str]:
    yield ".SH SEE ALSO"
    shown = [re.sub(r"(.*)\((\d)\)", r".BR \1 (\2)", escaped(one)) for one in SEE[page]]
    yield " ,\n".join(shown)


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    return escaped(words[:1].upper() + words[1:] + "." * (not words.endswith(".")))


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().split()[1:])


def _item(tag: str, text: str) -> Iterator[str]:
    """A paragraph with a tag, which is ready made."""
    yield ".TP"
    yield tag
    yield escaped(text)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A paragraph for each option and operand."""
    for action in arguments(parser):
        operand = operand_of(action)
        value = f" \\fI{escaped(operand)}\\fR" if operand else ""
        names = [f"\\fB{escaped(name)}\\fR{value}" for name in action.option_strings]
        tag = ", ".join(names) or f"\\fI{escaped(operand)}\\fR"
        yield from _item(tag, help_of(parser, action) or "see above")


def _program(page: str, parser: argparse.ArgumentParser, summary: str, elsewhere: set[str]) -> str:
    """A page of a program with commands."""
    lines = [*_head(page, summary), ".SH SYNOPSIS", f".B {escaped(_usage(parser))}"]
    lines += [".SH DESCRIPTION", _sentence(parser.description or summary)]
    if any(True for _ in arguments(parser)):
        lines += [".SH OPTIONS", *_arguments(parser)]
    lines += [".SH COMMANDS"]
    told = summaries(parser)
    shown: set[int] = set()
    for name, command in commands(parser).items():
        if id(command) in shown:
            continue
        shown.add(id(command))
        aliases = [other for other, one in commands(parser).items() if one is command][1:]
        lines += [f".SS {escaped(f'{parser.prog} {name}')}"]
        if name in elsewhere:
            lines += [escaped(f"{told.get(name, name)}; see {parser.prog}-{name}(1).")]
            continue
        lines += [f".B {escaped(_usage(command))}", ".PP"]
        lines += [_sentence(command.description or told.get(name, ""))]
        if aliases:
            lines += [escaped(f"Also: {', '.join(aliases)}.")]
        lines += _arguments(command)
        lines += _blocks(command.epilog or "", but="exit status")
    lines += _blocks(parser.epilog or "", but=None)
    return "\n".join([*lines, *_files(), *_tail(page)]) + "\n"


def _blocks(epilog: str, but: str | None) -> Iterator[str]:
    """The parts of an epilog: a heading with a colon, then rows of two columns, or text."""
    for block in epilog.strip().split("\n\n"):
        heading, *rows = block.splitlines() or [""]
        if not heading or heading.startswith(but or "\0"):
            continue
        if rows and heading.endswith(":"):
            yield ".SH EXIT STATUS" if heading == "exit status:" else f".PP\n{escaped(heading)}"
        else:
            rows = [heading, *rows]
        for row in rows:
            if match := _ROW.fullmatch(row):
                yield from _item(f"\\fB{escaped(match[1])}\\fR", match[2])
            else:
                yield escaped(row.strip())


def _files() -> Iterator[str]:
    yield ".SH FILES"
    yield from _item("\\fI/etc/afsfuse/afsfuse.toml\\fR", "what is set for all mounts of root's")
    own = "$XDG_CONFIG_HOME/afsfuse/afsfuse.toml"
    yield from _item(f"\\fI{escaped(own)}\\fR", "what is set for those of a user")
    both = "\\fI/etc/afsfuse/\\fR, \\fI/etc/openafs/\\fR"
    yield from _item(both, "ThisCell, CellServDB and CellAlias, each from the first that has it")


def _helper() -> str:
    page = "mount.fuse.afs.8"
    lines = [*_head(page, "mount AFS by mount(8)"), ".SH SYNOPSIS"]
    for parser in (helper.mount_parser(), helper.umount_parser()):
        lines += [f".B {escaped(_usage(parser))}", ".br"]
    lines += [
        ".SH DESCRIPTION",
        escaped(_HELPER),
        ".SH OPTIONS",
        *_arguments(helper.mount_parser()),
    ]
    lines += [".SH MOUNT OPTIONS", *_options(), ".SH EXAMPLES", ".nf", escaped(_EXAMPLES), ".fi"]
    lines += _blocks(commands(whole())["umount"].epilog or "", but=None)
    return "\n".join([*lines, *_files(), *_tail(page)]) + "\n"


def _options() -> Iterator[str]:
    texts = field_texts()
    for name, option in config.OPTIONS.items():
        value = f"=\\fI{escaped(option.value)}\\fR" if option.value else ""
        text = texts[option.field] if option.positive else option.help
        yield from _item(f"\\fB{escaped(name)}\\fR{value}", text)
    flags = ", ".join(f"\\fB{flag}\\fR" for flag in config.MOUNT_FLAGS)
    yield from _item(flags, "As mount(8) has them. A mount is always nosuid and nodev.")
    ignored = "\\fB_netdev\\fR, \\fBnoauto\\fR, \\fBnofail\\fR, \\fBuser\\fR, \\fBx\\-*\\fR"
    yield from _item(ignored, "For others, as fstab(5) has them; they mean nothing here.")


def _file() -> str:
    page = "afsfuse.toml.5"
    lines = [*_head(page, "what is set for mounts of AFS"), ".SH DESCRIPTION"]
    for paragraph in (configfile.__doc__ or "").strip().split("\n\n"):
        if paragraph.startswith("    "):
            lines += [".PP", ".nf", escaped(paragraph), ".fi"]
        else:
            text = " ".join(paragraph.split()).replace("config.OPTIONS", "mount.fuse.afs(8)")
            lines += [".PP", escaped(text.replace("`", "").replace("::", ":"))]
    lines += [".PP", escaped(_SHOWN), ".SH KEYS"]
    texts = field_texts()
    defaults = {line.key: line.value for line in settings(config.Config(), {"source": ""})}
    for key, option in configfile.keys().items():
        value = option.value or "true|false"
        given = defaults[key]
        text = (
            texts[option.field]
            if given is None
            else f"{texts[option.field]} Default: {_toml(given)}."
        )
        if key == "allow_other":
            text = texts[option.field]
        yield_tag = f"\\fB{escaped(key)}\\fR = \\fI{escaped(value)}\\fR"
        lines += _item(yield_tag, text)
    for flag in config.MOUNT_FLAGS:
        lines += _item(
            f"\\fB{flag}\\fR = \\fItrue|false\\fR", "As mount(8) has it. Default: false."
        )
    text = "What is mounted where the command does not say it; in sections only."
    lines += _item("\\fBsource\\fR = \\fISOURCE\\fR", text)
    return "\n".join([*lines, *_tail(page)]) + "\n"


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_texts() -> Mapping[str, str]:
    """What stands under each field of `Config`, in one line, without its marks."""
    (body,) = ast.parse(inspect.getsource(config.Config)).body
    assert isinstance(body, ast.ClassDef)
    pairs: Iterable[tuple[ast.stmt, ast.stmt]] = zip(body.body, body.body[1:], strict=False)
    found = {}
    for field, text in pairs:
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).replace("`", "").split())
    return found


_HELPER = """\
mount(8) and umount(8) run these for the type fuse.afs, also for lines of fstab(5). SPEC is afs for
all cells by their names, #cell:volume. for one volume, from a read-only replica where there is one,
or %cell:volume. for its read-write volume. The first returns when the mount answers, the second
when its daemon has stored what was written. umount(8) called by root with an absolute path may do
without the second, and then does not wait: afsfuse umount DIR does."""

_EXAMPLES = """\
mount -t fuse.afs afs /afs
mount -t fuse.afs '#example.org:project.' /mnt -o ro,crypt=auth

# a line of /etc/fstab: mounted when somebody looks there
afs  /afs  fuse.afs  _netdev,noauto,x-systemd.automount  0  0"""

_SHOWN = """\
afsfuse config shows what a mount would be made with, and the file and line that each value comes
from. A running daemon reads the files anew at SIGHUP (systemctl reload afsfuse)."""
