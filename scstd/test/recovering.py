# SPDX-License-Identifier: MIT
"""
An initiator that recovers from what its links do, at error recovery levels 0, 1 and 2
(RFC 7143 section 7), over one connection or several: `scstd.initiator` over `badlink`.

Everything is in memory, and the only clock is its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.login import LoginOptions
from scstd.initiator.session import InitiatorSession
from scstd.initiator.tasks import InitiatorTask
from scstd.interfaces import Buffer
from scstd.protocols.engine.node import Node
from scstd.protocols.wire.pdu import PDU, SCSICommand
from scstd.test.badlink import BLOCK, SLOT, BadLink, Rates, Weather
from scstd.test.initiator import INITIATOR, TARGET

MOST_STALLS = 400
"""Stalls in a row after which a command counts as hung."""


class HungError(AssertionError):
    """
    A command that never ends.
    """


@attrs.define(eq=False)
class Work:
    """
    What is to be written to a slot, or read from it, by one command or several.
    """

    slot: int
    blocks: int
    data: bytes
    writes: bool
    read: bytes = b""


class RandomSession(InitiatorSession):
    """
    A session that does by chance what it may do in several ways.
    """

    def __init__(self, rng: random.Random, level: int, cmd_sn: int) -> None:
        keys = [
            ("HeaderDigest", "CRC32C"),
            ("DataDigest", "CRC32C"),
            ("MaxRecvDataSegmentLength", "4096"),
            ("ErrorRecoveryLevel", str(level)),
            ("MaxConnections", "8"),
            ("DefaultTime2Wait", "0"),
            ("DefaultTime2Retain", "3600"),
            ("InitialR2T", rng.choice(("Yes", "No"))),
            ("ImmediateData", rng.choice(("Yes", "No"))),
            ("MaxBurstLength", "8192"),
            ("FirstBurstLength", "4096"),
            ("MaxOutstandingR2T", rng.choice(("1", "4"))),
        ]
        options = LoginOptions(TARGET, keys)
        super().__init__(INITIATOR, options=options, cmd_sn=cmd_sn)
        self.rng = rng

    def choose(self) -> InitiatorConnection | None:
        """Choose any connection."""
        ready = [one for one in self.connections if one.full]
        return self.rng.choice(ready) if ready else None

    def immediate_data(self, connection: InitiatorConnection, length: int) -> int:
        """Send all that may go immediately, or less of it, or nothing."""
        agreed = connection.parameters
        if not agreed.immediate_data or self.rng.random() < 0.3:
            return 0
        return self.rng.randrange(0, min(agreed.first_burst_length, length) + 1, 4)

    def command_for(
        self, connection: InitiatorConnection, cdb: bytes, data: Buffer, **fields: Any
    ) -> SCSICommand:
        """Send unsolicited data where they may come, or none."""
        pdu = super().command_for(connection, cdb, data, **fields)
        if self.rng.random() < 0.5:
            pdu.flags |= 0x80
        return pdu

    def longest_data_out(self, connection: InitiatorConnection) -> int:
        """Cut data into many PDUs."""
        return 2048


class Recoverer:
    """
    A session of one or several connections over bad links, that recovers.
    """

    def __init__(
        self, node: Node, rng: random.Random, rates: Rates, level: int, paths: int = 1
    ) -> None:
        self.node, self.rng, self.level, self.wanted = node, rng, level, paths
        self.now = 0.0
        self.cid = 0
        self.counts: Counter[str] = Counter()
        self.weather = Weather(rng, rates, level, self.counts)
        self.works: dict[Work, InitiatorTask] = {}
        self.interrupted: list[Work] = []
        """Whose session has ended: to be begun again."""
        self._open(rng.choice((1, 0xFFFFFFF0, 0x7FFFFFF0)))

    @property
    def paths(self) -> list[Any]:
        """The connections that are there."""
        return self.session.connections

    def let_go(self) -> None:
        """Let the store work, if it needs to be told."""

    def ended(self, work: Work) -> None:
        """A command has ended well."""

    # Connections.

    def _open(self, cmd_sn: int) -> None:
        """
        Log in, with as many connections as are wanted.
        """
        self.session = session = RandomSession(self.rng, self.level, cmd_sn)
        session.on_lost = self._replace
        while len(self.paths) < self.wanted:
            self.cid += 1
            link = BadLink(self.node, self.cid, self.now)
            session.connect(connection=link)
            self._go_faithfully(link)
            if session.recovery is not None:
                session.recovery.counts = self.counts

    def _go_faithfully(self, link: BadLink) -> None:
        """
        Carry out a login, and what it brings with it, while nothing goes wrong.
        """
        before, self.weather.faithful = self.weather.faithful, True
        try:
            for _try in range(100):
                while link.queue:
                    self.weather.deliver(link, self.now)
                self._arrive(link)
                if link.full and not link.queue and not self.session.asked:
                    return
                # It may wait for the tasks of the one that it takes the place of.
                self.let_go()
            raise HungError(f"a login: {link.why}")
        finally:
            self.weather.faithful = before

    def _arrive(self, link: BadLink) -> bool:
        return self.weather.arrive(link, partial(self._take, link))

    def _take(self, link: BadLink, pdu: PDU) -> None:
        if link in self.session.connections:
            self.session.take(link, pdu)

    def lost(self, link: BadLink) -> None:
        """
        A connection is gone: do what the level allows.
        """
        self.session.lost(link, "the link was cut")
        if self.level:
            return
        for one in self.paths:
            one.target_side.connection.disconnected()
        self._open(self.session.cmd_sn)
        works, self.interrupted = self.interrupted, []
        for work in works:
            self._execute(work)

    def _replace(self, lost: InitiatorConnection) -> None:
        recovery = self.session.recovery
        assert recovery is not None
        cid = lost.cid
        if self.level == 2 and self.rng.random() < 0.5:
            # A logout for recovery; else a login with the same CID does the same.
            self.cid = cid = self.cid % 0xFFFF + 1
        fresh = BadLink(self.node, cid, self.now)
        recovery.replace(lost, connection=fresh)
        self._go_faithfully(fresh)

    # Commands.

    def begin(self, slot: int, blocks: int, data: bytes, *, writes: bool) -> None:
        """
        Start to read or write a slot.
        """
        self._execute(Work(slot, blocks, data, writes))

    def _execute(self, work: Work) -> None:
        length = work.blocks * BLOCK
        self.works[work] = self.session.execute(
            (write10 if work.writes else read10)(work.slot * SLOT, work.blocks),
            read=0 if work.writes else length,
            data=work.data,
            on_end=partial(self._over, work),
        )

    def _over(self, work: Work, task: InitiatorTask) -> None:
        if self.session.over:
            self.interrupted.append(work)
        elif task.failure or task.status == 2:
            # It went with its connection; or a unit attention: commands were cleared,
            # or a nexus lost.
            self._execute(work)
        else:
            assert task.status == 0, task
            work.read = task.read_data()
            del self.works[work]
            self.ended(work)

    @property
    def room(self) -> bool:
        """Whether the window has room for one more command."""
        return self.session.room

    # Time.

    def step(self) -> bool:
        """
        Deliver something, in some direction; return whether there was anything.
        """
        moved = False
        waiting = [one for one in self.paths if one.queue]
        if waiting:
            moved = True
            link = self.rng.choice(waiting)
            for _number in range(self.rng.randint(1, 4)):
                if (
                    link.queue
                    and link in self.paths
                    and not self.weather.deliver(link, self.now)
                ):
                    self.lost(link)
        for link in list(self.paths):
            if link in self.paths:
                moved = self._arrive(link) or moved
            if link.target_side.connection.over and link in self.paths:
                moved = True
                self.lost(link)
        return moved

    def stall(self) -> None:
        """
        Nothing comes any more, but commands are not over: find out why.
        """
        self.now += 4.0
        self.node.tick(self.now)
        for link in self.paths:
            link.target_side.connection.tick(self.now)
        if self.session.recovery is not None:
            self.session.recovery.stalled()
        else:
            for link in self.paths:
                link.send(self.session.ping(b""))

    def settle(self, over: Callable[[], bool]) -> None:
        """
        Go on until *over* says so.
        """
        stalls = 0
        while not over():
            if self.step():
                continue
            self.let_go()
            if self.step():
                continue
            stalls += 1
            if stalls > MOST_STALLS:
                raise HungError(list(self.works.items()))
            self.stall()
