# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.alua` and `scstd.scsi.spc.access`: asymmetric access.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import CommandResult, read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.scsi import kinds
from scstd.scsi.allow import Allow
from scstd.scsi.alua import AccessState, DeviceGroup, Port, TargetPortGroup
from scstd.scsi.target import Target
from scstd.test.clients import find, need
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import ManualStore

TUR = bytes(6)


SECOND = TARGET + "2"


ELSEWHERE = "iqn.2026-11.org.scstd:other-node"


S = AccessState


CHANGED = 0x2A06


_ALWAYS: set[tuple[int, ...]] = {(0x03,), (0x12,), (0xA0,), (0xA3, 0x0A), (0xA4, 0x0A)}
"""REQUEST SENSE, INQUIRY, REPORT LUNS, REPORT and SET TARGET PORT GROUPS."""


_BUFFERS: set[tuple[int, ...]] = {(0x3B,), (0x3C,), (0x9B,)}
"""WRITE BUFFER and READ BUFFER, some of whose modes are let through."""


MUST: dict[Allow, set[tuple[int, ...]]] = {
    Allow.STANDBY: {
        *_ALWAYS,
        *((code,) for code in (0x15, 0x55, 0x1A, 0x5A, 0x4C, 0x4D)),  # modes, logs
        *((code,) for code in (0x1C, 0x1D, 0x5E, 0x5F)),  # diagnostics, reservations
    },
    Allow.UNAVAILABLE: _ALWAYS,
}
"""What SPC-5 section 5.18.2 lets through, by operation code and service action."""


MAY: dict[Allow, set[tuple[int, ...]]] = {
    # The capacity, or a host that finds the path in standby takes the disk for empty;
    # what commands there are; identifying information and timestamp.
    Allow.STANDBY: {
        *_BUFFERS,
        (0x25,),
        (0x9E, 0x10),
        *((0xA3, action) for action in (0x05, 0x0C, 0x0D, 0x0F)),
        *((0xA4, action) for action in (0x06, 0x0F)),
    },
    Allow.UNAVAILABLE: _BUFFERS,
}
"""What it leaves to us."""


def report(length: int = 1024, style: int = 0) -> bytes:
    """Return the CDB of a REPORT TARGET PORT GROUPS."""
    return struct.pack(">BBxxxxIxx", 0xA3, style << 5 | 0x0A, length)


def ask(length: int) -> bytes:
    """Return the CDB of a SET TARGET PORT GROUPS."""
    return struct.pack(">BBxxxxIxx", 0xA4, 0x0A, length)


class AccessTests(SynchronousTestCase):
    """
    A disk behind two targets, each a target port group of its own, and another node's.
    """

    def setUp(self) -> None:
        """Log in through both targets."""
        self.store = ManualStore()
        self.node, self.target, (self.unit,) = serve(
            self.store, limits=TargetSettings(queued_commands=64), expl_alua=True
        )
        self.second = Target(SECOND, relative_port=2)
        self.second.add_lun(0, self.unit)
        self.node.add_target(self.second, TargetSettings())
        self.devices = DeviceGroup("dg")
        self.near = TargetPortGroup("near", 256, preferred=True)
        self.far = TargetPortGroup("far", 257, S.NONOPTIMIZED)
        self.remote = TargetPortGroup("remote", 0x1234, S.STANDBY)
        for group, port in (
            (self.near, Port(TARGET, 1, self.target)),
            (self.far, Port(SECOND, 2, self.second)),
            (self.remote, Port(ELSEWHERE, 77)),
        ):
            self.devices.add_group(group)
            self.devices.add_port(group, port)
        self.devices.add_unit(self.unit)
        self.one = Initiator(self.node).ready()
        self.two = Initiator(self.node, name=INITIATOR + "2").ready(SECOND)

    def set(self, group: TargetPortGroup, state: AccessState) -> Deferred[None]:
        """Change a state, and take the unit attentions."""
        changed = self.devices.set_state(group, state)
        if changed.called:
            for who in (self.one, self.two):
                data = who.do(b"\x03\0\0\0\x12\0", read=18).data
                self.assertEqual(int.from_bytes(data[12:14], "big"), CHANGED)
        return changed

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """Check how a command failed."""
        self.assertEqual(
            (done.status, done.key, f"{done.asc:04x}"), (2, key, f"{asc:04x}")
        )

    def ask(self, who: Initiator, *wanted: tuple[int, int]) -> CommandResult:
        """Do a SET TARGET PORT GROUPS."""
        data = bytes(4) + b"".join(
            struct.pack(">BxH", state, group) for state, group in wanted
        )
        return who.do(ask(len(data)), data=data)


class GateTests(AccessTests):
    """
    What each state stops.
    """

    def test_rows(self) -> None:
        """Each command of every kind of device is let through where it has to be."""
        every = [
            row
            for kind in vars(kinds).values()
            if isinstance(kind, kinds.DeviceKind)
            for one in kind.sets
            for row in one.rows
        ]
        self.assertGreater(len(every), 40)
        for row in every:
            codes = {(row.opcode,), (row.opcode, row.service_action)}
            for state, must in MUST.items():
                allowed = state in row.allow
                if codes & must:
                    self.assertTrue(allowed, f"{row.name} has to pass in {state}")
                elif not codes & MAY[state]:
                    self.assertFalse(allowed, f"{row.name} may not pass in {state}")

    def test_states(self) -> None:
        """Sense data says which state stops a command, on this port alone."""
        for state, asc in {
            S.STANDBY: 0x040B,
            S.UNAVAILABLE: 0x040C,
            S.OFFLINE: 0x040C,
            S.TRANSITIONING: 0x040A,
        }.items():
            self.set(self.near, state)
            for cdb in (TUR, read10(0, 1), b"\x35" + bytes(9)):
                self.check(self.one.do(cdb, read=512), 2, asc)
            self.check(self.one.do(write10(0, 1), data=bytes(512)), 2, asc)
            self.assertEqual(self.two.do(TUR).status, 0)
            self.assertEqual(self.store.calls, [])
            sense = self.one.do(b"\x03\0\0\0\x12\0", read=18).data
            self.assertEqual((sense[2], sense[12:14].hex()), (2, f"{asc:04x}"))
            self.assertEqual(self.two.do(b"\x03\0\0\0\x12\0", read=18).data[2], 0)
        self.set(self.near, S.ACTIVE)
        self.assertEqual(self.one.do(TUR).status, 0)
        self.assertFalse(self.unit.restricted)

    def test_unsupported_opcode_changes_no_state(self) -> None:
        """A command that is not there is not taken for one that the state stops."""
        self.set(self.near, S.STANDBY)
        self.check(self.one.do(b"\xc1" + bytes(9)), 5, 0x2000)
        self.assertEqual(self.devices.groups["near"].state, S.STANDBY)

    def test_conflict_and_attention_first(self) -> None:
        """Reservation conflicts and unit attentions come before the access state."""
        self.set(self.near, S.STANDBY)
        self.two.do(b"\x16" + bytes(5))
        self.assertEqual(self.one.do(TUR).status, 0x18)
        self.two.do(b"\x17" + bytes(5))
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        self.check(self.one.do(TUR), 6, 0x2A01)
        self.check(self.one.do(TUR), 2, 0x040B)

    def test_allowed_in_standby(self) -> None:
        """What a multipath host asks of a path in standby is answered."""
        self.set(self.near, S.STANDBY)
        for cdb in (
            b"\x12\0\0\0\x60\0",
            b"\x12\1\x83\0\xff\0",
            b"\x1a\0\x3f\0\xff\0",
            b"\x25" + bytes(9),
            report(),
            struct.pack(">BxBxxxIxx", 0xA0, 0, 255),
        ):
            self.assertEqual(self.one.do(cdb, read=1024).status, 0, cdb.hex())

    def test_other_node_stops_nothing(self) -> None:
        """States of other nodes' ports cost this one nothing."""
        self.assertFalse(self.unit.restricted)
        self.set(self.remote, S.UNAVAILABLE)
        self.assertFalse(self.unit.restricted)
        self.assertEqual(self.unit.conditions, [])

    def test_port_in_no_group(self) -> None:
        """A port that is in no target port group is active."""
        self.set(self.near, S.STANDBY)
        self.devices.remove_port(self.near, TARGET)
        self.check(self.one.do(TUR), 6, CHANGED)
        self.assertEqual(self.one.do(TUR).status, 0)


class ReportTests(AccessTests):
    """
    REPORT TARGET PORT GROUPS, and what INQUIRY says of it.
    """

    GROUPS = "80cf0100000000010000000101cf0101000000010000000202cf1234000000010000004d"

    def test_length_only(self) -> None:
        """The header with the length, then every group with its ports."""
        data = self.one.do(report(), read=1024).data
        self.assertEqual(data.hex(), "00000024" + self.GROUPS)

    def test_extended(self) -> None:
        """The extended header has the implicit transition time, in a byte."""
        for seconds, said in ((7, "07"), (255, "ff"), (256, "ff")):
            self.devices.transition_time = seconds
            data = self.one.do(report(style=1), read=1024).data
            self.assertEqual(data.hex(), f"0000002810{said}0000" + self.GROUPS)

    def test_wrong_format(self) -> None:
        """Other formats are an invalid field, with its pointer."""
        done = self.one.do(report(style=2), read=1024)
        self.check(done, 5, 0x2400)
        self.assertEqual(done.sense[15:18], bytes((0xCF, 0, 1)))

    def test_truncated(self) -> None:
        """The allocation length cuts the data, not what it says."""
        for length in (0, 1, 4, 13):
            data = self.one.do(report(length), read=1024).data
            self.assertEqual(data, bytes.fromhex("00000024" + self.GROUPS)[:length])

    def test_status(self) -> None:
        """The status code says who has changed a state last."""
        self.set(self.near, S.NONOPTIMIZED)
        self.ask(self.one, (0, 257))
        self.two.do(TUR)
        data = self.one.do(report(), read=1024).data
        self.assertEqual((data[4], data[9], data[16], data[21]), (0x81, 2, 0, 1))

    def test_inquiry(self) -> None:
        """TPGS says implicit, and explicit where it is; without groups neither."""
        data = self.one.do(b"\x12\0\0\0\x60\0", read=96).data
        self.assertEqual((data[0], data[5] & 0x30), (0, 0x30))
        self.devices.set_explicit(self.unit, explicit=False)
        self.check(self.one.do(TUR), 6, 0x3F03)
        data = self.one.do(b"\x12\0\0\0\x60\0", read=96).data
        self.assertEqual(data[5] & 0x30, 0x10)
        self.devices.remove_unit(self.unit)
        self.check(self.one.do(TUR), 6, 0x3F03)
        data = self.one.do(b"\x12\0\0\0\x60\0", read=96).data
        self.assertEqual(data[5] & 0x30, 0)
        self.check(self.one.do(report(), read=1024), 5, 0x2400)

    def test_left_meanwhile(self) -> None:
        """A unit that leaves its device group has the commands of one no more, also for
        those that wait already.
        """
        begun = self.one.command(write10(0, 1), write=512, data=bytes(512))
        asked = self.one.command(report(), read=1024, attribute=2)
        told = self.one.command(ask(4), write=4, data=bytes(4), attribute=2)
        self.one.send(begun, asked, told)
        self.devices.remove_unit(self.unit)
        for itl in self.unit.itls:
            itl.attentions.clear()
        self.store.go()
        answers = {one.itt: one for one in self.one.receive()}
        self.assertEqual(answers[begun.itt].status, 0)
        for one in (asked, told):
            sense = bytes(answers[one.itt].data)[2:]
            self.assertEqual((sense[2], sense[12:14].hex()), (5, "2400"))

    def test_qualifier(self) -> None:
        """In unavailable INQUIRY says that the unit is not connected here."""
        self.set(self.near, S.UNAVAILABLE)
        for cdb in (b"\x12\0\0\0\x60\0", b"\x12\1\x83\0\xff\0"):
            self.assertEqual(self.one.do(cdb, read=255).data[0], 0x20)
            self.assertEqual(self.two.do(cdb, read=255).data[0], 0)

    def test_designator(self) -> None:
        """VPD page 83h names the port and its group, each nexus its own."""
        for who, number, port in ((self.one, 256, 1), (self.two, 257, 2)):
            data = who.do(b"\x12\1\x83\0\xff\0", read=255).data
            self.assertIn(b"\x51\x95\0\4\0\0" + number.to_bytes(2, "big"), data)
            self.assertIn(b"\x51\x94\0\4\0\0" + port.to_bytes(2, "big"), data)

    def test_seen_by_sg3_utils(self) -> None:
        """sg_vpd reads the port's group and number out of VPD page 83h."""
        need("sg_vpd")
        data = self.one.do(b"\x12\1\x83\0\xff\0", read=255).data
        path = Path(self.mktemp())
        path.write_text(data.hex(" "))
        command = [find("sg_vpd") or "", "--page=di", f"--inhex={path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertIn("Target port group: 0x100", done.stdout)
        self.assertIn("Relative target port: 0x1", done.stdout)

    def test_supported(self) -> None:
        """REPORT SUPPORTED OPERATION CODES has the commands where they are."""

        def supported(action: int, opcode: int) -> int:
            cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 3, opcode, action, 255)
            return self.one.do(cdb, read=255).data[1] & 7

        self.assertEqual((supported(0x0A, 0xA3), supported(0x0A, 0xA4)), (3, 3))
        self.devices.set_explicit(self.unit, explicit=False)
        self.one.do(TUR)
        self.assertEqual((supported(0x0A, 0xA3), supported(0x0A, 0xA4)), (3, 1))
        self.check(self.ask(self.one, (0, 256)), 5, 0x2400)


class SetTests(AccessTests):
    """
    SET TARGET PORT GROUPS.
    """

    def test_set(self) -> None:
        """States change; who asked is not told, all others are, once."""
        self.assertEqual(self.ask(self.one, (2, 256), (0, 257)).status, 0)
        self.assertEqual((self.near.state, self.far.state), (S.STANDBY, S.ACTIVE))
        self.check(self.one.do(TUR), 2, 0x040B)
        self.check(self.two.do(TUR), 6, CHANGED)
        self.assertEqual(self.two.do(TUR).status, 0)
        # It comes back by the path in standby.
        self.assertEqual(self.ask(self.one, (0, 256)).status, 0)
        self.assertEqual(self.one.do(TUR).status, 0)

    def test_nothing(self) -> None:
        """An empty list changes nothing, and neither does the state that is there."""
        self.assertEqual(self.one.do(ask(0)).status, 0)
        self.assertEqual(self.ask(self.one).status, 0)
        self.assertEqual(self.ask(self.one, (0, 256), (1, 257)).status, 0)
        self.assertEqual(self.two.do(TUR).status, 0)

    def test_bad_group_or_state(self) -> None:
        """A wrong state or group is pointed at, and nothing at all is changed."""
        for wanted, pointer in (
            ([(2, 256), (2, 999)], bytes((0x80, 0, 10))),
            ([(2, 0)], bytes((0x80, 0, 6))),
            ([(2, 256), (0x0E, 257)], bytes((0x8B, 0, 8))),
            ([(2, 256), (0x0F, 257)], bytes((0x8B, 0, 8))),
            ([(4, 256)], bytes((0x8B, 0, 4))),
        ):
            done = self.ask(self.one, *wanted)
            self.check(done, 5, 0x2600)
            self.assertEqual(done.sense[15:18], pointer)
        for length, data in ((3, bytes(3)), (6, bytes(6)), (12, bytes(8))):
            self.check(self.one.do(ask(length), data=data), 5, 0x1A00)
        self.check(self.one.do(ask(1 << 30), data=bytes(8)), 5, 0x2400)
        self.assertEqual((self.near.state, self.far.state), (S.ACTIVE, S.NONOPTIMIZED))
        self.assertEqual(self.two.do(TUR).status, 0)

    def test_failure(self) -> None:
        """If the change cannot be carried out the states stay, and sense says so."""

        def fail(group: TargetPortGroup, state: AccessState) -> None:
            raise OSError(5, f"{group.name} cannot be {state.name}")

        self.devices.carry_out = fail
        self.check(self.ask(self.one, (2, 256)), 4, 0x670A)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.near.state, S.ACTIVE)
        self.assertEqual(self.one.do(TUR).status, 0)
