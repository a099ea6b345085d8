# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.persistent`, `spc.prin`, `spc.prout` and `spc.prout_actions`:
persistent reservations on the wire, service action by service action.
"""

from __future__ import annotations

import json
import random
import struct

import attrs
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.initiator.reservations import (
    ABORT,
    ALL_TG_PT,
    APTPL,
    CLEAR,
    CONFLICT,
    FIELD,
    IGNORE,
    LENGTH,
    MOVE,
    PARAMETER,
    PREEMPT,
    PREEMPTED,
    REGISTER,
    RELEASE,
    RELEASED,
    RESERVE,
    SPEC_I_PT,
    TYPES,
    FullStatus,
    in_cdb,
    moving,
    out_cdb,
    parameters,
    transport_id,
)
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.persistent import ReservationState
from scstd.scsi.spc import prout_actions
from scstd.test.initiator import INITIATOR, serve
from scstd.test.reserving import Registered, Registrant, identifier, port, registrant
from scstd.test.stores import memory


class RegisterTests(Registered):
    """
    REGISTER, and REGISTER AND IGNORE EXISTING KEY.
    """

    def test_keys(self) -> None:
        """Keys are listed in the order of registration, equal ones too."""
        self.guest.register(1)
        self.assertEqual(self.one.registered(), [1, 2, 1])

    def test_wrong_key(self) -> None:
        """A REGISTER with another key than one's own is a conflict."""
        self.assertEqual(self.one.out(REGISTER, 2, 5).status, CONFLICT)
        self.assertEqual(self.guest.out(REGISTER, 1, 5).status, CONFLICT)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_change(self) -> None:
        """A key is changed with the old one, or whatever it is; the holder stays it."""
        self.one.out(RESERVE, 1, kind=1)
        self.assertEqual(self.one.out(REGISTER, 1, 11).status, 0)
        self.assertEqual(self.one.reservation(), (11, 1))
        self.assertEqual(self.one.out(IGNORE, 99, 12).status, 0)
        self.assertEqual(self.one.registered(), [12, 2])

    def test_nothing(self) -> None:
        """A key of 0 from one who is not registered does nothing, and is GOOD."""
        before = self.one.generation()
        self.assertEqual(self.guest.out(REGISTER, 0, 0).status, 0)
        self.assertEqual(self.guest.out(IGNORE, 7, 0).status, 0)
        self.assertEqual(
            (self.one.registered(), self.one.generation()), ([1, 2], before)
        )

    def test_generation(self) -> None:
        """PRgeneration counts what changes registrations, and nothing else."""
        for done, counts in (
            (lambda: self.guest.out(REGISTER, 0, 3), 1),
            (lambda: self.guest.out(IGNORE, 0, 3), 1),
            (lambda: self.one.out(RESERVE, 1, kind=5), 0),
            (
                lambda: self.one.move(
                    1, 2, transport_id(INITIATOR + "2", b"\x80\0\0\0\0\2")
                ),
                1,
            ),
            (lambda: self.two.out(RELEASE, 2, kind=5), 0),
            (lambda: self.one.out(PREEMPT, 1, 3), 1),
            (lambda: self.one.out(ABORT, 1, 2), 1),
            (lambda: self.one.out(CLEAR, 1), 1),
        ):
            before = self.one.generation()
            self.assertEqual(done().status, 0)
            self.one.told()
            self.assertEqual(self.one.generation(), before + counts)
        before = self.one.generation()
        self.assertEqual(self.one.out(CLEAR, 1).status, CONFLICT)
        self.assertEqual(self.one.generation(), before)

    def test_unregister_holder(self) -> None:
        """
        The reservation goes with its holder; who asked is not told (tgt told him), the
        others are if it was for registrants.
        """
        for kind, told in ((1, []), (3, []), (5, [RELEASED]), (6, [RELEASED])):
            self.one.register(1)
            self.one.out(RESERVE, 1, kind=kind)
            self.assertEqual(self.one.out(REGISTER, 1, 0).status, 0)
            self.assertIsNone(self.one.reservation())
            self.assertEqual(self.one.told(), [])
            self.assertEqual(self.two.told(), told)
            self.assertEqual(self.guest.told(), [])

    def test_unregister_all_registrants(self) -> None:
        """What all registrants hold stays until the last one is gone."""
        for kind in (7, 8):
            self.one.register(1)
            self.two.register(2)
            self.one.out(RESERVE, 1, kind=kind)
            self.one.out(REGISTER, 1, 0)
            self.assertEqual(self.guest.reservation(), (0, kind))
            self.assertEqual(self.two.do(write10(0, 1), data=bytes(512)).status, 0)
            self.assertEqual(
                self.one.do(write10(0, 1), data=bytes(512)).status, CONFLICT
            )
            self.two.out(REGISTER, 2, 0)
            self.assertIsNone(self.guest.reservation())
            self.assertEqual((self.one.told(), self.two.told()), ([], []))

    def test_lost_and_found(self) -> None:
        """A session that logs in again with its ISID finds its registration."""
        self.one.out(RESERVE, 1, kind=3)
        self.one.logout()
        self.assertEqual(self.two.reservation(), (1, 3))
        self.assertEqual(self.two.do(read10(0, 1), read=512).status, CONFLICT)
        again = registrant(self.node, 1)
        self.assertEqual(again.do(read10(0, 1), read=512).status, 0)
        self.assertEqual(again.out(RELEASE, 1, kind=3).status, 0)

    def test_other_isid(self) -> None:
        """Another ISID is another initiator port: it is not registered."""
        self.one.out(RESERVE, 1, kind=5)
        other = type(self.one)(self.node, name=INITIATOR + "1", isid=b"\x80\0\0\0\0\t")
        other.login()
        self.assertEqual(other.told(), [0x2900])
        self.assertEqual(other.do(write10(0, 1), data=bytes(512)).status, CONFLICT)

    def test_reset(self) -> None:
        """A logical unit reset changes nothing about it."""
        self.one.out(RESERVE, 1, kind=6)
        self.guest.manage(5)
        self.guest.receive()
        self.assertEqual(self.two.told(), [0x2903])
        self.assertEqual(self.two.reservation(), (1, 6))
        self.assertEqual(self.two.registered(), [1, 2])

    def test_too_many(self) -> None:
        """Registrations are limited."""
        self.patch(prout_actions, "MOST_REGISTRATIONS", 2)
        self.refuse(self.guest.out(REGISTER, 0, 3), 0x5504)
        self.assertEqual(self.two.out(REGISTER, 2, 22).status, 0)


class ReserveTests(Registered):
    """
    RESERVE, RELEASE and CLEAR.
    """

    def test_unregistered(self) -> None:
        """Whoever is not registered, or has another key, gets a conflict."""
        for action in (RESERVE, RELEASE, CLEAR, PREEMPT, ABORT):
            for who, key in ((self.guest, 0), (self.guest, 1), (self.one, 2)):
                done = who.out(action, key, 1, kind=1)
                self.assertEqual(done.status, CONFLICT)
        self.assertEqual(self.guest.move(0, 1, transport_id("iqn.x")).status, CONFLICT)

    def test_again(self) -> None:
        """The same again is GOOD, another type or another's is a conflict."""
        for kind in TYPES:
            self.assertEqual(self.one.out(RESERVE, 1, kind=kind).status, 0)
            self.assertEqual(self.one.out(RESERVE, 1, kind=kind).status, 0)
            other = 1 if kind != 1 else 3
            self.assertEqual(self.one.out(RESERVE, 1, kind=other).status, CONFLICT)
            status = 0 if kind in {7, 8} else CONFLICT
            self.assertEqual(self.two.out(RESERVE, 2, kind=kind).status, status)
            self.assertEqual(self.one.reservation(), (0 if kind > 6 else 1, kind))
            self.assertEqual(self.one.out(RELEASE, 1, kind=kind).status, 0)
            self.two.told()

    def test_bad_type_and_scope(self) -> None:
        """Types that there are not, and scopes, are refused with their place."""
        for kind in {*range(16)} - {*TYPES}:
            done = self.one.out(RESERVE, 1, kind=kind)
            self.refuse(done, FIELD)
            self.assertEqual(done.sense[15:18], b"\xcb\0\2")
        done = self.one.do(out_cdb(RESERVE, 1, scope=1), data=parameters(1, 0))
        self.refuse(done, FIELD)
        self.assertEqual(done.sense[15:18], b"\xcf\0\2")

    def test_ignored_type_and_scope(self) -> None:
        """Where type and scope mean nothing they are ignored."""
        for action, key in ((REGISTER, 1), (IGNORE, 1), (CLEAR, 1)):
            cdb = out_cdb(action, 15, scope=15)
            self.assertEqual(self.one.do(cdb, data=parameters(key, 1)).status, 0)

    def test_release(self) -> None:
        """Others' RELEASE is GOOD and does nothing; registrants are told."""
        for kind in TYPES:
            self.assertEqual(self.one.out(RELEASE, 1, kind=kind).status, 0)
            self.one.out(RESERVE, 1, kind=kind)
            if kind < 7:
                self.assertEqual(self.two.out(RELEASE, 2, kind=kind).status, 0)
                self.assertEqual(self.two.reservation(), (1, kind))
            self.assertEqual(self.one.out(RELEASE, 1, kind=kind).status, 0)
            self.assertIsNone(self.guest.reservation())
            self.assertEqual(self.two.told(), [RELEASED] if kind > 4 else [])
            self.assertEqual((self.one.told(), self.guest.told()), ([], []))
        self.assertEqual(self.two.registered(), [1, 2])

    def test_release_by_any_holder(self) -> None:
        """What all registrants hold any of them releases."""
        self.one.out(RESERVE, 1, kind=8)
        self.assertEqual(self.two.out(RELEASE, 2, kind=8).status, 0)
        self.assertIsNone(self.two.reservation())
        self.assertEqual(self.one.told(), [RELEASED])

    def test_release_of_another_type(self) -> None:
        """The holder has to name what it releases."""
        self.one.out(RESERVE, 1, kind=5)
        self.refuse(self.one.out(RELEASE, 1, kind=6), 0x2604)
        done = self.one.do(out_cdb(RELEASE, 5, scope=2), data=parameters(1, 0))
        self.refuse(done, 0x2604)
        self.assertEqual(self.one.reservation(), (1, 5))

    def test_clear(self) -> None:
        """CLEAR, by whoever is registered, takes everything; registrants are told."""
        self.one.out(RESERVE, 1, kind=1)
        self.assertEqual(self.two.out(CLEAR, 2).status, 0)
        self.assertEqual((self.two.registered(), self.two.reservation()), ([], None))
        self.assertEqual(self.one.told(), [PREEMPTED])
        self.assertEqual((self.two.told(), self.guest.told()), ([], []))


class MoveTests(Registered):
    """
    REGISTER AND MOVE.
    """

    THREE = transport_id(INITIATOR + "3", b"\x80\0\0\0\0\3")

    def test_move(self) -> None:
        """The reservation goes to the one named, with its key; nobody is told."""
        self.one.out(RESERVE, 1, kind=3)
        self.assertEqual(self.one.move(1, 33, self.THREE).status, 0)
        self.assertEqual(self.one.registered(), [1, 2, 33])
        self.assertEqual(self.one.reservation(), (33, 3))
        self.assertEqual(self.guest.do(read10(0, 1), read=512).status, 0)
        self.assertEqual(self.one.do(read10(0, 1), read=512).status, CONFLICT)
        self.assertEqual((self.one.told(), self.two.told()), ([], []))

    def test_unregister(self) -> None:
        """With UNREG the one who moves it is registered no more."""
        self.one.out(RESERVE, 1, kind=5)
        self.assertEqual(self.one.move(1, 33, self.THREE, flags=2).status, 0)
        self.assertEqual(self.guest.registered(), [2, 33])
        self.assertEqual(self.guest.reservation(), (33, 5))

    def test_registered(self) -> None:
        """One who is registered gets the new key."""
        self.one.out(RESERVE, 1, kind=1)
        two = transport_id(INITIATOR + "2", b"\x80\0\0\0\0\2")
        self.assertEqual(self.one.move(1, 22, two).status, 0)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 22], (22, 1))
        )

    def test_device(self) -> None:
        """A device is good enough if just one of its ports is known."""
        self.one.out(RESERVE, 1, kind=1)
        device = transport_id(INITIATOR + "3", None)
        self.assertEqual(self.one.move(1, 33, device).status, 0)
        self.assertEqual(self.guest.reservation(), (33, 1))

    def test_conflicts(self) -> None:
        """Only the holder, by itself, may move what it holds."""
        self.one.out(RESERVE, 1, kind=1)
        self.assertEqual(self.two.move(2, 33, self.THREE).status, CONFLICT)
        self.assertEqual(self.one.move(2, 33, self.THREE).status, CONFLICT)
        self.assertEqual(self.guest.move(0, 33, self.THREE).status, CONFLICT)
        self.one.out(RELEASE, 1, kind=1)
        self.refuse(self.one.move(1, 33, self.THREE), FIELD)
        self.one.out(RESERVE, 1, kind=8)
        self.assertEqual(self.one.move(1, 33, self.THREE).status, CONFLICT)

    def test_refused(self) -> None:
        """To nobody, to itself, without a key, through a port that is not: refused."""
        self.one.out(RESERVE, 1, kind=1)
        mine = transport_id(INITIATOR + "1", b"\x80\0\0\0\0\1")
        self.refuse(self.one.move(1, 0, self.THREE), PARAMETER)
        self.refuse(self.one.move(1, 33, mine), PARAMETER)
        self.refuse(self.one.move(1, 33, self.THREE, relative=9), PARAMETER)
        self.refuse(self.one.move(1, 33, self.THREE * 2), PARAMETER)
        self.refuse(self.one.move(1, 33, self.THREE[:-4]), PARAMETER)
        self.refuse(self.one.move(1, 33, b""), PARAMETER)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 2], (1, 1))
        )


class ParameterListTests(Registered):
    """
    Lengths of the parameter list.
    """

    def test_lengths(self) -> None:
        """24 bytes, neither more nor less; nothing happens otherwise."""
        for action in (REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, IGNORE):
            for length in (0, 1, 23, 25, 28, 65536, 65537, 1 << 31):
                sent = min(length, 65536)
                data = parameters(1, 5).ljust(sent, b"\0")[:sent]
                self.refuse(self.one.do(out_cdb(action, 1, length), data=data), LENGTH)
        self.assertEqual(self.one.registered(), [1, 2])

    def test_too_long(self) -> None:
        """A list longer than any is refused before any of its data is asked for."""
        pdu = self.one.command(
            out_cdb(REGISTER, 0, 1 << 31), write=1 << 31, data=parameters(1, 5)
        )
        self.one.send(pdu)
        done = self.one.one(SCSIResponse)
        self.assertEqual(bytes(done.data)[14:16], b"\x1a\0")

    def test_less_data(self) -> None:
        """Less data than the CDB says is a wrong list."""
        done = self.one.do(out_cdb(REGISTER), data=parameters(1, 5)[:16])
        self.refuse(done, LENGTH)

    def test_move(self) -> None:
        """REGISTER AND MOVE without its list is refused."""
        self.one.out(RESERVE, 1, kind=1)
        done = self.one.do(out_cdb(MOVE, 0, 20), data=bytes(20))
        self.refuse(done, LENGTH)

    def test_unknown_actions(self) -> None:
        """Service actions that there are not are refused."""
        for action in range(8, 32):
            self.refuse(self.one.do(out_cdb(action), data=bytes(24)), FIELD)
        for action in range(4, 32):
            self.refuse(self.one.do(in_cdb(action), read=8192), FIELD)


class InTests(Registered):
    """
    PERSISTENT RESERVE IN.
    """

    def test_full_status(self) -> None:
        """Each nexus with its TransportID, the holder marked."""
        self.one.out(RESERVE, 1, kind=5)
        self.assertEqual(
            self.guest.full(),
            [FullStatus(1, True, 5, 1, port(1)), FullStatus(2, False, 0, 1, port(2))],
        )
        data = self.guest.do(in_cdb(3), read=8192).data
        (length,) = struct.unpack_from(">I", data, 28)
        identifier = data[32 : 32 + length]
        self.assertEqual(identifier, transport_id(INITIATOR + "1", b"\x80\0\0\0\0\1"))
        self.assertEqual(length % 4, 0)

    def test_full_status_all_registrants(self) -> None:
        """Where all hold it, all are marked."""
        self.one.out(RESERVE, 1, kind=8)
        self.assertEqual(
            [(one.holds, one.type) for one in self.guest.full()], [(True, 8)] * 2
        )

    def test_capabilities(self) -> None:
        """What can be done is told, and whether APTPL is active."""
        self.unit.memory = Volatile(durable=True)
        said = self.guest.do(in_cdb(2), read=8).data
        self.assertEqual(said.hex(), "00081dc0ea010000")
        self.one.register(1, flags=APTPL)
        self.assertEqual(self.guest.do(in_cdb(2), read=8).data[3], 0xC1)
        self.two.register(2)
        self.assertEqual(self.guest.do(in_cdb(2), read=8).data[3], 0xC0)

    def test_allocation_length(self) -> None:
        """Data is cut to the allocation length; lengths inside say the whole."""
        for action in range(4):
            whole = self.one.do(in_cdb(action), read=8192).data
            for length in (0, 1, 7, 8, 9, 24):
                data = self.one.do(in_cdb(action, length), read=length).data
                self.assertEqual(data, whole[:length])


class RandomTests(SynchronousTestCase):
    """
    Anything at all, thousands of times: what always holds.
    """

    def setUp(self) -> None:
        """Log in three initiators; choose a seed."""
        self.node, _target, (self.unit,) = serve(memory())
        self.unit.memory = Volatile(durable=True)
        self.initiators = [registrant(self.node, number) for number in (1, 2, 3)]
        self.seed = random.SystemRandom().randrange(1 << 32)
        self.chance = random.Random(self.seed)

    def check(self, asked: Registrant, done: CommandResult) -> None:
        """See what has to hold after any command."""
        self.assertIn(done.status, (0, 2, CONFLICT), self.seed)
        if done.status == 2:
            self.assertIn(done.key, (5, 6), self.seed)
        state = self.unit.reservation.persistent
        self.assertTrue(state.consistent, self.seed)
        kept = json.loads(json.dumps(state.remembered()))
        self.assertEqual(kept, self.unit.memory.load().get("persistent"), self.seed)
        if kept is not None:
            self.assertEqual(
                ReservationState.restored(kept),
                attrs.evolve(state, generation=0),
                self.seed,
            )
        session = asked.connection.session
        assert session is not None
        self.assertEqual(session.nexus.itls[0].attentions, [], self.seed)

    def test_any_request(self) -> None:
        """
        Requests of every kind keep the state consistent, as it is kept, and never leave
        a unit attention with the one who asked.
        """
        chance = self.chance
        good = 0
        for _number in range(3000):
            one = chance.choice(self.initiators)
            one.told()
            action = chance.randrange(8)
            keys = chance.choices((0, 1, 2, 3), k=2)
            flags = chance.choice((0, 0, APTPL, ALL_TG_PT, SPEC_I_PT, SPEC_I_PT | 1))
            kind = chance.choice((*TYPES, 0, 15))
            ports = [identifier(chance.randrange(1, 5))]
            if action == MOVE:
                done = one.move(keys[0], keys[1], ports[0], flags=chance.randrange(4))
            else:
                given = ports if flags & SPEC_I_PT else ()
                done = one.out(action, *keys, kind=kind, flags=flags, ports=given)
            good += done.status == 0
            self.check(one, done)
        self.assertGreater(good, 300)

    def test_any_bytes(self) -> None:
        """Parameter lists with any bytes in them end in good order."""
        chance = self.chance
        seeds = (
            parameters(1, 2, SPEC_I_PT, identifier(4) + identifier(5)),
            moving(1, 2, identifier(4)),
        )
        one = self.initiators[0]
        for _number in range(1500):
            data = bytearray(chance.choice(seeds))
            for _byte in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            sent = bytes(data[: chance.randrange(len(data) + 1)])
            length = chance.choice((len(sent), len(sent), len(data), 1 << 32 - 1))
            done = one.do(out_cdb(chance.randrange(8), 1, length), data=sent)
            self.check(one, done)
            one.out(IGNORE, 0, chance.randrange(2))
