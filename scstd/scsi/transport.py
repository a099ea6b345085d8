# SPDX-License-Identifier: MIT
"""
What the protocol of a target driver brings to the device server: its identifier, how
it names initiator ports and target devices in parameter data (SPC-5 section 7.6).

A `scstd.scsi.target.Target` has one, which its driver gives it.  With the one of this
module, which is of no protocol, everything works that needs none of that: there are no
TransportIDs, so that nobody registers another's port, and ports are designated by
their relative target port identifiers alone.

Initiator ports are known here by texts.  That of an initiator with one port is the
initiator's name; where it has several (of iSCSI one a session), its ports are
``NAME,i,0xWHICH``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scstd.scsi.sense import illegal_parameter

if TYPE_CHECKING:
    from scstd.scsi.target import Target

NO_PROTOCOL = 0xF
"""The protocol identifier of no specific protocol (SPC-5 section 7.6.1)."""

SEPARATOR = ",i,0x"
"""What is between an initiator's name and what tells its ports apart."""


class Transport:
    """
    A protocol.  A driver whose protocol has TransportIDs derives from this.

    Nothing in it belongs to one target: one object may serve all of a driver's.
    """

    protocol_identifier = NO_PROTOCOL
    """As SPC-5 section 7.6.1 has it: 5 is iSCSI."""

    has_transport_ids = False
    """Whether `transport_id` and `parse_transport_id` are there."""

    def transport_id(self, initiator_port: str) -> bytes:
        """
        Return the TransportID of an initiator port, or of an initiator, by its name
        (SPC-5 section 7.6.4): nothing if there is none.
        """
        del initiator_port
        return b""

    def parse_transport_id(self, data: bytes, start: int, end: int) -> tuple[str, int]:
        """
        Return the name in the TransportID at byte *start* of a parameter list, and
        where it ends; it has to end before byte *end*.

        :raises CheckCondition: it is cut off, of another protocol, or malformed.
        """
        del data, end
        raise illegal_parameter(start)

    def target_device_name(self, target: str) -> str:
        """
        Return the SCSI name string of the target device of this name; "": none.
        """
        del target
        return ""


NOTHING = Transport()
"""What a target has whose driver has given it no other."""


def is_port(name: str) -> bool:
    """
    Say whether a name that was parsed is that of a port, not of an initiator.
    """
    return SEPARATOR in name


def initiator_of(port: str) -> str:
    """
    Return the name of the initiator that a port belongs to.
    """
    return port.partition(SEPARATOR)[0]


def parse_list(transport: Transport, data: bytes, start: int, end: int) -> list[str]:
    """
    Return the names in TransportIDs, one after the other, of a parameter list.

    :raises CheckCondition: one of them is cut off, of another protocol, or malformed.
    """
    names = []
    while start < end:
        name, start = transport.parse_transport_id(data, start, end)
        names.append(name)
    return names


def registered_id(port: str, target: str, targets: Mapping[str, Target]) -> bytes:
    """
    Return the TransportID of an initiator port that is registered at a target;
    *targets* are those there are by `Target.qualified_name`.  At one that is not there
    any more it is as the others have it.
    """
    found = targets.get(target)
    if found is not None:
        return found.transport.transport_id(port)
    for other in targets.values():
        if other.transport.has_transport_ids:
            return other.transport.transport_id(port)
    return b""
