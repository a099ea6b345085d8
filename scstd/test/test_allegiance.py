# SPDX-License-Identifier: MIT
"""
Auto contingent allegiance, row by row of SAM-5's tables: what it blocks and aborts when
it is established, what it lets through, what clears it, and what goes on then.
"""

from __future__ import annotations

import itertools

import attrs

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.codes import RejectReason, TaskManagementCode
from scstd.protocols.wire.pdu import Reject
from scstd.scsi.aca import FaultedTaskSet
from scstd.scsi.command import control_byte
from scstd.scsi.kinds import CDROM, DISK
from scstd.test.initiator import Initiator
from scstd.test.test_task_management import Bench

F = TaskManagementCode
SIMPLE, ORDERED, HEAD_OF_QUEUE, ACA = 1, 2, 3, 4
GOOD, CHECK_CONDITION, BUSY, CONFLICT = 0x00, 0x02, 0x08, 0x18
TASK_SET_FULL, ACA_ACTIVE, TASK_ABORTED = 0x28, 0x30, 0x40
TUR = bytes(6)
BEYOND = read10(1 << 30, 1)
"""A command that ends with CHECK CONDITION."""


def with_naca(cdb: bytes) -> bytes:
    """Return a CDB with NACA=1."""
    whole = bytearray(cdb)
    whole[control_byte(cdb[0])] |= 4
    return bytes(whole)


def either(cdb: bytes, *, naca: bool) -> bytes:
    """Return a CDB with this NACA."""
    return with_naca(cdb) if naca else cdb


class AllegianceBench(Bench):
    """
    A condition established by *one*, and what follows.
    """

    def establish(self) -> None:
        """Have *one*'s nexus faulted."""
        done = self.one.do(with_naca(BEYOND), attribute=HEAD_OF_QUEUE)
        # The sense data comes with the status: nobody has to ask for it.
        self.assertEqual((done.status, done.key, done.asc), (2, 5, 0x2100))
        self.assertTrue(self.faulted())

    def faulted(self) -> bool:
        """Say whether there is a condition at the unit."""
        found = bool(self.unit.faults)
        self.assertEqual("finish" in vars(self.unit), found)
        self.assertEqual(
            found,
            any(isinstance(itl.task_set, FaultedTaskSet) for itl in self.unit.itls),
        )
        return found

    def manage(self, who: Initiator, function: F = F.CLEAR_ACA, **fields: int) -> int:
        """Return the response to a function; what else comes is left."""
        who.manage(function, **fields)
        first, *who.unread = who.receive()
        response: int = first.response
        return response

    def clear(self) -> None:
        """Clear the condition."""
        self.assertEqual(self.manage(self.one), 0)
        self.assertFalse(self.faulted())

    def answers(self, who: Initiator) -> dict[int, int]:
        """Return the statuses that have come, by tag."""
        return {pdu.itt: pdu.status for pdu in who.receive()}

    def read(self, who: Initiator, lba: int = 0, attribute: int = SIMPLE) -> int:
        """Send a read that will wait in the store; return its tag."""
        pdu = who.command(read10(lba, 1), read=512, attribute=attribute)
        who.send(pdu)
        return pdu.itt


class ReportTests(AllegianceBench):
    """
    What says that NACA=1 is understood.
    """

    def test_masks(self) -> None:
        """Each command has the NACA bit in its usage map, and no other of CONTROL."""
        for row in (
            row for kind in (DISK, CDROM) for one in kind.sets for row in one.rows
        ):
            at = 1 if row.opcode == 0x7F else row.length - 1
            # (Two bits are vendor specific: READ TOC has some use for them.)
            self.assertEqual(row.usage[at] & 0x3F, 4, row.name)

    def test_reported_masks(self) -> None:
        """REPORT SUPPORTED OPERATION CODES shows it."""
        self.begin()
        cdb = bytes((0xA3, 0x0C, 1, 0x28)) + bytes(5) + b"\xff" + bytes(2)
        self.assertEqual(self.one.do(cdb, read=255).data[13], 4)

    def test_normaca(self) -> None:
        """INQUIRY says NORMACA; of a LUN that is not there it does not."""
        self.begin()
        self.assertEqual(self.one.do(b"\x12\0\0\0\x60\0", read=96).data[3] & 0x20, 0x20)
        absent = self.one.do(b"\x12\0\0\0\x60\0", read=96, lun=7)
        self.assertEqual(absent.data[3] & 0x20, 0)

    def test_functions(self) -> None:
        """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS has CLEAR ACA."""
        self.begin()
        cdb = bytes((0xA3, 0x0D)) + bytes(7) + b"\x04" + bytes(2)
        self.assertEqual(self.one.do(cdb, read=4).data[0] & 0x20, 0x20)

    def test_good(self) -> None:
        """With GOOD status NACA=1 does nothing."""
        self.begin()
        for cdb in (TUR, b"\x03\0\0\0\xff\0"):
            self.assertEqual(self.one.do(with_naca(cdb), read=255).status, GOOD)
        self.assertFalse(self.faulted())

    def test_no_naca(self) -> None:
        """With NACA=0 CHECK CONDITION establishes nothing."""
        self.begin()
        self.assertEqual(self.one.do(BEYOND).status, CHECK_CONDITION)
        self.assertFalse(self.faulted())

    def test_refused_statuses(self) -> None:
        """Another status than CHECK CONDITION establishes nothing."""
        self.begin()
        self.assertEqual(self.other.do(b"\x16" + bytes(5)).status, GOOD)
        self.assertEqual(self.one.do(with_naca(TUR)).status, CONFLICT)
        self.assertFalse(self.faulted())

    def test_unknown_commands(self) -> None:
        """The CONTROL byte of an unknown command is found by its group, if it has one."""
        for opcode, found in (
            (0x02, True),
            (0x21, True),
            (0x5C, True),
            (0x7D, False),
            (0x9F, True),
            (0xB0, True),
            (0xC1, False),
        ):
            with self.subTest(opcode=hex(opcode)):
                self.begin()
                whole = bytearray(16)
                whole[0] = opcode
                whole[control_byte(opcode) or 9] = 4
                self.assertEqual(self.one.do(bytes(whole)).key, 5)
                self.assertEqual(self.faulted(), found)

    def test_attention(self) -> None:
        """A unit attention establishes it too."""
        self.begin()
        self.unit.attention(0x2A09)  # type: ignore[arg-type]
        self.assertEqual(self.one.do(with_naca(TUR)).key, 6)
        self.assertTrue(self.faulted())

    def test_absent(self) -> None:
        """A LUN that is not there has no task set to be blocked."""
        self.begin()
        for _number in range(2):
            self.assertEqual(self.one.do(with_naca(TUR), lun=7).asc, 0x2500)

    def test_well_known(self) -> None:
        """The well known logical unit has one."""
        self.begin()
        lun = 0xC101
        self.one.do(TUR, lun=lun)
        self.assertEqual(self.one.do(with_naca(b"\x25" + bytes(9)), lun=lun).key, 5)
        self.assertEqual(self.one.do(TUR, lun=lun).status, ACA_ACTIVE)
        self.assertEqual(self.manage(self.one, lun=lun), 0)
        self.assertEqual(self.one.do(TUR, lun=lun).status, GOOD)


@attrs.frozen
class Arrival:
    """
    A row: what a command that arrives meets.  *aca* is the ACA command that is there,
    *status* what it ends with, *asc* its sense data, *there* whether the condition of
    *one* is there afterwards.
    """

    name: str
    attribute: int
    naca: bool
    status: int
    tst: int = 0
    faulted: bool = True
    aca: bool = False
    tmf_only: bool = False
    cdb: bytes = TUR
    asc: int = 0
    there: bool = True


_OTHERS = (SIMPLE, ORDERED, HEAD_OF_QUEUE, 0)

ARRIVALS = (
    # From the faulted nexus.
    *(
        Arrival("faulted, not ACA", attribute, naca, ACA_ACTIVE, tst, aca=aca)
        for attribute, naca, tst, aca in itertools.product(
            _OTHERS, (False, True), (0, 1), (False, True)
        )
    ),
    *(
        Arrival("faulted, ACA", ACA, naca, GOOD, tst)
        for naca, tst in itertools.product((False, True), (0, 1))
    ),
    *(
        Arrival("a second ACA", ACA, naca, ACA_ACTIVE, tst, aca=True)
        for naca, tst in itertools.product((False, True), (0, 1))
    ),
    *(
        Arrival("TMF_ONLY", ACA, naca, ACA_ACTIVE, tst, tmf_only=True)
        for naca, tst in itertools.product((False, True), (0, 1))
    ),
    *(
        Arrival(
            "an ACA command fails",
            ACA,
            naca,
            CHECK_CONDITION,
            tst,
            cdb=BEYOND,
            asc=0x2100,
            there=naca,
        )
        for naca, tst in itertools.product((False, True), (0, 1))
    ),
    # From others: one task set.
    *(
        Arrival("other, ACA", ACA, naca, ACA_ACTIVE, 0, faulted=False)
        for naca in (False, True)
    ),
    *(
        Arrival("other", attribute, False, BUSY, 0, faulted=False)
        for attribute in _OTHERS
    ),
    *(
        Arrival("other, NACA", attribute, True, ACA_ACTIVE, 0, faulted=False)
        for attribute in _OTHERS
    ),
    # From others: a task set each.
    *(
        Arrival(
            "another set, ACA",
            ACA,
            naca,
            CHECK_CONDITION,
            1,
            faulted=False,
            asc=0x4900,
        )
        for naca in (False, True)
    ),
    *(
        Arrival("another set", attribute, naca, GOOD, 1, faulted=False)
        for attribute, naca in itertools.product(_OTHERS, (False, True))
    ),
    *(
        Arrival(
            "another set fails",
            SIMPLE,
            naca,
            CHECK_CONDITION,
            1,
            faulted=False,
            cdb=BEYOND,
            asc=0x2100,
        )
        for naca in (False, True)
    ),
)
"""Commands that arrive while there is a condition (SAM-5, tables of that)."""


class ArrivalTests(AllegianceBench):
    """
    Commands that arrive while there is a condition.
    """

    def check(self, row: Arrival) -> None:
        """Check one row."""
        self.begin(tst=row.tst)
        self.unit.tmf_only = row.tmf_only
        self.establish()
        first = self.read(self.one, attribute=ACA) if row.aca else 0
        self.assertEqual(len(self.store.calls), int(row.aca))
        who = self.one if row.faulted else self.other
        done = who.do(either(row.cdb, naca=row.naca), attribute=row.attribute)
        self.assertEqual(done.status, row.status)
        if row.asc:
            self.assertEqual(done.asc, row.asc)
        one = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        self.assertEqual(isinstance(one.task_set, FaultedTaskSet), row.there)
        if row.tst and not row.faulted:
            # CHECK CONDITION with NACA=1 establishes one of their own.
            blocked = row.naca and row.status == CHECK_CONDITION
            expected = ACA_ACTIVE if blocked else GOOD
            self.assertEqual(self.other.do(TUR).status, expected)
        if row.aca:
            self.store.go()
            self.assertEqual(self.answers(self.one), {first: GOOD})
            # There is room for the next one.
            self.assertEqual(self.one.do(TUR, attribute=ACA).status, GOOD)

    def test_reserved_attribute(self) -> None:
        """A reserved attribute is a protocol error then, too."""
        self.begin()
        self.establish()
        for attribute in (5, 7):
            self.one.send(self.one.command(TUR, attribute=attribute))
            self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
            self.one.cmd_sn -= 1

    def test_table(self) -> None:
        """Each row, whatever the attribute."""
        for row in ARRIVALS:
            with self.subTest(row=row):
                self.check(row)

    def test_no_data(self) -> None:
        """A refused write is not asked for its data."""
        self.begin()
        self.establish()
        for who, status in ((self.one, ACA_ACTIVE), (self.other, BUSY)):
            pdu = who.command(write10(0, 4), write=2048)
            who.send(pdu)
            self.assertEqual(self.answers(who), {pdu.itt: status})

    def test_precedence(self) -> None:
        """ACA ACTIVE comes before a reservation conflict and before what is wrong."""
        self.begin()
        self.assertEqual(self.other.do(b"\x16" + bytes(5)).status, GOOD)
        self.assertEqual(self.one.do(with_naca(TUR), attribute=ACA).status, CONFLICT)
        self.assertEqual(self.other.do(with_naca(BEYOND)).status, CHECK_CONDITION)
        self.assertEqual(self.one.do(with_naca(TUR)).status, ACA_ACTIVE)
        self.assertEqual(self.other.do(b"\xc1" + bytes(9)).status, ACA_ACTIVE)

    def test_attention(self) -> None:
        """A unit attention ends an ACA command, and the condition with it."""
        self.begin()
        self.establish()
        self.unit.attention(0x2A09)  # type: ignore[arg-type]
        self.assertEqual(self.other.do(TUR).status, BUSY)
        self.assertEqual(self.one.do(TUR).status, ACA_ACTIVE)
        self.assertEqual(self.one.do(TUR, attribute=ACA).asc, 0x2A09)
        self.assertFalse(self.faulted())
        self.assertEqual(self.other.do(TUR).asc, 0x2A09)

    def test_limit(self) -> None:
        """Of a limited task set a refused command takes no place, nor one for long."""
        self.begin(max_tgt_dev_commands=1)
        self.establish()
        for _number in range(3):
            self.assertEqual(self.one.do(TUR).status, ACA_ACTIVE)
            self.assertEqual(self.other.do(TUR).status, BUSY)
            self.assertEqual(self.one.do(TUR, attribute=ACA).status, GOOD)
        self.clear()
        self.read(self.one)
        self.assertEqual(self.one.do(TUR).status, TASK_SET_FULL)
        self.store.go()
        self.one.receive()
        self.assertEqual(self.one.do(TUR).status, GOOD)
