"""fcrypt in PCBC mode, and with it what rxkad does to the packets of one connection.

fcrypt is a Feistel cipher of 16 rounds, blocks of 8 bytes and keys of 56 bits. The work is done by
`_fcrypt`, a module in C; where no compiler was at hand when the package was installed, by the
`PythonSession` here, which is some hundred times slower and otherwise the same.

PCBC hands an error on to all later blocks, but nothing at the end of a packet notices it: rxkad
sees a change of the first 8 bytes of a body, or of the header fields that go into the checksum,
and no other. Source of the numbers: OpenAFS, src/rxkad (sboxes.h, rxkad_common.c).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

BLOCK: Final = 8
ROUNDS: Final = 16

# What `unseal` gives other than a size; the same numbers stand in `_fcrypt.c`.
DOES_NOT_FIT: Final = -1
BAD_CHECKSUM: Final = -2
BAD_SEAL: Final = -3
BAD_LENGTH: Final = -4

_CRYPT: Final = 2
_LOW_32: Final = 0xFFFFFFFF
_HEADS: Final = (0, 4, 8)  # bytes in front of a payload, by level
_SEAL: Final = struct.Struct("!I")

# The four substitution boxes, 256 numbers each.
BOXES: Final = bytes.fromhex(
    """
    ea7fb2649db0d911cd8686910ab293060e06d26573c52860f220b5387eda9fe3
    d2cfc43c61ff4a4a35acaa5f2bbbbc534e9d78a3dc093210c66f66d6aba9affd
    3b95e8349a8172809cf3ecda9f2676153e554dde84eeadc7f16b3dd30449aa24
    0b8a83bafa85a0a8b1d401d87064f051d2c3a7758ca564ef104eb7c66103eb44
    3de5b35baed5ad1dfa5a1e33ab93a2b7e7a845a4cd296344b6697e2e6203c8e0
    17bbc7f33f36ba718e97656069b6f6e66ee08159e8afdd952299fd63197461b1
    b65bae54b370ffc63b3ec1d7e10e76e5364f59c7086e82a693c4aa2649e02164
    079f64819cbff9d143f8b6b9f1247503e4b099463df5d1397212f6ba0c0d422e
    7714a6feb25e8c3e676ca10dc2a2c1856c7b67c623e3f289509c03b773e6e139
    312c279fa56944d62383987d3cb42d991c1f8c20037c5fadf4fa95ca7644cdb6
    b8a1a1be9e548f0b1674318a231704fa7984b1f513abb52eaa0c606b5bc44bbc
    e2af4573fac949cd00927d977a18603dcf5bdec6e2e6bb8b06da08151b886a17
    89d0a9c1c9706be543f468c8d384280a5266a3caf2e37f7a31f788945e9c63d5
    2466fcb35725be8944c4e08f233c1252f51ef4cb18331ff869109dd3f728f830
    055e32c0d519bd458b5bfdbce25ca996ef70cfc22ab361ad804881b71d43d9d7
    45f0d88a597c57c179c734d643dfe4781606da927651e1d47003e02f96918280
    f03724532a038386d1ec50f042782f6dbf80872795e2c55df96fdbb4656ee724
    c81abb49b50a7db9e8dcb7d945201bce599d6bbd0e8fa3a9bc74a6f67f5fb168
    84bca9fd5550e9b6135e07b89502c0d06a1a85bdb6fdfe173f09a38dfbedda1d
    6d1c6c015ae5713e8b6bbe29eb121934cdb3bd35ea4bd5ae2a795aa532127bdc
    2cd0224bb1855980c0309f73d3144840072d8f800fce0b5eb75eac24944a1815
    05e80277a9c7404589d1eade0c792a996c3e95dd8c7dad6fdcfffd6247b3218a
    ec8e1918b46e3dfd74541e0485d8bc1f56e73a5667d6c8a5f38edeae3749b7fa
    c8f41fe02a9b15d1340eb5e044788459566877a51406f52f8c8a738076b41086
    a92a4851847e49e2b5b742337d5da61244486d28aa206d57d66b5d72f0925a1b
    538024709acca766a101a54197413182f114cf530da010cc2a7dd2bf4b1adb16
    47f65136edf3b91aa7df2943015470a4bfd40b5344609e23a118684ff02f82c2
    2a41b2420ced0c1d133a3c6e35dc606585e964029a3f9f8796dfbef2cbe56cd4
    5a83bf921b940042cf4b0075ba8f765f5d3a4d091208389517e4011d4ca9cc85
    824c9d2f3b66a13410cd5989a531cf05c884fac7ba4e8b1a19f1a13b181217b0
    988d0b23c33a2d20df13a0a84c0d6c2f471313521f2df5793da254bd69c86bf3
    0528f1164640b011d3b79549cfc31d8fd8e173dbadc8c9a9a1c2c5e3bafc0e25
    """
)


class Session(Protocol):
    """A session key at work in one connection."""

    def encrypt(self, data: Buffer) -> bytes:
        """Encipher whole blocks, beginning the chain with the key, as rxkad does everywhere."""
        ...

    def decrypt(self, data: Buffer) -> bytes:
        """The inverse of `encrypt`."""
        ...

    def seal(self, cid: int, call: int, seq: int, payload: Buffer, /) -> tuple[bytes, int]:
        """The body of a packet that carries the payload, and the checksum for its header."""
        ...

    def unseal(
        self,
        cid: int,
        call: int,
        seq: int,
        checksum: int,
        datagram: Buffer,
        offset: int,
        sink: Buffer,
        start: int,
        /,
    ) -> int:
        """Check a packet whose body begins at ``offset``, and put its payload into ``sink``.

        How many bytes that were, or one of the negative numbers above. A packet that does not fit
        leaves the sink as it is.
        """
        ...

    def wipe(self) -> None:
        """Forget the key."""
        ...


def _tables() -> tuple[tuple[int, ...], ...]:
    """The boxes, each number moved to where it goes in a half block."""
    moved = [[number << shift for number in BOXES[at : at + 256]] for at, shift in _PLACES]
    return tuple(tuple((n & _LOW_32) | n >> 32 for n in box) for box in moved)


_PLACES: Final = ((0, 3), (256, 27), (512, 11), (768, 19))
_BOX: Final = _tables()


def _schedule(key: bytes) -> list[int]:
    """The keys of the rounds."""
    bits = 0  # 56 of them: the lowest of each byte is parity
    for byte in key:
        bits = bits << 7 | byte >> 1
    keys = []
    for _ in range(ROUNDS):
        keys.append(bits & _LOW_32)
        bits = bits >> 11 | (bits & 0x7FF) << 45
    return keys


def _mix(half: int, key: int) -> int:
    x = half ^ key
    first, second, third, fourth = _BOX
    return first[x >> 24] ^ second[x >> 16 & 255] ^ third[x >> 8 & 255] ^ fourth[x & 255]


def _encipher(schedule: list[int], block: int) -> int:
    left, right = block >> 32, block & _LOW_32
    for at in range(0, ROUNDS, 2):
        left ^= _mix(right, schedule[at])
        right ^= _mix(left, schedule[at + 1])
    return left << 32 | right


def _decipher(schedule: list[int], block: int) -> int:
    left, right = block >> 32, block & _LOW_32
    for at in range(ROUNDS - 2, -1, -2):
        right ^= _mix(left, schedule[at + 1])
        left ^= _mix(right, schedule[at])
    return left << 32 | right


class PythonSession:
    """The twin of the class in C."""

    __slots__ = ("_iv", "_level", "_preamble", "_schedule")

    def __init__(self, key: Buffer, epoch: int, cid: int, index: int, level: int) -> None:
        key = bytes(key)
        if len(key) != BLOCK or not 0 <= level <= _CRYPT:
            raise ValueError("a key of 8 bytes and a level from 0 to 2 are needed")
        self._schedule = _schedule(key)
        self._iv = int.from_bytes(key, "big")
        self._level = level
        first = epoch << 32 | (cid & ~3)
        chain = first ^ _encipher(self._schedule, first ^ self._iv)
        self._preamble = _encipher(self._schedule, index ^ chain)

    def wipe(self) -> None:
        """Forget the key, as far as Python lets go of numbers."""
        self._schedule[:] = [0] * ROUNDS
        self._iv = self._preamble = 0

    def encrypt(self, data: Buffer) -> bytes:
        """See `Session`."""
        return self._chain(bytes(data), self._iv, backwards=False)

    def decrypt(self, data: Buffer) -> bytes:
        """See `Session`."""
        return self._chain(bytes(data), self._iv, backwards=True)

    def _chain(self, data: bytes, chain: int, *, backwards: bool) -> bytes:
        if len(data) % BLOCK:
            raise ValueError("whole blocks of 8 bytes are needed")
        result = bytearray()
        for (block,) in struct.iter_unpack("!Q", data):
            if backwards:
                other = _decipher(self._schedule, block) ^ chain
            else:
                other = _encipher(self._schedule, block ^ chain)
            result += other.to_bytes(BLOCK, "big")
            chain = block ^ other
        return bytes(result)

    def _checksum(self, cid: int, call: int, seq: int) -> int:
        block = call << 32 | (cid & 3) << 30 | (seq & 0x3FFFFFFF)
        return _encipher(self._schedule, block ^ self._preamble) >> 16 & 0xFFFF or 1

    def seal(self, cid: int, call: int, seq: int, payload: Buffer, /) -> tuple[bytes, int]:
        """See `Session`."""
        body = bytes(payload)
        if len(body) > 0xFFFF:
            raise ValueError("more than a packet holds")
        if self._level:
            head = _SEAL.pack(((seq ^ call) & 0xFFFF) << 16 | len(body))
            body = head.ljust(_HEADS[self._level], b"\0") + body
            if self._level == _CRYPT:
                body = self.encrypt(body + bytes(-len(body) % BLOCK))
            else:
                body = body.ljust(BLOCK, b"\0")
                body = self._chain(body[:BLOCK], 0, backwards=False) + body[BLOCK:]
        return body, self._checksum(cid, call, seq)

    def unseal(
        self,
        cid: int,
        call: int,
        seq: int,
        checksum: int,
        datagram: Buffer,
        offset: int,
        sink: Buffer,
        start: int,
        /,
    ) -> int:
        """See `Session`."""
        body, room = memoryview(datagram)[offset:], memoryview(sink)[start:]
        if self._checksum(cid, call, seq) != checksum:
            return BAD_CHECKSUM
        head, size = _HEADS[self._level], len(body)
        if self._level:
            if size < BLOCK or (self._level == _CRYPT and size % BLOCK):
                return BAD_LENGTH
            iv = self._iv if self._level == _CRYPT else 0
            (seal,) = _SEAL.unpack_from(self._chain(bytes(body[:BLOCK]), iv, backwards=True))
            if seal >> 16 != (seq ^ call) & 0xFFFF:
                return BAD_SEAL
            size = seal & 0xFFFF
            if not 0 <= len(body) - head - size < BLOCK:
                return BAD_LENGTH
        if size > len(room):
            return DOES_NOT_FIT
        if self._level == _CRYPT:
            clear = self.decrypt(body)
        elif self._level:
            clear = self._chain(bytes(body[:BLOCK]), 0, backwards=True) + bytes(body[BLOCK:])
        else:
            clear = bytes(body)
        room[:size] = clear[head : head + size]
        return size


def new_session(key: Buffer, epoch: int, cid: int, index: int, level: int) -> Session:
    """The session of a connection; ``key`` may be wiped afterwards."""
    make = CompiledSession or PythonSession
    return make(key, epoch, cid, index, level)


CompiledSession: Callable[[Buffer, int, int, int, int], Session] | None = None
"""The class in C, if it was built."""

try:
    from rxrpc.security import _fcrypt
except ImportError:  # installed without a compiler
    pass
else:
    _fcrypt.install(BOXES)
    CompiledSession = _fcrypt.Session
