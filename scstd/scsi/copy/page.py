# SPDX-License-Identifier: MIT
"""
VPD page 8Fh, Third-Party Copy (SPC-5 section 7.7.17, SBC-4 section 6.6.9): what hosts
read before they offload a copy.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.command import Command
from scstd.scsi.copy import limits
from scstd.scsi.copy.extended import managed
from scstd.scsi.copy.tokens import CHANGE_VULNERABLE, POINT_IN_TIME, ZERO
from scstd.scsi.sam import ITL
from scstd.scsi.spc.vpd import vpd_page
from scstd.scsi.unit import LogicalUnit

_TOKEN_IN, _TOKEN_OUT = 0x02, 0x01

_ROD_TYPES = (
    (POINT_IN_TIME, _TOKEN_IN | _TOKEN_OUT),
    (CHANGE_VULNERABLE, _TOKEN_IN | _TOKEN_OUT),
    (ZERO, _TOKEN_IN),
)
"""Types of ROD tokens, and whether they are taken and given."""

_NO_LIMIT = (1 << 64) - 1


def _descriptor(kind: int, body: bytes) -> bytes:
    """
    Return a third-party copy descriptor (SPC-5 table 644), padded to four bytes.
    """
    body += bytes(-len(body) % 4)
    return pack(">HH", kind, len(body)) + body


def _commands(unit: LogicalUnit) -> bytes:
    body = b""
    for opcode in (0x83, 0x84):
        rows = unit.commands.get(opcode)
        if rows is None or isinstance(rows, Command):
            continue
        actions = bytes(sorted(rows))
        body += bytes((opcode, len(actions))) + actions
    return bytes((len(body),)) + body


@vpd_page(0x8F, "Third-Party Copy", managed)
def third_party_copy(unit: LogicalUnit, itl: ITL) -> bytes:
    """The descriptors, in ascending order of their types."""
    del itl
    shift = unit.block_shift
    most, optimal = limits.MOST_TOKEN_BYTES, limits.OPTIMAL_TOKEN_BYTES
    rod_limits = pack(
        ">6xHIIQQ",
        limits.MOST_RANGES,
        limits.MOST_INACTIVITY,
        limits.DEFAULT_INACTIVITY,
        most >> shift,
        optimal >> shift,
    )
    parameter_data = pack(
        ">4xHHII12x",
        limits.MOST_CSCDS,
        limits.MOST_SEGMENTS,
        limits.MOST_LIST,
        0,  # no inline data
    )
    types = bytes(limits.DESCRIPTOR_TYPES)
    block_rod = pack(">BxH2xHQQQQ8x", 0, 0x2C, 0, most, optimal, _NO_LIMIT, optimal)
    token_features = pack(
        ">B11xIII18xH",
        0,  # tokens of this system only
        limits.DEFAULT_INACTIVITY,
        limits.MOST_LIFETIME,
        limits.MOST_INACTIVITY,
        len(block_rod),
    )
    rod_types = b"".join(pack(">IBxH56x", kind, flags, 0) for kind, flags in _ROD_TYPES)
    operations = pack(
        ">IIIBB18x",
        limits.MOST_COPIES,
        limits.MOST_COPIES,
        limits.MOST_SEGMENT_BYTES,
        limits.GRANULARITY,
        0,
    )
    return b"".join(
        (
            _descriptor(0x0000, rod_limits),
            _descriptor(0x0001, _commands(unit)),
            _descriptor(0x0004, parameter_data),
            _descriptor(0x0008, bytes((len(types),)) + types),
            _descriptor(0x000C, pack(">HH", 2, 0xFFFF)),
            _descriptor(0x0106, token_features + block_rod),
            _descriptor(0x0108, pack(">2xH", len(rod_types)) + rod_types),
            _descriptor(0x8001, operations),
            _descriptor(0xC001, pack(">IB23x", 0, 0)),
        )
    )
