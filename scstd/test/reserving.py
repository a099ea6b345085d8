# SPDX-License-Identifier: MIT
"""
Initiators that reserve persistently, with `scstd.initiator.reservations`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import CommandResult
from scstd.initiator.reservations import (
    IGNORE,
    MOVE,
    FullStatus,
    full_status,
    in_cdb,
    moving,
    out_cdb,
    parameters,
    transport_id,
)
from scstd.protocols.engine.node import Node
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory


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

    def full(self) -> list[FullStatus]:
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
