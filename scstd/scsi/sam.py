# SPDX-License-Identifier: MIT
"""
The nouns of SAM-5: status, task attribute, task management, nexus, task.

A `Task` is one command on its way through one logical unit.  It belongs to the
I_T_L nexus (`ITL`) on which it came: what one initiator port may know and do at one
logical unit through one LUN map.  Both are plain records: the rules are in `unit`
(the gate and the life of a task), `taskset` (the order) and the command rows.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger

from scstd.interfaces import Buffer

if TYPE_CHECKING:
    from scstd.scsi.command import Command
    from scstd.scsi.copy.operations import CopyOperation
    from scstd.scsi.express import Express
    from scstd.scsi.nexus import Nexus
    from scstd.scsi.sense import CheckCondition, Refused, UnitAttention
    from scstd.scsi.taskset import TaskSet
    from scstd.scsi.unit import LogicalUnit

_log = Logger()


class Status(IntEnum):
    """
    Status codes (SAM-5 section 5.3.1).
    """

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class TaskAttribute(IntEnum):
    """
    Task attributes (SAM-5 section 8.9), in the lowest three bits of
    `Task.attribute`.  The numbers are ours: what a transport says by others it
    translates.
    """

    UNTAGGED = 0
    SIMPLE = 1
    ORDERED = 2
    HEAD_OF_QUEUE = 3
    ACA = 4


PRIORITY_SHIFT = 8
"""
Where a command priority is in the task attribute of a command that arrives: above it.
The task set takes it out; where there is none there is nothing to look at.
"""

NO_PRIORITY = 8
"""Among which priorities commands without one are: in the middle, as nothing is said of
them (SAM-5, Command priority: 1 is the highest, 15 the lowest)."""


class TaskManagementFunction(Enum):
    """
    Task management functions (SAM-5 section 7).  How they are coded is the transport's.
    """

    ABORT_TASK = auto()
    ABORT_TASK_SET = auto()
    CLEAR_ACA = auto()
    CLEAR_TASK_SET = auto()
    LOGICAL_UNIT_RESET = auto()
    TARGET_WARM_RESET = auto()
    TARGET_COLD_RESET = auto()
    QUERY_TASK = auto()
    QUERY_TASK_SET = auto()
    I_T_NEXUS_RESET = auto()
    QUERY_ASYNCHRONOUS_EVENT = auto()


class ServiceResponse(Enum):
    """
    How a task management function ends (SAM-5, service responses).
    """

    FUNCTION_COMPLETE = auto()
    FUNCTION_REJECTED = auto()
    INCORRECT_LOGICAL_UNIT_NUMBER = auto()


@attrs.define(eq=False)
class ITL:
    """
    One I_T_L nexus: an I_T nexus (`scstd.scsi.nexus.Nexus`) and one logical unit,
    seen at one LUN.
    """

    nexus: Nexus
    unit: LogicalUnit
    lun: int
    """The number; negative for units that no LUN map has."""
    read_only: bool = False
    """The LUN map has it so."""
    task_set: TaskSet = attrs.field(default=None)
    """Where its tasks are: the unit's, or its own (TST)."""
    attentions: list[UnitAttention] = attrs.field(factory=list)
    """Unit attentions that are pending, in the order in which they are told."""
    prevents_removal: bool = False
    """PREVENT ALLOW MEDIUM REMOVAL, PREVENT=01b."""
    prevents_persistently: bool = False
    """The same, 11b (MMC-6)."""
    events: dict[int, int] = attrs.field(factory=dict)
    """An event code for each class of which GET EVENT STATUS NOTIFICATION has not told
    yet (MMC-6)."""
    copies: dict[int, CopyOperation] = attrs.field(factory=dict)
    """Its copy operations by list identifier."""
    echo_buffer: bytes | None = None
    """What WRITE BUFFER has put in the echo buffer."""
    unflushed: CheckCondition | None = None
    """A flush that has failed after its command was answered: the next one says so."""
    express: Express | None = None
    """What reads and writes go by when nothing stands in their way (`scsi.express`)."""

    def look_again(self) -> None:
        """
        Have it be seen again whether anything does: it has changed.
        """
        if self.express is not None:
            self.express.close()

    def have_tasks_in(self, task_set: TaskSet) -> None:
        """
        Have the tasks that come be in another task set.
        """
        self.task_set = task_set
        self.look_again()

    def forget(self) -> None:
        """
        Let go what the nexus has asked of the unit, and a reset ends.
        """
        self.prevents_removal = self.prevents_persistently = False
        self.copies = {}


@attrs.define(eq=False, slots=True)
class Task:
    """
    One command, from its arrival until `done` is called: once, and only when the
    command can no longer touch data.

    The target driver fills the first group, decoding the second; the outcome is in the
    last.
    """

    itl: ITL
    """The I_T_L nexus it came on."""
    tag: int
    """What its initiator calls it; -1 of the target's own."""
    attribute: int
    """Its task attribute, with a command priority above it (`PRIORITY_SHIFT`)."""
    cdb: bytes
    """Its command descriptor block, 16 bytes or, with additional ones, more."""
    expected_length: int
    """How many bytes the initiator expects to transfer."""
    done: Callable[[Task], None]
    """Is called at its end.  If it was aborted, and not `tell_aborted`, nothing is
    answered."""
    context: Any = None
    """The driver's."""

    row: Command | None = None
    """The row of its command, if there is such a command."""
    flags: int = 0
    """The byte with FUA and the like."""
    lba: int = 0
    blocks: int = 0
    data_out_length: int = 0
    """How many bytes of Data-Out the command needs: the driver collects no more than
    that, and no more than `expected_length`, and calls `LogicalUnit.run`."""
    data_out: Buffer = b""
    error: CheckCondition | Refused | None = None
    """What it ends with instead of being carried out; the gate comes first."""
    priority: int = 0
    """Its command priority, 1 to 15; 0: none."""

    enabled: bool = False
    """It is not blocked in its task set."""
    ready: bool = False
    """Its Data-Out is complete."""
    started: bool = False
    """It was carried out, or is being, or never will: an abort does not end it at once
    any more."""
    finished: bool = False
    """It has left the task set."""
    aborted: bool = False
    tell_aborted: bool = False
    """It was aborted, and ends with TASK ABORTED status (TAS)."""
    internal: bool = False
    """It is the target's own (`LogicalUnit.perform`)."""
    status: int = 0
    failure: CheckCondition | None = None
    """What the sense data says."""
    sense: bytes = b""
    data_in: Buffer = b""
    data_in_length: int = -1
    """Set by a command that moves less Data-In than its CDB asks for because less is
    expected: the whole length."""
    watchers: list[Callable[[Task], object]] | None = None
    """Who waits for its end (`when_over`)."""
    abandon: Callable[[], None] | None = None
    """Is called when it is aborted after it has started: what only waits ends then."""
    admission: Callable[[Task], bool] | None = None
    """Is asked whether it may start when it is enabled; if not, it is run again."""

    def when_over(self, watcher: Callable[[Task], object]) -> None:
        """
        Have *watcher* called when the task is over, however it ends: behind `done`.
        """
        if self.watchers is None:
            self.watchers = []
        self.watchers.append(watcher)

    def tell_watchers(self) -> None:
        """
        Call those who wait for its end.  What one of them raises is logged: the others,
        and other tasks, are still to be told.
        """
        for watcher in self.watchers or ():
            self._tell(watcher)

    def _tell(self, watcher: Callable[[Task], object]) -> None:
        try:
            watcher(self)
        except Exception:  # noqa: BLE001 - logged
            _log.failure("what waited for the end of a command has failed")


@attrs.define(eq=False, slots=True)
class BidirectionalTask(Task):
    """
    A command whose initiator writes *expected_length* bytes, and expects
    *expected_in_length* bytes of Data-In.
    """

    expected_in_length: int = 0
