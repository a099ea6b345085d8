# SPDX-License-Identifier: MIT
"""
Persistent reservations as an initiator asks for them: CDBs, parameter lists, and what
comes back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import CommandResult
from scstd.protocols.engine.node import Node
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

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
class Status:
    """
    One full status descriptor.
    """

    key: int
    holds: bool
    type: int
    relative_port: int
    port: str


def full_status(data: bytes) -> list[Status]:
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
        found.append(Status(key, bool(flags & 1), kind, relative, port))
        at += 24 + more
    return found


class Registrant(Initiator):
    """
    An initiator that reserves.
    """

    def out(
        self,
        action: int,
        key: int = 0,
        action_key: int = 0,
        *,
        kind: int = 0,
        flags: int = 0,
        ports: Iterable[bytes] = (),
    ) -> CommandResult:
        """
        Carry out a PERSISTENT RESERVE OUT with a basic parameter list.
        """
        data = parameters(key, action_key, flags, b"".join(ports))
        return self.do(out_cdb(action, kind, len(data)), data=data)

    def move(
        self, key: int, action_key: int, port: bytes, flags: int = 0, relative: int = 1
    ) -> CommandResult:
        """
        Carry out a REGISTER AND MOVE.
        """
        data = moving(key, action_key, port, flags=flags, relative=relative)
        return self.do(out_cdb(MOVE, 0, len(data)), data=data)

    def register(self, key: int, flags: int = 0) -> Registrant:
        """
        Register a key; return itself.
        """
        done = self.out(IGNORE, 0, key, flags=flags)
        assert done.status == 0, done
        return self

    def registered(self) -> list[int]:
        """
        Return the registered keys.
        """
        data = self.do(in_cdb(0), read=8192).data
        return [key for (key,) in struct.iter_unpack(">Q", data[8:])]

    def generation(self) -> int:
        """
        Return PRgeneration.
        """
        return int.from_bytes(self.do(in_cdb(0), read=8192).data[:4], "big")

    def reservation(self) -> tuple[int, int] | None:
        """
        Return the (key, type) of the reservation, None if there is none.
        """
        data = self.do(in_cdb(1), read=8192).data
        if len(data) == 8:
            return None
        assert len(data) == 24, data
        return int.from_bytes(data[8:16], "big"), data[21]

    def full(self) -> list[Status]:
        """
        Return the full status.
        """
        return full_status(self.do(in_cdb(3), read=8192).data)

    def told(self) -> list[int]:
        """
        Return the unit attentions that are pending, and take them.
        """
        found: list[int] = []
        while True:
            done = self.do(bytes(6))
            if done.status != 2:
                return found
            assert done.key == 6
            found.append(done.asc)


def registrant(node: Node, number: int = 1, target: str = TARGET) -> Registrant:
    """
    Return an initiator of its own name and ISID, logged in, its first unit attention
    taken.
    """
    one = Registrant(
        node, name=f"{INITIATOR}{number}", isid=b"\x80\0\0\0\0" + bytes([number])
    )
    one.ready(target)
    return one


def port(number: int) -> str:
    """
    Return the port name of the initiator with this number.
    """
    return f"{INITIATOR}{number},i,0x80000000000{number}"


def identifier(number: int) -> bytes:
    """
    Return its TransportID.
    """
    return transport_id(f"{INITIATOR}{number}", b"\x80\0\0\0\0" + bytes([number]))


class Registered(SynchronousTestCase):
    """
    What they all need: three initiators, the first two registered with keys 1 and 2.
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, self.target, (self.unit,) = serve(memory())
        self.one = registrant(self.node, 1).register(1)
        self.two = registrant(self.node, 2).register(2)
        self.guest = registrant(self.node, 3)

    def refuse(self, done: CommandResult, asc: int) -> None:
        """See that a command ended with ILLEGAL REQUEST, and why."""
        self.assertEqual((done.status, done.key, done.asc), (2, 5, asc))
