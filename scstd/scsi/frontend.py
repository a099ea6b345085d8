# SPDX-License-Identifier: MIT
"""
What a logical unit is to the volume it stands on (`scstd.block.volume.Frontend`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from scstd.scsi import removable
from scstd.scsi.locks import blocks_of, is_at_work
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit


@attrs.frozen
class UnitFrontend:
    """
    One logical unit, as its volume sees it.
    """

    unit: LogicalUnit

    def at_work(self) -> Iterator[tuple[Task, int, int]]:
        """Return the tasks that may be touching blocks now."""
        for task in self.unit.tasks():
            if is_at_work(task):
                yield task, *blocks_of(task)

    def when_over(self, owner: Task, call: Callable[[Task], object]) -> None:
        """Have something called when a task is over."""
        owner.when_over(call)

    def medium_changed(self) -> None:
        """Take in another medium, and tell every initiator."""
        removable.changed(self.unit)

    def resized(self) -> None:
        """Take in the volume's new size, and tell every initiator."""
        unit = self.unit
        for task in unit.tasks():
            # They were decoded when these blocks were there: what has not started yet,
            # or has further steps, must not write behind the end.
            row = task.row
            beyond = (
                row is not None
                and row.extent
                and task.lba + task.blocks > unit.volume.blocks
            )
            if beyond and task.error is None and not task.finished:
                task.error = CheckCondition(
                    SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
                )
        if unit.copies is not None:
            # Some of the blocks that they stand for may be gone (SBC-4 section 4.28.5).
            unit.copies.tokens.cancel(unit)
        unit.attention(ASC.CAPACITY_DATA_HAS_CHANGED)
        unit.report(
            "CAPACITY_CHANGED",
            device=unit.name,
            blocks=unit.volume.blocks,
            block_size=unit.volume.block_size,
        )
