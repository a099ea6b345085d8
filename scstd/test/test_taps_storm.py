# SPDX-License-Identifier: MIT
"""
Taps that do anything at all: nothing is left of their session, and a neighbour goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from scstd.initiator.commands import read10, write10
from scstd.interfaces.taps import IIncomingPDUs, IOutgoingPDUs, ITapped
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.tapped import Digest, TappedPDU
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import NOPIn, NOPOut
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore
from scstd.test.tapping import GoOn

SEEDS = 60


class OnPurposeError(Exception):
    """What the tap of this test raises."""


@implementer(IIncomingPDUs, IOutgoingPDUs)
class Wild:
    """
    A tap that does at each PDU what a seed says.
    """

    name = "wild"

    def __init__(self, tapped: ITapped, chance: random.Random) -> None:
        self.tapped = tapped
        self.chance = chance
        self.held: list[tuple[TappedPDU, GoOn]] = []
        self.depth = 0

    def incoming(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Do something."""
        self.do(passing, go_on)

    def outgoing(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Do something."""
        self.do(passing, go_on)

    def do(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Let most go on, and do the rest of what there is to be done."""
        if self.depth > 3:
            go_on(passing)
            return
        self.depth += 1
        try:
            number = self.chance.randrange(24)
            if number < len(self.deeds):
                self.deeds[number](self, passing, go_on)
            else:
                go_on(passing)
        finally:
            self.depth -= 1

    def hold(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Keep it."""
        self.held.append((passing, go_on))

    def let_go(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Let it go on, and then what was held."""
        go_on(passing)
        held, self.held = self.held, []
        for one, on in held:
            on(one)

    def twice(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Let it go on twice."""
        go_on(passing)
        go_on(passing)

    def spoil(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Have its digests be wrong."""
        passing.header_digest = passing.data_digest = Digest.WRONG
        go_on(passing)

    def add(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Add a PDU in each direction."""
        self.tapped.send(NOPIn(), False)
        self.tapped.receive(NOPOut(first=0x40, itt=77))
        go_on(passing)

    def boom(self, _passing: TappedPDU, _go_on: GoOn) -> None:
        """Raise."""
        raise OnPurposeError

    def close(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Close the connection."""
        self.tapped.close("enough")
        go_on(passing)

    def leave(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Take itself off."""
        self.tapped.detach()
        go_on(passing)

    deeds: tuple[Callable[..., None], ...] = (
        hold,
        hold,
        let_go,
        twice,
        spoil,
        add,
        boom,
        close,
        leave,
        lambda _self, _passing, _go_on: None,
    )


class StormTests(SynchronousTestCase):
    """
    A session with wild taps, and one without.
    """

    def test_storm(self) -> None:
        """At every error recovery level, with several commands under way."""
        for seed in range(SEEDS):
            self.storm(random.Random(seed))

    def storm(self, chance: random.Random) -> None:
        """Have one session do things through taps; look at what is left."""
        level = chance.choice((0, 1, 2))
        local = {**LOCAL, "ErrorRecoveryLevel": level}
        store = ManualStore()
        node, _target, (unit,) = serve(store, limits=TargetSettings(local=local))
        other = Initiator(node, isid=b"\x80\0\0\0\0\2").ready()
        digests = chance.choice(("None", "CRC32C"))
        one = Initiator(node).ready(
            ErrorRecoveryLevel=str(level), HeaderDigest=digests, DataDigest=digests
        )
        wild: list[Wild] = []

        def make(tapped: ITapped) -> Wild:
            wild.append(Wild(tapped, chance))
            return wild[-1]

        connection: Connection = one.connection
        for _number in range(chance.randrange(1, 3)):
            connection.taps.attach(make)
        for _turn in range(chance.randrange(30)):
            self.turn(one, store, chance)
        connection.disconnected()
        while store.calls:
            store.go()
        for tap in wild:
            for passing, go_on in tap.held:
                go_on(passing)
        self.flushLoggedErrors(OnPurposeError)
        self.assertEqual([each.initiator for each in node.sessions()], [other.name])
        self.assertEqual(
            (node.unsent.total, list(node.connections)), (0, [other.connection])
        )
        self.assertFalse(unit.departing)
        other.send(other.command(read10(0, 1), read=512))
        store.go()
        self.assertEqual(len(other.receive()), 1)

    def turn(self, one: Initiator, store: ManualStore, chance: random.Random) -> None:
        """Do one thing: send a request, have the store work, or look at what came."""
        what: Any = chance.randrange(7)
        if what == 0:
            one.send(one.command(read10(0, 4), read=2048))
        elif what == 1:
            one.send(one.command(write10(0, 4), data=bytes(2048)))
        elif what == 2:
            one.send(one.ping(b"x"))
        elif what == 3:
            one.manage(TaskManagementCode.ABORT_TASK_SET)
        elif what == 4 and store.calls:
            store.go()
        elif what == 5:
            one.connection.tick(one.connection.now + 1)
        else:
            # The tap says anything: what came may be no sequence of PDUs.
            one.target_side.take()
