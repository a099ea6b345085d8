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
    from scstd.scsi.copy.operations import Operation
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
    Task attributes, coded as iSCSI codes them (RFC 7143 section 11.3.1).
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


class TaskManagementFunction(IntEnum):
    """
    Task management functions (SAM-5 section 7), coded as iSCSI codes them (RFC 7143
    section 11.5.1, RFC 7144).
    """

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8
    QUERY_TASK = 9
    QUERY_TASK_SET = 10
    I_T_NEXUS_RESET = 11
    QUERY_ASYNCHRONOUS_EVENT = 12


class ServiceResponse(Enum):
    """
    How a task management function ends (SAM-5, service responses).
    """

    FUNCTION_COMPLETE = auto()
    FUNCTION_REJECTED = auto()
    INCORRECT_LOGICAL_UNIT_NUMBER = auto()


IT = tuple[str, str]
"""
An I_T nexus by its names, which outlive its sessions: those of the initiator port (or
of the initiator, where ISIDs do not count), in lower case, and of the target (each has
one target port).
"""


@attrs.define(eq=False)
class ITL:
    """
    One I_T_L nexus: an I_T nexus (`scstd.scsi.nexus.Nexus`) and one logical unit,
    seen at one LUN.

    *events* has an event code for each class of which GET EVENT STATUS NOTIFICATION has
    not told yet (MMC-6).  *copies* are its copy operations by list identifier.
    """

    nexus: Nexus
    unit: LogicalUnit
    lun: int
    read_only: bool = False
    task_set: TaskSet = attrs.field(default=None)
    attentions: list[UnitAttention] = attrs.field(factory=list)
    prevents_removal: bool = False
    prevents_persistently: bool = False
    events: dict[int, int] = attrs.field(factory=dict)
    copies: dict[int, Operation] = attrs.field(factory=dict)
    echo_buffer: bytes | None = None
    unflushed: CheckCondition | None = None
    """A flush that has failed after its command was answered: the next one says so."""

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

    The target driver fills the first group (*attribute* with a command priority above
    it, `PRIORITY_SHIFT`); decoding the second; the outcome is in the
    third.  *expected_length* is what the initiator expects to transfer, in bytes;
    *data_out_length* is what the command needs of it: the driver collects
    ``min(expected_length, data_out_length)`` bytes into *data_out*, then calls
    `LogicalUnit.run`.  *admission*, where there is one, is asked whether a task that is
    enabled may start: one that may not is run again.  *data_in_length* is set by a
    command that moves less Data-In than its CDB asks for because less is expected: the
    whole length.  *failure* is what the sense data says.  An *internal* task is the
    target's own
    (`LogicalUnit.perform`).  If *aborted* is set when `done` is called nothing is
    answered.  *abandon* is called when it is aborted after it has started: what only
    waits ends then.
    """

    itl: ITL
    tag: int
    attribute: int
    cdb: bytes
    expected_length: int
    done: Callable[[Task], None]
    context: Any = None

    row: Command | None = None
    flags: int = 0
    lba: int = 0
    blocks: int = 0
    data_out_length: int = 0
    data_out: Buffer = b""
    error: CheckCondition | Refused | None = None
    priority: int = 0

    enabled: bool = False
    ready: bool = False
    started: bool = False
    finished: bool = False
    aborted: bool = False
    tell_aborted: bool = False
    internal: bool = False
    status: int = 0
    failure: CheckCondition | None = None
    sense: bytes = b""
    data_in: Buffer = b""
    data_in_length: int = -1
    watchers: list[Callable[[Task], object]] | None = None
    abandon: Callable[[], None] | None = None
    admission: Callable[[Task], bool] | None = None

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
