"""The room that speaks to the kernel: everything that knows pyfuse3, libfuse or mount(2).

Who is in here, and what runs where:

- *Requests.* `pyfuse3.main` gives every request a trio task of its own. `operations` translates
  it into one call of the vfs, `handler` is the border that only `FUSEError` crosses.
- *Waiting.* `interrupts` knows every request that has no answer yet. One task, the watcher, looks
  at those that wait for longer than a blink: a caller that got a signal is answered EINTR, and a
  wait beyond its bound ETIMEDOUT. FUSE_INTERRUPT itself never reaches a pyfuse3 file system.
- *Invalidations.* `notify` tells the kernel what to forget, in threads of its own and never in the
  thread of the event loop: dropping a page waits until the page is read, which is a request that
  this very event loop must answer.
- *Locks.* pyfuse3 has no handlers for them: `_libfuse`, in C, puts itself between it and libfuse
  and hands lock requests to `locks`, where each that must wait has a task of its own. These can be
  interrupted by the kernel and have no bound.
- *Who asked for what.* pyfuse3 passes neither the node of a STATFS nor the caller of a READ;
  `requestlog` finds them in libfuse's request log.
- *Mounting.* `mount` makes and removes the mount itself, so that every failure keeps its errno;
  `handshake` agrees with the kernel on what libfuse does not offer and hands it the connection;
  `tuning` sets the read-ahead; `session` is the life of one mount from beginning to end.

Locks: only `notify` has one, held for a few assignments and never around a call of the kernel.
Everything else belongs to the event loop's thread. One mount a process, as pyfuse3 has it.
"""

from afsfuse.fuse import libfuse as libfuse  # before anything here imports pyfuse3: see there
