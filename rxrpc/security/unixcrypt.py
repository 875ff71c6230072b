"""crypt(3) of old, with which AFS makes keys of short passwords.

25 times DES on a block of zeros, with the password as the key. A salt of 12 bits exchanges places
of the expansion, so that it is not quite DES and no library can do it. Tables: FIPS 46-3.
"""

from __future__ import annotations

from typing import Final

_ROUNDS: Final = 16
_TIMES: Final = 25
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PASSWORD: Final = 8  # characters that count

_SHIFTS: Final = (1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1)


def _table(text: str) -> tuple[int, ...]:
    """Places, counted from 0 where the standard counts from 1."""
    return tuple(int(number) - 1 for number in text.split())


# What parity leaves of a key, in two halves; what a round takes of them.
_KEY_HALVES: Final = _table(
    "57 49 41 33 25 17 9 1 58 50 42 34 26 18 10 2 59 51 43 35 27 19 11 3 60 52 44 36"
    " 63 55 47 39 31 23 15 7 62 54 46 38 30 22 14 6 61 53 45 37 29 21 13 5 28 20 12 4"
)
_KEY_OF_ROUND: Final = _table(
    "14 17 11 24 1 5 3 28 15 6 21 10 23 19 12 4 26 8 16 7 27 20 13 2"
    " 41 52 31 37 47 55 30 40 51 45 33 48 44 49 39 56 34 53 46 42 50 36 29 32"
)
_MIXED: Final = _table(
    "16 7 20 21 29 12 28 17 1 15 23 26 5 18 31 10 2 8 24 14 32 27 3 9 19 13 30 6 22 11 4 25"
)
_LAST: Final = _table(
    "40 8 48 16 56 24 64 32 39 7 47 15 55 23 63 31 38 6 46 14 54 22 62 30 37 5 45 13 53 21 61 29"
    " 36 4 44 12 52 20 60 28 35 3 43 11 51 19 59 27 34 2 42 10 50 18 58 26 33 1 41 9 49 17 57 25"
)
_EXPANSION: Final = tuple((4 * group + bit - 1) % 32 for group in range(8) for bit in range(6))
# The eight substitution boxes, four rows of sixteen digits each.
_BOXES: Final = tuple(
    tuple(int(digit, 16) for digit in rows.replace(" ", ""))
    for rows in (
        "e4d12fb83a6c5907 0f74e2d1a6cb9538 41e8d62bfc973a50 fc8249175b3ea06d",
        "f18e6b34972dc05a 3d47f28ec01a69b5 0e7ba4d158c6932f d8a13f42b67c05e9",
        "a09e63f51dc7b428 d709346a285ecbf1 d6498f30b12c5ae7 1ad069874fe3b52c",
        "7de3069a1285bc4f d8b56f03472c1ae9 a690cb7df13e5284 3f06a1d8945bc72e",
        "2c417ab6853fd0e9 eb2c47d150fa3986 421bad78f9c5630e b8c71e2d6f09a453",
        "c1af92680d34e75b af427c9561de0b38 9ef528c3704a1db6 432c95fabe17608d",
        "4b2ef08d3c975a61 d0b7491ae35c2f86 14bdc37eaf680592 6bd814a7950fe23c",
        "d2846fb1a93e50c7 1fd8a374c56b0e92 7b419ce206adf358 21e74a8dfc90356b",
    )
)

Bits = list[int]


def crypt(password: bytes, salt: str) -> str:
    """The eleven characters behind the salt's two. Of the password the first eight count."""
    key = bytes(byte << 1 & 0xFF for byte in password[:_PASSWORD].ljust(_PASSWORD, b"\0"))
    keys = _round_keys(_bits(key))
    places = _salted(salt)
    left, right = [0] * 32, [0] * 32
    for _ in range(_TIMES):
        for round_key in keys:
            mixed = _mix(right, round_key, places)
            left, right = right, [a ^ b for a, b in zip(left, mixed, strict=True)]
        left, right = right, left
    block = left + right
    number = int("".join(str(block[place]) for place in _LAST), 2) << 2
    return "".join(_ALPHABET[number >> shift & 63] for shift in range(60, -1, -6))


def _bits(data: bytes) -> Bits:
    return [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]


def _round_keys(key: Bits) -> list[Bits]:
    halves = [key[place] for place in _KEY_HALVES]
    first, second = halves[:28], halves[28:]
    keys = []
    for shift in _SHIFTS:
        first = first[shift:] + first[:shift]
        second = second[shift:] + second[:shift]
        both = first + second
        keys.append([both[place] for place in _KEY_OF_ROUND])
    return keys


def _salted(salt: str) -> tuple[int, ...]:
    """The expansion: each bit of the salt that is set exchanges two places 24 apart."""
    places = list(_EXPANSION)
    for index, character in enumerate(salt):
        for bit in range(6):
            if _ALPHABET.index(character) >> bit & 1:
                at = 6 * index + bit
                places[at], places[at + 24] = places[at + 24], places[at]
    return tuple(places)


def _mix(half: Bits, key: Bits, places: tuple[int, ...]) -> Bits:
    wide = [half[place] ^ bit for place, bit in zip(places, key, strict=True)]
    found: Bits = []
    for box, at in zip(_BOXES, range(0, 48, 6), strict=True):
        a, b, c, d, e, f = wide[at : at + 6]
        number = box[a << 5 | f << 4 | b << 3 | c << 2 | d << 1 | e]
        found += (number >> 3, number >> 2 & 1, number >> 1 & 1, number & 1)
    return [found[place] for place in _MIXED]
