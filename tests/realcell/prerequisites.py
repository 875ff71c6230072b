"""What a real cell needs of the machine, and what of it is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# A program that each Debian package brings, for asking dpkg is slow and other systems have none.
PACKAGES = {
    "openafs-fileserver": "/usr/lib/openafs/dafileserver",
    "openafs-dbserver": "/usr/lib/openafs/vlserver",
    "openafs-krb5": "akeyconvert",
    "openafs-client": "afsio",
    "openafs-fuse": "afsd.fuse",
    "krb5-kdc": "krb5kdc",
    "krb5-admin-server": "kadmin.local",
    "krb5-user": "kinit",
    "fuse3": "fusermount3",
    "iproute2": "ip",
    "nftables": "nft",
    "util-linux": "nsenter",
    "gcc": "gcc",
}
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def missing_packages() -> list[str]:
    """Debian packages that are to be installed, by name."""
    return [
        package
        for package, program in PACKAGES.items()
        if shutil.which(program, path=_PATH) is None
    ]


def missing() -> list[str]:
    """One line for each thing that a real cell lacks here; empty when it can be started."""
    problems = []
    if os.geteuid() != 0:
        problems.append("a real cell needs root (namespaces, nftables)")
    problems += [f"Debian package {package} is missing" for package in missing_packages()]
    for kind in ("net", "mnt", "pid"):
        if not Path(f"/proc/self/ns/{kind}").exists():
            problems.append(f"the kernel has no {kind} namespaces")
    problems += [
        f"{device} is missing"
        for device in ("/dev/fuse", "/dev/net/tun")
        if not Path(device).exists()
    ]
    return problems
