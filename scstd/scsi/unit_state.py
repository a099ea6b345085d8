# SPDX-License-Identifier: MIT
"""
What all nexuses of a logical unit share: who they are and what each is to be told, the
conditions that stop commands, and what is remembered.

What becomes of a task is in `scstd.scsi.unit`.  Both files are the only ones that
assign what is declared here: who wants to change something calls a method.  What one
group of commands keeps at a unit is its own (`UnitState.part`), and the unit does not
know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from scstd.block.persistence import Persistence, Volatile
from scstd.interfaces import Result
from scstd.scsi.calling import Calling
from scstd.scsi.command import Table
from scstd.scsi.conditions import Background, Condition, NotReady
from scstd.scsi.mutex import Mutex
from scstd.scsi.pipeline import Pipeline
from scstd.scsi.reporting import Report, nobody
from scstd.scsi.reservations import Reservation
from scstd.scsi.sam import ITL, Task
from scstd.scsi.selftest import SelfTests
from scstd.scsi.sense import ASC, EVENTS, UnitAttention
from scstd.scsi.statistics import Statistics
from scstd.scsi.taskset import TaskSet, settle, task_set
from scstd.scsi.traits import Traits

if TYPE_CHECKING:
    from scstd.scsi.aca import FaultedTaskSet
    from scstd.scsi.asking import StoreSessions
    from scstd.scsi.copy.manager import CopyManager
    from scstd.scsi.target import Target

T = TypeVar("T")


@attrs.define(eq=False, slots=False, repr=False)
class UnitState(Traits):
    """
    The state of one logical unit.
    """

    # Who made it gives it.
    memory: Persistence = attrs.field(factory=Volatile)
    """Keeps what is remembered."""
    clock: Callable[[], float] | None = None
    """Returns seconds since 1970."""
    steady: Callable[[], float] | None = None
    """Returns seconds of a clock that nobody sets."""
    opened: float = 0.0
    """When it was made, by that clock."""
    later: Callable[[Callable[[], None]], None] | None = None
    """Has something called in another turn of the reactor; without it there is none."""
    report: Report = nobody
    """Is told of events."""
    copies: CopyManager | None = None
    """What can be copied to and from with one ROD token."""
    sessions: StoreSessions | None = None
    """What its store knows of its nexuses, if that wants to know them."""

    # Who is there.
    itls: dict[ITL, None] = attrs.field(factory=dict)
    """The nexuses that are there."""
    departing: dict[ITL, None] = attrs.field(factory=dict)
    """Those that were lost while the store was at work for them: they see nothing any
    more, but can still touch data."""
    targets: dict[Target, None] = attrs.field(factory=dict)
    """The targets that have had it in a LUN map."""
    shared_set: TaskSet | None = None
    """The task set of all nexuses, unless each has its own."""
    faults: list[FaultedTaskSet] = attrs.field(factory=list)
    """The auto contingent allegiances in effect."""

    # What commands meet.
    calling: Calling = attrs.field(factory=Calling)
    """The command for which the store is being called, before it is a task."""
    pipeline: Pipeline = attrs.field(default=attrs.Factory(Pipeline, takes_self=True))
    """The stages that tasks pass."""
    reservation: Reservation = attrs.field(
        default=attrs.Factory(Reservation, takes_self=True)
    )
    conditions: list[Condition] = attrs.field(factory=list)
    """What stops commands."""
    restricted: bool = False
    """There is a reservation or a condition: only then, and for a nexus with unit
    attentions, is the gate looked at."""
    background: Background | None = None
    """What works on the medium without a task."""
    keeping: Mutex = attrs.field(factory=Mutex)
    """Who changes several things that are remembered, or one in several steps, does so
    in a turn of this."""
    statistics: Statistics = attrs.field(factory=Statistics)
    self_tests: SelfTests = attrs.field(
        default=attrs.Factory(SelfTests, takes_self=True)
    )
    _parts: dict[Any, Any] = attrs.field(factory=dict)

    # The nexuses.

    def attach(self, itl: ITL, *attentions: ASC) -> None:
        """
        Let an I_T_L nexus in; *attentions* are what it is to be told first.
        """
        if self.separate_task_sets:
            itl.have_tasks_in(task_set(self.max_tasks))
        else:
            if self.shared_set is None:
                self.shared_set = task_set(self.max_tasks)
            itl.have_tasks_in(self.shared_set)
        self.itls[itl] = None
        if self.sessions is not None:
            self.sessions.open(itl)
        for asc in attentions:
            self.tell(itl, asc)

    def replace_task_set(self, old: TaskSet, new: TaskSet) -> None:
        """
        Put a task set in the place of another, also for those who have left the unit
        and have tasks at it still.
        """
        for itl in (*self.itls, *(task.itl for task in old.tasks)):
            if itl.task_set is old:
                itl.have_tasks_in(new)
        if self.shared_set is old:
            self.shared_set = new

    def attention(self, asc: ASC, *, but: ITL | None = None) -> None:
        """
        Establish a unit attention for every I_T nexus, *but* one.
        """
        for itl in self.itls:
            if itl is not but:
                self.tell(itl, asc)

    @staticmethod
    def tell(itl: ITL, asc: ASC) -> None:
        """
        Establish a unit attention for one I_T_L nexus, unless it is pending already;
        by precedence, and among equals in order (SAM-5 section 5.14).

        Its nexus is notified of each of `EVENTS`, whatever is pending already.
        """
        pending = itl.attentions
        if (condition := UnitAttention(asc)) not in pending:
            pending.append(condition)
            pending.sort(key=lambda one: one.precedence)
        if asc in EVENTS and itl.nexus.itls.get(itl.lun) is itl:
            itl.nexus.notify(itl.lun, asc)

    def tasks_of(self, itl: ITL) -> list[Task]:
        """
        Return the tasks of one I_T_L nexus, oldest first.
        """
        self.calling.reveal()
        return [task for task in itl.task_set.tasks if task.itl is itl]

    def tasks(self) -> list[Task]:
        """
        Return all tasks, also of nexuses that were lost.
        """
        every = (*self.itls, *self.departing)
        return [task for itl in every for task in self.tasks_of(itl)]

    def quiet(
        self, but: Callable[[Task], bool] = lambda _task: False
    ) -> Deferred[None]:
        """
        Fire when none of the tasks there are now is left, *but* those it is true of.
        """
        over: Deferred[None] = Deferred()
        tasks = [task for task in self.tasks() if not but(task)]
        settle(tasks, lambda: over.callback(None))
        return over

    def look_again(self) -> None:
        """
        Have it be seen again whether commands meet anything here: it has changed.
        """
        for itl in (*self.itls, *self.departing):
            itl.look_again()

    # Conditions.

    def impose(self, condition: Condition) -> None:
        """
        Have a condition stop commands from now on.
        """
        self.conditions.append(condition)
        self.restrict()

    def lift(self, condition: Condition) -> None:
        """
        Take a condition away again.
        """
        if condition in self.conditions:
            self.conditions.remove(condition)
        self.restrict()

    def lift_all(self, kind: type) -> None:
        """
        Take away all conditions of a kind.
        """
        self.conditions = [one for one in self.conditions if not isinstance(one, kind)]
        self.restrict()

    @property
    def stopped(self) -> int:
        """The additional sense code that says why the medium is not ready, or 0."""
        found = [one for one in self.conditions if isinstance(one, NotReady)]
        return found[0].asc if found else 0

    def stop(self, asc: int) -> None:
        """
        Make the medium not ready because of *asc*, or ready again with 0.
        """
        was = self.stopped
        self.lift_all(NotReady)
        if asc:
            self.impose(NotReady(asc))
        elif was:
            self.statistics.starts += 1

    def restrict(self) -> None:
        """
        See whether tasks have to pass the gate.
        """
        self.restricted = bool(self.conditions) or self.reservation.held
        self.look_again()

    def begin_background(self, work: Background) -> None:
        """
        Let *work* go on behind its command's answer; `reset`, and who closes the
        device, ask it.
        """
        self.background = work

    def end_background(self) -> None:
        """
        Know what worked in the background no more.
        """
        self.background = None

    # Beside the commands.

    def equip(self, commands: Table, sessions: StoreSessions | None = None) -> None:
        """
        Give a unit that is being opened its commands, and what its store knows of its
        nexuses.
        """
        self.commands = commands
        self.sessions = sessions
        self.look_again()

    def report_to(self, report: Report) -> None:
        """
        Tell somebody of events from now on.
        """
        self.report = report

    def part(self, kind: Callable[[Any], T]) -> T:
        """
        Return what a group of commands keeps at this unit: what *kind*, its class,
        makes of the unit when it is first asked for.
        """
        found: T | None = self._parts.get(kind)
        if found is None:
            found = self._parts[kind] = kind(self)
        return found

    def remember(self, key: str, value: Any) -> Result[None]:
        """
        Keep *value* (JSON) under *key* over restarts: durably when the result is there.
        """
        return self.memory.update(key, value)

    def insist(self, key: str, value: Any) -> Result[None]:
        """
        Keep a fact: it is so, whether it can be kept or not.
        """
        return self.memory.insist(key, value)
