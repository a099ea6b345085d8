# SPDX-License-Identifier: MIT
"""
The logical unit: the life of a task, and the gate it passes.

A target driver calls `arrive` when a command has: the task is decoded and enters the
task set.  The driver collects as much Data-Out as the command needs and calls `run`.
When the task is enabled, too, it is carried out (`execute`): it passes the gate, in the
order of the standards: reservation conflict, then unit attention, then what decoding
found wrong.  Then the row's function runs, and its value, or the Deferred of it, is
what the task ends with (`finish`): `Task.done`, once.  Who wants to look at tasks, or
hold them, wraps these four (`scstd.scsi.pipeline`).

Aborting (task management, nexus loss) takes a task that has not started out at once.
One that has started can still touch data, so it ends only when its backstore call has:
`abort` calls back when all of them are gone (SAM-5 section 7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.block.counters import SAMPLE, IOKind
from scstd.interfaces import Buffer
from scstd.scsi import aca
from scstd.scsi.allow import Allow
from scstd.scsi.asking import asked
from scstd.scsi.command import Command, Outcome, find
from scstd.scsi.sam import ITL, Status, Task, TaskAttribute
from scstd.scsi.selftest import STOPPED
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    Refused,
    SenseKey,
    encode,
)
from scstd.scsi.sense_mapping import condition_of, refusal_of
from scstd.scsi.taskset import settle
from scstd.scsi.unit_state import UnitState

if TYPE_CHECKING:
    pass

_log = Logger()

_UNMEASURED = SAMPLE - 1

_RANGE = ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE


@attrs.define(eq=False, slots=False, repr=False)
class LogicalUnit(UnitState):
    """
    A logical unit: what becomes of a task, on what all its nexuses share.
    """

    _enabled: deque[Task] = attrs.field(factory=deque)
    """Tasks that the end of another has enabled, and that have not started."""
    _draining: bool = False

    # The life of a task.

    def arrive(self, task: Task) -> None:
        """
        Take in a command that has arrived: decode it, and put it in the task set.
        """
        try:
            row = self.commands.get(task.cdb[0])
            if type(row) is not Command:
                row = find(self.commands, task.cdb)
            task.row = row
            self._decode(task, row)
        except CheckCondition as error:
            task.error = error
        if (
            self.restricted_reordering
            and task.attribute & 7 <= TaskAttribute.SIMPLE
            and not task.internal
        ):
            task.attribute = TaskAttribute.ORDERED
        task.itl.task_set.enter(task)

    def _decode(self, task: Task, row: Command) -> None:
        cdb = task.cdb
        if len(cdb) != 16 or int.from_bytes(cdb, "big") & row.reserved:
            error = row.check_reserved(cdb)
            if error is not None:
                raise error
        if row.extent is not None:
            task.flags, task.lba, task.blocks = row.extent(cdb)
            volume = self.volume
            blocks = volume.blocks
            if task.lba + task.blocks > blocks or task.lba >= blocks:
                raise CheckCondition(
                    SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
                )
            if (task.lba | task.blocks) << volume.block_shift & 0xFFF:
                way = 2 if row.bidirectional else row.data_out is not None
                task.itl.nexus.unaligned[way] += 1
            if row.longest is not None and task.blocks > getattr(
                volume.limits, row.longest
            ):
                raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_CDB)
        if row.writes and (self.write_protected or task.itl.read_only):
            raise CheckCondition(SenseKey.DATA_PROTECT, ASC.WRITE_PROTECTED)
        if row.data_out is not None:
            task.data_out_length = row.data_out(self, task)
            if row.exact and task.expected_length != task.data_out_length:
                task.data_out_length = 0
                raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_CDB)

    def run(self, task: Task) -> None:
        """
        Carry out a task whose Data-Out is complete, as soon as it is enabled.
        """
        task.ready = True
        if task.enabled and not task.aborted:
            self.execute(task)

    def fail(self, task: Task, error: CheckCondition) -> None:
        """
        End a task whose Data-Out went wrong.
        """
        task.error = error
        self.run(task)

    def execute(self, task: Task) -> None:
        """
        Carry out a task that is enabled and has its data, if the gate lets it.
        """
        if task.admission is not None and not task.admission(task):
            return
        task.started = True
        try:
            if task.itl.attentions or self.restricted:
                self._gate(task)
            if task.error is not None:
                raise task.error  # noqa: TRY301 - it is raised after the gate only
            row: Command = task.row  # type: ignore[assignment]
            counters = self.volume.counters
            counter = counters.by_kind[row.kind]
            counter.requests += 1
            counter.blocks += task.blocks
            began = 0.0 if counter.requests & _UNMEASURED else counters.clock()
            outcome: Outcome = row.run(self, task)
        except Exception as error:  # noqa: BLE001 - each becomes a status
            self._failed(error, task)
            return
        if isinstance(outcome, Deferred):
            began = counters.begin()
            outcome.addBoth(self.over, task, began)
        else:
            if began:
                counters.sampled(row.kind, began)
            if outcome is not None:
                task.data_in = outcome
            self.finish(task)

    def over(self, result: Any, task: Task, began: float) -> None:
        """
        End a task that the store has answered later: with a value, or a Failure.
        """
        try:
            if isinstance(result, Failure):
                self._errback(result, task, began)
            else:
                self.volume.counters.end(task.row.kind, began)  # type: ignore[union-attr]
                if result is not None:
                    task.data_in = result
                self.finish(task)
        except Exception as error:  # noqa: BLE001 - nobody is left to hear of it
            if not task.finished:
                self._failed(error, task)
                return
            # `done` failed: a defect of the target driver, not of the command.
            _log.failure("answering a task failed")

    def _errback(self, failure: Failure, task: Task, began: float) -> None:
        self.volume.counters.end(task.row.kind, began)  # type: ignore[union-attr]
        error: Any = failure.value
        if not isinstance(error, Exception):
            # A GeneratorExit, say: a task that nobody answers is worse than a defect.
            error = RuntimeError(failure.getErrorMessage())
        self._failed(error, task, failure)

    def _gate(self, task: Task) -> None:
        error = task.error
        if isinstance(error, Refused):
            raise error
        row = task.row
        allow = Allow.NONE if row is None else row.allow
        if row is not None and row.also is not None:
            allow |= row.also(task.cdb)
        if self.restricted:
            self.reservation.check(task, allow)
        attentions = task.itl.attentions
        if attentions and Allow.ATTENTION not in allow and not task.internal:
            raise CheckCondition(SenseKey.UNIT_ATTENTION, attentions.pop(0).asc)
        # Without a medium there are no blocks, and no range of them is right.
        if error is not None and (self.blocks or error.asc != _RANGE):
            raise error
        for condition in self.conditions:
            condition.check(task, allow)

    def _failed(
        self, error: Exception, task: Task, failure: Failure | None = None
    ) -> None:
        self.set_outcome(task, error, failure)
        self.finish(task)

    def set_outcome(
        self, task: Task, error: Exception, failure: Failure | None = None
    ) -> None:
        """
        Set the status and sense data of *error*; *failure* has its traceback.
        """
        refusal = refusal_of(self, error, task)
        if refusal is not None:
            task.status = refusal.status
            return
        condition = condition_of(self, error, task, failure)
        kind = task.row.kind if task.row else IOKind.OTHER
        self.statistics.failed(condition, self.volume.counters.by_kind[kind])
        task.status = Status.CHECK_CONDITION
        task.failure = condition
        task.sense = encode(condition, descriptor=self.descriptor_sense)

    def finish(self, task: Task) -> None:
        """
        End a task whose outcome is in it.
        """
        if task.failure is not None:
            aca.fault(self, task, task.failure)
        task.finished = True
        enabled = task.itl.task_set.leave(task)
        if task.aborted and task.tell_aborted:
            task.status, task.sense, task.data_in = Status.TASK_ABORTED, b"", b""
        task.done(task)
        if task.watchers is not None:
            task.tell_watchers()
        if enabled:
            self.enable(enabled)

    def enable(self, tasks: list[Task]) -> None:
        """
        Run tasks that have become enabled.
        """
        self._enabled.extend(tasks)
        if not self._draining:
            self._drain()

    def _drain(self) -> None:
        """
        Run tasks that have become enabled: in a loop, for each may enable the next, and
        there may be thousands.
        """
        self._draining = True
        enabled = self._enabled
        try:
            while enabled:
                task = enabled.popleft()
                if (
                    task.enabled
                    and task.ready
                    and not task.started
                    and not task.aborted
                ):
                    self.execute(task)
        finally:
            self._draining = False

    def perform(
        self, itl: ITL, cdb: bytes, data: Buffer = b"", expected: int | None = None
    ) -> Deferred[Task]:
        """
        Carry out a command of the target's own for a nexus; fire with its task at the
        end.

        It passes the gate like any other but for unit attentions, which are the
        initiator's to see.  *data* is its Data-Out, *expected* the length of Data-In.
        """
        over: Deferred[Task] = Deferred()
        length = len(data) if expected is None else expected
        task = Task(itl, -1, TaskAttribute.SIMPLE, cdb, length, over.callback)
        task.internal = True
        self.arrive(task)
        task.data_out = data
        self.run(task)
        return over

    def employ(
        self,
        itl: ITL,
        row: Command,
        cdb: bytes,
        context: Any,
        done: Callable[[Task], None],
    ) -> Task:
        """
        Start a task of the target's own that is no command of any initiator: *row* says
        what it does, with *context*.  Else as `perform`; *done* is called at its end.
        """
        task = Task(itl, -1, TaskAttribute.SIMPLE, cdb, 0, done, context)
        task.internal = True
        if self.sessions is not None and self.sessions.asked:
            row = asked(row)
        task.row = row
        try:
            self._decode(task, row)
        except CheckCondition as error:
            task.error = error
        itl.task_set.enter(task)
        self.run(task)
        return task

    # The end of a nexus, and task management.

    def detach(self, itl: ITL, gone: Callable[[], None]) -> None:
        """
        Take an I_T_L nexus out (I_T nexus loss); call *gone* when its tasks are.
        """
        self.itls.pop(itl, None)
        self.departing[itl] = None

        def over() -> None:
            self.departing.pop(itl, None)
            if self.sessions is not None:
                self.sessions.close(itl)
            gone()

        self.abort(self.tasks_of(itl), over)
        aca.end(itl)
        self.reservation.nexus_lost(itl)

    def abort(
        self,
        tasks: Iterable[Task],
        gone: Callable[[], None],
        *,
        by: ITL | None = None,
    ) -> None:
        """
        Abort tasks; call *gone* when none of them can touch data any more.

        *by* is the nexus that asked: with TAS=1 in the control mode page the tasks of
        others end with TASK ABORTED status instead of silence (SAM-5 section 5.3.1).
        """
        doomed = [task for task in tasks if not task.finished]
        # All are marked before the first one ends: its end may enable the next.
        for task in doomed:
            if not task.aborted:
                task.aborted = True
                task.tell_aborted = (
                    self.task_aborted_status and by is not None and task.itl is not by
                )
        for task in doomed:
            if not task.started:
                task.started = True
                self.finish(task)
                continue
            self.volume.locks.drop(task)
            if task.abandon is not None:
                task.abandon()
        settle(doomed, gone)

    def clear(
        self, tasks: Iterable[Task], gone: Callable[[], None], *, by: ITL
    ) -> None:
        """
        Abort tasks, those of other nexuses than *by* among them: these are told with
        TASK ABORTED status, or with TAS=0 by a unit attention.
        """
        doomed = list(tasks)
        if not self.task_aborted_status:
            for other in {task.itl for task in doomed if task.itl is not by}:
                self.tell(other, ASC.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)
        self.abort(doomed, gone, by=by)

    def reset(self, gone: Callable[[], None], *, by: ITL | None = None) -> None:
        """
        Reset the logical unit (SAM-5 section 6.3.3): abort tasks, release an SPC-2
        reservation, set the saved mode parameters again, and tell every I_T nexus; call
        *gone* when no task that was there can touch data.
        """
        self.reservation.reset()
        self.self_tests.abort(STOPPED)
        for itl in self.itls:
            itl.forget()
        self.attention(ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED)
        background = self.background
        over = gone if background is None else partial(background.reset, gone)
        self.abort(self.tasks(), over, by=by)
        aca.end_all(self)
        # Not before: TAS, as it was, has decided what the tasks' initiators are told.
        self.restore_modes()
