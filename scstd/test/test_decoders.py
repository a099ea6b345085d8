# SPDX-License-Identifier: MIT
"""
What we say, decoded by others: sg3_utils, sdparm and python-scsi read our bytes from
files, and the fields they find are compared with what the unit is.

A case is a row of `CASES`: a command, who decodes its data, and the fields that have to
come out.  One row adds a page or a command; every page that there is has to have one.
(sg_opcodes, sg_rtpg and sg_persist of sg3_utils 1.46 take no bytes from a file: operation
codes are decoded one by one with sg_decode_sense --cdb.)
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.management.model.device_attributes import unit_settings
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.scsi.command import VARIABLE, every
from scstd.scsi.device import open_disk
from scstd.scsi.spc import log, mode, vpd
from scstd.scsi.target import Target
from scstd.test.clients import need
from scstd.test.decoding import CASES, output
from scstd.test.initiator import TARGET, Initiator
from scstd.test.stores import Shared


class DecoderTests(SynchronousTestCase):
    """
    Others read what we say as we mean it.
    """

    def setUp(self) -> None:
        """Serve a disk that is not the default one in anything, and use it."""
        need("sg_vpd", "sdparm")
        node, target = Node(), Target(TARGET)
        settings = {
            "t10_vend_id": "ACME",
            "prod_id": "Rocket",
            "prod_rev_lvl": "7.1",
            "eui64_id": "0011223344556677",
            "vend_specific_id": "mine",
            "management_url": "https://example.org/",
            "rotational": True,
            "removable": True,
        }
        clock = Clock().seconds
        store: Any = Shared(3 << 30, 10 << 30)
        self.unit = open_disk("disk0", store, unit_settings(settings), clock=clock)
        for lun in (0, 7, 255, 256, 300, 16383):
            target.add_lun(lun, self.unit)
        node.add_target(target, TargetSettings())
        self.one = Initiator(node)
        self.one.login()
        self.one.do(bytes(6))
        for itl in self.unit.itls:
            itl.attentions.clear()
        self.unit.queue_error = 3
        self.unit.task_aborted_status = True
        self.one.do(write10(0, 1), data=bytes(512))
        self.one.do(write10(0, 2), data=bytes(1024))
        self.one.do(read10(0, 8), read=4096)
        self.one.do(b"\x2f\0\0\0\0\0\0\0\4\0")
        for code in (1, 6):
            self.assertEqual(
                self.one.do(bytes((0x1D, code << 5, 0, 0, 0, 0))).status, 0
            )
        self.path = Path(self.mktemp())

    def test_cases(self) -> None:
        """Each case's fields are what the unit is."""
        wrong = []
        for case in CASES:
            done = self.one.do(case.cdb, read=2048)
            self.assertEqual(done.status, 0, case.name)
            found = case.decode(done.data, self.path)
            for name, value in case.expected(self.unit).items():
                if name == "text":
                    missing = [one for one in value if one not in found["text"]]
                    wrong += [(case.name, one, found["text"]) for one in missing]
                elif found.get(name) != value:
                    wrong.append((case.name, f"{name} is {value}", found.get(name)))
        self.assertEqual(wrong, [])

    def test_complete(self) -> None:
        """Every VPD, mode and log page of a disk has a case."""
        names = {case.name for case in CASES}
        wanted = {f"VPD {code:02X}h" for code in self.vpd_codes()}
        wanted |= {
            f"mode page {one.code:02X}h/{one.subpage:02X}h"
            for one in mode.pages_of(self.unit)
        }
        wanted |= {
            f"log page {one.code:02X}h"
            + (f"/{one.subpage:02X}h" if one.subpage else "")
            for one in log.pages_of(self.unit)
        }
        self.assertEqual(wanted - names, set())

    def vpd_codes(self) -> list[int]:
        """Return the VPD pages of the unit."""
        return [code for code, row in vpd.PAGES.items() if row.exists(self.unit)]

    def test_operation_codes(self) -> None:
        """Each operation code and service action is the command that others know."""
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 0, 0, 0, 1 << 16)
        data = self.one.do(cdb, read=1 << 16).data[4:]
        listed = {
            (data[at], int.from_bytes(data[at + 2 : at + 4], "big")): data[at + 7]
            for at in range(0, len(data), 8)
        }
        names = {
            (row.opcode, row.service_action or 0): row.name
            for row in every(self.unit.commands)
        }
        self.assertEqual(set(listed), set(names))
        wrong = []
        for (opcode, action), length in listed.items():
            made = bytearray(length)
            made[0] = opcode
            if opcode == VARIABLE:
                made[7:10] = bytes((length - 8, action >> 8, action & 0xFF))
            else:
                made[1] |= action
            known = output("sg_decode_sense", "--cdb", *(f"{one:02x}" for one in made))
            ours, theirs = (
                set(re.findall(r"\w+", text.lower()))
                for text in (names[opcode, action], known)
            )
            if not (ours <= theirs or theirs <= ours):
                wrong.append((hex(opcode), action, names[opcode, action], known))
        self.assertEqual(wrong, [])

    def test_sense(self) -> None:
        """Sense data says the same in both formats: key, code, field pointer."""
        for descriptor in (False, True):
            self.unit.descriptor_sense = descriptor
            for cdb, expected in (
                (b"\x28\x60" + bytes(8), ("Invalid field in cdb", "byte 1 bit 6")),
                (read10(0xFFFFFFFF, 1), ("Logical block address out of range",)),
                (bytes((0xC1,)) + bytes(5), ("Invalid command operation code",)),
            ):
                sense = self.one.do(cdb, read=512).sense
                text = output("sg_decode_sense", *(f"{one:02x}" for one in sense))
                form = "Descriptor format" if descriptor else "Fixed format"
                for one in (form, "Illegal Request", *expected):
                    self.assertIn(one, text)
