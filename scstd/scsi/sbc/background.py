# SPDX-License-Identifier: MIT
"""
Formatting and sanitizing: work on the whole medium that outlives its command (SBC-4,
format operations and sanitize operations).

While it goes on a condition of the logical unit refuses whatever needs the medium, and
says how far it is.  The work is done in pieces, each one call of the store, and between
two of them everything else has its turn.

What is being done is remembered before the first byte changes, and before its command
is answered: a restart knows of it.  What cannot be remembered is not begun, and changes
nothing.  It is over when that is remembered too: what is written after that must not be
done away with by a restart that takes it up again.

The two differ in what interrupts them:

* a sanitize operation goes on after a logical unit reset, an abort, the loss of its
  nexus, and a restart (from its beginning); one that failed stays failed, over a
  restart too, until another succeeds or EXIT FAILURE MODE excuses it;
* a format operation ends with a reset, with the abort of its command, and with the
  process: then the medium is corrupt until another format succeeds, and says so.

While its unit is held (`scstd.scsi.holds`) it stands between two pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.block.checked import StoreFault
from scstd.block.range_locks import DroppedError
from scstd.block.remembered import OPERATION, Job, going_to_begin, pending
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.asking import nobody
from scstd.scsi.conditions import Operation, Unusable
from scstd.scsi.persistence import keep
from scstd.scsi.sam import Task
from scstd.scsi.sbc.journal import Journal
from scstd.scsi.sbc.steps import PIECE, yield_to_reactor
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

_log = Logger()

LONG_PIECE = 32 << 20
"""Bytes deallocated, or zeroed by the store itself, in one step."""


@attrs.frozen
class OperationKind:
    """
    What a format and a sanitize operation differ in: what commands are told meanwhile,
    which are allowed, what its own command is told if it fails and what all are told
    then, and whether it survives aborts, resets and restarts.
    """

    under_way: ASC
    allowed: Allow
    failed: ASC
    left: ASC
    survives: bool


FORMAT = OperationKind(
    ASC.FORMAT_IN_PROGRESS,
    Allow.FORMATTING,
    ASC.FORMAT_COMMAND_FAILED,
    ASC.MEDIUM_FORMAT_CORRUPTED,
    survives=False,
)
SANITIZE = OperationKind(
    ASC.SANITIZE_IN_PROGRESS,
    Allow.SANITIZING,
    ASC.SANITIZE_COMMAND_FAILED,
    ASC.SANITIZE_COMMAND_FAILED,
    survives=True,
)


def kind_of(job: Job) -> OperationKind:
    """
    Return what kind of operation a job is.
    """
    return SANITIZE if job.sanitizes else FORMAT


class _Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Ends the steps of an operation that is to end."""


@attrs.define(eq=False)
class Erasure:
    """
    An operation under way on one logical unit.
    """

    unit: LogicalUnit
    job: Job
    condition: Operation
    _waiting: list[Deferred[None]] = attrs.field(factory=list)
    _ending: list[Callable[[], None]] = attrs.field(factory=list)
    _pausing: list[Deferred[None]] | None = None
    """Who waits for it to stand, while it is to stand."""
    _standing: Deferred[None] | None = None
    _begun: Deferred[None] | None = None
    """Who waits for it to be remembered."""
    _leaving: Deferred[None] | None = None
    """What waits for its end to be remembered, or the end of the device."""
    _closing: bool = False
    _interrupted: bool = False

    def begin(self, task: Task | None) -> Deferred[None]:
        """
        Start; fire when it is remembered, with a *task* that waits at its end.
        """
        self.unit.begin_background(self)
        over: Deferred[None] = Deferred()
        if task is None:
            self._begun = over
        else:
            self._waiting.append(over)
            task.abandon = partial(self._abandon, over)
        nobody(Deferred.fromCoroutine, self._begin())
        return over

    def go_on_working(self) -> None:
        """
        Take up what is remembered already.
        """
        self.unit.begin_background(self)
        self.unit.impose(self.condition)
        nobody(Deferred.fromCoroutine, self._run())

    def _abandon(self, over: Deferred[None]) -> None:
        """
        Let a task go that waits and was aborted.
        """
        if not kind_of(self.job).survives:
            self._interrupt()
        elif over in self._waiting:
            self._waiting.remove(over)
            over.callback(None)

    def reset(self, gone: Callable[[], None]) -> None:
        """Go on if it is a sanitize operation, end a format."""
        if kind_of(self.job).survives:
            gone()
        else:
            self._end(gone)

    def stop(self) -> Deferred[None]:
        """End after the current step; what is remembered stays."""
        over: Deferred[None] = Deferred()
        self._closing = True
        self._end(lambda: over.callback(None))
        return over

    def pause(self) -> Deferred[None]:
        """Stand before the next piece."""
        paused: Deferred[None] = Deferred()
        if self._pausing is None:
            self._pausing = []
        if self._standing is None:
            self._pausing.append(paused)
        else:
            paused.callback(None)
        return paused

    def go_on(self) -> None:
        """Go on with the next piece."""
        self._tell_paused()
        self._pausing = None
        self._wake()

    def _tell_paused(self) -> None:
        if self._pausing is not None:
            paused, self._pausing = self._pausing, []
            for one in paused:
                one.callback(None)

    def _wake(self) -> None:
        standing, self._standing = self._standing, None
        if standing is not None:
            standing.callback(None)

    async def _stand(self) -> None:
        """
        Wait while it is to stand and not to end.
        """
        while self._pausing is not None and not self._interrupted:
            standing = self._standing = Deferred()
            self._tell_paused()
            await standing

    def _interrupt(self) -> None:
        self._interrupted = True
        self.unit.volume.locks.drop(self)
        self._wake()
        if self._closing and self._leaving is not None:
            leaving, self._leaving = self._leaving, None
            leaving.callback(None)

    def _end(self, gone: Callable[[], None]) -> None:
        self._interrupt()
        if self.unit.background is self:
            self._ending.append(gone)
        else:
            gone()

    async def _begin(self) -> None:
        """
        Have it remembered, in two steps: a refused one may be on the disk nevertheless,
        and must not be taken up by a restart, over what was written since.  So the
        first says only that it is going to begin, which means nothing; and the second
        is a fact.
        """
        unit, record = self.unit, self.job.record(failed=False)
        going = going_to_begin(record, unit.memory.load())
        try:
            await keep(unit, OPERATION, going)
        except CheckCondition as error:
            self._over(error)
            return
        unit.lift_all(Unusable)
        unit.impose(self.condition)
        if await self._fact(record):
            await self._run()
        else:
            self._over(_not_remembered())

    async def _run(self) -> None:
        unit, kind = self.unit, kind_of(self.job)
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.callback(None)
        error: CheckCondition | None = None
        try:
            # Those who were here first finish first.
            await unit.volume.locks.acquire(self)
            await self._work()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it failed
            self._tell_failure(failure)
            error = CheckCondition(SenseKey.MEDIUM_ERROR, kind.failed)
            error.__cause__ = failure
        if error is None:
            self.condition.done = 0xFFFF
            if not await self._fact(None):
                error = _not_remembered()
        elif not self._closing:
            unit.impose(Unusable(kind.left, kind.allowed))
            unit.insist(OPERATION, self.job.record(failed=True))
        self._over(error)

    def _over(self, error: CheckCondition | None) -> None:
        """
        End, and tell all who wait for it.
        """
        self.unit.lift(self.condition)
        self.unit.end_background()
        self.unit.volume.locks.release(self)
        self._tell_paused()
        waiting, self._waiting = self._waiting, []
        if self._begun is not None:
            waiting.append(self._begun)
        for over in waiting:
            if error is None:
                over.callback(None)
            else:
                over.errback(error)
        for gone in self._ending:
            gone()

    def _tell_failure(self, failure: Exception) -> None:
        unit, work = self.unit, self.job.work
        if isinstance(failure, (OSError, StoreFault)):
            _log.error(
                "{unit}: {work}: {error}", unit=unit.name, work=work, error=failure
            )
        elif not isinstance(failure, (_Interrupted, DroppedError)):
            _log.failure("{unit}: {work} failed", unit=unit.name, work=work)

    async def _fact(self, value: Any) -> bool:
        """
        Wait until *value* is remembered, or the device is closed; say which.
        """
        kept = Deferred.fromCoroutine(self._insist(value))
        if kept.called:
            return True
        leaving = self._leaving = Deferred()

        def over(_: object) -> None:
            if self._leaving is leaving:
                self._leaving = None
                leaving.callback(None)

        kept.addBoth(over)
        if not self._closing:
            await leaving
        return kept.called

    async def _insist(self, value: Any) -> None:
        unit = self.unit
        stale = unit.part(Journal).settled()
        if stale is not None:
            await stale
        await settled(unit.insist(OPERATION, value))

    async def _work(self) -> None:
        unit, job = self.unit, self.job
        if job.work == "overwrite":
            whole = job.pattern * -(-unit.block_size // len(job.pattern))
            plain = whole[: unit.block_size]
            turned = bytes(byte ^ 0xFF for byte in plain)
            for number in range(job.count):
                last = job.count - 1 - number
                block = turned if job.invert and last % 2 else plain
                await self._overwrite(block, number)
        elif unit.volume.can.unmaps is not None:
            async for offset, length in self._pieces(LONG_PIECE, 0):
                await settled(unit.volume.can.unmaps.unmap(offset, length))
        elif unit.volume.can.zeroes is not None:
            async for offset, length in self._pieces(LONG_PIECE, 0):
                await settled(
                    unit.volume.can.zeroes.write_zeroes(offset, length, False)
                )
        else:
            await self._overwrite(bytes(unit.block_size), 0)
        await settled(unit.store.flush())

    async def _overwrite(self, block: bytes, number: int) -> None:
        """
        Write *block* everywhere, and see that it is on the medium before the next pass.
        """
        unit = self.unit
        filled = memoryview(block * (PIECE // len(block)))
        async for offset, length in self._pieces(PIECE, number):
            await settled(unit.store.write(offset, filled[:length], False))
        await settled(unit.store.flush())

    async def _pieces(self, most: int, number: int) -> AsyncIterator[tuple[int, int]]:
        """
        Yield the pieces of the medium, which may be resized meanwhile; *number* is that
        of the pass.
        """
        unit = self.unit
        offset = 0
        while True:
            await self._stand()
            size = unit.blocks << unit.block_shift
            if offset >= size:
                return
            if self._interrupted:
                raise _Interrupted
            done, total = number * size + offset, size * self.job.count
            self.condition.done = (done << 16) // total
            length = min(most, size - offset)
            yield offset, length
            offset += length
            await yield_to_reactor(unit)


def _not_remembered() -> CheckCondition:
    return CheckCondition(SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE)


def start(unit: LogicalUnit, job: Job, task: Task | None = None) -> Deferred[None]:
    """
    Begin an operation on a unit that has none; an earlier one that failed is forgotten.

    Return a Deferred that fires when it is remembered; for a *task*, if there is one
    that waits, with its end.  It fails with CheckCondition, and nothing has changed, if
    it cannot be remembered.
    """
    return _new(unit, job).begin(task)


def _new(unit: LogicalUnit, job: Job) -> Erasure:
    return Erasure(unit, job, Operation(kind_of(job).under_way, kind_of(job).allowed))


def under_way(unit: LogicalUnit, task: Task) -> None:
    """
    :raises CheckCondition: an operation is under way.
    """
    if isinstance(unit.background, Erasure):
        raise unit.background.condition.sense(task.itl)


def resume(unit: LogicalUnit) -> None:
    """
    Take up what a unit that is being opened remembers of an operation.
    """
    record = pending(unit.memory.load())
    if record is None:
        return
    job = Job.of(record)
    if kind_of(job).survives and not record["failed"]:
        _log.info("{unit}: goes on sanitizing, from the beginning", unit=unit.name)
        _new(unit, job).go_on_working()
    else:
        unit.impose(Unusable(kind_of(job).left, kind_of(job).allowed))


def failed(unit: LogicalUnit) -> Job | None:
    """
    Return the operation that has failed and left the medium unusable, or None.
    """
    record = pending(unit.memory.load())
    if record is None or not any(isinstance(one, Unusable) for one in unit.conditions):
        return None
    return Job.of(record)
