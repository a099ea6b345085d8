# SPDX-License-Identifier: MIT
"""
The 2352 bytes of a CD's data sector, made of its 2048 bytes of user data (ECMA-130
section 14, mode 1)::

    sync 12 | header 4 | user data 2048 | EDC 4 | zero 8 | P parity 172 | Q parity 104

An image has the user data alone; all the rest follows from it and from the address.
The two parities are Reed-Solomon codes over columns and diagonals of the sector (annex
A).  They are computed for all columns at once: a row of the sector is one long number,
adding is XOR, and multiplying is `bytes.translate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from scstd.scsi.mmc.disc import msf

SYNC = b"\0" + b"\xff" * 10 + b"\0"
"""What every sector begins with."""

_MODE_1 = b"\x01"
_ROW = 86
_COLUMNS = 24
_DIAGONALS, _STEPS = 52, 43


def _edc_table() -> list[int]:
    """
    Return the remainder of each byte, lowest bit first, divided by
    (x^16+x^15+x^2+1)(x^16+x^2+x+1).
    """
    table = []
    for byte in range(256):
        value = byte
        for _bit in range(8):
            value = value >> 1 ^ (0xD8018001 if value & 1 else 0)
        table.append(value)
    return table


_EDC = _edc_table()


def _twice(value: int) -> int:
    """
    Return *value* times x in GF(2^8) of x^8+x^4+x^3+x^2+1.
    """
    return value << 1 ^ (0x11D if value & 0x80 else 0)


_TWICE = bytes(map(_twice, range(256)))
_BY_THREE = bytes(
    value for _product, value in sorted((_twice(one) ^ one, one) for one in range(256))
)

_PICK = [
    itemgetter(
        *(
            (_ROW * (first >> 1) + (first & 1) + (_ROW + 2) * step)
            % (_DIAGONALS * _STEPS)
            for first in range(_DIAGONALS)
        )
    )
    for step in range(_STEPS)
]
"""For each step along the diagonals, the bytes that all of them have there."""


def edc(data: bytes) -> bytes:
    """
    Return the error detection code of a sector's first 2064 bytes.
    """
    value = 0
    table = _EDC
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value.to_bytes(4, "little")


def _parity(rows: Iterable[bytes], width: int) -> bytes:
    """
    Return the two parity rows of *rows*, each *width* bytes.
    """
    weighted = plain = 0
    for row in rows:
        value = int.from_bytes(row, "big")
        plain ^= value
        weighted ^= value
        doubled = weighted.to_bytes(width, "big").translate(_TWICE)
        weighted = int.from_bytes(doubled, "big")
    doubled = weighted.to_bytes(width, "big").translate(_TWICE)
    mixed = (int.from_bytes(doubled, "big") ^ plain).to_bytes(width, "big")
    first = mixed.translate(_BY_THREE)
    second = int.from_bytes(first, "big") ^ plain
    return first + second.to_bytes(width, "big")


def header(lba: int) -> bytes:
    """
    Return a sector's header: its time, in binary coded decimal, and its mode.
    """
    return bytes(one // 10 << 4 | one % 10 for one in msf(lba)) + _MODE_1


def correction(lba: int, user: bytes) -> bytes:
    """
    Return what follows the user data: EDC, zeros, parities; 288 bytes.
    """
    head = header(lba)
    detection = edc(SYNC + head + user)
    body = head + user + detection + bytes(8)
    rows = (body[at : at + _ROW] for at in range(0, _COLUMNS * _ROW, _ROW))
    columns = _parity(rows, _ROW)
    covered = body + columns
    diagonals = (bytes(pick(covered)) for pick in _PICK)
    return detection + bytes(8) + columns + _parity(diagonals, _DIAGONALS)
