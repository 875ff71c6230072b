"""The cache manager: what is known of the files of all cells, and how long it may be believed.

Rooms: `vnodes` (the table), `callbacks` (breaks against fetches), `statuses` (fetching and applying
statuses), `doors` (who may see what), `directories` and `listings` (whole directories), `chunks`,
`readahead` and `reading` (file data), `revalidation` (after a break), `leaving` (volumes that
nobody uses), `listener` (the way up), `manager` (the facade).

The concurrency contract
========================

Everything runs in one thread, under trio. So a section without ``await`` is atomic, and the cache
is built of such sections with calls to servers between them. There are no locks. What takes their
place is the *flight*: a fetch under way, registered under its key before its first ``await`` and
deregistered after its last, which others wait for instead of fetching the same again.

Tasks
-----
- Requests run in the tasks of their callers. Whoever first misses something fetches it, for itself
  and for all that join.
- `CacheManager.run` has four kinds of its own: `Reader.run` (a task for each read-ahead or
  prefetch call), `Revalidator.run` (up to four groups of broken vnodes at a time), `Leaving.run`
  (up to four calls that give promises back), and a watch for suspend.
- The callback service calls `break_*` from its own tasks.

Flights
-------
====================  =======================  ====================================================
flight                key                      bounded by
====================  =======================  ====================================================
`statuses.Flight`     cell, fid, speaker       its waiters
bulk call             none (not shared)        6 for a request, 4 for revalidation
`listings` event      vnode                    its waiters
`chunks.Run`          data version and chunk   readers; `background` (see there)
====================  =======================  ====================================================

A task waits for at most one flight at a time, and one that leads a flight waits for none, except
that a directory fetch may wait for the status of the same vnode, never the other way round: there
is no cycle. A leader that is cancelled ends its flight without outcome; those who waited start
again, and one of them leads.

Invariants
----------
1. A vnode that was handed out is in the table, or its promise is void. There is one vnode object
   for each fid in the table.
2. `Vnode.expires` is set only by `StatusKeeper.apply`, and only if no break that concerns the fid
   was noted (`BreakLog`) between the beginning of the fetch and its end. Everybody else only
   clears it.
3. `Vnode.status` moves to older data versions only when a server says so in an answer to a
   question that was asked after the newer one was known.
4. All chunks of a `FileData` are of its data version, confirmed by the status at the end of the
   call that brought them. `vnode.data`, if set, is of the version in `vnode.status`. A chunk's
   buffer does not change once it is in the store.
5. A status flight that began before a break is not joined after it. Hence a request that begins
   after a break was delivered never sees what was true only before it.
6. `ChunkStore.used` is the bytes of all chunks in the store and of all buffers being filled. Every
   byte is reserved before its buffer is filled, and released once.
7. A change of a data version is told to the listener exactly when `Vnode.status` moves, of names
   when a directory is installed; both whatever request it was that noticed.

8. `Vnode.look_until`, `read_until` and `permits` of a directory are set by `StatusKeeper.apply`
   together with a promise, and go with it. What a server told one identity is given to another
   only after that one's rights were judged (`Doors`); who has no token for a cell is nobody there.
9. A refusal is told to whom it was said, and remembered for nobody: flights of statuses are joined
   by the same speaker only, and whoever waited in vain for a run of another one fetches itself.

10. A promise that was given back is believed by nobody: whatever was learnt of its file before the
    call that gave it back has ended counts as broken then (`Leaving`).

Sections free of await
----------------------
`break_callback`, `break_server`, `break_all`, `let_go`; `StatusKeeper.apply`; `Reader._plan` and
`_confirm`; `Listings._install`; everything in `vnodes`, `chunks`, `callbacks`, `directories`; and
from the check that all chunks are there to the joining of their bytes. The listener is called
inside such sections, so it must neither await nor call back.
"""

from afsfuse.cache.directories import Directory, DirectoryEntry
from afsfuse.cache.entries import CacheEntry
from afsfuse.cache.listener import KernelListener, NullListener
from afsfuse.cache.manager import CacheManager, CacheStatistics
from afsfuse.cache.readahead import ReadState
from afsfuse.cache.vnodes import Vnode

__all__ = [
    "CacheEntry",
    "CacheManager",
    "CacheStatistics",
    "Directory",
    "DirectoryEntry",
    "KernelListener",
    "NullListener",
    "ReadState",
    "Vnode",
]
