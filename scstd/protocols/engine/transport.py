# SPDX-License-Identifier: MIT
"""
What iSCSI brings to the device server (`scstd.scsi.transport`): its protocol
identifier, and its names in TransportIDs (SPC-5 section 7.6.4.7, TransportID for
initiator ports using SCSI over iSCSI).

A TransportID has two formats: the name of an initiator port, ``name,i,0xISID`` (format
code 01b), or that of an initiator device, which stands for all of its ports (00b).
Names are compared without regard to case, so here they are in lower case; the twelve
digits of an ISID may come without leading zeros.
"""

from __future__ import annotations

import re
from struct import pack

from scstd.scsi.sense import illegal_parameter
from scstd.scsi.transport import SEPARATOR, Transport, is_port

_ISCSI = 0x05
_PORT = 0x40
_SHORTEST = 20
"""Bytes behind the header that a TransportID has at least."""

_NAME = re.compile(r"[^\x00-\x20,/]{1,223}")
_SESSION = re.compile(r"[0-9a-f]{1,12}")


class ISCSITransport(Transport):
    """
    iSCSI as parameter data has it.
    """

    protocol_identifier = _ISCSI
    has_transport_ids = True

    def transport_id(self, initiator_port: str) -> bytes:
        """
        Return the TransportID of an initiator port (or of a device, if it is the name
        of one).
        """
        value = initiator_port.encode() + b"\0"
        value += bytes(max(_SHORTEST - len(value), -len(value) % 4))
        first = _ISCSI | (_PORT if is_port(initiator_port) else 0)
        return pack(">BxH", first, len(value)) + value

    def parse_transport_id(self, data: bytes, start: int, end: int) -> tuple[str, int]:
        """
        Return the name in the TransportID at byte *start* of a parameter list, and
        where it ends; it has to end before byte *end*.

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
        device, separator, session = name.partition(SEPARATOR)
        if bool(separator) != bool(first & _PORT) or not _NAME.fullmatch(device):
            raise illegal_parameter(start + 4)
        if not separator:
            return device, behind
        if not _SESSION.fullmatch(session):
            raise illegal_parameter(start + 4 + len(device.encode()) + len(SEPARATOR))
        return f"{device}{SEPARATOR}{session.zfill(12)}", behind

    def target_device_name(self, target: str) -> str:
        """Return its iSCSI name, which is its SCSI name (RFC 7143 section 4.4.2)."""
        return target


ISCSI = ISCSITransport()
"""The one that all iSCSI targets have."""
