"""Records of the volume location database in the terms of this client."""

import enum
from collections.abc import Callable
from ipaddress import IPv4Address
from uuid import UUID

from afsfuse.cell.servers import uuid_of_address
from afsfuse.errors import DataCorrupt, VolumeMissing
from afsfuse.interfaces.vldb import EntryFlag, EntryN, EntryO, EntryU, SiteFlag
from afsfuse.model import SiteInfo, VolumeInfo, VolumeType

_EXISTS = {
    VolumeType.RW: EntryFlag.RW_EXISTS,
    VolumeType.RO: EntryFlag.RO_EXISTS,
    VolumeType.BACKUP: EntryFlag.BACKUP_EXISTS,
}
SUFFIXES = {VolumeType.RW: "", VolumeType.RO: ".readonly", VolumeType.BACKUP: ".backup"}
_WORDS = {VolumeType.RW: "read/write", VolumeType.RO: "read-only", VolumeType.BACKUP: "backup"}


class Preference(enum.Enum):
    """Which of the volumes of one name is wanted."""

    FORCE_RW = "read/write"
    PREFER_RO = "read-only, else read/write"
    RO = "read-only"
    BACKUP = "backup"


def read_entry(entry: EntryU | EntryN | EntryO) -> VolumeInfo:
    """The record behind any of its three forms; `DataCorrupt` when it cannot be."""
    if not 0 <= entry.server_count <= len(entry.servers):
        raise DataCorrupt(f"a volume record with {entry.server_count} sites")
    ids = [
        number if entry.flags & _EXISTS[type] else 0
        for type, number in zip(VolumeType, entry.volume_ids, strict=True)
    ]
    sites = []
    for place in range(entry.server_count):
        flags = entry.server_flags[place]
        unique = 0
        if isinstance(entry, EntryU):
            server, unique = entry.servers[place], entry.uniques[place]
            by_address = not flags & SiteFlag.UUID
            address = IPv4Address(server.time_low) if by_address else None
        else:
            address = IPv4Address(entry.servers[place])
        sites.append(
            SiteInfo(
                server=uuid_of_address(address) if address is not None else server,
                address=None if address is None else str(address),
                unique=unique,
                partition=entry.partitions[place],
                types=_types(flags),
                new_replica=bool(flags & SiteFlag.NEW_REPLICA),
                usable=not flags & SiteFlag.DO_NOT_USE,
            )
        )
    name = entry.name.decode("ascii", "backslashreplace")
    locked = bool(entry.flags & EntryFlag.LOCKED)
    return VolumeInfo(name, (ids[0], ids[1], ids[2]), tuple(sites), locked)


def split_suffix(name: str) -> tuple[str, VolumeType | None]:
    """A volume's name without its suffix, and the type which that forces."""
    for type in (VolumeType.RO, VolumeType.BACKUP):
        stem = name.removesuffix(SUFFIXES[type])
        if stem != name and stem:
            return stem, type
    return name, None


def choose(info: VolumeInfo, want: Preference, *, cell: str) -> VolumeType:
    """Which volume of a record to use; `VolumeMissing` if there is none of the wanted type.

    Read-only or read/write when the replica is preferred and exists, else exactly what is
    wanted. Source: Linux fs/afs/volume.c, rules 1 to 3.
    """
    wanted = {
        Preference.FORCE_RW: (VolumeType.RW,),
        Preference.PREFER_RO: (VolumeType.RO, VolumeType.RW),
        Preference.RO: (VolumeType.RO,),
        Preference.BACKUP: (VolumeType.BACKUP,),
    }[want]
    for type in wanted:
        if info.has(type):
            return type
    words = " or ".join(_WORDS[type] for type in wanted)
    raise VolumeMissing(f"the volume has no {words} instance", cell=cell, volume=info.name)


def releasing(info: VolumeInfo) -> bool:
    """Whether a release is under way, so that replicas differ and the record will change soon."""
    return any(site.new_replica for site in info.sites)


def unsettled(info: VolumeInfo) -> bool:
    """Whether somebody is at work on the volume, and the record likely to change soon."""
    return info.locked or releasing(info)


def sites_of(
    info: VolumeInfo, type: VolumeType, distance: Callable[[SiteInfo], tuple[float, float]]
) -> list[SiteInfo]:
    """The usable sites of a volume, near ones first, those to stay away from now last.

    While a release is under way a client moves to the new replicas as soon as they are at least
    half of all, and stays away from them until then. Source: Linux fs/afs/rotate.c.
    """
    sites = [site for site in info.sites if type in site.types and site.usable]
    sites.sort(key=distance)
    avoided = to_avoid(info, type)
    sites.sort(key=lambda site: site.server in avoided)
    return sites


def to_avoid(info: VolumeInfo, type: VolumeType) -> frozenset[UUID]:
    """The servers of a volume whose replica is not the one to use while a release is under way."""
    if type is not VolumeType.RO or not releasing(info):
        return frozenset()
    sites = [site for site in info.sites if type in site.types and site.usable]
    use_new = 2 * sum(site.new_replica for site in sites) >= len(sites)
    return frozenset(site.server for site in sites if site.new_replica is not use_new)


def type_of(info: VolumeInfo, number: int) -> VolumeType | None:
    """Which of the record's volumes has this number."""
    return next((type for type in VolumeType if info.ids[type] == number), None)


def _types(flags: int) -> frozenset[VolumeType]:
    """What a site has; a backup is always beside the read/write volume."""
    types: set[VolumeType] = set()
    if flags & SiteFlag.READ_WRITE:
        types |= {VolumeType.RW, VolumeType.BACKUP}
    if flags & SiteFlag.READ_ONLY:
        types.add(VolumeType.RO)
    if flags & SiteFlag.BACKUP:
        types.add(VolumeType.BACKUP)
    return frozenset(types)
