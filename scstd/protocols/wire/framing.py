# SPDX-License-Identifier: MIT
"""
Framing: bytes in, whole PDUs out, and back (RFC 7143 section 11.2).

The framer is pulled: `Framer.feed` gives it what the transport received, `Framer.next`
returns one PDU at a time, so that what a PDU changes (digests are switched on by the
last one of the login) holds for the one after it, and so that whoever is short of
memory can stop between two.

Nothing is sliced off the front of a growing buffer: a PDU inside one chunk is parsed in
place, one that is split over chunks is collected in a list and joined once, when all of
it is there.  A header is refused before the memory for its segment is spent.
"""

from __future__ import annotations

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import OPCODE
from scstd.protocols.wire.digest import DIGEST_LENGTH, digest
from scstd.protocols.wire.pdu import BHS_LENGTH, PDU, PDU_TYPES, UnknownPDU

COPY_BELOW = 16384
"""Shorter segments are copied out, longer ones are views that keep the chunk alive."""

_JOIN_BELOW = 4096
"""Shorter chunks of a PDU that is not whole are put together as they come."""


def own(data: Buffer) -> Buffer:
    """
    Return *data* as what may be kept for long: a copy, if it is a small part of the
    chunk that it would keep alive.
    """
    if type(data) is memoryview and 4 * len(data) < len(data.obj):  # type: ignore[arg-type]
        return bytes(data)
    return data


class FramingError(Exception):
    """
    The stream cannot be cut into PDUs any more: the connection must go.
    """


@attrs.define(eq=False)
class Framer:
    """
    The receiving side of one connection.

    After `next` returned a PDU, `header` is its BHS.
    """

    max_segment: int = 8192
    """The longest DataSegmentLength taken, in bytes."""
    header_digest: bool = False
    data_digest: bool = False
    data_digest_failed: bool = False
    """Whether the data segment of the PDU that `next` returned is wrong."""
    damaged: int = 0
    """How many of them were."""
    buffer: bytes = b""
    """What came last."""
    at: int = 0
    """Where the next PDU begins in it."""
    _last: int = 0
    _pending: list[Buffer] = attrs.field(factory=list)
    _have: int = 0
    _need: int = 0

    def feed(self, chunk: bytes) -> None:
        """
        Take in what was received.
        """
        if self._pending:
            last = self._pending[-1]
            if len(chunk) >= _JOIN_BELOW:
                self._pending.append(chunk)
            elif type(last) is bytearray:
                last += chunk
            else:
                # Many little ones would take more as objects than as bytes.
                self._pending.append(bytearray(chunk))
            self._have += len(chunk)
            if self._have < self._need:
                return
            chunk = b"".join(self._pending)
            self._pending.clear()
        elif self.at < len(self.buffer):
            # Fed before the last chunk was used up: the reader has stopped.
            chunk = self.buffer[self.at :] + chunk
        self.buffer = chunk
        self.at = 0

    @property
    def buffered(self) -> int:
        """
        How many received bytes are not yet part of a returned PDU.
        """
        return self._have if self._pending else len(self.buffer) - self.at

    def next(self) -> PDU | None:
        """
        Return the next PDU, or None when more bytes are needed.

        :raises FramingError: a header digest is wrong, or a segment too long.
        """
        buffer, at = self.buffer, self.at
        available = len(buffer) - at
        if available < BHS_LENGTH:
            self._wait(BHS_LENGTH)
            return None
        cls = PDU_TYPES.get(buffer[at] & OPCODE, UnknownPDU)
        pdu = cls(*cls.unpack(buffer, at))
        length = pdu.lengths
        if length <= self.max_segment and not (self.header_digest or self.data_digest):
            # The usual case: no additional header, no digests.
            begin = at + BHS_LENGTH
            end = begin + length
            padded = end + (-length & 3)
            if len(buffer) < padded:
                self._wait(padded - at)
                return None
            if length:
                pdu.data = (
                    buffer[begin:end]
                    if length < COPY_BELOW
                    else memoryview(buffer)[begin:end]
                )
            self._last = at
            self.at = padded
            self.data_digest_failed = False
            return pdu
        # What is refused for its length is told by its header.
        self._last = at
        total = self._length(pdu.lengths)
        if available < total:
            self._wait(total)
            return None
        self.at = at + total
        self.data_digest_failed = False
        self._segments(pdu, buffer, at, pdu.lengths)
        return pdu

    def _length(self, lengths: int) -> int:
        """
        Return the length of a whole PDU with these TotalAHS and DataSegment lengths.
        """
        length = lengths & 0xFFFFFF
        if length > self.max_segment:
            raise FramingError(
                f"DataSegmentLength {length} exceeds "
                f"MaxRecvDataSegmentLength {self.max_segment}"
            )
        total = BHS_LENGTH + length + (-length & 3)
        if lengths > 0xFFFFFF:
            total += (lengths >> 24) << 2
        if self.header_digest:
            total += DIGEST_LENGTH
        if self.data_digest and length:
            total += DIGEST_LENGTH
        return total

    def _segments(self, pdu: PDU, buffer: bytes, at: int, lengths: int) -> None:
        """
        Give *pdu* its AHS and data segment, and check the digests.
        """
        begin = at
        at += BHS_LENGTH
        if lengths > 0xFFFFFF:
            end = at + ((lengths >> 24) << 2)
            pdu.ahs = buffer[at:end]
            at = end
        if self.header_digest:
            if digest(memoryview(buffer)[begin:at]) != buffer[at : at + DIGEST_LENGTH]:
                raise FramingError("the header digest is wrong")
            at += DIGEST_LENGTH
        length = lengths & 0xFFFFFF
        if not length:
            return
        end = at + length
        if length < COPY_BELOW:
            pdu.data = buffer[at:end]
        else:
            pdu.data = memoryview(buffer)[at:end]
        if self.data_digest:
            padded = end + (-length & 3)
            self.data_digest_failed = (
                digest(memoryview(buffer)[at:padded])
                != buffer[padded : padded + DIGEST_LENGTH]
            )
            self.damaged += self.data_digest_failed

    def _wait(self, need: int) -> None:
        """
        Keep what is there until *need* bytes are.
        """
        if self._pending:
            return
        rest = len(self.buffer) - self.at
        if rest:
            # A long tail is copied once, by the join; a short one does not keep the
            # chunk until then.
            self._pending.append(own(memoryview(self.buffer)[self.at :]))
        self._have, self._need = rest, need
        self.buffer, self.at = b"", 0

    def take_damaged(self) -> int:
        """
        Return how many data segments were damaged since this was asked last.
        """
        count, self.damaged = self.damaged, 0
        return count

    def judge(self, *, damaged: bool) -> None:
        """
        Have the data segment of the PDU that is being run be damaged, or be right.
        """
        self.damaged += damaged - self.data_digest_failed
        self.data_digest_failed = damaged

    @property
    def header(self) -> bytes:
        """
        The header segments of the PDU that `next` returned last, all of them.
        """
        end = self._last + BHS_LENGTH
        if len(self.buffer) > end:
            end += self.buffer[self._last + 4] << 2
        return self.buffer[self._last : end]


PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
"""What follows a data segment, by the last two bits of its length."""


def append(
    output: list[Buffer],
    header: bytes,
    data: Buffer,
    *,
    header_digest: bool,
    data_digest: bool,
) -> None:
    """
    Append a PDU (its header segments and data segment) to *output* as it is sent.
    """
    output.append(header)
    if header_digest:
        output.append(digest(header))
    if data:
        output.append(data)
        padding = PADDING[len(data) & 3]
        if padding:
            output.append(padding)
        if data_digest:
            output.append(digest(data, padding))
