# SPDX-License-Identifier: MIT
"""
The reads of a session: what is read and not yet sent is bounded.

An initiator may ask for far more than it takes: its commands are short, and their
answers are not.  So a command that reads much starts only while there is room in its
session's budget for what the store is at work on and what the socket has not taken; it
waits otherwise, as one that is enabled and has not started, in the order in which they
came.  Commands that read nothing and task management go on, and what waits can be
aborted at once.  A read is never cut for that: it is made when there is room for all of
it, so that it shows one value.

There is a budget of the node besides.  When it is used up, sessions take turns, a read
each; one that has nothing under way still reads a little at a time; and of the
connections that have not taken a byte for a while those that hold most are closed, for
others wait for the memory (`Unsent.relieve`).

Small reads that the store answers at once cost nothing here: they are seen when the
socket does not take them (`Connection.hold_back`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from scstd.scsi.sam import ITL, Task

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session

READ_BUDGET = 16 << 20
"""
Bytes of answers that a session may have under way or unsent before further reads wait;
one read alone may be longer.
"""

NODE_BUDGET = 256 << 20
"""The same for all connections of a node together."""

SPARED = 1 << 20
"""Bytes that a session may read at a time when the node's budget is used up."""

SPARED_AT_WORST = 65536
"""The same when it is used up twice."""

PATIENCE = 5.0
"""
Seconds without taking a byte after which a connection may be closed for others that
wait for the memory.
"""

_SMALL_ONES = 4 << 20
"""Bytes of the small reads that a session may have under way without being counted."""

_UNKNOWN = 262144
"""Bytes of the longest answer to a command that does not move blocks."""


def small(commands: int) -> int:
    """
    Return up to how many bytes a read is small, in a session that may have so many
    commands under way.
    """
    return max(4096, min(65536, _SMALL_ONES // commands))


@attrs.define(eq=False, repr=False)
class Unsent:
    """
    What all connections of a node hold unsent, and the sessions that wait for it.
    """

    total: int = 0
    """Bytes that are under way or unsent."""
    kept: int = 0
    """Bytes kept to be sent again (`scstd.protocols.engine.retransmission`)."""
    waiting: dict[Reads, None] = attrs.field(factory=dict)
    """The sessions that wait, in the order in which it is their turn."""

    @property
    def exhausted(self) -> bool:
        """Whether the node's budget is used up."""
        return self.total >= NODE_BUDGET

    @property
    def spared(self) -> int:
        """How much a session that has nothing may read at a time all the same."""
        return SPARED if self.total < 2 * NODE_BUDGET else SPARED_AT_WORST

    def others_wait(self, one: Reads) -> bool:
        """
        Say whether another session is the first that waits.
        """
        return bool(self.waiting) and next(iter(self.waiting)) is not one

    def change(self, difference: int) -> None:
        """
        Count more bytes, or less.
        """
        self.total += difference
        if difference < 0:
            self.wake()

    def wake(self) -> None:
        """
        Have the first that waits look for room, in a turn of its own.
        """
        if self.waiting and not self.exhausted:
            next(iter(self.waiting)).session.connection.wake()

    def relieve(self, connections: Iterable[Connection], now: float) -> None:
        """
        If sessions wait, have those of these connections go that take nothing: the ones
        that hold most, until half of the budget is free.
        """
        if not self.waiting:
            return
        before = now - PATIENCE
        stuck = [
            one
            for one in connections
            if one.backlog
            and one.blocked_since is not None
            and one.blocked_since < before
        ]
        stuck.sort(key=lambda one: one.backlog, reverse=True)
        wanted = self.total - NODE_BUDGET // 2
        for one in stuck:
            if wanted > 0:
                wanted -= one.backlog
                one.fail("it takes nothing, and others wait for the memory")


@attrs.define(eq=False)
class _Work:
    """
    What a store is at work on for one session.
    """

    size: int = 0
    """Bytes."""
    ended: int = 1
    """Reads that have ended since the last look."""
    stuck: bool = False
    """Whether there was none for a whole time between two looks."""


@attrs.define(eq=False, repr=False)
class Reads:
    """
    The reads of one session that are not small.

    A store that does not answer (a file system that hangs) keeps its own reads waiting,
    and not those of others: what it is at work on counts for nobody else, nor in the
    node's budget, for it has no memory yet.
    """

    session: Session
    unsent: Unsent
    tight: bool = False
    """Whether no read is small, because a socket does not take what there is for it."""
    small: int = 65536
    """Up to how many bytes a read is small (`small`)."""
    work: dict[ITL, _Work] = attrs.field(factory=dict)
    """What the stores are at work on, by logical unit."""
    charged: dict[int, int] = attrs.field(factory=dict)
    """Each task's part of it, in bytes, by its tag."""
    parked: dict[Task, None] = attrs.field(factory=dict)
    """The tasks that wait, oldest first."""
    _going: bool = False

    def admits(self, task: Task) -> bool:
        """
        Say whether a task may start (`Task.admission`): if not, it is run again later.
        """
        if task.tag in self.charged:
            return True
        length = _length(task)
        first = not self.parked or all(self._is_stuck(one) for one in self.parked)
        if first and self._has_room(task, length):
            self._charge(task, length)
            return True
        self.parked[task] = None
        return False

    def over(self, task: Task) -> None:
        """
        Take a task that is over out of the account: its answer is output now.
        """
        self._take_out(task)
        self.parked.pop(task, None)
        if self.parked:
            self.session.connection.wake()
        else:
            self.unsent.waiting.pop(self, None)

    def is_tight(self) -> bool:
        """
        Say whether something waits, here or at a socket.
        """
        connections = self.session.connections.values()
        return bool(self.parked) or any(one.backlog for one in connections)

    def tick(self) -> None:
        """
        Look which stores do not answer; to be called every second or so.
        """
        for work in self.work.values():
            if not work.ended and not work.stuck:
                work.stuck = True
                self.unsent.change(-work.size)
            work.ended = 0
        if self.parked:
            self.go_on()

    def _is_stuck(self, task: Task) -> bool:
        work = self.work.get(task.itl)
        return work is not None and work.stuck

    def _charge(self, task: Task, length: int) -> None:
        work = self.work.setdefault(task.itl, _Work())
        self.charged[task.tag] = length
        work.size += length
        if not work.stuck:
            self.unsent.change(length)

    def _take_out(self, task: Task) -> None:
        length = self.charged.pop(task.tag, None)
        if length is None:
            return
        work = self.work[task.itl]
        if work.stuck and task.started:
            # It answers again.
            work.stuck = False
            self.unsent.change(work.size)
        work.ended += task.started
        work.size -= length
        if not work.stuck:
            self.unsent.change(-length)
        if not work.size:
            del self.work[task.itl]

    def _has_room(self, task: Task, length: int) -> bool:
        used = sum(
            work.size
            for itl, work in self.work.items()
            if not work.stuck or itl is task.itl
        )
        for one in self.session.connections.values():
            used += one.backlog + one.output_bytes
        if used and used + length > READ_BUDGET:
            return False
        unsent = self.unsent
        short = unsent.total and unsent.total + length > NODE_BUDGET
        if used:
            # Others that wait for it are first.
            short = short or unsent.others_wait(self)
        elif length <= unsent.spared:
            short = False
        if short:
            unsent.waiting.setdefault(self)
            return False
        if unsent.waiting.pop(self, self) is None:
            # It has had its turn.
            unsent.wake()
        return True

    def go_on(self) -> None:
        """
        Start what waits, while there is room: in order, but for what waits for a store
        that does not answer.
        """
        if self._going:
            # What a task does at its end may come back here.
            return
        self._going = True
        try:
            while self.parked and self._goes(next(iter(self.parked))):
                pass
            if any(work.stuck for work in self.work.values()):
                self._pass_by()
        finally:
            self._going = False

    def _pass_by(self) -> None:
        """
        Start what waits behind tasks that wait for a store that does not answer.
        """
        for task in list(self.parked):
            if task in self.parked and not (self._is_stuck(task) or self._goes(task)):
                return

    def _goes(self, task: Task) -> bool:
        """
        Run one that waits; return whether it waits no more.
        """
        length = _length(task)
        if not self._has_room(task, length):
            return False
        del self.parked[task]
        if task.enabled and not task.aborted:
            self._charge(task, length)
            task.itl.unit.run(task)
            if not task.started:
                # It is held by somebody, and asked for again then.
                self._take_out(task)
        return True


def _length(task: Task) -> int:
    """
    Return how many bytes the answer to a task may have.
    """
    row = task.row
    moved = task.blocks << task.itl.unit.block_shift
    if row is None or row.extent is None or not moved:
        moved = _UNKNOWN
    return min(task.expected_length, moved)
