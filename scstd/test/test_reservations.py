# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.reservations`: RESERVE(6) and persistent reservations beside each
other, and which commands which reservation lets through.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.initiator import (
    serve,
)
from scstd.test.reserving import (
    CONFLICT,
    FIELD,
    REGISTER,
    RELEASE,
    RESERVE,
    TYPES,
    in_cdb,
    registrant,
)
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
