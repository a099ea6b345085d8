# SPDX-License-Identifier: MIT
"""
An atomic write as it is kept, and what a medium shows of it.

Kept are the bytes that are to be written and, of each sector, a checksum of what was
there before.  A write that was interrupted has left each sector old or new; so it is
finished only where every one is one of these two, and some are old and some are new.
Where all are old it never began, and nobody was told that it had; where all are new
there is nothing left to do.  And where any is neither somebody has written there since:
what is kept is stale, and must not be written over that.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, pack, unpack_from
from zlib import crc32

import attrs

from scstd.interfaces import Buffer

SECTOR = 512
"""Bytes that are written whole or not at all."""

OLD, NEW, BOTH, NEITHER = "OLD", "NEW", "BOTH", "NEITHER"
"""What a sector has: BOTH where what was there is what was to be written."""

_CHECK = 8
_HEAD = Struct(">8sQ")
_TAG = b"\xff\xff\xffatom2"
"""No offset: before there was such a tag, a record was an offset and bytes."""
_OFFSET = Struct(">Q")

_UNREADABLE = -1
"""Instead of the checksum of what could not be read: nothing has it."""


def _sectors(data: Buffer) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + SECTOR] for at in range(0, len(view), SECTOR))


@attrs.frozen
class AtomicWrite:
    """
    Bytes to be written at *offset*; *before* has the checksums of what was there, if
    they are known.
    """

    offset: int
    data: bytes
    before: tuple[int, ...] | None = None

    @classmethod
    def over(cls, before: Buffer | None, offset: int, data: Buffer) -> AtomicWrite:
        """
        Return what is to be written over what was there *before*, None if that could
        not be read.
        """
        if before is None:
            checks = [_UNREADABLE] * -(-len(data) // SECTOR)
        else:
            checks = [crc32(one) for one in _sectors(before)]
        return cls(offset, bytes(data), tuple(checks))

    @classmethod
    def of(cls, record: bytes) -> AtomicWrite:
        """
        Return what is kept in a record.

        :raises ValueError: it makes no sense.
        """
        if not record.startswith(_TAG):
            if len(record) <= _OFFSET.size:
                raise ValueError("it is too short")
            return cls(_OFFSET.unpack_from(record)[0], record[_OFFSET.size :])
        count, rest = divmod(len(record) - _HEAD.size, _CHECK + SECTOR)
        if rest or count < 1:
            raise ValueError("its length is wrong")
        _tag, offset = _HEAD.unpack_from(record)
        checks = unpack_from(f">{count}q", record, _HEAD.size)
        return cls(offset, record[_HEAD.size + count * _CHECK :], checks)

    def record(self) -> bytes:
        """
        Return it as it is kept.
        """
        checks = self.before or ()
        head = _HEAD.pack(_TAG, self.offset)
        return b"".join((head, pack(f">{len(checks)}q", *checks), self.data))

    def seen(self, found: Buffer, first: int = 0) -> list[str]:
        """
        Return what each sector of *found* has, the *first* of which is that of ours.
        """
        assert self.before is not None
        return [
            self._seen(one, self.before[first + at], first + at)
            for at, one in enumerate(_sectors(found))
        ]

    def _seen(self, sector: memoryview, before: int, at: int) -> str:
        ours = memoryview(self.data)[at * SECTOR : (at + 1) * SECTOR]
        new, old = bytes(sector) == bytes(ours), crc32(sector) == before
        if new:
            return BOTH if old else NEW
        return OLD if old else NEITHER


def torn(sectors: list[str]) -> bool:
    """
    Say whether sectors are what an interrupted write leaves.
    """
    return NEITHER not in sectors and OLD in sectors and NEW in sectors
