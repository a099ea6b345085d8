# SPDX-License-Identifier: MIT
"""
LUN maps that change under initiators, unit attentions, REPORT LUNS, LUN addressing.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import DataIn, SCSIResponse, TaskManagementResponse
from scstd.scsi.device import open_disk
from scstd.scsi.nexus import Nexus
from scstd.scsi.sense import ASC
from scstd.scsi.taskset import settle
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory

TUR = bytes(6)
SENSE = b"\x03\0\0\0\x12\0"
WELL_KNOWN = 0xC101

POWER_ON, RESET, NEXUS_LOSS = 0x2900, 0x2903, 0x2907
MODES, CAPACITY, INQUIRY_CHANGED, LUNS_CHANGED = 0x2A01, 0x2A09, 0x3F03, 0x3F0E


def report(select: int = 0, length: int = 256) -> bytes:
    """Return the CDB of a REPORT LUNS."""
    return struct.pack(">BxBxxxIxx", 0xA0, select, length)


class LunTests(SynchronousTestCase):
    """
    Two initiators at a target with two disks; a third one is not mapped.
    """

    def setUp(self) -> None:
        """Log in."""
        self.store = ManualStore()
        self.node, self.target, (self.unit, self.slow) = serve(memory(), self.store)
        self.spare = open_disk("spare", memory())
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def told(self, who: Initiator, lun: int = 0) -> list[int]:
        """Return what unit attentions a LUN reports, until it is ready."""
        found: list[int] = []
        while True:
            done = who.do(TUR, lun=lun)
            if not done.status:
                return found
            self.assertEqual(done.key, 6, f"{done.asc:04x}")
            found.append(done.asc)

    def luns(self, who: Initiator, select: int = 0, lun: int = 0) -> list[str]:
        """Return what REPORT LUNS lists, in hex."""
        data = who.do(report(select), read=256, lun=lun).data
        self.assertEqual(int.from_bytes(data[:4], "big"), len(data) - 8)
        return [data[at : at + 2].hex() for at in range(8, len(data), 8)]

    def nexus(self, who: Initiator) -> Nexus:
        """Return an initiator's nexus."""
        session = who.connection.session
        assert session is not None
        return session.nexus

    def fired(self, deferred: Deferred[None]) -> bool:
        """Say whether a Deferred has fired."""
        return deferred.called


class NameTests(LunTests):
    """
    What a log line or an error says of an object.
    """

    def test_short(self) -> None:
        """It is its name, not all that it knows: they know each other."""
        nexus = self.nexus(self.one)
        for one in (nexus, self.target, next(iter(nexus.itls.values()))):
            self.assertLess(len(repr(one)), 2000)
        self.assertIn(INITIATOR, repr(nexus))
        self.assertIn(self.target.name, repr(self.target))


class AttentionTests(LunTests):
    """
    Which unit attention is reported, when, and to whom (SAM-5 section 5.14).
    """

    def tell(self, *codes: int) -> None:
        """Establish unit attentions for everybody."""
        for code in codes:
            self.unit.attention(code)  # type: ignore[arg-type]

    def test_precedence(self) -> None:
        """Power on, then reset, then nexus loss, then all others in their order."""
        self.tell(CAPACITY, MODES, NEXUS_LOSS, RESET, POWER_ON, CAPACITY)
        self.assertEqual(
            self.told(self.one), [POWER_ON, RESET, NEXUS_LOSS, CAPACITY, MODES]
        )

    def test_request_sense(self) -> None:
        """REQUEST SENSE takes one a time; other LUNs keep theirs."""
        self.tell(MODES, CAPACITY)
        self.slow.attention(MODES)  # type: ignore[arg-type]
        for code in (MODES, CAPACITY, 0):
            data = self.one.do(SENSE, read=18).data
            self.assertEqual(int.from_bytes(data[12:14], "big"), code)
        self.assertEqual(self.told(self.one, 1), [MODES])

    def test_inquiry_and_report_luns(self) -> None:
        """INQUIRY and REPORT LUNS are carried out, and leave what is pending."""
        self.tell(MODES)
        self.assertEqual(self.one.do(b"\x12\0\0\0\x24\0", read=36).status, 0)
        self.assertEqual(self.luns(self.one), ["0000", "0001"])
        self.assertEqual(self.told(self.one), [MODES])

    def test_mode_select(self) -> None:
        """MODE PARAMETERS CHANGED goes to the other nexuses, not to who asked."""
        page = b"\0\0\0\0" + bytes((0x08, 0x12)) + bytes(18)
        done = self.one.do(b"\x15\x10\0\0\x18\0", data=page)
        self.assertEqual(done.status, 0)
        self.assertEqual(self.told(self.one), [])
        self.assertEqual(self.told(self.other), [MODES])

    def test_capacity(self) -> None:
        """A new size is told to each nexus, on that LUN, once; larger or smaller."""
        store: Any = self.unit.store
        for size in (2 << 20, 1 << 20):
            store.inner.size = size
            self.unit.volume.resized()
            for who in (self.one, self.other):
                self.assertEqual(self.told(who), [CAPACITY])
                self.assertEqual(self.told(who, 1), [])
            data = self.one.do(b"\x25" + bytes(9), read=8).data
            self.assertEqual(int.from_bytes(data[:4], "big"), size // 512 - 1)

    def test_identity(self) -> None:
        """INQUIRY DATA HAS CHANGED goes to every nexus."""
        self.unit.attention(ASC.INQUIRY_DATA_HAS_CHANGED)
        for who in (self.one, self.other):
            self.assertEqual(self.told(who), [INQUIRY_CHANGED])

    def test_nexus_loss(self) -> None:
        """A session that takes another's place is told of the nexus loss, not reset."""
        again = Initiator(self.node)
        again.login()
        self.assertEqual(self.told(again), [NEXUS_LOSS])
        self.assertEqual(self.told(self.other), [])

    def test_reset(self) -> None:
        """A reset is told to every nexus once, before what was pending."""
        self.tell(MODES)
        self.one.manage(5)
        self.one.one(TaskManagementResponse)
        self.assertEqual(self.told(self.one), [RESET, MODES])
        self.assertEqual(self.told(self.other), [RESET, MODES])
        self.assertEqual(self.told(self.other, 1), [])


class MapTests(LunTests):
    """
    LUNs that come, go, and change.
    """

    def test_add(self) -> None:
        """A LUN that is added is there at once, and every LUN tells of it."""
        self.target.add_lun(5, self.spare)
        for who in (self.one, self.other):
            self.assertEqual(self.told(who), [LUNS_CHANGED])
            self.assertEqual(self.told(who, 1), [LUNS_CHANGED])
            self.assertEqual(self.told(who, 5), [POWER_ON, LUNS_CHANGED])
            self.assertEqual(self.luns(who), ["0000", "0001", "0005"])

    def test_report_clears(self) -> None:
        """REPORT LUNS clears REPORTED LUNS DATA HAS CHANGED on every LUN."""
        self.target.add_lun(5, self.spare)
        self.luns(self.one, 0x01)
        self.luns(self.one, 0x10)
        self.assertEqual(self.one.do(TUR).asc, LUNS_CHANGED)
        self.luns(self.one)
        self.assertEqual(self.told(self.one), [])
        self.assertEqual(self.told(self.one, 1), [])
        self.assertEqual(self.told(self.one, 5), [POWER_ON])
        self.assertEqual(self.told(self.other), [LUNS_CHANGED])

    def test_remove(self) -> None:
        """A LUN that is removed is gone at once, and the others tell of it."""
        gone = self.target.remove_lun(1)
        self.assertTrue(self.fired(gone))
        self.assertEqual(self.one.do(TUR, lun=1).asc, 0x2500)
        self.assertEqual(self.told(self.one), [LUNS_CHANGED])
        self.assertEqual(self.luns(self.one), ["0000"])
        self.assertEqual(self.slow.itls, {})

    def test_drains(self) -> None:
        """Commands to a LUN that is removed are let finish before it is left."""
        self.one.send(self.one.command(write10(0, 1), write=512, lun=1))
        (r2t,) = self.one.receive()
        self.other.send(self.other.command(read10(0, 1), read=512, lun=1))
        gone = self.target.remove_lun(1)
        self.one.send(*self.one.data_out(r2t, b"d" * 512))
        self.assertEqual(self.one.do(read10(0, 1), read=512, lun=1).asc, 0x2500)
        self.assertFalse(self.fired(gone))
        self.store.go()
        self.assertFalse(self.fired(gone))
        self.assertEqual(len(self.slow.itls), 1)
        self.store.go()
        self.assertTrue(self.fired(gone))
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertIsInstance(self.other.one(DataIn), DataIn)
        self.assertEqual(self.store.inner.read(0, 1), b"d")
        self.assertEqual(self.slow.itls, {})

    def test_who_comes_later_waits_too(self) -> None:
        """A later change waits for what an earlier one took away."""
        self.one.send(self.one.command(read10(0, 1), read=512, lun=1))
        del self.target.luns[1]
        waiting = [self.target.reassign(), self.target.reassign()]
        waiting.append(self.target.remove_unit(self.slow))
        self.assertEqual([one.called for one in waiting], [False] * 3)
        self.store.go()
        self.assertEqual([one.called for one in waiting], [True] * 3)
        self.assertTrue(self.fired(self.target.reassign()))

    def test_abort_while_leaving(self) -> None:
        """What is left at a LUN that is gone can still be aborted."""
        self.one.send(self.one.command(write10(0, 1), write=512, lun=1))
        self.one.receive()
        pdu = self.one.command(write10(1, 1), write=512, lun=1)
        self.one.send(pdu)
        self.one.receive()
        gone = self.target.remove_lun(1)
        self.one.manage(1, lun=1, tag=pdu.itt)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertFalse(self.fired(gone))
        self.one.manage(2, lun=1)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertTrue(self.fired(gone))
        self.one.manage(2, lun=1)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 2)

    def test_logout_while_leaving(self) -> None:
        """A session that ends ends what it had at a LUN that is gone, too."""
        self.one.send(self.one.command(read10(0, 1), read=512, lun=1))
        gone = self.target.remove_lun(1)
        self.one.connection.disconnected()
        self.assertFalse(self.fired(gone))
        self.store.go()
        self.assertTrue(self.fired(gone))
        self.assertEqual((self.slow.itls, self.slow.tasks()), ({}, []))

    def test_replace(self) -> None:
        """Another unit behind a LUN: INQUIRY DATA HAS CHANGED there, nothing else."""
        self.one.send(self.one.command(read10(0, 1), read=512, lun=1))
        gone = self.target.replace_lun(1, self.spare)
        self.assertEqual(self.told(self.one, 1), [INQUIRY_CHANGED])
        self.assertEqual(self.told(self.one), [])
        self.assertEqual(self.one.do(read10(0, 1), read=512, lun=1).status, 0)
        self.assertFalse(self.fired(gone))
        self.store.go()
        self.assertTrue(self.fired(gone))
        self.assertEqual(len(self.spare.itls), 2)

    def test_replace_silently(self) -> None:
        """replace_no_ua tells nobody."""
        self.target.replace_lun(1, self.spare, tell=False)
        self.assertEqual(self.told(self.one, 1), [])
        self.assertRaises(KeyError, self.target.replace_lun, 9, self.spare)
        self.assertRaises(KeyError, self.target.remove_lun, 9)

    def test_read_only(self) -> None:
        """A LUN that becomes read only stays the same LUN, and says so."""
        self.target.add_lun(0, self.unit, read_only=True)
        self.assertEqual(self.told(self.one), [MODES])
        self.assertEqual(self.one.do(write10(0, 1), data=bytes(512)).asc, 0x2700)
        self.assertEqual(self.told(self.one, 1), [])

    def test_last_one(self) -> None:
        """With no LUN left an initiator still learns that there is one again."""
        self.target.remove_unit(self.unit)
        self.target.remove_unit(self.slow)
        self.assertEqual(self.one.do(TUR).asc, LUNS_CHANGED)
        self.assertEqual(self.one.do(TUR).asc, 0x2500)
        self.assertEqual(self.luns(self.one), [])
        self.target.add_lun(0, self.spare)
        self.assertEqual(self.told(self.one), [POWER_ON, LUNS_CHANGED])

    def test_reservation_goes(self) -> None:
        """A reservation goes with the LUN through which it was made."""
        self.one.do(b"\x16" + bytes(5))
        self.assertTrue(self.unit.restricted)
        self.target.remove_lun(0)
        self.assertFalse(self.unit.restricted)

    def test_unit_in_two_places(self) -> None:
        """A unit that is taken away everywhere is left everywhere."""
        self.target.add_lun(9, self.slow)
        group = self.target.add_group("g", ["nobody"])
        self.target.add_lun(0, self.slow, group=group)
        self.target.remove_unit(self.slow)
        self.assertEqual(self.target.units(), [self.unit])
        self.assertEqual(self.luns(self.one), ["0000"])


class GroupTests(LunTests):
    """
    Groups of initiators that change while their members are logged in.
    """

    def move(self) -> None:
        """Make a group for one of the initiators, with the spare disk."""
        self.group = self.target.add_group("g", [INITIATOR + "2"])
        self.target.add_lun(0, self.spare, group=self.group)

    def test_into_group(self) -> None:
        """Who comes into a group has its LUNs at once; the others notice nothing."""
        self.move()
        self.assertEqual(self.told(self.one), [])
        self.assertEqual(self.told(self.other), [INQUIRY_CHANGED, LUNS_CHANGED])
        self.assertEqual(self.luns(self.other), ["0000"])
        self.assertEqual(self.other.do(TUR, lun=1).asc, 0x2500)
        self.assertEqual(list(self.nexus(self.other).itls), [0])

    def test_out_of_group(self) -> None:
        """Who leaves it falls back to the default map."""
        self.move()
        self.told(self.other)
        self.target.set_patterns(self.group, ["nobody"])
        self.assertEqual(self.told(self.other), [INQUIRY_CHANGED, LUNS_CHANGED])
        self.assertEqual(self.luns(self.other), ["0000", "0001"])

    def test_group_removed(self) -> None:
        """A group that is removed lets its members go."""
        self.move()
        self.target.remove_group(self.group)
        self.assertEqual(self.luns(self.other), ["0000", "0001"])
        self.assertEqual(self.spare.itls, {})

    def test_same_lun_stays(self) -> None:
        """A LUN with the same unit in both maps is not touched by the move."""
        self.other.send(self.other.command(read10(0, 1), read=512, lun=1))
        group = self.target.add_group("g", [INITIATOR + "2"])
        group.luns.update(self.target.luns)
        self.assertTrue(self.fired(self.target.reassign()))
        self.assertEqual(self.told(self.other), [])
        self.store.go()
        self.assertIsInstance(self.other.one(DataIn), DataIn)


class ReportTests(LunTests):
    """
    REPORT LUNS, its well known logical unit, and LUN fields.
    """

    def ask(self, lun: int, cdb: bytes, read: int = 0) -> bytes:
        """Return the data of a command to a LUN field (of two bytes)."""
        pdu = self.one.command(cdb, read=read)
        pdu.lun = lun << 48
        self.one.send(pdu)
        done = self.one.finish(pdu)
        self.assertEqual(done.status, 0)
        return done.data

    def test_select(self) -> None:
        """Every SELECT REPORT that SPC-5 has; others are an invalid field."""
        ordinary = ["0000", "0001"]
        for select, expected in {
            0x00: ordinary,
            0x01: ["c101"],
            0x02: [*ordinary, "c101"],
            0x10: [],
            0x11: ordinary,
            0x12: [],
        }.items():
            self.assertEqual(self.luns(self.one, select), expected, f"{select:02x}h")
            self.assertEqual(self.luns(self.one, select, WELL_KNOWN), expected)
            self.assertEqual(self.luns(self.one, select, 9), expected)
        for select in (0x03, 0x0F, 0x13, 0xF8):
            done = self.one.do(report(select), read=256)
            self.assertEqual((done.key, done.asc), (5, 0x2400))
            self.assertEqual(done.sense[15:18], bytes((0xCF, 0, 2)))

    def test_allocation_length(self) -> None:
        """The list is cut, its length is not; less than 16 bytes is refused."""
        data = self.one.do(report(0, 16), read=256).data
        self.assertEqual(data, bytes((0, 0, 0, 16)) + bytes(12))
        for length in (0, 8, 15):
            self.assertEqual(self.one.do(report(0, length), read=16).asc, 0x2400)

    def test_well_known(self) -> None:
        """The REPORT LUNS well known logical unit has its four commands, no others."""
        self.assertEqual(self.one.do(TUR, lun=WELL_KNOWN).asc, POWER_ON)
        self.assertEqual(self.one.do(TUR, lun=WELL_KNOWN).status, 0)
        data = self.ask(WELL_KNOWN, b"\x12\0\0\0\x60\0", 96)
        self.assertEqual(data[0], 0x1E)
        self.assertEqual(self.ask(WELL_KNOWN, SENSE, 18)[2], 0)
        for cdb in (read10(0, 1), b"\x1a\0\x3f\0\xff\0", b"\x16\0\0\0\0\0"):
            done = self.one.do(cdb, read=512, lun=WELL_KNOWN)
            self.assertEqual((done.key, done.asc), (5, 0x2000))

    def test_well_known_identity(self) -> None:
        """Its VPD pages name the port and the device, no logical unit."""
        self.told(self.one, WELL_KNOWN)
        pages = self.ask(WELL_KNOWN, b"\x12\1\0\0\xff\0", 255)
        self.assertEqual(pages, bytes((0x1E, 0, 0, 2, 0x00, 0x83)))
        data = self.ask(WELL_KNOWN, b"\x12\1\x83\0\xff\0", 255)
        at, associations = 4, []
        while at < len(data):
            associations.append(data[at + 1] >> 4 & 3)
            at += 4 + data[at + 3]
        self.assertEqual(associations, [1, 1, 2])

    def test_well_known_attention(self) -> None:
        """It tells of LUNs that came, and can be reset."""
        self.told(self.one, WELL_KNOWN)
        self.target.add_lun(5, self.spare)
        self.assertEqual(self.told(self.one, WELL_KNOWN), [LUNS_CHANGED])
        self.one.manage(5, lun=WELL_KNOWN)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.told(self.one, WELL_KNOWN), [RESET])
        self.assertEqual(self.told(self.one, 1), [LUNS_CHANGED])

    def test_methods(self) -> None:
        """addr_method says how LUNs are reported; both methods find them."""
        self.target.add_lun(300, self.spare)
        self.target.add_lun(16383, self.spare)
        self.assertEqual(self.luns(self.one), ["0000", "0001", "412c", "7fff"])
        self.target.addr_method = "FLAT"
        self.assertEqual(self.luns(self.one), ["0000", "4001", "412c", "7fff"])
        group = self.target.add_group("g", ["*"])
        group.luns.update(self.target.luns)
        self.assertEqual(self.luns(self.one), ["0000", "4001", "412c", "7fff"])
        group.values["addr_method"] = "PERIPHERAL"
        self.assertEqual(self.luns(self.one), ["0000", "0001", "412c", "7fff"])
        for field in (0x0000, 0x4000, 0x0001, 0x4001, 0x412C, 0x7FFF):
            self.assertEqual(self.ask(field, b"\x12\0\0\0\x24\0", 36)[0], 0, hex(field))
        for field in (0x0100, 0x012C, 0x8001, 0xC102, 0xC100):
            data = self.ask(field, b"\x12\0\0\0\x24\0", 36)
            self.assertEqual(data[0], 0x7F, hex(field))

    def test_absent_is_each_ones_own(self) -> None:
        """What one initiator does at a LUN that is not there no other one sees."""
        self.target.remove_unit(self.unit)
        self.target.remove_unit(self.slow)
        self.assertEqual(self.one.do(TUR).asc, LUNS_CHANGED)
        self.assertEqual(self.one.do(TUR).asc, 0x2500)
        self.assertEqual(self.other.do(TUR).asc, LUNS_CHANGED)
        self.assertEqual(self.other.do(TUR, attribute=2).asc, 0x2500)
        for who in (self.one, self.other):
            who.connection.disconnected()
        self.assertEqual(self.target.absent.itls, {})
        self.assertEqual(self.target.well_known.itls, {})

    def test_absent(self) -> None:
        """What a LUN that is not there answers, and that it is never in the way."""
        for cdb in (TUR, read10(0, 1), b"\x1a\0\x3f\0\xff\0", b"\xc1" + bytes(9)):
            self.assertEqual(self.one.do(cdb, read=255, lun=9).asc, 0x2500)
        self.assertEqual(self.ask(9, b"\x12\0\0\0\x24\0", 36)[0], 0x7F)
        self.assertEqual(self.ask(9, SENSE, 18)[12], 0x25)
        for function in (2, 4, 5):
            self.one.manage(function, lun=9)
            self.assertEqual(self.one.one(TaskManagementResponse).response, 2)


class SettleTests(SynchronousTestCase):
    """
    `scstd.scsi.taskset.settle`.
    """

    def test_nothing(self) -> None:
        """What waits for no task is called at once."""
        called: list[bool] = []
        settle([], lambda: called.append(True))
        self.assertEqual(called, [True])
