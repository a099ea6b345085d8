# SPDX-License-Identifier: MIT
"""
Tests for who asks for the calls of copies, and for those that no command asks for.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.interfaces import (
    Asker,
    LunSession,
    current_asker,
)
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import close_disk
from scstd.test.copying import (
    list_4,
    naa,
    offload,
    populate,
    receive_4,
    segment,
    write_using,
    xcopy,
)
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.recorder import Recorder
from scstd.test.stores import memory
from scstd.test.test_asking import AskingBench


class CopyTests(SynchronousTestCase):
    """
    Copies: each end knows who asked for it.
    """

    def setUp(self) -> None:
        """Serve two disks to two initiators."""
        self.stores = [Recorder(memory()), Recorder(memory())]
        self.node, _target, self.units = serve(*self.stores, copies=CopyManager())
        self.one = Initiator(self.node).ready()
        self.two = Initiator(self.node, name=INITIATOR + ".two").ready()
        for store in self.stores:
            store.inner.write(0, bytes(65536), False)
            store.calls.clear()
            store.slow = True

    def copied(self, who: Initiator) -> None:
        """Each call of a copy says who asked for it, and at which LUN."""
        while any(store.go() for store in self.stores):
            pass
        for lun, store in enumerate(self.stores):
            self.assertTrue(store.calls)
            for call, asker, _args in store.calls:
                assert asker is not None, (lun, call)
                session = asker.session
                self.assertEqual((session.initiator, session.lun), (who.name, lun))
                self.assertEqual((asker.internal, asker.tag), (True, -1))
            store.calls.clear()

    def test_extended_copy(self) -> None:
        """EXTENDED COPY, waited for and not: reads, writes, and what is looked up."""
        cscds = [naa(unit) for unit in self.units]
        for who, flags in ((self.two, 0), (self.one, 1)):
            data = list_4(cscds, [segment(200, 0, 9, source=1, target=2)], flags=flags)
            pdu = who.command(xcopy(data, lid4=True), write=len(data), data=data)
            who.send(pdu)
            self.copied(who)

    def test_tokens(self) -> None:
        """WRITE USING TOKEN."""
        data = populate((0, 64))
        self.assertEqual(self.two.do(offload(0x10, data), data=data).status, 0)
        for store in self.stores:
            store.calls.clear()
        token = self.two.do(receive_4(0x07, 7), read=1024).data[38:]
        data = write_using(token, (0, 64))
        for who in (self.two, self.one):
            # Whoever has the token: the copy is of who uses it.
            cdb = offload(0x11, data)
            who.send(who.command(cdb, write=len(data), data=data, lun=1))
            self.copied(who)


class InternalTests(AskingBench):
    """
    What no command asks for.
    """

    def test_background(self) -> None:
        """What goes on behind its command's answer is nobody's."""
        for cdb, data in (
            (b"\x48\x82" + bytes(8), b""),  # SANITIZE, block erase, IMMED
            (b"\x04" + bytes(5), b""),  # FORMAT UNIT
            (b"\x1d\x20\0\0\0\0", b""),  # SEND DIAGNOSTIC, in the background
        ):
            self.connect()
            self.start(self.one, cdb, data, 0)
            self.assertEqual(self.statuses(self.one)[-1:], [0], cdb)
            self.assertTrue(self.store.calls, cdb)
            asked = {asker for _call, asker, _args in self.store.calls}
            self.assertEqual(asked, {None}, cdb)

    def test_closing(self) -> None:
        """The last flush is nobody's, whoever has it happen."""
        self.connect()
        session = LunSession(1, "i", "p", "t", 0, "d")
        before = current_asker.set(Asker(session, 0, "SET TARGET PORT GROUPS", 1))
        self.successResultOf(close_disk(self.unit))
        current_asker.reset(before)
        names = [(call, asker) for call, asker, _args in self.store.calls]
        self.assertEqual(names, [("flush", None), ("close", None)])
