# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.alua`: changes of access states that take their time, and groups
whose members come and go.
"""

from __future__ import annotations

import struct

from twisted.internet.defer import Deferred

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import DataIn, SCSIResponse
from scstd.scsi.alua import DeviceGroup, Port, TargetPortGroup
from scstd.scsi.device import open_disk
from scstd.test.initiator import TARGET
from scstd.test.stores import memory
from scstd.test.test_alua import CHANGED, TUR, AccessTests, S, ask, report


class TransitionTests(AccessTests):
    """
    Changes of state that take their time.
    """

    def test_no_stale_write_after_failover(self) -> None:
        """A path is not reported in standby while a command there can still write."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=b"w" * 512))
        queued = self.one.command(write10(1, 1), write=512, data=b"q" * 512)
        queued.flags = queued.flags & ~7 | 2
        self.one.send(queued)
        changed = self.devices.set_state(self.near, S.STANDBY)
        self.assertFalse(changed.called)
        self.assertEqual(self.near.state, S.TRANSITIONING)
        self.assertEqual(self.two.do(report(), read=1024).data[4] & 15, 0xF)
        self.check(self.one.do(TUR, attribute=3), 2, 0x040A)
        self.store.go()
        self.assertTrue(changed.called)
        self.assertEqual(self.near.state, S.STANDBY)
        first, second = self.one.receive()
        self.assertEqual((first.status, second.status), (0, 2))
        self.assertEqual(self.store.calls, [])
        self.assertEqual(self.store.inner.read(512, 1), b"\0")
        self.check(self.two.do(TUR), 6, CHANGED)

    def test_no_stale_write_of_a_lost_session(self) -> None:
        """A write on a path whose session is gone is waited for, too."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=b"w" * 512))
        self.one.connection.disconnected()
        changed = self.devices.set_state(self.near, S.STANDBY)
        self.assertFalse(changed.called)
        self.store.go()
        self.assertTrue(changed.called)

    def test_other_path_goes_on(self) -> None:
        """Commands on other paths are not waited for."""
        self.two.send(self.two.command(read10(0, 1), read=512))
        self.assertTrue(self.devices.set_state(self.near, S.STANDBY).called)
        self.store.go()
        self.assertIsInstance(self.two.one(DataIn), DataIn)

    def test_slow(self) -> None:
        """While a change is carried out the state is transitioning; then the answer."""
        waits: Deferred[None] = Deferred()
        self.devices.carry_out = lambda _group, _state: waits
        data = bytes(4) + struct.pack(">BxH", 0, 257)
        self.one.send(self.one.command(ask(8), write=8, data=data))
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.far.state, S.TRANSITIONING)
        self.check(self.two.do(TUR), 2, 0x040A)
        # Another request meanwhile is not ready either.
        self.check(self.ask(self.two, (0, 257)), 2, 0x040A)
        waits.callback(None)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.far.state, S.ACTIVE)
        self.check(self.two.do(TUR), 6, CHANGED)
        self.assertEqual(self.two.do(TUR).status, 0)

    def test_overtaken(self) -> None:
        """A change that another overtakes leaves the last one's state."""
        waits: Deferred[None] = Deferred()
        self.devices.carry_out = lambda _group, _state: waits
        first = self.devices.set_state(self.near, S.STANDBY)
        self.devices.carry_out = None
        second = self.devices.set_state(self.near, S.ACTIVE)
        self.assertTrue(second.called)
        waits.callback(None)
        self.assertTrue(first.called)
        self.assertEqual(self.near.state, S.ACTIVE)

    def test_reset_meanwhile(self) -> None:
        """A request whose change is under way can be aborted; the change is made."""
        waits: Deferred[None] = Deferred()
        self.devices.carry_out = lambda _group, _state: waits
        data = bytes(4) + struct.pack(">BxH", 0, 257)
        self.one.send(self.one.command(ask(8), write=8, data=data))
        self.one.manage(5)
        self.assertEqual(self.one.receive(), [])
        waits.callback(None)
        self.assertEqual(self.one.receive()[-1].response, 0)
        self.assertEqual(self.far.state, S.ACTIVE)


class MembershipTests(AccessTests):
    """
    What may be in which group.
    """

    def test_taken(self) -> None:
        """Names, identifiers, ports and units are in one place only."""
        with self.assertRaisesRegex(ValueError, "near"):
            self.devices.add_group(TargetPortGroup("new", 256))
        with self.assertRaisesRegex(ValueError, "near"):
            self.devices.set_group_id(self.far, 256)
        self.devices.set_group_id(self.far, 258)
        self.check(self.one.do(TUR), 6, CHANGED)
        self.assertEqual(self.one.do(report(), read=1024).data[18:20], b"\1\2")
        with self.assertRaisesRegex(ValueError, "near"):
            self.devices.add_group(TargetPortGroup("near", 999))
        with self.assertRaisesRegex(ValueError, "near"):
            self.devices.add_port(self.far, Port(TARGET, 1))
        with self.assertRaisesRegex(ValueError, "dg"):
            DeviceGroup("other").add_unit(self.unit)
        full = TargetPortGroup(
            "full", 9, ports={str(n): Port("", n) for n in range(255)}
        )
        with self.assertRaisesRegex(ValueError, "255"):
            self.devices.add_port(full, Port("one more", 256))

    def test_preferred(self) -> None:
        """PREF can be changed, and that is told."""
        self.devices.set_preferred(self.far, preferred=True)
        self.check(self.one.do(TUR), 6, CHANGED)
        self.assertEqual(self.one.do(report(), read=1024).data[16], 0x81)

    def test_target_comes_and_goes(self) -> None:
        """A port whose target comes later stops commands from then on."""
        self.set(self.near, S.STANDBY)
        self.devices.target_removed(self.target)
        self.assertFalse(self.unit.restricted)
        self.devices.target_added(self.target)
        self.check(self.one.do(TUR), 2, 0x040B)
        self.devices.remove_group("near")
        self.assertEqual(self.unit.conditions, [])

    def test_unit_comes_and_goes(self) -> None:
        """A unit has the state of the group while it is in it."""
        other = open_disk("other", memory())
        self.target.add_lun(1, other)
        self.one.do(TUR)
        self.set(self.near, S.STANDBY)
        self.devices.add_unit(other)
        for _attention in range(3):
            self.one.do(TUR, lun=1)
        self.check(self.one.do(TUR, lun=1), 2, 0x040B)
        self.devices.remove_unit(other)
        self.one.do(TUR, lun=1)
        self.assertEqual(self.one.do(TUR, lun=1).status, 0)
