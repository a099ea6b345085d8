# SPDX-License-Identifier: MIT
"""
Stages: who looks at, holds, refuses or answers the commands of a logical unit.

A stage wraps points of a task's life at a unit, which are methods of `LogicalUnit`:

===========  ========================================================================
``arrive``   the command has come; it is decoded and put in the task set.  A stage
             goes on before it returns: the transport asks then how much Data-Out it
             is to collect.
``run``      its Data-Out is complete; it executes once the task set has enabled it.
``execute``  it starts, if the gate (reservations, unit attentions, conditions) lets
             it.
``finish``   it is known how it ends: status, sense data and Data-In are in the task.
             It leaves the task set and is answered.
===========  ========================================================================

For each point that it wraps a stage has a function (`ICommandStage`) that takes the
task and *go_on*.  Calling ``go_on()`` takes it to the next stage, or to the unit.  A
stage that returns without that **holds** the task, and goes on in another turn of the
reactor: *go_on* is good for ever, once, and does nothing if the task is aborted or
blocked meanwhile.  At ``run`` and ``execute`` a held task has not started, so an abort
ends it at once.  At ``finish`` it touches no data any more: who waits for that does not
wait for the stage, and an abort has it go on at once (`Task.abandon`).

A stage says how a task is to end with `refuse` or `answer`, and goes on: before the
task starts that takes the place of what it would do, and the gate still comes first; at
``finish`` it changes the answer, and what a CHECK CONDITION does to others (auto
contingent allegiance, QERR) follows from what the answer is then.

**Order.**  By rank, then by name (`Rank`); when they were put there only counts between
two of one rank and name.  The lowest rank is outermost: it sees a command before the
others and its end after them.

**Changes.**  Stages may come and go while tasks are under way, at any time, also within
a stage.  *go_on* leads through those that are there when it is called.  A task that has
arrived before a stage came passes it only at the points that are still before it, and
one that a stage holds when it goes stays held until that stage goes on.  A task may
pass ``run`` and ``execute`` more than once until it has started: it is asked for again
when an auto contingent allegiance is cleared, or the session has room for its data.

**Failures.**  What a stage raises before the task has gone on ends the command with
HARDWARE ERROR, INTERNAL TARGET FAILURE, and is logged with the stage's name; what it
raises behind that is logged.  Other stages and other commands notice nothing.

**No stage, no cost.**  The unit has the methods of its class.  Only while a stage wraps
a point a function stands before that method, for this one unit.

What else meets a task on its way: `Task.when_over` calls back at its end, however it
ends, and is how to forget what was kept for it; `Task.admission` is the transport's, by
which a session without room for the answer has a task wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from scstd.interfaces import Buffer, ICommandStage
from scstd.scsi.command import Outcome, answering
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import Refused
from scstd.scsi.sense_mapping import internal_failure

if TYPE_CHECKING:
    from scstd.scsi.sense import CheckCondition
    from scstd.scsi.unit import LogicalUnit

_log = Logger()

GoOn = Callable[[], None]
"""Lets a task go on from where a stage has it."""

Through = Callable[[Task], None]
"""Takes a task through what is behind a stage."""

Point = Callable[[Task, GoOn], None]
"""What a stage does with a task at one point."""


class Rank(IntEnum):
    """
    Places among stages, from the outermost; there is room between them.
    """

    TRACE = 100
    """Sees what initiators see."""
    LATENCY = 200
    """Measures with what the stages behind it take."""
    RULES = 300
    """Faults on demand, and what else refuses and answers: the default."""
    HOLD = 400
    """Holds whatever the rules let through."""
    ACA = 500
    """Belongs to the unit itself (`scstd.scsi.aca`)."""


@implementer(ICommandStage)
class Stage:
    """
    A stage that wraps nothing: what it wraps is a method of that name in a subclass.
    """

    name: str = "stage"
    rank: int = Rank.RULES
    arrive: Point | None = None
    run: Point | None = None
    execute: Point | None = None
    finish: Point | None = None


def refuse(task: Task, error: CheckCondition | Refused) -> None:
    """
    Have a task end with this status or sense data; let it go on then.
    """
    if not task.started:
        task.error = error
        task.data_out_length = 0
        return
    _clear(task)
    task.itl.unit.set_outcome(task, error)


def answer(task: Task, data: Buffer = b"") -> None:
    """
    Have a task end with GOOD and this Data-In; let it go on then.  Nothing is done that
    has not been: before it has started its command is not carried out.  It is no use at
    ``arrive`` before it has gone on, for it is decoded then.
    """
    if task.started:
        _clear(task)
        task.data_in = data
        return

    def run(_unit: LogicalUnit, _task: Task) -> Outcome:
        return data

    if isinstance(task.error, Refused):
        # The task set has, or another stage.
        return
    task.error = None
    task.row = answering(task.cdb, task.row, run)


def _clear(task: Task) -> None:
    task.status = Status.GOOD
    task.failure = None
    task.sense = task.data_in = b""
    task.data_in_length = -1


@attrs.define(eq=False)
class _Link:
    """
    One stage at one point of one unit.
    """

    point: str
    stage: Any
    function: Point
    inner: Through = attrs.field(init=False)
    """The next link, or the unit's own method."""

    def __call__(self, task: Task) -> None:
        """
        Have the stage take a task.
        """
        went = False
        inside: Exception | None = None

        def go_on() -> None:
            nonlocal went, inside
            if went or self.is_late(task):
                return
            went = True
            try:
                self.further(task)
            except Exception as error:
                inside = error
                raise

        try:
            self.function(task, go_on)
        except Exception as error:
            if error is inside:
                # It is not the stage's.
                raise
            self.tell(task)
            if not went:
                refuse(task, internal_failure())
                go_on()
        finally:
            inside = None
        if not went:
            self.held(task, go_on)

    def tell(self, task: Task) -> None:
        """Log the exception at hand."""
        _log.failure(
            "{unit}: stage {stage} failed ({point})",
            unit=task.itl.unit.name,
            stage=self.stage.name,
            point=self.point,
        )

    def further(self, task: Task) -> None:
        """Take a task further."""
        self.inner(task)

    def is_late(self, task: Task) -> bool:
        """Say whether a task has no business here any more."""
        raise NotImplementedError

    def held(self, task: Task, go_on: GoOn) -> None:
        """Take in that the stage has not had a task go on."""


class _Arrive(_Link):
    """
    Here nothing can be held: the transport asks at once how much data it is to collect.
    """

    def further(self, task: Task) -> None:
        """Let a command be decoded, which may find something wrong with it as well."""
        refused = task.error
        self.inner(task)
        if refused is not None:
            refuse(task, refused)

    def is_late(self, task: Task) -> bool:
        """Say that it never is."""
        del task
        return False

    def held(self, task: Task, go_on: GoOn) -> None:
        """See to it that it arrives."""
        _log.error(
            "{unit}: stage {stage} does not let a command arrive",
            unit=task.itl.unit.name,
            stage=self.stage.name,
        )
        refuse(task, internal_failure())
        go_on()


class _Run(_Link):
    """
    A task that waits here is enabled or not, and has not started.
    """

    def is_late(self, task: Task) -> bool:
        """Say whether a task is on its way, or at its end."""
        return task.started or task.aborted


class _Execute(_Link):
    """
    What is blocked while it waits here comes again when it is enabled.
    """

    def is_late(self, task: Task) -> bool:
        """Say whether a task has started, or may not."""
        return task.started or task.aborted or not task.enabled


class _Finish(_Link):
    """
    A task that waits here is over, and may still be aborted.
    """

    def is_late(self, task: Task) -> bool:
        """Say whether a task has been answered."""
        return task.finished

    def held(self, task: Task, go_on: GoOn) -> None:
        """Let go on what is aborted; nobody need wait for what is held."""
        if task.aborted:
            go_on()
        else:
            task.abandon = go_on
            task.itl.unit.volume.locks.passed(task)


_POINTS: dict[str, type[_Link]] = {
    "arrive": _Arrive,
    "run": _Run,
    "execute": _Execute,
    "finish": _Finish,
}

_numbers = count()


@attrs.frozen(eq=False)
class _Seat:
    """
    A stage at one unit: where it is, and what it wraps.
    """

    stage: Any
    place: tuple[int, str, int]
    links: dict[str, _Link]


@attrs.define(eq=False)
class Pipeline:
    """
    The stages of one logical unit.
    """

    unit: LogicalUnit
    _seats: list[_Seat] = attrs.field(factory=list, init=False)
    """The outermost first."""

    def add(self, stage: Any) -> None:
        """
        Have tasks pass an `ICommandStage` from now on; once, if it is here already.
        """
        if stage in self:
            return
        links = {
            point: kind(point, stage, function)
            for point, kind in _POINTS.items()
            if (function := getattr(stage, point)) is not None
        }
        place = int(stage.rank), str(stage.name), next(_numbers)
        self._seats.append(_Seat(stage, place, links))
        self._seats.sort(key=lambda seat: seat.place)
        self._compose()

    def remove(self, stage: Any) -> None:
        """
        Have tasks pass a stage no more, if it is here; what it holds it may let go on.
        """
        for seat in [one for one in self._seats if one.stage is stage]:
            self._seats.remove(seat)
            for point, link in seat.links.items():
                link.inner = self._behind(point, seat)
        self._compose()

    def __contains__(self, stage: object) -> bool:
        """Say whether a stage is here."""
        return any(seat.stage is stage for seat in self._seats)

    def __iter__(self) -> Iterator[Any]:
        """Return the stages, the outermost first."""
        return iter([seat.stage for seat in self._seats])

    def _compose(self) -> None:
        """
        Put the outermost link of each point before the unit's own method.
        """
        for point in _POINTS:
            own = chain = self._own(point)
            for seat in reversed(self._seats):
                link = seat.links.get(point)
                if link is not None:
                    link.inner, chain = chain, link
            if chain is own:
                vars(self.unit).pop(point, None)
            else:
                vars(self.unit)[point] = chain
        self.unit.look_again()

    def _own(self, point: str) -> Through:
        own: Through = getattr(type(self.unit), point).__get__(self.unit)
        return own

    def _behind(self, point: str, gone: _Seat) -> Through:
        """
        Return what takes tasks further that a stage holds which is not here any more.
        """

        def behind(task: Task) -> None:
            for seat in self._seats:
                if seat.place > gone.place and point in seat.links:
                    seat.links[point](task)
                    return
            self._own(point)(task)

        return behind
