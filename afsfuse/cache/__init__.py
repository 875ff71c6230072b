"""The cache manager: what is known of the files of all cells, and how long it may be believed.

Rooms: `vnodes` (the table), `callbacks` (breaks against fetches), `statuses` (fetching and applying
statuses), `promises` (how they end), `doors` (who may see what), `directories` and `listings`
(whole directories), `chunks`, `readahead` and `reading` (file data), `extents`, `dirty`, `overlay`,
`storing` and `writeback` (what is written and not stored yet), `journal` (what outlives this
process of that), `recovery` (what an earlier process left), `disk` (the second level under the
chunks, and the journal's files), `changing` (changes of directories), `leftovers` (names to be
removed, on disk), `revalidation` (after a break) and `pacing` (after many), `leaving` (volumes that
nobody uses), `listener` (the way up), `locktable`, `filelocks`, `serverlocks` and `locks` (locks
that processes ask for), `manager` (the facade).

The concurrency contract
========================

Everything runs in one thread, under trio, but for what `disk` does: one thread writes there, for as
long as `CacheManager.run`, and reads that would wait for a disk run in others. `disk.parts` and
`disk.store` say what these may touch. So a section without ``await`` is atomic, and the cache
is built of such sections with calls to servers between them. Reading needs no locks. What takes
their place is the *flight*: a fetch under way, registered under its key before its first ``await``
and deregistered after its last, which others wait for instead of fetching the same again.

Tasks
-----
- Requests run in the tasks of their callers. Whoever first misses something fetches it, for itself
  and for all that join.
- `CacheManager.run` has kinds of its own: `Reader.run` (a task for each read-ahead or prefetch
  call), `Writes.run` (a task for each store, and one that tries again what failed),
  `Revalidator.run` (up to six groups of broken vnodes of a server at a time, and four of a volume;
  what has no answer for five seconds the kernel is told to forget), `DirectoryChanger.run` (doubts
  about changes of unknown outcome), `Leaving.run` (up to four calls that give promises back), a
  watch for suspend, and `DiskCache.run` (it waits for its thread at the end, some seconds at most).
- `Recovery.run` stores what an earlier daemon left, before the mount is there as far as it can.
- A task that closes a file stores it itself if one call does; if it is cancelled, the background
  begins anew.
- `Locks.run` has a task for each call about a lock: who asked may stop waiting, but what the server
  then says must be known. Calls about one file are made one after the other, under the mutex of its
  `ServerLock`, the only one in the cache; nothing else is waited for under it but such a call, and
  before a lock is given back the storing of the file.
- The callback service calls `break_*` from its own tasks; the client of the file servers calls
  `server_changed` and `promises_lost`. All of these are free of await.

Flights
-------
====================  =======================  ====================================================
flight                key                      bounded by
====================  =======================  ====================================================
`statuses.Flight`     cell, fid, speaker       its waiters
bulk call             none (not shared)        6 for a request, 6 a server for revalidation
`listings` event      vnode                    its waiters
`chunks.Run`          data version and chunk   readers; `background` (see there)
`dirty.Flight`        file, range of bytes     2 a file; alone if it cuts or extends the file
====================  =======================  ====================================================

A task waits for at most one flight at a time, and one that leads a flight waits for none, except
that a directory fetch may wait for the status of the same vnode, never the other way round: there
is no cycle. A leader that is cancelled ends its flight without outcome; those who waited start
again, and one of them leads.

Locks
-----
`DirectoryChanger` has one lock for each directory (`keylocks`). It is held from before a change is
sent until its reply was entered, so that of two changes the first one's reply is entered first, and
each makes the data version rise by one. Two are taken in the order of cell and fid. Who holds one
waits for the server, and for the status of a file that may lose its last name; who leads a flight
wants none. So there is no cycle.

Invariants
----------
1. A vnode that was handed out is in the table, or its promise is void. There is one vnode object
   for each fid in the table.
2. `Vnode.expires` is set only by `StatusKeeper.apply`, and only if no break that concerns the fid
   was noted (`BreakLog`) between the beginning of the fetch and its end. Everybody else only
   clears it. `StatusKeeper.changed` leaves it alone: a server does not break our own promise for
   what we change.
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
   when a directory is installed; both whatever request it was that noticed. A change of our own
   is not told: the vfs knows of it, and the kernel asked for it.
8. `Vnode.look_until`, `read_until` and `permits` of a directory are set by `StatusKeeper.apply`
   together with a promise, and go with it. What a server told one identity is given to another
   only after that one's rights were judged (`Doors`); who has no token for a cell is nobody there.
9. A `Directory` is edited in place only from the version before a change to the one after it, both
   as the server names them. If the change may have been made but nobody knows, the promise is void.
10. A refusal is told to whom it was said, and remembered for nobody: flights of statuses are joined
    by the same speaker only, and whoever waited in vain for a run of another one fetches itself.
11. A lock that means something at its server is entered in the table of its file only while
    `ServerLock.held` covers it, in one section; `held` is given up only when no claim needs it, or
    when the server's lock did not hold, which voids all claims.
12. Extents of a file do not overlap. The bytes of one that a flight carries do not change, and no
    other flight of the file has a byte in common with it.
13. What a reader sees of a dirty file was in an extent when the read began, or is what the server
    has, or was written since. An extent leaves the file only when a reply said that the server has
    it, when it was overwritten or cut off, or when a person gave it up.
14. `DirtyFile.base` is the last version of which we know who made it. While flights are under way
    a status with a version that they may have made is not entered (`DirtyFile.believes`): their
    replies will tell. `Vnode.dirty` is set exactly while something is to be stored or under way,
    and such a vnode stays in the table.
15. `Writes.used` is the bytes of all extents in memory. Writers ask for room first (`has_room`), so
    it never passes its limit.
16. Bytes of a part on disk are written once, before its chunk's state says so, and never changed:
    a part belongs to a version of a file, or to several that have them in common.
17. What the journal has is at least what is not stored: a record is there before its write is
    answered, and dead only when a reply said that the server has it.
18. A promise that was given back is believed by nobody: whatever was learnt of its file before the
    call that gave it back has ended counts as broken then (`Leaving`).

Sections free of await
----------------------
`break_callback`, `break_server`, `break_all`, `let_go`; `StatusKeeper.apply` and `changed`; what
`DirectoryChanger` does between a reply and the release of its lock; `Reader._plan` and `_confirm`;
`Listings._install`; everything in `vnodes`, `chunks`, `callbacks`, `directories`, `extents`,
`dirty`, `journal`; all outcomes in `storing`; what writers do in `writeback`; and from the
check that all chunks are there to the joining of their bytes. The listener is called inside such
sections, so it must neither await nor call back.
"""

from afsfuse.cache.directories import Directory, DirectoryEntry
from afsfuse.cache.entries import CacheEntry
from afsfuse.cache.figures import CacheStatistics
from afsfuse.cache.listener import KernelListener, NullListener
from afsfuse.cache.locks import LockMode
from afsfuse.cache.manager import CacheManager
from afsfuse.cache.readahead import ReadState
from afsfuse.cache.vnodes import Vnode

__all__ = [
    "CacheEntry",
    "CacheManager",
    "CacheStatistics",
    "Directory",
    "DirectoryEntry",
    "KernelListener",
    "LockMode",
    "NullListener",
    "ReadState",
    "Vnode",
]
