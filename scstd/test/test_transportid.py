# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.transport`, and for what names other I_T nexuses: SPEC_I_PT and
ALL_TG_PT.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult, read10
from scstd.initiator.reservations import (
    ABORT,
    ALL_TG_PT,
    APTPL,
    CLEAR,
    CONFLICT,
    IGNORE,
    LENGTH,
    PARAMETER,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    SPEC_I_PT,
    UNREGISTERED,
    out_cdb,
    parameters,
    transport_id,
)
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.engine.transport import ISCSI
from scstd.scsi.device import open_disk
from scstd.scsi.sense import CheckCondition
from scstd.scsi.settings import UnitSettings
from scstd.scsi.target import Target
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.reserving import Registered, Registrant, identifier, port, registrant
from scstd.test.stores import memory


class SpecifiedTests(Registered):
    """
    SPEC_I_PT and ALL_TG_PT.
    """

    def setUp(self) -> None:
        """Show the unit at a second target too."""
        super().setUp()
        other = Target(TARGET + "2", relative_port=2)
        other.add_lun(0, self.unit)
        self.node.add_target(other, TargetSettings())

    def specify(self, *ports: bytes, flags: int = 0) -> CommandResult:
        """Have the guest register itself and others with key 3."""
        return self.guest.out(REGISTER, 0, 3, flags=SPEC_I_PT | flags, ports=ports)

    def test_ports(self) -> None:
        """Ports are registered that nobody has seen; names are compared without case."""
        upper = "IQN.2026-11.ORG.SCSTD:INITIATOR4"
        done = self.specify(transport_id(upper, b"\x80\0\0\0\0\4"))
        self.assertEqual(done.status, 0)
        self.assertEqual(self.one.registered(), [1, 2, 3, 3])
        self.guest.out(RESERVE, 3, kind=6)
        four = registrant(self.node, 4)
        self.assertEqual(four.do(read10(0, 1), read=512).status, 0)
        self.assertEqual(self.one.full()[3].port, port(4))

    def test_device(self) -> None:
        """A TransportID of a device stands for all its ports that are known."""
        four = registrant(self.node, 4)
        nine = type(four)(self.node, name=four.name, isid=b"\x80\0\0\0\0\t")
        nine.ready()
        done = self.specify(transport_id(four.name, None))
        self.assertEqual(done.status, 0)
        found = {one.port for one in self.one.full() if one.key == 3}
        self.assertEqual(found, {port(3), port(4), f"{INITIATOR}4,i,0x800000000009"})
        self.refuse(self.one.out(REGISTER, 1, 1, flags=SPEC_I_PT, ports=()), PARAMETER)

    def test_device_unknown(self) -> None:
        """One of which no port is known is refused: nobody would be registered."""
        self.refuse(self.specify(transport_id(INITIATOR + "77", None)), PARAMETER)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_registered_already(self) -> None:
        """If one that is specified is registered, none is."""
        ports = [transport_id(INITIATOR + "5"), transport_id(INITIATOR + "1")]
        self.refuse(self.specify(*ports), PARAMETER)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_by_a_registrant(self) -> None:
        """Only who is not registered may specify others."""
        data = parameters(1, 1, SPEC_I_PT, transport_id(INITIATOR + "5"))
        done = self.one.do(out_cdb(REGISTER, 0, len(data)), data=data)
        self.refuse(done, PARAMETER)
        self.assertEqual(done.sense[15:18], b"\x8b\0\x14")  # byte 20, bit 3

    def test_only_register(self) -> None:
        """SPEC_I_PT with any other service action is refused."""
        for action in (RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE):
            done = self.one.out(action, 1, 3, kind=1, flags=SPEC_I_PT)
            self.refuse(done, PARAMETER)
            self.assertEqual(done.sense[15:18], b"\x8b\0\x14")  # byte 20, bit 3

    def test_malformed(self) -> None:
        """A list that is cut off, or no list of iSCSI TransportIDs, registers nobody."""
        good = transport_id(INITIATOR + "5", b"\x80\0\0\0\0\5")
        for ports in (
            good[:-4],
            good + good[:4],
            b"\x46" + good[1:],
            b"\x85" + good[1:],
            good.replace(b",i,0x", b",i;0x"),
            good.replace(b"0x80", b"0xg0"),
            good.replace(b"iqn", b"\xff\xfe\xfd"),
            b"\x45\0\0\x10" + b"iqn.a,i,0x1" + bytes(5),
            b"\x45\0\0\x14" + b"iqn.a,i,0x8000000000",
            b"\x45\0\0\x1c" + b"iqn.a,i,0x80000000000a\0\0",
            b"\x05" + good[1:],
        ):
            self.refuse(self.specify(ports), PARAMETER)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_longer_than_the_list(self) -> None:
        """A TRANSPORTID PARAMETER DATA LENGTH beyond the list registers nobody."""
        data = bytearray(parameters(0, 3, SPEC_I_PT, transport_id(INITIATOR + "5")))
        data[27] += 4
        cdb = out_cdb(REGISTER, 0, len(data))
        self.refuse(self.guest.do(cdb, data=bytes(data)), PARAMETER)
        cdb = out_cdb(REGISTER, 0, 24)
        self.refuse(self.guest.do(cdb, data=bytes(data[:24])), LENGTH)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_all_target_ports(self) -> None:
        """ALL_TG_PT registers at every target port, as if asked for at each."""
        self.guest.register(3, flags=ALL_TG_PT)
        there = registrant(self.node, 3, TARGET + "2")
        self.assertEqual(
            [(one.port, one.relative_port) for one in self.one.full()[2:]],
            [(port(3), 1), (port(3), 2)],
        )
        self.assertEqual(there.out(RESERVE, 3, kind=3).status, 0)
        self.assertEqual(self.guest.do(read10(0, 1), read=512).status, CONFLICT)
        # The key at the other port is checked too.
        self.assertEqual(there.out(REGISTER, 3, 33).status, 0)
        self.assertEqual(
            self.guest.out(REGISTER, 3, 4, flags=ALL_TG_PT).status, CONFLICT
        )
        self.assertEqual(self.guest.out(IGNORE, 0, 0, flags=ALL_TG_PT).status, 0)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 2], None)
        )

    def test_one_target_port(self) -> None:
        """Without ALL_TG_PT a registration is good at one target port."""
        self.one.out(RESERVE, 1, kind=6)
        there = registrant(self.node, 1, TARGET + "2")
        self.assertEqual(there.do(read10(0, 1), read=512).status, CONFLICT)

    def test_both(self) -> None:
        """SPEC_I_PT with ALL_TG_PT is every port at every port."""
        done = self.specify(
            transport_id(INITIATOR + "4", b"\x80\0\0\0\0\4"), flags=ALL_TG_PT
        )
        self.assertEqual(done.status, 0)
        found = {(one.port, one.relative_port) for one in self.one.full()[2:]}
        self.assertEqual(found, {(port(n), at) for n in (3, 4) for at in (1, 2)})


class TransportIDTests(SynchronousTestCase):
    """
    TransportIDs by themselves.
    """

    def test_there_and_back(self) -> None:
        """Whatever the length of a name, it is padded, and comes back."""
        for length in (*range(1, 30), 222, 223):
            for name in ("n" * length, "n" * length + ",i,0x80000000000a"):
                data = ISCSI.transport_id(name)
                self.assertEqual(len(data) % 4, 0)
                self.assertGreaterEqual(len(data), 24)
                self.assertEqual(int.from_bytes(data[2:4], "big"), len(data) - 4)
                self.assertEqual(data[-1], 0)
                around = b"\xff" * 3 + data + b"\xff"
                end = 3 + len(data)
                self.assertEqual(ISCSI.parse_transport_id(around, 3, end), (name, end))

    def test_bytes(self) -> None:
        """The two formats, byte by byte."""
        self.assertEqual(
            ISCSI.transport_id("iqn.a,i,0x80000000000a"),
            b"\x45\0\0\x18iqn.a,i,0x80000000000a\0\0",
        )
        self.assertEqual(
            ISCSI.transport_id("iqn.a"), b"\x05\0\0\x14iqn.a".ljust(24, b"\0")
        )

    def test_short_isid(self) -> None:
        """The digits of an ISID may lack zeros in front, and have letters' case."""
        data = b"\x45\0\0\x14iqn.A,i,0xAB".ljust(24, b"\0")
        self.assertEqual(
            ISCSI.parse_transport_id(data, 0, 24)[0], "iqn.a,i,0x0000000000ab"
        )

    def test_behind_the_end(self) -> None:
        """What follows the first NUL means nothing."""
        data = b"\x05\0\0\x14iqn.a\0,i,0x1".ljust(24, b"\0")
        self.assertEqual(ISCSI.parse_transport_id(data, 0, 24)[0], "iqn.a")

    def test_too_long(self) -> None:
        """A name is no longer than iSCSI's are."""
        data = ISCSI.transport_id("n" * 224)
        self.assertRaises(CheckCondition, ISCSI.parse_transport_id, data, 0, len(data))


class IgnoredISIDTests(SynchronousTestCase):
    """
    With pr_ignore_isid registrations belong to initiators' names: for those that log in
    with another ISID each time, and would not find their registration.
    """

    def setUp(self) -> None:
        """Register one, which reserves."""
        self.node, _target, (self.unit,) = serve(memory(), pr_ignore_isid=True)
        self.one = registrant(self.node, 1).register(1)
        self.two = registrant(self.node, 2)
        self.one.out(RESERVE, 1, kind=3)

    def other_isid(self, isid: bytes) -> Registrant:
        """Log the first in with another ISID."""
        again = Registrant(self.node, name=self.one.name.upper(), isid=isid)
        again.ready()
        return again

    def test_new_isid_keeps_key(self) -> None:
        """A new ISID finds the registration and the reservation."""
        self.one.logout()
        self.assertEqual(self.two.do(read10(0, 1), read=512).status, CONFLICT)
        again = self.other_isid(b"\x80\0\0\0\0\t")
        self.assertEqual(again.do(read10(0, 1), read=512).status, 0)
        self.assertEqual(again.out(RELEASE, 1, kind=3).status, 0)

    def test_named_by_device(self) -> None:
        """READ FULL STATUS names the initiator device, not a port."""
        self.assertEqual([one.port for one in self.two.full()], [self.one.name])

    def test_specified(self) -> None:
        """Ports that are specified stand for their initiators."""
        ports = (identifier(3), identifier(2), transport_id(INITIATOR + "4", None))
        done = self.two.out(REGISTER, 0, 2, flags=SPEC_I_PT, ports=ports)
        self.assertEqual(done.status, 0)
        self.assertEqual(
            [one.port for one in self.one.full()],
            [INITIATOR + str(number) for number in (1, 2, 3, 4)],
        )
        self.assertEqual(self.one.move(1, 9, identifier(5)).status, 0)
        self.assertEqual(self.two.reservation(), (9, 3))

    def test_preempted(self) -> None:
        """All sessions of one who is preempted are told."""
        other = self.other_isid(b"\x80\0\0\0\0\t")
        self.two.register(2)
        self.assertEqual(self.two.out(PREEMPT, 2, 1, kind=3).status, 0)
        self.assertEqual(self.one.told(), [UNREGISTERED])
        self.assertEqual(other.told(), [UNREGISTERED])

    def test_turned_on(self) -> None:
        """What was kept of ports before is their initiators' then."""
        kept = Volatile(durable=True)
        unit = open_disk("disk", memory(), memory=kept)
        target = Target(TARGET)
        target.add_lun(0, unit)
        node = Node()
        node.add_target(target, TargetSettings())
        registrant(node, 1).register(1, flags=APTPL).out(RESERVE, 1, kind=1)
        unit = open_disk("disk", memory(), UnitSettings(registered_by_name=True), kept)
        self.assertEqual(unit.reservation.persistent.holder, (INITIATOR + "1", TARGET))
        self.assertTrue(unit.reservation.persistent.consistent)
