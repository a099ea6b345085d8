# SPDX-License-Identifier: MIT
"""
Designation descriptors (SPC-5 section 7.7.6.1): how VPD pages and ROD tokens name
logical units, target ports and target devices.

What is said of ports and target devices is their protocol's (`scstd.scsi.transport`).
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

from scstd.scsi.transport import NO_PROTOCOL, NOTHING, Transport

if TYPE_CHECKING:
    from scstd.scsi.nexus import Nexus

BINARY, ASCII, UTF8 = 1, 2, 3
"""Code sets."""

UNIT, PORT, DEVICE = 0x00, 0x10, 0x20
"""Associations: the logical unit, the target port, the target device."""

_PIV = 0x80


def designator(
    association: int,
    kind: int,
    code_set: int,
    value: bytes,
    transport: Transport = NOTHING,
) -> bytes:
    """
    Return one descriptor, with the protocol identifier of *transport* if it has one.
    """
    protocol = transport.protocol_identifier
    of_protocol = protocol != NO_PROTOCOL
    first = code_set | (protocol << 4 if of_protocol else 0)
    second = association | kind | (_PIV if of_protocol else 0)
    return pack(">BBxB", first, second, len(value)) + value


def name_string(text: str) -> bytes:
    """
    Return a SCSI name string: UTF-8, a NUL, padded to four bytes.
    """
    value = text.encode() + b"\0"
    return value + bytes(-len(value) % 4)


def port_name(nexus: Nexus) -> bytes:
    """
    Return the descriptor with the name of a target port, where its protocol has any.
    """
    if not nexus.target_port:
        return b""
    name = name_string(nexus.target_port)
    return designator(PORT, 0x8, UTF8, name, nexus.target.transport)


def relative_port(nexus: Nexus) -> bytes:
    """
    Return the descriptor with a relative target port identifier.
    """
    number = pack(">HH", 0, nexus.target.relative_port)
    return designator(PORT, 0x4, BINARY, number, nexus.target.transport)


def target_device(nexus: Nexus, configured: str = "") -> bytes:
    """
    Return the descriptor with the name of the target device: what is *configured*, else
    what its protocol calls it; nothing if there is neither.
    """
    target = nexus.target
    name = configured or target.transport.target_device_name(target.name)
    if not name:
        return b""
    transport = NOTHING if configured else target.transport
    return designator(DEVICE, 0x8, UTF8, name_string(name), transport)
