# SPDX-License-Identifier: MIT
"""
Additional Header Segments: what of a SCSI Command has no room in its Basic Header
Segment (RFC 7143 sections 11.2.2.1 to 11.2.2.4).
"""

from __future__ import annotations

import attrs

_EXTENDED_CDB = 1
_BIDIRECTIONAL = 2
_CODE = 0x3F


class AHSError(ValueError):
    """
    The segments do not have the layout that they must have.
    """


class ReservedTypeError(AHSError):
    """
    One has a type that is reserved: a protocol error (RFC 7143 section 11).
    """


@attrs.frozen
class Additions:
    """
    What the segments say: the CDB from byte 16 on, and how much Data-In the initiator
    of a bidirectional command expects, in bytes; None if nothing is said of it.
    """

    cdb: bytes = b""
    expected_in: int | None = None


def additions(ahs: bytes) -> Additions:
    """
    Return what the segments of a SCSI Command say.

    :raises AHSError: one is cut off, has a wrong length, or is there twice.
    :raises ReservedTypeError: one is of a type that is reserved.
    """
    cdb: bytes | None = None
    expected_in: int | None = None
    at = 0
    while at < len(ahs):
        # AHSLength counts from behind AHSType, without the padding.
        length = int.from_bytes(ahs[at : at + 2], "big")
        end = at + 3 + length
        if length < 1 or end > len(ahs):
            raise AHSError(f"a segment of {length} bytes at byte {at}")
        code = ahs[at + 2] & _CODE
        body = ahs[at + 4 : end]
        if code == _EXTENDED_CDB and cdb is None and body:
            cdb = body
        elif code == _BIDIRECTIONAL and expected_in is None and len(body) == 4:
            expected_in = int.from_bytes(body, "big")
        elif code in {_EXTENDED_CDB, _BIDIRECTIONAL}:
            raise AHSError(f"segment type {code} twice, or of {length} bytes")
        else:
            raise ReservedTypeError(f"segment type {code}")
        at = end + -end % 4
    return Additions(cdb or b"", expected_in)


def bidirectional(expected_in: int) -> bytes:
    """
    Return the segment that says how much Data-In is expected.
    """
    return b"\0\5\2\0" + expected_in.to_bytes(4, "big")
