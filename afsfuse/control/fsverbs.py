"""All that `afsfuse fs` asks of a daemon, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afsfuse.control.acls import AclVerbs
from afsfuse.control.caching import CacheVerbs
from afsfuse.control.cells import CellVerbs
from afsfuse.control.mountpoints import MountPointVerbs
from afsfuse.control.settings import SettingVerbs
from afsfuse.control.volumes import VolumeVerbs

if TYPE_CHECKING:
    from afsfuse.auth.security import Credentials
    from afsfuse.cell.directory import CellDirectory
    from afsfuse.cell.people import People
    from afsfuse.cell.volumes import VolumeLocator
    from afsfuse.control.paths import Paths
    from afsfuse.control.settings import Known
    from afsfuse.control.verbs import Verb
    from afsfuse.fileserver.client import FileServerClient
    from afsfuse.vfs.forgetting import Forgetting


def fs_verbs(
    paths: Paths,
    client: FileServerClient,
    locator: VolumeLocator,
    cells: CellDirectory,
    people: People,
    credentials: Credentials,
    known: Known,
    forgetting: Forgetting,
) -> dict[str, Verb]:
    """The verbs of one mount; `known` has the UUID by which servers know it."""
    return {
        **AclVerbs(paths, client, people).verbs,
        **VolumeVerbs(paths, client).verbs,
        **MountPointVerbs(paths, locator, forgetting).verbs,
        **CacheVerbs(paths, forgetting).verbs,
        **CellVerbs(cells, locator, client, forgetting).verbs,
        **SettingVerbs(credentials, client, known, forgetting).verbs,
    }
