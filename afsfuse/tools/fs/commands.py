"""All commands of `afsfuse fs`: names, aliases and parameters are those of OpenAFS's `fs`.

Source: `fs help` of OpenAFS 1.8.9, and its manual pages.
"""

from __future__ import annotations

from afsfuse.tools.fs.syntax import Command, Kind, Parameter

_FLAG, _ONE, _MANY = Kind.FLAG, Kind.ONE, Kind.MANY


def _flag(name: str, text: str) -> Parameter:
    return Parameter(name, _FLAG, text)


def _one(name: str, text: str, *, required: bool = False) -> Parameter:
    return Parameter(name, _ONE, text, required)


def _many(name: str, text: str, *, required: bool = False) -> Parameter:
    return Parameter(name, _MANY, text, required)


_PATHS = (_many("path", "file or directory"),)
_HUMAN = _flag("human", "sizes with the units K, M, G and T")
_NUMERIC = _flag("numeric", "addresses, not names of hosts")
_DFS = (_flag("id", "of DFS only"), _flag("if", "of DFS only"))

COMMANDS = (
    # Access lists
    Command(
        "listacl", "acl", "show access lists",
        (*_PATHS, *_DFS, _flag("cmd", "as commands that set them")), ("la",),
    ),
    Command(
        "setacl", "acl", "set entries of access lists",
        (
            _many("dir", "directory", required=True),
            _many("acl", "name and rights, in pairs", required=True),
            _flag("clear", "take all other entries away"),
            _flag("negative", "rights that are denied"),
            *_DFS,
        ),
        ("sa",),
    ),
    Command(
        "copyacl", "acl", "copy an access list to other directories",
        (
            _one("fromdir", "directory", required=True),
            _many("todir", "directory", required=True),
            _flag("clear", "take all other entries away"),
            *_DFS,
            _flag("recursive", "also to all directories below, in the same volume"),
        ),
        ("ca",),
    ),
    Command("cleanacl", "acl", "drop entries of users and groups that are gone", _PATHS),
    Command("getcalleraccess", "acl", "show what rights you have", _PATHS, ("gca",)),
    # Volumes
    Command("listquota", "quota", "show quota and use of volumes", (*_PATHS, _HUMAN), ("lq",)),
    Command("quota", "quota", "show how much of the quota is used", _PATHS),
    Command(
        "setquota", "quota", "set the quota of a volume",
        (_one("path", "file or directory"), _one("max", "quota in KiB; 0: none", required=True)),
        ("sq",),
    ),
    Command(
        "setvol", "quota", "set quota and message of volumes",
        (*_PATHS, _one("max", "quota in KiB; 0: none"), _one("offlinemsg", "message")),
        ("sv",),
    ),
    Command("examine", "quota", "show a volume's state", _PATHS, ("listvol", "lv")),
    Command("diskfree", "quota", "show the room on partitions", (*_PATHS, _HUMAN), ("df",)),
    # Where things are
    Command("whereis", "places", "show the file servers of volumes", (*_PATHS, _NUMERIC)),
    Command("whichcell", "places", "show the cells of paths", _PATHS),
    Command("getfid", "places", "show the numbers of files", _PATHS),
    # Mount points
    Command(
        "mkmount", "mounts", "make a mount point",
        (
            _one("dir", "directory to be made", required=True),
            _one("vol", "volume", required=True),
            _one("cell", "its cell, if it is another one"),
            _flag("rw", "for the read-write volume in any case"),
            _flag("fast", "do not look whether the volume is there"),
        ),
    ),
    Command(
        "lsmount", "mounts", "show where mount points lead",
        (_many("dir", "directory", required=True),),
    ),
    Command(
        "rmmount", "mounts", "remove mount points", (_many("dir", "directory", required=True),)
    ),
    Command("flushmount", "mounts", "forget where mount points lead", _PATHS),
    # The cache
    Command("flush", "caches", "forget what is cached of files", _PATHS),
    Command("flushvolume", "caches", "forget what is cached of volumes", _PATHS),
    Command("flushall", "caches", "forget all that is cached"),
    Command(
        "getcacheparms", "caches", "show the use of the cache",
        (_flag("files", "and its files"), _flag("excessive", "and more figures")),
    ),
    Command(
        "setcachesize", "caches", "set the limit of the cache",
        (
            _one("blocks", "size in KiB; 0: what it was at the start"),
            _flag("reset", "to what it was at the start"),
        ),
        ("cachesize",),
    ),
    # Servers
    Command(
        "checkservers", "servers", "see which servers do not answer",
        (
            _one("cell", "cell whose servers are asked"),
            _flag("all", "those of all cells"),
            _flag("fast", "do not ask them, tell what is known"),
            _one("interval", "seconds between two looks; 0 shows it"),
        ),
    ),
    Command(
        "getserverprefs", "servers", "show the ranks of servers",
        (
            _one("file", "where to write it"),
            _NUMERIC,
            _flag("vlservers", "of volume location servers"),
        ),
        ("gp",),
    ),
    Command(
        "setserverprefs", "servers", "set the ranks of servers",
        (
            _many("servers", "file servers and ranks, in pairs"),
            _many("vlservers", "volume location servers and ranks"),
            _one("file", "where to read pairs from"),
            _flag("stdin", "read pairs from the standard input"),
        ),
        ("sp",),
    ),
    Command(
        "checkvolumes", "servers", "ask anew where volumes are", aliases=("checkbackups",)
    ),
    # Cells
    Command("wscell", "cells", "show the local cell"),
    Command("listcells", "cells", "show the cells and their servers", (_NUMERIC,)),
    Command("listaliases", "cells", "show the other names of cells"),
    Command(
        "newcell", "cells", "make a cell known, or its servers",
        (
            _one("name", "cell", required=True),
            _many("servers", "its database servers", required=True),
            _one("linkedcell", "cell to be asked for other volumes"),
        ),
    ),
    Command(
        "newalias", "cells", "give a cell another name",
        (_one("alias", "new name", required=True), _one("name", "cell", required=True)),
    ),
    # Settings
    Command("sysname", "settings", "show or set what @sys means", (_many("newsys", "name"),)),
    Command("getcrypt", "settings", "show the protection of calls with a token"),
    Command(
        "setcrypt", "settings", "set the protection of calls with a token",
        (_one("crypt", "on, off or auth", required=True),),
    ),
    Command(
        "uuid", "settings", "show or renew the number by which servers know the client",
        (_flag("generate", "make a new one"),),
    ),
    Command(
        "messages", "settings", "say what goes to the log",
        (_one("show", "user, console, all or none"),),
    ),
    Command(
        "storebehind", "settings", "show how much may be stored after a close: nothing",
        (
            _one("kbytes", "KiB for these files"),
            _many("files", "file"),
            _one("allfiles", "KiB for all files"),
            _flag("verbose", "show it"),
        ),
        ("sb",),
    ),
    # Help
    Command("help", "help", "show commands and their use", (_many("topic", "command"),)),
    Command(
        "apropos", "help", "look for commands by a word",
        (_one("topic", "word", required=True),),
    ),
    Command("version", "help", "show the version"),
)  # fmt: skip

NOT_OURS = {
    "bypassthreshold": "large files need no way around the cache: reading ahead is bounded",
    "discon": "there is no disconnected mode",
    "exportafs": "there is no translator for NFS",
    "getcellstatus": "set-user-id bits are honoured for no cell",
    "getclientaddrs": "servers are told no addresses: they answer to where calls come from",
    "nukenfscreds": "there is no translator for NFS",
    "precache": "chunks are taken from no list of free ones that could be filled ahead",
    "rxstatpeer": "figures of Rx are always there: rxdebug shows them",
    "rxstatproc": "figures of Rx are always there: rxdebug shows them",
    "setcbaddr": "servers call back to where calls come from; -o bind=ADDRESS chooses that",
    "setcell": "set-user-id bits are honoured for no cell",
    "setclientaddrs": "servers are told no addresses: -o bind=ADDRESS chooses it",
}
"""Commands of OpenAFS's `fs` that have no meaning here, and why."""
