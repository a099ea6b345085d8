# SPDX-License-Identifier: MIT
"""
Header and data digests: CRC32C as iSCSI sends it (RFC 7143 section 13.1).

The sum itself is a library's (SSE 4.2 or ARMv8 instructions, tables elsewhere).  On the
wire its bytes stand in little-endian order: the RFC maps bit 31 of the remainder to the
last bit sent, as its examples in appendix A.4 show.
"""

from __future__ import annotations

from crc32c import crc32c

from scstd.interfaces import Buffer

DIGEST_LENGTH = 4
"""Length of a digest in bytes."""


def digest(*pieces: Buffer) -> bytes:
    """
    Return the CRC32C digest of these pieces, one after the other.
    """
    value = 0
    for piece in pieces:
        value = crc32c(piece, value)
    return value.to_bytes(4, "little")
