# SPDX-License-Identifier: MIT
"""
The parameter list of EXTENDED COPY, taken apart (SPC-5 sections 6.4.2 to 6.4.6).

Here is found what is wrong with a list before anything is copied: such errors end the
command with ILLEGAL REQUEST and point at the byte.  What CSCD descriptors mean (is
there such a logical unit?) is found out when a segment needs them.
"""

from __future__ import annotations

from struct import unpack_from

import attrs

from scstd.scsi.copy.limits import (
    CSCD_LENGTH,
    MOST_CSCDS,
    MOST_LIST,
    MOST_SEGMENTS,
    OFFSET_SEGMENT_LENGTH,
    SEGMENT_LENGTH,
)
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    FieldPointer,
    SenseKey,
    illegal_parameter,
    list_length_error,
)

LID1_HEADER, LID4_HEADER = 16, 48
"""Lengths of the two headers."""

NO_LIST_ID = 0b11
"""LIST ID USAGE: the list identifier is none (SPC-5 tables 128 and 129)."""

_IDENTIFICATION, _BLOCK_TO_BLOCK, _WITH_OFFSET = 0xE4, 0x02, 0x0A

_LENGTHS = {_BLOCK_TO_BLOCK: SEGMENT_LENGTH, _WITH_OFFSET: OFFSET_SEGMENT_LENGTH}
"""Segment descriptors that there are, and how long each is."""


@attrs.frozen
class CSCD:
    """
    An identification descriptor CSCD descriptor (SPC-5 section 6.4.5.6), at byte *at*
    of the list.
    """

    at: int
    null: bool
    device_type: int
    code_set: int
    association: int
    designator_type: int
    designator: bytes
    block_length: int


@attrs.frozen
class Segment:
    """
    A block device to block device segment descriptor (SPC-5 section 6.4.6.4), or one
    of a block device with offset to a block device with offset (SPC-4, type 0Ah).
    """

    at: int
    destination_count: bool
    """DC: *blocks* are the destination's, else the source's."""
    source: int
    destination: int
    blocks: int
    source_lba: int
    destination_lba: int
    length: int | None = None
    """Bytes, of one with offset."""
    source_offset: int = 0
    """Bytes into its first block; so the next."""
    destination_offset: int = 0


@attrs.frozen
class CopyList:
    """
    A whole parameter list; *first_id* is the CSCD descriptor ID of the first CSCD.
    """

    list_id: int
    usage: int
    immediate: bool
    first_id: int
    cscds: tuple[CSCD, ...]
    segments: tuple[Segment, ...]


def _wrong(asc: int, at: int) -> CheckCondition:
    return CheckCondition(SenseKey.ILLEGAL_REQUEST, asc, FieldPointer(at, in_cdb=False))


def parse(data: bytes, *, lid4: bool) -> CopyList:
    """
    Return the parameter list of EXTENDED COPY(LID4), or of (LID1).

    :raises CheckCondition: it is none.
    """
    header = LID4_HEADER if lid4 else LID1_HEADER
    if len(data) < header:
        raise list_length_error()
    if lid4:
        list_id, cscds, segments, inline = unpack_from(">20xI18xHHH", data)
        _check_lid4(data)
        immediate, lengths_at = bool(data[15] & 1), (42, 44, 46)
    else:
        list_id, cscds, segments, inline = unpack_from(">BxH4xII", data)
        immediate, lengths_at = False, (2, 8, 12)
    usage = data[1] >> 3 & 3
    if usage == 0b01:
        raise illegal_parameter(1, 4)
    if usage == NO_LIST_ID and list_id:
        raise illegal_parameter(20 if lid4 else 0)
    if cscds + segments > MOST_LIST or header + cscds + segments + inline > len(data):
        raise list_length_error()
    if inline:
        raise _wrong(ASC.INLINE_DATA_LENGTH_EXCEEDED, lengths_at[2])
    if cscds % CSCD_LENGTH:
        raise illegal_parameter(lengths_at[0])
    if cscds > CSCD_LENGTH * MOST_CSCDS:
        raise _wrong(ASC.TOO_MANY_TARGET_DESCRIPTORS, lengths_at[0])
    end = header + cscds
    return CopyList(
        list_id=list_id,
        usage=usage,
        immediate=immediate,
        first_id=(header - LID1_HEADER) // CSCD_LENGTH,
        cscds=tuple(_cscd(data, at) for at in range(header, end, CSCD_LENGTH)),
        segments=tuple(_segments(data, end, end + segments, lengths_at[1])),
    )


def _check_lid4(data: bytes) -> None:
    for at, value, size in ((0, 0x01, 1), (2, CSCD_LENGTH, 2), (16, 0xFF, 1)):
        if int.from_bytes(data[at : at + size], "big") != value:
            raise illegal_parameter(at)
    if data[15] & 2:
        # G_SENSE: nothing here sends sense data with GOOD status.
        raise illegal_parameter(15, 1)


def _cscd(data: bytes, at: int) -> CSCD:
    kind, second, code_set, third, length = unpack_from(">BBxxBBxB", data, at)
    if kind != _IDENTIFICATION:
        raise _wrong(ASC.UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE, at)
    if length > 20:
        raise illegal_parameter(at + 7)
    return CSCD(
        at=at,
        null=bool(second & 0x20),
        device_type=second & 0x1F,
        code_set=code_set & 0x0F,
        association=third >> 4 & 3,
        designator_type=third & 0x0F,
        designator=data[at + 8 : at + 8 + length],
        block_length=int.from_bytes(data[at + 29 : at + 32], "big"),
    )


def _segments(data: bytes, at: int, end: int, length_at: int) -> list[Segment]:
    segments: list[Segment] = []
    while at < end:
        size = _LENGTHS.get(data[at])
        if size is None:
            raise _wrong(ASC.UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE, at)
        if at + size > end:
            raise list_length_error()
        if int.from_bytes(data[at + 2 : at + 4], "big") != size - 4:
            raise illegal_parameter(at + 2)
        if len(segments) == MOST_SEGMENTS:
            raise _wrong(ASC.TOO_MANY_SEGMENT_DESCRIPTORS, length_at)
        one = _with_offset if data[at] == _WITH_OFFSET else _block_to_block
        segments.append(one(data, at))
        at += size
    return segments


def _block_to_block(data: bytes, at: int) -> Segment:
    flags, source, destination, blocks, source_lba, destination_lba = unpack_from(
        ">xBxxHHxxHQQ", data, at
    )
    return Segment(
        at=at,
        destination_count=bool(flags & 2),
        source=source,
        destination=destination,
        blocks=blocks,
        source_lba=source_lba,
        destination_lba=destination_lba,
    )


def _with_offset(data: bytes, at: int) -> Segment:
    source, destination, length, source_lba, destination_lba, offset, to = unpack_from(
        ">4xHHIQQHH", data, at
    )
    return Segment(
        at=at,
        destination_count=False,
        source=source,
        destination=destination,
        blocks=0,
        source_lba=source_lba,
        destination_lba=destination_lba,
        length=length,
        source_offset=offset,
        destination_offset=to,
    )
