# SPDX-License-Identifier: MIT
"""
Property tests of the primary commands: whatever CDB and parameter list come, the answer
is the standard's, and what an initiator asks next is answered too.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.scsi.device import open_disk
from scstd.scsi.sam import Status
from scstd.scsi.spc import log, mode
from scstd.scsi.target import Target
from scstd.test.generating import examples
from scstd.test.initiator import TARGET, Initiator
from scstd.test.stores import memory

OPCODES = (
    *(0x00, 0x03, 0x12, 0x15, 0x1A, 0x1C, 0x1D, 0x3B, 0x3C),
    *(0x4C, 0x4D, 0x55, 0x5A, 0xA0, 0xA3, 0xA4),
)
"""The primary commands of `scstd.scsi.spc`, but for reservations."""

INTERNAL_TARGET_FAILURE = 0x4400


def sized(opcode: int, rest: bytes, length: int) -> bytes:
    """
    Return a CDB with the length of its list where the command has it: half of all lists
    have the length that is said.
    """
    cdb = bytearray(bytes((opcode,)) + rest)
    at, size = {
        0x15: (4, 1),
        0x1D: (3, 2),
        0x3B: (6, 3),
        0x4C: (7, 2),
        0x55: (7, 2),
        0xA4: (6, 4),
    }.get(opcode, (0, 0))
    if size and rest[-1] & 1:
        cdb[at : at + size] = (length & 0xFF).to_bytes(size, "big")
    return bytes(cdb)


class FuzzTests(SynchronousTestCase):
    """
    No command is a defect.
    """

    def setUp(self) -> None:
        """Serve a disk with a clock."""
        node, target = Node(), Target(TARGET)
        self.unit = open_disk("disk0", memory(), clock=Clock().seconds)
        target.add_lun(0, self.unit)
        node.add_target(target, TargetSettings())
        self.one = Initiator(node).ready()

    def check(self, cdb: bytes, data: bytes) -> None:
        """It has to end, not with a failure of ours, and INQUIRY has to work after it."""
        done = self.one.do(cdb, data=data, read=0 if data else 4096)
        self.assertIn(done.status, {0, 2})
        if done.status:
            self.assertNotEqual(done.asc, INTERNAL_TARGET_FAILURE, cdb.hex())
            self.assertNotEqual(done.key, 4, cdb.hex())
        if self.unit.faults:
            # It had NACA=1.
            self.assertEqual(self.one.do(bytes(6)).status, Status.ACA_ACTIVE)
            self.one.manage(TaskManagementCode.CLEAR_ACA)
            self.assertEqual(self.one.receive()[0].response, 0)
        self.assertEqual(self.one.do(b"\x12\0\0\0\x24\0", read=36).status, 0)
        for itl in self.unit.itls:
            itl.attentions.clear()

    @examples(400)
    @given(
        opcode=st.sampled_from(OPCODES),
        rest=st.one_of(
            st.binary(min_size=15, max_size=15),
            st.lists(
                st.sampled_from((0, 0, 0, 1, 0x10, 0x3F, 0x40, 0xFF)),
                min_size=15,
                max_size=15,
            ).map(bytes),
        ),
        data=st.binary(max_size=64),
    )
    def test_commands(self, opcode: int, rest: bytes, data: bytes) -> None:
        """Any CDB, and any list of parameters."""
        self.check(sized(opcode, rest, len(data)), data)

    @examples(200)
    @given(
        which=st.integers(0, 63),
        turned=st.lists(st.integers(0, 511), max_size=3),
        cut=st.integers(0, 80),
    )
    def test_mode_select(self, which: int, turned: list[int], cut: int) -> None:
        """Mode pages with a few bits turned and an end cut off."""
        pages = mode.pages_of(self.unit)
        data = bytearray(8) + pages[which % len(pages)].render(self.unit, 0, 5)
        for bit in turned:
            data[bit // 8 % len(data)] ^= 1 << bit % 8
        data = data[: len(data) - cut] if cut < len(data) else data
        cdb = b"\x55\x11" + bytes(5) + len(data).to_bytes(2, "big") + b"\0"
        self.check(cdb, bytes(data))
        for page in pages:
            for control in range(4):
                self.assertEqual(len(page.render(self.unit, control, 5)), page.size)

    @examples(100)
    @given(
        code=st.integers(0, 0x3F),
        subpage=st.sampled_from((0, 1, 0xFF)),
        control=st.integers(0, 3),
        pointer=st.integers(0, 30),
        length=st.integers(0, 300),
    )
    def test_log_sense(
        self, code: int, subpage: int, control: int, pointer: int, length: int
    ) -> None:
        """Any page, pointer and length."""
        cdb = bytes((0x4D, 0, control << 6 | code, subpage, 0))
        cdb += pointer.to_bytes(2, "big") + length.to_bytes(2, "big") + b"\0"
        self.check(cdb, b"")
        for page in log.pages_of(self.unit):
            for count in page.counts:
                count.reset(self.unit, page)
