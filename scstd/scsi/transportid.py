# SPDX-License-Identifier: MIT
"""
TransportIDs: initiator ports as parameter lists name them (SPC-5 section 7.6.4,
TransportID identifiers).

One for iSCSI has two formats: the name of an initiator port, ``name,i,0xISID`` (format
code 01b), or that of an initiator device, which stands for all of its ports (00b).
Names are compared without regard to case, so here they are in lower case; the twelve
digits of an ISID may come without leading zeros.
"""

from __future__ import annotations

import re
from struct import pack

from scstd.scsi.sense import illegal_parameter

_ISCSI = 0x05
_PORT = 0x40
_SHORTEST = 20
"""Bytes behind the header that a TransportID has at least."""

_NAME = re.compile(r"[^\x00-\x20,/]{1,223}")
_SESSION = re.compile(r"[0-9a-f]{1,12}")
_SEPARATOR = ",i,0x"


def encode(initiator_port: str) -> bytes:
    """
    Return the TransportID of an initiator port (or of a device, if it is the name of
    one).
    """
    value = initiator_port.encode() + b"\0"
    value += bytes(max(_SHORTEST - len(value), -len(value) % 4))
    first = _ISCSI | (_PORT if _SEPARATOR in initiator_port else 0)
    return pack(">BxH", first, len(value)) + value


def is_port(name: str) -> bool:
    """
    Say whether a name that `parse` returned is that of a port, not of a device.
    """
    return _SEPARATOR in name


def device(name: str) -> str:
    """
    Return the name of the device that a port belongs to.
    """
    return name.partition(_SEPARATOR)[0]


def parse(data: bytes, start: int, end: int) -> tuple[str, int]:
    """
    Return the name in the TransportID at byte *start* of a parameter list, and where it
    ends; it has to end before byte *end*.

    :raises CheckCondition: it is cut off, of another protocol, or malformed.
    """
    if start + 4 > end:
        raise illegal_parameter(start)
    first = data[start]
    if first not in {_ISCSI, _ISCSI | _PORT}:
        raise illegal_parameter(start)
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    behind = start + 4 + length
    if length < _SHORTEST or length % 4 or behind > end:
        raise illegal_parameter(start + 2)
    text, terminator, _padding = data[start + 4 : behind].partition(b"\0")
    if not terminator:
        raise illegal_parameter(start + 4)
    try:
        name = text.decode("utf-8").lower()
    except UnicodeDecodeError:
        raise illegal_parameter(start + 4) from None
    device, separator, session = name.partition(_SEPARATOR)
    if bool(separator) != bool(first & _PORT) or not _NAME.fullmatch(device):
        raise illegal_parameter(start + 4)
    if not separator:
        return device, behind
    if not _SESSION.fullmatch(session):
        raise illegal_parameter(start + 4 + len(device.encode()) + len(_SEPARATOR))
    return f"{device}{_SEPARATOR}{session.zfill(12)}", behind


def parse_list(data: bytes, start: int, end: int) -> list[str]:
    """
    Return the names in TransportIDs, one after the other, of a parameter list.

    :raises CheckCondition: one of them is cut off, of another protocol, or malformed.
    """
    names = []
    while start < end:
        name, start = parse(data, start, end)
        names.append(name)
    return names
