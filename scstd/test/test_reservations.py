# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.reservations`: RESERVE(6) and persistent reservations beside each
other, and which commands which reservation lets through.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.initiator.reservations import (
    CONFLICT,
    FIELD,
    REGISTER,
    RELEASE,
    RESERVE,
    TYPES,
    in_cdb,
)
from scstd.scsi.command import VARIABLE, Command, every
from scstd.scsi.persistent import Change, ReservationState, Type
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC
from scstd.test.initiator import serve
from scstd.test.reserving import registrant
from scstd.test.stores import memory

RESERVE_6, RELEASE_6 = bytes((0x16, 0, 0, 0, 0, 0)), bytes((0x17, 0, 0, 0, 0, 0))


class BothKindsTests(SynchronousTestCase):
    """
    RESERVE(6) where there are registrations, and persistent ones where it holds.
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, (self.unit,) = serve(memory())
        self.one, self.two, self.guest = (registrant(self.node, n) for n in (1, 2, 3))

    def test_reserve_6_with_registrations(self) -> None:
        """With registrations, RESERVE and RELEASE are conflicts, whoever asks."""
        self.one.register(1)
        for who in (self.one, self.two):
            for cdb in (RESERVE_6, RELEASE_6, b"\x56" + bytes(9), b"\x57" + bytes(9)):
                self.assertEqual(who.do(cdb).status, CONFLICT)

    def test_reserve_6_with_reservation(self) -> None:
        """
        The holder, or who is let through, gets GOOD and nothing else (CRH=1); all
        others get a conflict.
        """
        self.one.register(1)
        self.two.register(2)
        for kind in TYPES:
            self.one.out(RESERVE, 1, kind=kind)
            before = self.one.full()
            for cdb in (RESERVE_6, RELEASE_6):
                self.assertEqual(self.one.do(cdb).status, 0)
                status = 0 if kind > 4 else CONFLICT
                self.assertEqual(self.two.do(cdb).status, status)
                self.assertEqual(self.guest.do(cdb).status, CONFLICT)
            self.assertEqual(self.one.full(), before)
            self.assertIsNone(self.unit.reservation.holder)
            self.one.out(RELEASE, 1, kind=kind)
            self.two.told()

    def test_persistent_with_reserve_6(self) -> None:
        """While RESERVE holds the unit, all PERSISTENT RESERVE commands conflict."""
        self.one.do(RESERVE_6)
        for who in (self.one, self.two):
            for action in range(8):
                self.assertEqual(who.out(action, 0, 1).status, CONFLICT)
            for action in range(4):
                done = who.do(in_cdb(action), read=8192)
                self.assertEqual(done.status, CONFLICT)
        self.one.do(RELEASE_6)
        self.assertEqual(self.one.out(REGISTER, 0, 1).status, 0)

    def test_third_party(self) -> None:
        """RESERVE for others, of elements, and with long identifiers is refused."""
        for cdb in (
            b"\x56\x10" + bytes(8),
            b"\x56\x02" + bytes(8),
            b"\x56\x01" + bytes(8),
            b"\x56\0\0\1" + bytes(6),
            b"\x56\0\0\0\0\0\0\0\x08\0",
            b"\x57\x10" + bytes(8),
            b"\x16\x10" + bytes(4),
            b"\x16\x01" + bytes(4),
        ):
            done = self.one.do(cdb)
            self.assertEqual((done.status, done.asc), (2, FIELD))
        self.assertFalse(self.unit.reservation.held)

    def test_released_by_logout(self) -> None:
        """What RESERVE holds ends with the session (istgt kept it for ever)."""
        self.one.do(RESERVE_6)
        self.one.logout()
        self.assertEqual(self.two.do(RESERVE_6).status, 0)

    def test_released_by_reset(self) -> None:
        """... and with a logical unit reset."""
        self.one.do(RESERVE_6)
        self.two.manage(5)
        self.two.receive()
        self.two.told()
        self.assertEqual(self.two.do(RESERVE_6).status, 0)

    def test_release_by_others(self) -> None:
        """Others' RELEASE is GOOD and does nothing."""
        self.one.do(RESERVE_6)
        self.assertEqual(self.two.do(RELEASE_6).status, 0)
        self.assertEqual(self.two.do(bytes(6)).status, CONFLICT)


# What a command of another nexus needs: A passes every reservation, R those that leave
# reading to others (Write Exclusive), C none.  Names of rows begin with these; of two
# that fit the longer one counts.
TABLE = """
A|INQUIRY|LOG SENSE|PERSISTENT RESERVE IN|READ MEDIA SERIAL NUMBER|REPORT ALIASES
A|RECEIVE COPY|REPORT ALL ROD TOKENS|RECEIVE ROD TOKEN INFORMATION
A|REPORT IDENTIFYING INFORMATION|REPORT LUNS|REPORT PRIORITY|REPORT TARGET PORT GROUPS
A|REPORT TIMESTAMP|REQUEST SENSE|TEST UNIT READY|READ CAPACITY|REPORT REFERRALS
R|MODE SENSE|READ ATTRIBUTE|READ BUFFER|RECEIVE DIAGNOSTIC RESULTS
R|REPORT SUPPORTED OPERATION CODES|REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
R|GET LBA STATUS|GET STREAM STATUS|PRE-FETCH|READ|READ DEFECT DATA|VERIFY
R|POPULATE TOKEN|SECURITY PROTOCOL IN
C|COPY OPERATION ABORT|EXTENDED COPY|LOG SELECT|MODE SELECT|SEND DIAGNOSTIC
C|SET IDENTIFYING INFORMATION|SET PRIORITY|SET TARGET PORT GROUPS|SET TIMESTAMP
C|WRITE ATTRIBUTE|WRITE BUFFER|SECURITY PROTOCOL OUT|COMPARE AND WRITE|FORMAT UNIT
C|ORWRITE|REASSIGN BLOCKS|SANITIZE|SYNCHRONIZE CACHE|UNMAP|WRITE|WRITE AND VERIFY
C|WRITE ATOMIC|WRITE LONG|WRITE SAME|WRITE USING TOKEN|RESERVE|RELEASE
C|START STOP UNIT|READ LONG|BACKGROUND CONTROL|STREAM CONTROL|XPWRITE|XDWRITEREAD
A|PREVENT ALLOW MEDIUM REMOVAL
A|PERSISTENT RESERVE OUT, REGISTER|PERSISTENT RESERVE OUT, REGISTER AND IGNORE
C|PERSISTENT RESERVE OUT, RESERVE|PERSISTENT RESERVE OUT, REGISTER AND MOVE
K|PERSISTENT RESERVE OUT, RELEASE|PERSISTENT RESERVE OUT, CLEAR
K|PERSISTENT RESERVE OUT, PREEMPT
"""
"""
SPC-4 table 65, SPC-4 table 66 (K: passes if it is registered) and SBC-4 table 13,
commands that are allowed in the presence of various reservations.
"""

CLASSES = {
    name: line[0] for line in TABLE.split("\n") if line for name in line[2:].split("|")
}

# Rows that say nothing about themselves without more of the CDB than its zeros.
VARIANTS = (
    ("START STOP UNIT that starts", b"\x1b\0\0\0\1\0", "A"),
    ("START STOP UNIT that loads", b"\x1b\0\0\0\3\0", "A"),
    ("START STOP UNIT, power condition", b"\x1b\0\0\0\x11\0", "C"),
    ("PREVENT ALLOW MEDIUM REMOVAL that prevents", b"\x1e\0\0\0\1\0", "C"),
    ("PREVENT ALLOW MEDIUM REMOVAL, changer", b"\x1e\0\0\0\2\0", "C"),
)

STATUSES = ("holder", "registered", "not registered")


def classed(name: str) -> str:
    """Return the class of a command by its row's name."""
    fitting = [one for one in CLASSES if name.startswith(one)]
    if not fitting:
        raise AssertionError(f"{name}: say in TABLE which reservations it passes")
    return CLASSES[max(fitting, key=len)]


def zeros(row: Command) -> bytes:
    """Return a row's CDB with no more than it is known by."""
    cdb = bytearray(row.length)
    cdb[0] = row.opcode
    if row.opcode == VARIABLE:
        cdb[7] = row.length - 8
        cdb[8:10] = (row.service_action or 0).to_bytes(2, "big")
    elif row.service_action is not None:
        cdb[1] = row.service_action
    return bytes(cdb)


def passes(kind: int, status: str, needed: str) -> bool:
    """
    Say what the standards' tables say: whether a reservation of this type lets a
    command of this class pass from such a nexus.
    """
    registrants_pass = kind in {5, 6, 7, 8}
    if needed == "A" or status == "holder":
        return True
    if status == "registered" and (registrants_pass or needed == "K"):
        return True
    return needed == "R" and kind in {1, 5, 7}


class MatrixTests(SynchronousTestCase):
    """
    Every command against every reservation, from each kind of nexus.
    """

    def setUp(self) -> None:
        """Make a disk with all commands there are."""
        node, _target, (self.unit,) = serve(memory(), removable=True)
        self.assertTrue(self.unit.volume.thin)
        self.itls = {}
        for number, status in enumerate(STATUSES, 1):
            one = registrant(node, number)
            session = one.connection.session
            assert session is not None
            self.itls[status] = session.nexus.itls[0]
        self.commands = [
            (row.name, zeros(row), classed(row.name))
            for row in every(self.unit.commands)
        ]
        self.commands += VARIANTS

    def gate(self, status: str, cdb: bytes) -> bool:
        """Say whether the gate lets a command pass."""
        one = Task(self.itls[status], 0, 1, cdb.ljust(16, b"\0"), 0, lambda _task: None)
        self.unit.arrive(one)
        self.unit.run(one)
        return one.status != CONFLICT

    def state(self, kind: int) -> ReservationState:
        """Return a reservation of a type."""
        holder, registered, _guest = (itl.nexus.it for itl in self.itls.values())
        return ReservationState({holder: 1, registered: 2}).reserved(Type(kind), holder)

    def test_persistent(self) -> None:
        """Type by type, nexus by nexus, command by command as in the tables."""
        wrong = []
        seen = 0
        for kind in TYPES:
            for status in STATUSES:
                for name, cdb, needed in self.commands:
                    self.unit.reservation.restore(ReservationState())
                    self.unit.reservation.apply(Change(self.state(kind)))
                    seen += 1
                    if self.gate(status, cdb) != passes(kind, status, needed):
                        wrong.append((kind, status, name))
        self.assertEqual(wrong, [])
        self.assertEqual(seen, 6 * 3 * len(self.commands))

    def test_reserve_6(self) -> None:
        """What RESERVE by another lets pass (SPC-2), and what it stops."""
        self.unit.reservation.reserve(self.itls["holder"])
        allowed = ("INQUIRY", "REPORT LUNS", "REQUEST SENSE", "RELEASE")
        some = ("START STOP UNIT that", "PREVENT ALLOW MEDIUM REMOVAL")
        stopped = ("TEST UNIT READY", "MODE", "READ", "WRITE", "PERSISTENT", "RESERVE")
        checked = 0
        for name, cdb, needed in self.commands:
            may = name.startswith(allowed)
            if name.startswith(some):
                may = needed == "A"
            elif not may and not name.startswith(stopped):
                continue
            checked += 1
            self.assertEqual(self.gate("registered", cdb), may, name)
        self.assertGreater(checked, 40)

    def test_table(self) -> None:
        """The table's own traps: the longer name counts, an unknown one fails."""
        self.assertEqual(classed("READ CAPACITY(10)"), "A")
        self.assertEqual(classed("READ(10)"), "R")
        self.assertEqual(classed("WRITE AND VERIFY(10)"), "C")
        self.assertRaises(AssertionError, classed, "ERASE")

    def test_conflict_before_attention(self) -> None:
        """A conflict comes first, a unit attention stays."""
        self.unit.reservation.apply(Change(self.state(1)))
        itl = self.itls["not registered"]
        self.unit.tell(itl, ASC.MODE_PARAMETERS_CHANGED)
        self.assertFalse(self.gate("not registered", bytes((0x0A, 0, 0, 0, 1, 0))))
        self.assertEqual(len(itl.attentions), 1)

    def test_internal_commands(self) -> None:
        """The target's own commands for a nexus are stopped like its own."""
        self.unit.reservation.apply(Change(self.state(3)))
        task = self.successResultOf(
            self.unit.perform(self.itls["registered"], read10(0, 1), expected=512)
        )
        self.assertEqual(task.status, CONFLICT)
