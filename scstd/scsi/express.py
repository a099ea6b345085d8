# SPDX-License-Identifier: MIT
"""
The express way: READ and WRITE at a logical unit where nothing stands in their way.

Nearly all commands are reads and writes, and nearly always there is nothing to be asked
at the unit: no stage, reservation or condition, no ordered task, no limit of tasks.
Then a target driver need not make a `Task` of a command that the store answers at once:
what `LogicalUnit` would do with it comes to a look at its range, two counters, and the
call of the store.  `Express` has what that needs, for one I_T_L nexus.

It is no second set of rules: what is not known to be usual goes the general way, by
`LogicalUnit.arrive`, from its beginning.  What closes the way is told by whoever
changes it (`ITL.look_again`, `UnitState.look_again`), and the next command makes
another.  What changes with single commands is looked at by who takes it: unit
attentions, ordered tasks, range locks, the volume's size and limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scstd.block.counters import SAMPLE, IOKind
from scstd.scsi.command import Command
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sbc import transfer
from scstd.scsi.taskset import TaskSet
from scstd.scsi.unit import LogicalUnit

_POINTS = ("arrive", "run", "execute", "finish")

_FUNCTIONS = {
    0x28: transfer.read,
    0x88: transfer.read,
    0x2A: transfer.write,
    0x8A: transfer.write,
}
"""The operation codes that may go by it, and what their rows have to do."""

OPCODES = frozenset(_FUNCTIONS)

READS, WRITES = int(IOKind.READ), int(IOKind.WRITE)

UNMEASURED = SAMPLE - 1
"""A request whose number has one of these bits is not measured."""

TaskAt = Callable[["Express", Any, int], Task]
"""Makes a task of the command that a caller has somewhere, and enters it as one."""


class Express:
    """
    What the reads and writes of one I_T_L nexus need, while it is `open`.
    """

    __slots__ = (
        "block_shift",
        "calling",
        "counters",
        "fua",
        "itl",
        "locks",
        "open",
        "reading",
        "reads",
        "rows",
        "store",
        "task_at",
        "task_set",
        "unaligned",
        "unit",
        "volume",
        "writes",
        "writing",
    )

    def __init__(self, itl: ITL, task_at: TaskAt) -> None:
        unit = itl.unit
        self.task_at = task_at
        volume = unit.volume
        self.itl = itl
        self.unit = unit
        self.volume = volume
        self.block_shift = volume.block_shift
        self.calling = unit.calling
        self.locks = volume.locks
        self.task_set = itl.task_set
        self.unaligned = itl.nexus.unaligned
        self.counters = volume.counters
        self.reading = volume.counters.by_kind[READS]
        self.writing = volume.counters.by_kind[WRITES]
        self.store = volume.store
        self.fua = not unit.write_cache
        self.rows = _rows(unit)
        """The rows of those commands that are usual, by operation code."""
        self.open = _is_usual(itl)
        """Whether everything is still as it was when this was made."""
        self.reads = self._beginning(transfer.read)
        """What the CDBs of reads begin with: operation code, and a byte of no flags."""
        self.writes = self._beginning(transfer.write)
        if unit.write_protected or itl.read_only:
            self.writes = frozenset()

    def _beginning(self, function: object) -> frozenset[int]:
        return frozenset(
            opcode << 8 for opcode, row in self.rows.items() if row.run is function
        )

    def close(self) -> None:
        """
        Have it be used no more: the next command makes another.
        """
        self.open = False
        if self.itl.express is self:
            self.itl.express = None

    def started(self, task: Task, lba: int, blocks: int) -> None:
        """
        Make of a task what it is when the store has been called for it.
        """
        task.row = self.rows[task.cdb[0]]
        task.lba = lba
        task.blocks = blocks
        if task.row.data_out is not None:
            task.data_out_length = blocks << self.block_shift
        task.enabled = task.ready = task.started = True
        self.task_set.tasks[task] = None


def express(itl: ITL, task_at: TaskAt) -> Express:
    """
    Return the way of an I_T_L nexus as it is now: it may be closed.  *task_at* returns
    the task that a command of a caller's would be.
    """
    found: Express | None = itl.express
    if found is None:
        found = itl.express = Express(itl, task_at)
    return found


def _is_usual(itl: ITL) -> bool:
    """
    Say whether there is nothing at a unit that a command has to meet.
    """
    unit = itl.unit
    return (
        # No stage is before its methods, and they are those of no other kind.
        all(
            getattr(getattr(unit, point), "__func__", None)
            is getattr(LogicalUnit, point)
            for point in _POINTS
        )
        and not unit.restricted
        and not unit.restricted_reordering
        # Its medium may change in the very call of the store, which its tasks hear of.
        and unit.volume.can.drive is None
        and type(itl.task_set) is TaskSet
    )


def _rows(unit: LogicalUnit) -> dict[int, Command]:
    """
    Return the rows whose functions do nothing but call the store, which is not told who
    asks.
    """
    found = {}
    for opcode, function in _FUNCTIONS.items():
        row = dict.get(unit.commands, opcode)
        if type(row) is Command and row.run is function:
            found[opcode] = row
    return found
