# SPDX-License-Identifier: MIT
"""
An atomic write that is over, but whose record cannot be cleared, for the state's disk
is ill.

If the power fails now the next start finds it, and may take it for one that was
interrupted.  It does so only if the medium looks like that (`torn`).  So whoever writes
to its sectors meanwhile is let through if the medium cannot look so afterwards, nor in
the middle of it, however the power fails: which nearly every write is.  One that would
restore just the bytes that were there before, and not all of them, is told to come
again (BUSY).  Everything else on the medium is as usual.

It is a condition of the unit: while there is none of this there is nothing on the path.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from scstd.block.atomic_write import BOTH, NEITHER, NEW, OLD, SECTOR, AtomicWrite
from scstd.scsi.allow import Allow
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sbc.steps import FUA
from scstd.scsi.sense import CheckCondition, Refused

UNKNOWN = "UNKNOWN"
"""What a sector may have besides: anything."""

_PLAIN = {0x0A, 0x2A, 0xAA, 0x8A}
"""WRITE(6), (10), (12) and (16): what they write is their data."""


@attrs.define(eq=False)
class Stale:
    """
    What the sectors of *write* have now.  *hurry* has its record cleared, if that can
    be done at once.
    """

    write: AtomicWrite
    sectors: list[str]
    block_shift: int
    hurry: Callable[[], None]
    _untouched: bool = True
    """Whether nobody has written here since."""
    _task: Task | None = None
    """Who writes here now, and what the sectors have then."""
    _after: list[str] = attrs.field(factory=list)

    # As a condition of the unit (`scstd.scsi.conditions.Condition`).
    # Other frontends' writes are not seen: no hook of the volume tells of them.

    def check(self, task: Task, allow: Allow) -> None:
        """
        Let through what cannot be taken for a part of the atomic write.

        :raises Refused: it may be (BUSY).
        """
        del allow
        row = task.row
        if row is None or not row.writes or task is self._task:
            return
        touched = self._touched(task)
        if not touched:
            return
        self._take_in()
        after = self._with(task, touched)
        busy = self._task is not None
        if busy or not self._harmless(after, touched):
            self.hurry()
            raise Refused(Status.BUSY)
        # The next one may rely on what this one has written.
        task.flags |= FUA
        self._task, self._after = task, after

    def sense(self, itl: ITL) -> CheckCondition | None:
        """Say nothing: the medium is well."""
        del itl
        return None

    def _touched(self, task: Task) -> range:
        """
        Return which sectors a task may write to.
        """
        count = len(self.sectors)
        if task.row is None or task.row.extent is None:
            return range(count)
        start = (task.lba << self.block_shift) - self.write.offset
        end = start + (task.blocks << self.block_shift)
        return range(max(0, start // SECTOR), max(0, min(count, end // SECTOR)))

    def _take_in(self) -> None:
        """
        Take in what the last one has done, if it is over.
        """
        task = self._task
        if task is None or not task.finished:
            return
        if task.status != Status.GOOD or task.aborted:
            self._after = [
                was if was == now else UNKNOWN
                for was, now in zip(self.sectors, self._after, strict=True)
            ]
        self._task, self.sectors, self._untouched = None, self._after, False

    def _with(self, task: Task, touched: range) -> list[str]:
        """
        Return what the sectors have after a task.
        """
        after = list(self.sectors)
        written = [UNKNOWN] * len(touched)
        start = (task.lba << self.block_shift) - self.write.offset
        if (
            task.cdb[0] in _PLAIN
            and len(task.data_out) == task.blocks << self.block_shift
            and self.write.before is not None
        ):
            data = memoryview(task.data_out)
            first = touched.start * SECTOR - start
            found = data[first : first + len(touched) * SECTOR]
            written = self.write.seen(found, touched.start)
        after[touched.start : touched.stop] = written
        return after

    def _harmless(self, after: list[str], touched: range) -> bool:
        """
        Say whether the medium cannot be taken for torn: not after a write, and not if
        it is done in part only.
        """
        before, written = set(self.sectors), set(after[touched.start : touched.stop])
        for was, now in zip(self.sectors, after, strict=True):
            if was == now == NEITHER:
                return True
        if before <= {OLD, BOTH}:
            # Refused, and never begun: it must not come true.
            return written <= {OLD, BOTH, NEITHER}
        if before <= {NEW, BOTH}:
            # All of it is there: to write it again does no harm until this is over.
            return NEITHER in after or set(after) <= {NEW, BOTH}
        return self._untouched and NEITHER in after
