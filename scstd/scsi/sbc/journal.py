# SPDX-License-Identifier: MIT
"""
What makes an atomic write whole over a crash (SBC-4 section 4.29, atomic operations).

A store promises nothing about a write that the end of the process, or of the power,
interrupts.  So its blocks are kept first (`scstd.scsi.persistence.Persistence.keep`),
then written through to the medium, then let go, each step durably before the next.
What is kept when the device is opened again is finished before anybody can read it, if
the medium looks as if it had been interrupted (`interrupted`): all is there, or
nothing. One write is under way at a time, as there is one record.

The power may fail after each step.  What was on the medium before has to be there then,
or what is kept could not be told from somebody else's bytes: so the medium is flushed
while the record is kept.  A record that could not be kept may be there nevertheless;
then nothing was written, and nothing is when it is found.  One that cannot be let go
does no harm while nobody writes there, and who does is looked at (`stale`).  None of
this is a reason to take the medium away.

A unit that has no durable memory (a store in RAM, say) loses everything with the
process; its atomic writes are atomic among commands only, and cost no more.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger

from scstd.block.atomic_write import NEITHER, NEW, OLD, SECTOR, AtomicWrite, torn
from scstd.interfaces import Buffer
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.conditions import Operation
from scstd.scsi.mutex import Mutex
from scstd.scsi.sbc.stale import UNKNOWN, Stale
from scstd.scsi.sbc.steps import read_store
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

_log = Logger()


@attrs.define(eq=False)
class Journal:
    """
    The atomic write under way on one logical unit; *stale* is one that is over, and
    whose record is there still.
    """

    unit: LogicalUnit
    stale: Stale | None = None
    _turns: Mutex = attrs.field(factory=Mutex)
    _waiting: list[Deferred[None]] = attrs.field(factory=list)

    async def around(
        self,
        offset: int,
        before: Buffer | None,
        data: Buffer,
        write: Callable[[], Awaitable[None]],
    ) -> None:
        """
        Keep *data*, have *write* write it through to *offset*, where *before* was (None
        if that could not be read), and let it go.

        :raises CheckCondition: it cannot be kept, and nothing was written.
        """
        await self._turns.acquire()
        try:
            kept = AtomicWrite.over(before, offset, data)
            await self._keep(kept)
            try:
                await write()
            except BaseException:
                # Nothing must write it later.
                await self._let_go(kept, UNKNOWN)
                raise
            await self._let_go(kept, NEW)
        finally:
            self._turns.release()

    async def _keep(self, kept: AtomicWrite) -> None:
        unit = self.unit
        flushing: Deferred[Any] = succeed(None)
        if unit.write_cache:
            flushing = maybeDeferred(unit.store.flush)
        error = await self._not_kept(kept)
        try:
            await flushing
        except BaseException:
            if error is None:
                await self._let_go(kept, OLD)
            raise
        if error is None:
            return
        _log.error(
            "{unit}: an atomic write is refused, for it cannot be kept: {error}",
            unit=unit.name,
            error=error,
        )
        raise CheckCondition(
            SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE
        ) from error

    async def _not_kept(self, kept: AtomicWrite) -> OSError | None:
        """
        Keep what is to be written; return why it cannot be, when that is taken back.
        """
        if not await self.cleared():
            return OSError(errno.EIO, "an earlier one is there still")
        try:
            await settled(self.unit.memory.keep(kept.record()))
        except OSError as error:
            await self._let_go(kept, OLD)
            return error
        return None

    async def cleared(self) -> bool:
        """
        Say whether no record is there, after an attempt if one is.
        """
        if self.stale is None:
            return True
        try:
            await settled(self.unit.memory.clear())
        except OSError:
            return False
        self._gone()
        return True

    async def _let_go(self, kept: AtomicWrite, seen: str) -> None:
        """
        See that *kept* is not written any more; all its sectors have what is *seen*.
        """
        await self.let_go(kept, [seen] * -(-len(kept.data) // SECTOR))

    async def let_go(self, kept: AtomicWrite, sectors: list[str]) -> None:
        """
        See that *kept* is not written any more, whose sectors are these.
        """
        unit = self.unit
        try:
            await settled(unit.memory.clear())
        except OSError as error:
            _log.error(
                "{unit}: the record of an atomic write that is over cannot be cleared"
                " (it is tried again): {error}",
                unit=unit.name,
                error=error,
            )
            self.stale = Stale(kept, sectors, unit.block_shift, self._hurry)
            unit.impose(self.stale)
            gone = unit.memory.clear_in_time()
            if isinstance(gone, Deferred):
                gone.addCallback(lambda _: self._gone())
            else:
                self._gone()

    def _hurry(self) -> None:
        self.unit.memory.hurry()

    def _gone(self) -> None:
        stale, self.stale = self.stale, None
        if stale is not None:
            self.unit.lift(stale)
            _log.info(
                "{unit}: the record of an atomic write is cleared, at last",
                unit=self.unit.name,
            )
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def settled(self) -> Deferred[None] | None:
        """
        Return what fires when no record is left that is stale; None if none is.
        """
        if self.stale is None:
            return None
        end: Deferred[None] = Deferred()
        self._waiting.append(end)
        return end


def recover(unit: LogicalUnit, *, void: bool = False) -> None:
    """
    Finish the write that a unit, which is being opened, was not seen to finish; with
    *void* only let it go, for what is on the medium is void.
    """
    record = unit.memory.kept()
    if not record:
        return
    journal = unit.part(Journal)
    condition = Operation(ASC.IN_PROCESS_OF_BECOMING_READY, Allow.NO_MEDIUM)
    unit.impose(condition)
    Deferred.fromCoroutine(_recover(journal, condition, record, void=void))


async def _recover(
    journal: Journal, condition: Operation, record: bytes, *, void: bool
) -> None:
    unit = journal.unit
    try:
        kept = AtomicWrite.of(record)
        unknown = [UNKNOWN] * -(-len(kept.data) // SECTOR)
        done, sectors = ("let go", unknown) if void else await _alone(journal, kept)
    except Exception:  # noqa: BLE001 - whatever it is, blocks may be half written
        _log.failure("{unit}: an atomic write cannot be finished", unit=unit.name)
        condition.asc = ASC.MANUAL_INTERVENTION_REQUIRED
        return
    await journal.let_go(kept, sectors)
    _log.info("{unit}: {done} an atomic write", unit=unit.name, done=done)
    unit.lift(condition)


async def _alone(journal: Journal, kept: AtomicWrite) -> tuple[str, list[str]]:
    """
    Do `_finish`, alone on those blocks among all who stand on the volume.
    """
    locks, shift = journal.unit.volume.locks, journal.unit.block_shift
    first, end = kept.offset >> shift, -(-(kept.offset + len(kept.data)) >> shift)
    await locks.acquire(journal, first, end)
    try:
        return await _finish(journal.unit, kept)
    finally:
        locks.release(journal)


async def _finish(unit: LogicalUnit, kept: AtomicWrite) -> tuple[str, list[str]]:
    """
    Write what is kept, if it was interrupted; return what was done, and what its
    sectors have then.
    """
    whole = [NEW] * -(-len(kept.data) // SECTOR)
    if kept.before is None:
        # Of an earlier version, which kept nothing to look at.
        await settled(unit.store.write(kept.offset, kept.data, True))
        return "finished", whole
    if kept.offset + len(kept.data) > unit.blocks << unit.block_shift:
        return "dropped, for it is behind the end,", [UNKNOWN] * len(whole)
    sectors = kept.seen(await read_store(unit, kept.offset, len(kept.data)))
    if torn(sectors):
        await settled(unit.store.write(kept.offset, kept.data, True))
        return "finished", whole
    if NEW in sectors and OLD not in sectors and NEITHER not in sectors:
        await settled(unit.store.flush())
        return "found whole", sectors
    if NEITHER in sectors:
        return "dropped, for its blocks were written since,", sectors
    return "dropped, for it had not begun,", sectors
