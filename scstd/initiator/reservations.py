# SPDX-License-Identifier: MIT
"""
Persistent reservations as an initiator asks for them: CDBs, parameter lists, and what
comes back (SPC-5 sections 6.16 and 6.17).
"""

from __future__ import annotations

import struct

import attrs

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE, MOVE = range(8)
"""Service actions of PERSISTENT RESERVE OUT."""

TYPES = (1, 3, 5, 6, 7, 8)
"""Types of persistent reservations."""

SPEC_I_PT, ALL_TG_PT, APTPL = 8, 4, 1
CONFLICT = 0x18

PREEMPTED, RELEASED, UNREGISTERED = 0x2A03, 0x2A04, 0x2A05
"""Unit attentions: reservations preempted, released, registrations preempted."""

PARAMETER, FIELD, LENGTH = 0x2600, 0x2400, 0x1A00
"""What is invalid: a field of the parameter list, of the CDB, the list's length."""


def out_cdb(action: int, kind: int = 0, length: int = 24, scope: int = 0) -> bytes:
    """
    Return the CDB of a PERSISTENT RESERVE OUT.
    """
    return struct.pack(">BBBxxIx", 0x5F, action, scope << 4 | kind, length)


def parameters(key: int, action_key: int, flags: int = 0, ports: bytes = b"") -> bytes:
    """
    Return a basic parameter list; *ports* are TransportIDs.
    """
    data = struct.pack(">QQxxxxBxxx", key, action_key, flags)
    return data + (struct.pack(">I", len(ports)) + ports if flags & SPEC_I_PT else b"")


def moving(
    key: int, action_key: int, port: bytes, *, flags: int = 0, relative: int = 1
) -> bytes:
    """
    Return the parameter list of REGISTER AND MOVE; *flags* are UNREG (2), APTPL (1).
    """
    head = struct.pack(">QQxBHI", key, action_key, flags, relative, len(port))
    return head + port


def transport_id(name: str, isid: bytes | None = b"\x80\0\0\0\0\1") -> bytes:
    """
    Return a TransportID: of a port, or with no *isid* of a device.
    """
    text = name.encode() + (b"" if isid is None else b",i,0x" + isid.hex().encode())
    text += bytes(max(20 - len(text), 4 - len(text) % 4))
    return struct.pack(">BxH", 0x05 if isid is None else 0x45, len(text)) + text


def in_cdb(action: int, length: int = 8192) -> bytes:
    """
    Return the CDB of a PERSISTENT RESERVE IN.
    """
    return struct.pack(">BBxxxxxHx", 0x5E, action, length)


@attrs.frozen
class FullStatus:
    """
    One full status descriptor.
    """

    key: int
    holds: bool
    type: int
    relative_port: int
    port: str


def full_status(data: bytes) -> list[FullStatus]:
    """
    Return the descriptors of READ FULL STATUS.
    """
    (length,) = struct.unpack_from(">I", data, 4)
    found, at = [], 8
    assert len(data) == 8 + length
    while at < len(data):
        key, flags, kind, relative, more = struct.unpack_from(
            ">QxxxxBBxxxxHI", data, at
        )
        port = data[at + 28 : at + 24 + more].rstrip(b"\0").decode()
        found.append(FullStatus(key, bool(flags & 1), kind, relative, port))
        at += 24 + more
    return found
