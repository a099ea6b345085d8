# SPDX-License-Identifier: MIT
"""
The functions of RFC 7144, faults on purpose, and limits that act at once:
`scstd.protocols.engine.task_management`, `faults` and `node`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.drivers.base import DRAIN_TIME
from scstd.initiator.commands import read10, write10
from scstd.protocols.driver import ATTRIBUTES, ISCSIDriver
from scstd.protocols.engine.faults import BlackHole, Faults
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.ordering import IMMEDIATE_LIMIT
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RejectReason
from scstd.protocols.wire.pdu import (
    DataIn,
    DataOut,
    NOPIn,
    Reject,
    TaskManagementRequest,
    TaskManagementResponse,
)
from scstd.scsi.sense import ASC
from scstd.test.initiator import INITIATOR, Initiator, corrupted, serve
from scstd.test.stores import ManualStore, memory

COMPLETE, NO_LUN, SUCCEEDED, REJECTED = 0, 2, 7, 255


class QueryTests(SynchronousTestCase):
    """
    RFC 7144: questions, and the reset of a nexus.
    """

    def setUp(self) -> None:
        """Log in at protocol level 2 to a store that waits."""
        self.store = ManualStore()
        self.node, _target, (self.unit, _other) = serve(self.store, memory())
        self.one = Initiator(self.node).ready(iSCSIProtocolLevel="2")
        self.assertEqual(self.one.keys["iSCSIProtocolLevel"], "2")

    def ask(self, function: int, **fields: Any) -> int:
        """Return the response to a function."""
        self.one.manage(function, **fields)
        response: TaskManagementResponse = self.one.one(TaskManagementResponse)
        self.information = response.additional_response_information.hex()
        return response.response

    def start(self) -> int:
        """Start a read; return its tag."""
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        return pdu.itt

    def test_query_task(self) -> None:
        """QUERY TASK: whether a task is there, at that LUN."""
        tag = self.start()
        self.assertEqual(self.ask(9, tag=tag), SUCCEEDED)
        self.assertEqual(self.ask(9, tag=tag, lun=1), COMPLETE)
        self.assertEqual(self.ask(9, tag=tag, lun=3), NO_LUN)
        self.store.go()
        self.one.receive()
        self.assertEqual(self.ask(9, tag=tag), COMPLETE)

    def test_query_function(self) -> None:
        """A task management function cannot be asked for (section 6.3)."""
        self.start()
        self.one.manage(2)
        self.assertEqual(self.ask(9, tag=self.one.itt), REJECTED)

    def test_query_task_set(self) -> None:
        """QUERY TASK SET: whether the nexus has any task at the LUN."""
        self.assertEqual(self.ask(10), COMPLETE)
        self.start()
        self.assertEqual(self.ask(10), SUCCEEDED)
        self.assertEqual(self.ask(10, lun=7), 2)

    def test_query_of_others(self) -> None:
        """Another's tasks are none of ours."""
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        other.send(other.command(read10(0, 1), read=512))
        self.assertEqual(self.ask(10), COMPLETE)

    def test_query_asynchronous_event(self) -> None:
        """QUERY ASYNCHRONOUS EVENT: which unit attention is pending; it stays."""
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        self.assertEqual((self.ask(12), self.information), (COMPLETE, "000000"))
        self.unit.attention(ASC.CAPACITY_DATA_HAS_CHANGED)
        for _number in range(2):
            self.assertEqual((self.ask(12), self.information), (SUCCEEDED, "162a09"))
        # More than one: that which is reported first, by precedence.
        self.unit.attention(ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED)
        self.assertEqual((self.ask(12), self.information), (SUCCEEDED, "262903"))
        self.unit.tell(itl, ASC.MODE_PARAMETERS_CHANGED)
        self.assertEqual((self.ask(12), self.information), (SUCCEEDED, "262903"))
        for asc, left in (
            (0x2903, "262a09"),
            (0x2A09, "162a01"),
            (0x2A01, "000000"),
        ):
            self.assertEqual(self.one.do(bytes(6)).asc, asc)
            self.ask(12)
            self.assertEqual(self.information, left)
        self.assertEqual(self.ask(12, lun=7), 2)

    def test_event_of_others(self) -> None:
        """Another nexus' unit attention is none of ours."""
        other = Initiator(self.node, name=INITIATOR + "2")
        other.login()
        self.assertEqual((self.ask(12), self.information), (COMPLETE, "000000"))
        self.assertEqual(other.do(bytes(6)).asc, 0x2900)

    def test_no_information(self) -> None:
        """The answers to other functions have no additional information."""
        tag = self.start()
        self.unit.attention(ASC.CAPACITY_DATA_HAS_CHANGED)
        for function in (9, 10, 3):
            self.ask(function, tag=tag)
            self.assertEqual(self.information, "000000")

    def test_nexus_reset(self) -> None:
        """I_T NEXUS RESET ends the nexus's tasks and its reservation, and no other's."""
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        theirs = other.command(read10(0, 1), read=512)
        other.send(theirs)
        self.start()
        self.assertEqual(self.one.do(b"\x16" + bytes(5)).status, 0)
        self.one.manage(11)
        self.assertEqual(self.one.receive(), [])
        self.store.go(2)
        self.assertEqual(self.one.one(TaskManagementResponse).response, COMPLETE)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(other.one(DataIn).itt, theirs.itt)
        self.assertFalse(self.unit.reservation.held)
        self.assertEqual(other.do(bytes(6)).status, 0)

    def test_version(self) -> None:
        """The level is in the version descriptor of iSCSI (section 4.2)."""
        cdb = b"\x12\0\0\0\x60\0"
        for level, version in (
            ("0", 0x0960),
            ("1", 0x0961),
            ("2", 0x0962),
            ("31", 0x0962),
        ):
            one = Initiator(self.node, name=INITIATOR + level)
            one.ready(iSCSIProtocolLevel=level)
            data = one.do(cdb, read=96).data
            self.assertEqual(int.from_bytes(data[60:62], "big"), version)

    def test_reported(self) -> None:
        """The functions that there are are reported, to whom they are there for."""
        cdb = bytes((0xA3, 0x0D)) + bytes(7) + b"\x04" + bytes(2)
        self.assertEqual(self.one.do(cdb, read=4).data, b"\xfe\x07\0\0")
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertEqual(other.do(cdb, read=4).data, b"\xfa\x00\0\0")

    def test_status_qualifier(self) -> None:
        """The status qualifier is 0, whatever the priority, or what is beside it."""
        for priority in (0x0F, 0xF0):
            pdu = bytearray(self.one.encode(self.one.command(bytes(6))))
            pdu[2] = priority
            self.one.feed(bytes(pdu))
            output = self.one.target_side.take()
            self.assertEqual((output[0], output[3], output[8:10]), (0x21, 0, bytes(2)))

    def test_only_at_level_2(self) -> None:
        """Without iSCSIProtocolLevel 2 these functions are not supported."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        for function in (9, 10, 11, 12):
            one.manage(function)
            self.assertEqual(one.one(TaskManagementResponse).response, 5)


class FaultTests(SynchronousTestCase):
    """
    Faults on purpose.
    """

    def setUp(self) -> None:
        """Log in."""
        self.limits = TargetSettings()
        self.node, _target, _units = serve(memory(), limits=self.limits)
        self.one = Initiator(self.node).ready(DataDigest="CRC32C")
        (self.iscsi_target,) = self.node.targets.values()

    def set(self, **faults: Any) -> None:
        """Give the target faults, as the driver does."""
        for name, value in faults.items():
            setattr(self.limits.faults, name, value)
        self.iscsi_target.settings_changed()

    def answered(self) -> tuple[bool, bool, bool]:
        """Say whether TEST UNIT READY, a read, and a function are answered."""
        found = []
        for pdu in (
            self.one.command(bytes(6)),
            self.one.command(read10(0, 1), read=512),
        ):
            self.one.send(pdu)
            found.append(bool(self.one.receive()))
        self.one.manage(5)
        found.append(bool(self.one.receive()))
        return found[0], found[1], found[2]

    def test_black_hole(self) -> None:
        """Each kind of black hole takes what it says, and no more."""
        for hole, expected in (
            (BlackHole.COMMANDS, (False, False, True)),
            (BlackHole.COMMANDS_AND_MANAGEMENT, (False, False, False)),
            (BlackHole.DATA_COMMANDS, (True, False, True)),
            (BlackHole.DATA_COMMANDS_AND_MANAGEMENT, (True, False, False)),
            (BlackHole.NOTHING, (True, True, True)),
        ):
            self.set(black_hole=hole)
            self.assertEqual(self.answered(), expected, hole)

    def test_black_hole_lives(self) -> None:
        """Behind a black hole pings are answered, and the window stays open."""
        self.set(black_hole=BlackHole.COMMANDS)
        for _number in range(100):
            self.one.send(
                self.one.command(write10(0, 1), write=512, data=bytes(256), final=False)
            )
            self.one.send(DataOut(itt=self.one.itt, buffer_offset=256, data=bytes(256)))
        self.assertEqual(self.one.receive(), [])
        self.one.send(self.one.ping())
        nop = self.one.one(NOPIn)
        self.assertEqual(nop.exp_cmd_sn, self.one.cmd_sn)
        self.set(black_hole=BlackHole.NOTHING)
        self.one.do(bytes(6))
        self.assertEqual(self.one.do(read10(0, 1), read=512).status, 0)

    def test_digest_failures(self) -> None:
        """One in so many PDUs is taken for damaged."""
        self.set(digest_failures=10, chance=iter((0.5, 0.05, 0.5)).__next__)
        statuses = [
            self.one.do(write10(0, 1), data=bytes(512)).status for _number in range(3)
        ]
        self.assertEqual(statuses, [0, 2, 0])

    def test_header_digest_failures(self) -> None:
        """A header taken for damaged ends the connection."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready(HeaderDigest="CRC32C")
        self.set(digest_failures=1)
        one.send(one.command(bytes(6)))
        self.assertTrue(one.connection.over)

    def test_none_without_digests(self) -> None:
        """Where no digest was agreed on nothing is damaged, and nothing is watched."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertIsNone(one.connection.tapped)
        self.set(digest_failures=1)
        self.assertEqual(one.do(bytes(6)).status, 0)
        self.assertIsNone(Faults().tap(one.connection))


class LiveTests(SynchronousTestCase):
    """
    Attributes that act on the sessions there are.
    """

    def setUp(self) -> None:
        """Log in to a target of a driver."""
        defaults = {row.name: () if row.repeats else row.default for row in ATTRIBUTES}
        self.clock = Clock()
        self.driver = ISCSIDriver(self.clock, {**defaults, "enabled": True})
        self.store = ManualStore()
        _node, target, _units = serve(self.store)
        self.driver.node.add_target(target, TargetSettings(queued_commands=4))
        self.name = target.name
        self.one = Initiator(self.driver.node).ready()
        (self.session,) = self.driver.sessions()

    def window(self) -> int:
        """Return how many commands may be sent, as a ping's answer says."""
        self.one.send(self.one.ping())
        nop = self.one.receive()[-1]
        return int(nop.max_cmd_sn - nop.exp_cmd_sn + 1)

    def test_queued_commands(self) -> None:
        """QueuedCommands widens the window at once, and narrows it as commands end."""
        self.assertEqual(self.window(), 4)
        self.driver.set_attribute(self.name, "QueuedCommands", 10)
        self.assertEqual(self.window(), 10)
        for _number in range(10):
            self.one.send(self.one.command(read10(0, 1), read=512))
        self.driver.set_attribute(self.name, "QueuedCommands", 2)
        self.assertEqual(self.window(), 0)
        self.store.go(8)
        self.assertEqual(self.window(), 0)
        self.store.go(2)
        self.assertEqual(self.window(), 2)

    def test_timers(self) -> None:
        """RspTimeout, NopInInterval and NopInTimeout act on running sessions."""
        timers = self.one.connection.timers
        for name, field in (
            ("RspTimeout", "response"),
            ("NopInInterval", "nop_in_interval"),
            ("NopInTimeout", "nop_in_timeout"),
        ):
            self.driver.set_attribute(self.name, name, 7.0)
            self.assertEqual(getattr(timers, field), 7.0)
        self.one.connection.tick(8)
        self.one.one(NOPIn)
        self.one.connection.tick(16)
        self.assertTrue(self.one.connection.over)

    def test_negotiated(self) -> None:
        """What is negotiated acts on the next login."""
        self.driver.set_attribute(self.name, "ErrorRecoveryLevel", 2)
        self.driver.set_attribute(self.name, "MaxConnections", 8)
        self.assertEqual(self.one.connection.parameters.error_recovery_level, 0)
        other = Initiator(self.driver.node, name=INITIATOR + "2")
        other.login(ErrorRecoveryLevel="2", MaxConnections="16")
        self.assertEqual(other.keys["ErrorRecoveryLevel"], "2")
        self.assertEqual(other.keys["MaxConnections"], "8")

    def test_faults(self) -> None:
        """black_hole and DigestFailures act at once, and are read back."""
        self.driver.set_attribute(self.name, "black_hole", 1)
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.one.receive(), [])
        found = self.driver.attributes_of(self.name)
        self.assertEqual((found["black_hole"], found["DigestFailures"]), (1, 0))

    def test_faults_of_a_group(self) -> None:
        """A group's faults are those of its sessions, when set, and no others'."""
        target = self.driver.node.targets[self.name].target
        group = target.add_group("g", [INITIATOR + "2"])
        group.luns.update(target.luns)
        other = Initiator(self.driver.node, name=INITIATOR + "2").ready()
        group.values["black_hole"] = BlackHole.COMMANDS
        self.driver.group_changed(self.name)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        other.send(other.command(bytes(6)))
        self.assertEqual(other.receive(), [])
        # 0 is a value, too: this group is spared.
        self.driver.set_attribute(self.name, "black_hole", BlackHole.COMMANDS)
        group.values["black_hole"] = BlackHole.NOTHING
        self.driver.group_changed(self.name)
        self.assertEqual(other.do(bytes(6)).status, 0)
        self.assertIsNone(other.connection.tapped)
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.one.receive(), [])
        # Not set: as the target does.
        del group.values["black_hole"]
        self.driver.group_changed(self.name)
        other.send(other.command(bytes(6)))
        self.assertEqual(other.receive(), [])

    def test_faults_of_another_group(self) -> None:
        """A session that comes into a group, or leaves one, has its faults at once."""
        target = self.driver.node.targets[self.name].target
        group = target.add_group("g", [])
        group.luns.update(target.luns)
        group.values["DigestFailures"] = 3
        group.values["black_hole"] = BlackHole.COMMANDS
        self.assertIsNone(self.one.connection.tapped)
        target.set_patterns(group, [INITIATOR])
        self.assertEqual(self.session.faults.digest_failures, 3)
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.one.receive(), [])
        target.remove_group(group)
        self.assertIsNone(self.one.connection.tapped)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_stop(self) -> None:
        """Stopping ends sessions that were to be retained, when their tasks are gone."""
        self.driver.set_attribute(self.name, "DefaultTime2Retain", 60)
        other = Initiator(self.driver.node, name=INITIATOR + "2")
        other.login(DefaultTime2Retain="60")
        self.one.send(self.one.command(read10(0, 1), read=512))
        other.connection.disconnected()
        self.assertEqual(len(self.driver.sessions()), 2)
        stopped = self.driver.stop()
        self.clock.advance(1)
        self.assertNoResult(stopped)
        self.store.go()
        # The command that was under way has its answer.
        self.assertEqual(len(self.one.receive()), 1)
        self.clock.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.driver.sessions(), [])

    def test_stop_in_time(self) -> None:
        """A command that does not end is aborted then; its store is still waited for."""
        self.one.send(self.one.command(read10(0, 1), read=512))
        stopped = self.driver.stop()
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.clock.pump([0.02] * (int(DRAIN_TIME / 0.02) + 2))
        self.assertTrue(self.one.connection.over)
        self.assertNoResult(stopped)
        self.store.go()
        self.clock.advance(1)
        self.successResultOf(stopped)
        # It hears that its session is gone, and nothing of the command.
        (said,) = self.one.receive()
        self.assertEqual(said.first, 0x32)


class BoundTests(SynchronousTestCase):
    """
    What a session may make us keep is bounded; the refusal is the protocol's own.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.node, _target, _units = serve(self.store)
        self.one = Initiator(self.node).ready(InitialR2T="No")
        (self.session,) = self.node.sessions()

    def test_immediate_functions(self) -> None:
        """Functions that wait for commands count as immediate ones in progress."""
        self.one.cmd_sn += 1
        for _number in range(IMMEDIATE_LIMIT + 1):
            self.one.send(
                TaskManagementRequest(
                    first=0x02 | IMMEDIATE,
                    flags=FINAL | 2,
                    itt=self.one.next_itt(),
                    cmd_sn=self.one.cmd_sn,
                )
            )
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
        self.one.connection.disconnected()
        self.assertEqual(self.session.ordering.immediate, 0)

    def test_held(self) -> None:
        """No more commands wait for their turn than the window has room for."""
        self.one.cmd_sn += 1
        for _number in range(100):
            self.one.send(self.one.command(read10(0, 1), read=512))
        self.assertEqual(len(self.session.ordering.held), 31)
        self.assertEqual(self.one.receive(), [])

    def test_abandoned(self) -> None:
        """Aborted writes whose data never comes are forgotten at last."""
        for _number in range(1100):
            pdu = self.one.command(write10(0, 8), write=4096, final=False)
            self.one.send(pdu)
            self.one.manage(1, tag=pdu.itt)
            self.one.one(TaskManagementResponse)
        self.assertEqual(len(self.session.writes.abandoned), 1024)
        self.assertEqual(self.session.writes.held_bytes, 0)

    def test_digest_of_data_out(self) -> None:
        """At level 0 Data-Out with a wrong data digest is rejected, and ends its command
        alone.
        """
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready(DataDigest="CRC32C")
        pdu = one.command(write10(0, 2), write=1024)
        one.send(pdu)
        r2t = one.receive()[0]
        (data,) = one.data_out(r2t, bytes(1024))
        one.feed(corrupted(one.encode(data), 70))
        reject, response = one.receive()
        self.assertEqual(reject.reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertEqual((response.itt, response.status), (pdu.itt, 2))
        self.assertEqual(bytes(response.data)[14:16], b"\x47\x05")
        self.assertEqual(one.do(bytes(6)).status, 0)
