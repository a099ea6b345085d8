# SPDX-License-Identifier: MIT
"""
Tests for who a device is: INQUIRY, VPD pages, the names by which hosts tell disks
apart, and REPORT SUPPORTED OPERATION CODES.

Each of the pitfalls "SCSI identity and discovery" that other targets fell into has a
test here by its name.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult
from scstd.interfaces import IWriteThrough
from scstd.scsi.command import every
from scstd.scsi.device import open_disk
from scstd.scsi.spc.opcodes import recommended
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

Designators = dict[tuple[int, int], bytes]


def designators(data: bytes) -> Designators:
    """Return VPD page 83h's designators by association and type."""
    found: Designators = {}
    while data:
        found[data[1] >> 4 & 3, data[1] & 0xF] = data[4 : 4 + data[3]]
        data = data[4 + data[3] :]
    return found


def identity(designated: Designators) -> Designators:
    """Return those of the logical unit."""
    return {key: value for key, value in designated.items() if not key[0]}


class Inquiries(SynchronousTestCase):
    """
    What all of them need: disks, and INQUIRY.
    """

    def connect(self, *stores: Any, **settings: Any) -> None:
        """Serve stores, and log in."""
        self.node, self.target, self.units = serve(*(stores or (memory(),)), **settings)
        self.unit: LogicalUnit = self.units[0]
        self.one = Initiator(self.node).ready()

    def setUp(self) -> None:
        """Serve a plain store."""
        self.connect()

    def ask(self, code: int = -1, length: int = 1024, lun: int = 0) -> CommandResult:
        """Send an INQUIRY, for a VPD page or standard data."""
        page, evpd = max(code, 0), int(code >= 0)
        cdb = struct.pack(">BBBHx", 0x12, evpd, page, length)
        return self.one.do(cdb, read=1024, lun=lun)

    def vpd(self, code: int, lun: int = 0) -> bytes:
        """Return a page's body."""
        data = self.ask(code, lun=lun).data
        self.assertEqual(data[:2], bytes((0, code)))
        self.assertEqual(int.from_bytes(data[2:4], "big"), len(data) - 4)
        return data[4:]

    def designated(self, lun: int = 0) -> Designators:
        """Return the designators of a LUN."""
        return designators(self.vpd(0x83, lun))

    def pages(self) -> list[int]:
        """Return the pages that are listed."""
        return list(self.vpd(0))


class PitfallTests(Inquiries):
    """
    What other targets got wrong.
    """

    def test_allocation_length_bounds(self) -> None:
        """INQUIRY answers at every length from 0 to 260, each page and none, cut off."""
        for code in (-1, *self.pages()):
            whole = self.ask(code).data
            for length in range(261):
                done = self.ask(code, length)
                self.assertEqual((done.status, done.data), (0, whole[:length]), code)

    def test_allocation_length_has_two_bytes(self) -> None:
        """The high byte of the allocation length counts: 0100h is 256."""
        self.connect(inq_vend_specific="x" * 160)
        self.assertEqual(len(self.ask(length=0x0100).data), 256)
        self.assertEqual(len(self.ask(length=0x0101).data), 256)

    def test_cmddt_is_refused(self) -> None:
        """The obsolete CMDDT bit and other reserved bits are refused by name."""
        for first, bit in ((0x02, 1), (0x03, 1), (0x80, 7)):
            done = self.one.do(bytes((0x12, first, 0, 0, 255, 0)), read=255)
            self.assertEqual((done.status, done.key, done.asc), (2, 5, 0x2400))
            self.assertEqual(done.sense[15:18], bytes((0xC8 | bit, 0, 1)))

    def test_page_code_without_evpd(self) -> None:
        """A page code without EVPD is refused."""
        done = self.one.do(b"\x12\0\x83\0\xff\0", read=255)
        self.assertEqual((done.key, done.asc), (5, 0x2400))

    def test_device_identification_is_never_empty(self) -> None:
        """VPD 83h has designators of the unit, the port and the device, always."""
        for settings in ({}, {"thin_provisioned": False}, {"removable": True}):
            self.connect(**settings)
            self.assertEqual({key[0] for key in self.designated()}, {0, 1, 2})

    def test_serial_number_is_never_empty(self) -> None:
        """VPD 80h has a serial number, configured or not."""
        self.assertEqual(len(self.vpd(0x80)), 16)
        self.connect(usn="A1")
        self.assertEqual(self.vpd(0x80), b"A1")

    def test_same_on_all_paths(self) -> None:
        """One disk has the same names at each LUN and each target; ports differ."""
        other = Target(TARGET + "2", relative_port=2)
        other.add_lun(5, self.unit)
        self.target.add_lun(300, self.unit)
        self.node.add_target(other, next(iter(self.node.targets.values())).settings)
        self.one = Initiator(self.node).ready()
        here, there = self.designated(0), self.designated(0x4000 | 300)
        self.assertEqual(here, there)
        self.one = Initiator(self.node, name=INITIATOR + "2")
        self.one.ready(other.name)
        away = self.designated(5)
        self.assertEqual(identity(here), identity(away))
        for key in ((1, 4), (1, 8), (2, 8)):
            self.assertNotEqual(here[key], away[key])

    def test_other_lun_is_never_the_same(self) -> None:
        """Two disks of one target differ in every name they have."""
        self.connect(memory(), memory())
        one, other = (identity(self.designated(lun)) for lun in (0, 1))
        self.assertEqual(set(one), set(other))
        for key in one:
            self.assertNotEqual(one[key], other[key], key)
        self.assertNotEqual(self.vpd(0x80, 0), self.vpd(0x80, 1))

    def test_same_name_elsewhere_is_another_disk(self) -> None:
        """Devices of one name in two state directories differ: no hash of the name."""
        one, other = (open_disk("disk1", memory(), memory=Volatile()) for _ in "12")
        self.assertNotEqual(one.identity.naa, other.identity.naa)
        self.assertNotEqual(one.identity.serial, other.identity.serial)
        self.assertNotEqual(one.identity.t10, other.identity.t10)

    def test_missing_lun(self) -> None:
        """INQUIRY to a LUN that is not there: qualifier 3, type 1Fh, at any length."""
        whole = self.ask(lun=9).data
        self.assertEqual((whole[0], whole[4]), (0x7F, len(whole) - 5))
        for length in range(len(whole) + 1):
            self.assertEqual(self.ask(length=length, lun=9).data, whole[:length])
        done = self.ask(0x83, lun=9)
        self.assertEqual((done.key, done.asc), (5, 0x2500))

    def test_page_codes_are_sorted(self) -> None:
        """VPD 00h lists pages in ascending order, each once, itself too."""
        found = self.pages()
        self.assertEqual(found, sorted(set(found)))
        self.assertIn(0, found)

    def test_supported_opcodes_are_those_there_are(self) -> None:
        """What REPORT SUPPORTED OPERATION CODES lists is what is not refused."""
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 0, 0, 0, 1 << 16)
        data = self.one.do(cdb, read=1 << 16).data[4:]
        listed = {data[at] for at in range(0, len(data), 8)}
        for opcode in range(256):
            done = self.one.do(bytes((opcode,)) + bytes(15), read=512)
            known = not (done.status == 2 and done.asc == 0x2000)
            if opcode in {0x7F, 0x16, 0x56}:
                # A variable length CDB has 32 bytes; reservations would stay.
                self.one.do(bytes((0x17, 0, 0, 0, 0, 0)))
                known = opcode in listed
            self.assertEqual(known, opcode in listed, hex(opcode))


class StandardTests(Inquiries):
    """
    Standard INQUIRY data.
    """

    def test_standard(self) -> None:
        """Versions, formats, flags; text in ASCII, left-aligned, filled with spaces."""
        data = self.ask().data
        self.assertEqual(len(data), 96)
        self.assertEqual((data[0], data[1], data[2], data[3] & 0xF), (0, 0, 6, 2))
        self.assertEqual(data[4], 91)
        self.assertEqual((data[6] & 0x10, data[7] & 2), (0x10, 2))
        self.assertEqual(data[8:36], b"SCSTD   disk0           1   ")
        versions = {int.from_bytes(data[at : at + 2], "big") for at in range(58, 74, 2)}
        self.assertLessEqual({0x00A0, 0x0460, 0x0961, 0x04C0}, versions)

    def test_vendor_specific(self) -> None:
        """Up to 20 bytes are at byte 36, more at byte 96."""
        self.connect(inq_vend_specific="short")
        data = self.ask().data
        self.assertEqual(data[36:56], b"short".ljust(20, b"\0"))
        self.assertEqual(len(data), 96)
        long = "a longer text than twenty bytes"
        self.connect(inq_vend_specific=long)
        data = self.ask().data
        self.assertEqual(data[96:], long.encode())
        self.assertEqual((data[4], data[36:56]), (len(data) - 5, bytes(20)))


class PagesTests(Inquiries):
    """
    VPD pages.
    """

    def test_names(self) -> None:
        """NAA 6, T10, UUID, SCSI name; EUI-64 and vendor specific where configured."""
        found = self.designated()
        naa = self.unit.identity.naa
        self.assertEqual(found[0, 3], naa)
        self.assertEqual(naa[0] >> 4, 6)
        self.assertTrue(naa[0] & 0xF or naa[1])
        self.assertEqual(found[0, 8], f"naa.{naa.hex().upper()}".encode() + bytes(4))
        self.assertEqual(found[0, 1][:8], b"SCSTD   ")
        self.assertNotIn((0, 2), found)
        self.connect(eui64_id="0011223344556677", vend_specific_id="mine")
        found = self.designated()
        self.assertEqual(found[0, 2], bytes.fromhex("0011223344556677"))
        self.assertEqual(found[0, 0], b"mine")

    def test_device_name(self) -> None:
        """The SCSI device name is what is configured, else the target's."""
        self.assertEqual(self.designated()[2, 8].rstrip(b"\0").decode(), TARGET)
        self.connect(scsi_device_name="naa.5000c50012345678")
        found = self.designated()[2, 8]
        self.assertEqual(found.rstrip(b"\0"), b"naa.5000c50012345678")
        self.assertEqual(len(found) % 4, 0)

    def test_ports(self) -> None:
        """VPD 88h names the port, as VPD 83h does."""
        body = self.vpd(0x88)
        port, transport, length = struct.unpack_from(">xxHxxHxxH", body)
        self.assertEqual((port, transport, length), (1, 0, len(body) - 12))
        self.assertEqual(designators(body[12:])[1, 8], self.designated()[1, 8])

    def test_policy(self) -> None:
        """VPD 87h: one policy for all pages, shared."""
        self.assertEqual(self.vpd(0x87), b"\x3f\xff\0\0")

    def test_extended(self) -> None:
        """VPD 86h: V_SUP follows the store; self-test minutes; task attributes."""
        body = self.vpd(0x86)
        self.assertEqual(len(body), 60)
        self.assertEqual((body[1], body[2], body[3]), (0x0F, 1, 1))
        self.assertEqual(int.from_bytes(body[6:8], "big"), 1)
        store = memory()
        alsoProvides(store, IWriteThrough)
        self.connect(store)
        self.assertEqual(self.vpd(0x86)[2], 0)

    def test_management(self) -> None:
        """VPD 85h is there when a URL is configured."""
        self.assertNotIn(0x85, self.pages())
        self.connect(management_url="https://example.org/")
        body = self.vpd(0x85)
        self.assertEqual(body[0], 1)
        self.assertEqual(int.from_bytes(body[2:4], "big"), len(body) - 4)
        self.assertEqual(body[4:], b"https://example.org/" + bytes(4))

    def test_characteristics(self) -> None:
        """VPD B1h: rotation as configured; FUAB and VBULS."""
        self.connect(rotational=True)
        body = self.vpd(0xB1)
        self.assertEqual((len(body), body[:2]), (60, b"\x1c\x20"))
        self.assertEqual(body[4], 3)
        self.connect()
        self.assertEqual(self.vpd(0xB1)[:2], b"\0\1")


class OpcodesTests(Inquiries):
    """
    REPORT SUPPORTED OPERATION CODES.
    """

    def report(self, option: int, opcode: int = 0, action: int = 0) -> CommandResult:
        """Send one."""
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, option, opcode, action, 1 << 16)
        return self.one.do(cdb, read=1 << 16)

    def test_timeouts(self) -> None:
        """RCTD: each command has a timeouts descriptor, in both forms, and they agree."""
        data = self.report(0x80).data
        self.assertEqual(int.from_bytes(data[:4], "big"), len(data) - 4)
        self.assertEqual((len(data) - 4) % 20, 0)
        rows = list(every(self.unit.commands))
        self.assertEqual((len(data) - 4) // 20, len(rows))
        for at, row in zip(range(4, len(data), 20), rows, strict=True):
            self.assertEqual((data[at], data[at + 5] & 2), (row.opcode, 2))
            length, timeout = struct.unpack_from(">H6xI", data, at + 8)
            self.assertEqual((length, timeout), (10, recommended(row)))
            self.assertGreater(timeout, 0)
            action = row.service_action
            one = self.report(
                0x80 | (1 if action is None else 2), row.opcode, action or 0
            )
            self.assertEqual(one.data[1], 0x83)
            self.assertEqual(one.data[-12:], data[at + 8 : at + 20])

    def test_usage(self) -> None:
        """CDB usage data has the operation code and service action as they are."""
        for row in every(self.unit.commands):
            action = row.service_action
            data = self.report(3, row.opcode, action or 0).data
            size = int.from_bytes(data[2:4], "big")
            usage = data[4 : 4 + size]
            self.assertEqual((len(usage), usage[0]), (row.length, row.opcode))
            if row.opcode == 0x7F:
                self.assertEqual(usage[7:10], bytes((24, 0, action or 0)))
            elif action is not None:
                self.assertEqual(usage[1] & 0x1F, action)

    def test_options(self) -> None:
        """Options 1 and 2 are for commands without and with service actions, 3 for all."""
        for option, opcode, action, answer in (
            (1, 0x28, 0, 3),
            (2, 0x28, 0, None),
            (3, 0x28, 0, 3),
            (3, 0x28, 1, 1),
            (1, 0x9E, 0x10, None),
            (2, 0x9E, 0x10, 3),
            (2, 0x9E, 0x1F, 1),
            (3, 0x9E, 0x10, 3),
            (3, 0x9E, 0x1F, 1),
            (1, 0xC0, 0, 1),
            (3, 0xC0, 0, 1),
            (4, 0, 0, None),
        ):
            done = self.report(option, opcode, action)
            if answer is None:
                self.assertEqual((done.key, done.asc), (5, 0x2400), (option, opcode))
                self.assertEqual(done.sense[16:18], b"\0\2")
            else:
                self.assertEqual(done.data[1] & 7, answer, (option, opcode, action))
