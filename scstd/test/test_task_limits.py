# SPDX-License-Identifier: MIT
"""
How many tasks an initiator may have at a logical unit.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore

SIMPLE, ORDERED, HEAD = 1, 2, 3
TUR = bytes(6)


class LimitTests(SynchronousTestCase):
    """
    max_tgt_dev_commands: TASK SET FULL.
    """

    def setUp(self) -> None:
        """Log in two initiators where each may have two tasks."""
        self.store = ManualStore()
        node, _target, (self.unit,) = serve(
            self.store, max_tgt_dev_commands=2, tst=self.tst
        )
        self.one = Initiator(node).ready()
        self.other = Initiator(node, name=INITIATOR + "2").ready()

    tst = 1

    def test_full(self) -> None:
        """One task too many is refused; a unit attention is not lost by that."""
        for _task in range(2):
            self.one.send(self.one.command(read10(0, 1), read=512))
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        for attribute in (SIMPLE, ORDERED, HEAD):
            refused = self.one.do(write10(0, 1), data=bytes(512), attribute=attribute)
            self.assertEqual((refused.status, refused.sense), (0x28, b""))
        self.assertEqual(len(self.store.calls), 2)
        self.assertEqual(self.other.do(TUR).asc, 0x2A01)
        self.assertEqual(self.other.do(TUR).status, 0)
        self.store.go()
        self.one.receive()
        self.assertEqual(self.one.do(TUR).asc, 0x2A01)
        self.store.go()
        self.assertEqual(self.unit.tasks(), [])

    def test_no_data_is_asked_for(self) -> None:
        """No R2T is sent for a write that is refused."""
        for _task in range(2):
            self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.send(self.one.command(write10(0, 128), write=65536))
        self.assertEqual(self.one.one(SCSIResponse).status, 0x28)


class SharedLimitTests(LimitTests):
    """
    The same with one task set for all: the limit is each nexus' own.
    """

    tst = 0


class WindowTests(SynchronousTestCase):
    """
    The default limit.
    """

    def test_full_window(self) -> None:
        """An initiator that keeps its CmdSN window, however large, is never refused."""
        store = ManualStore()
        node, _target, _units = serve(
            store, limits=TargetSettings(queued_commands=2048)
        )
        one = Initiator(node).ready()
        for _task in range(2048):
            one.send(one.command(read10(0, 1), read=512))
        self.assertEqual(one.receive(), [])
        self.assertEqual(len(store.calls), 2048)
