# SPDX-License-Identifier: MIT
"""
Trace: what the log says of single commands and functions, at run time (SCST:
trace_level).

A level is a set of tokens, a bit each; names and numbers are SCST's, so that ``value``
means the same.  Those that are about the inside of a kernel module are taken and do
nothing.  While no token is on that is about commands, nothing looks at commands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from scstd.management.model.trace_level import DEFAULT, TOKENS
from scstd.management.monitor.events import Event
from scstd.scsi.pipeline import GoOn, Rank, Stage
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import CheckCondition, SenseKey

NAMESPACE = "scstd.trace"
"""What its lines are called in the log."""

_log = Logger(NAMESPACE)

_MINOR, _MGMT, _SCSI, _SPECIAL, _FLOW, _PR, _RETRY = (
    TOKENS[name][0]
    for name in ("minor", "mgmt", "scsi", "special", "flow_control", "pr", "retry")
)

COMMANDS = _MINOR | _SCSI | _FLOW | _PR | _RETRY
"""The tokens for which commands have to be looked at."""

_RESERVING = frozenset((0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F))
_FULL = frozenset((Status.BUSY, Status.TASK_SET_FULL))
_AGAIN = frozenset((SenseKey.UNIT_ATTENTION, SenseKey.ABORTED_COMMAND))


def _sense(failure: CheckCondition | None) -> str:
    if failure is None:
        return ""
    name = failure.key.name.replace("_", " ")
    return f" {name} {failure.asc >> 8:02x}/{failure.asc & 0xFF:02x}"


def command(task: Task) -> str:
    """
    Return what a task is to do, for people.
    """
    nexus = task.itl.nexus
    row = task.row
    name = f"opcode {task.cdb[0]:02x}h" if row is None else row.name
    extent = ""
    if row is not None and row.extent is not None:
        extent = f" LBA {task.lba} blocks {task.blocks}"
    lun = task.itl.lun
    where = f"LUN {lun} ({task.itl.unit.name})" if lun >= 0 else task.itl.unit.name
    own = " (the target's own)" if task.internal else f" tag {task.tag}"
    return (
        f"{nexus.initiator} {nexus.target.qualified_name} {where}{own}: {name}{extent}"
    )


def place(task: Task) -> dict[str, Any]:
    """
    Return the same as fields, for programs.
    """
    nexus, row = task.itl.nexus, task.row
    located = row is not None and row.extent is not None
    return {
        "initiator": nexus.initiator,
        "target": nexus.target.qualified_name,
        "lun": task.itl.lun,
        "device": task.itl.unit.name,
        "tag": task.tag,
        "lba": task.lba if located else None,
        "blocks": task.blocks if located else None,
        "status": task.status,
    }


def outcome(task: Task) -> str:
    """
    Return how a task has ended, for people.
    """
    if task.aborted and not task.tell_aborted:
        return "ABORTED"
    try:
        status = Status(task.status).name.replace("_", " ")
    except ValueError:
        status = f"status {task.status:02x}h"
    return status + _sense(task.failure)


def progress(task: Task) -> str:
    """
    Return how far a task under way is.
    """
    if task.aborted:
        return "being aborted"
    if task.started:
        return "at work"
    if not task.enabled:
        return "waits for older tasks"
    return "waits to start" if task.ready else "waits for its data"


@attrs.define(eq=False, slots=False)
class Trace(Stage):
    """
    Writes to the log what *level* asks for.
    """

    name = "trace"
    rank = Rank.TRACE

    level: int = DEFAULT
    clock: Callable[[], float] = time.perf_counter

    def arrive(self, task: Task, go_on: GoOn) -> None:
        """Take a command that has come."""
        began = self.clock()
        go_on()
        task.when_over(lambda over: self.over(over, self.clock() - began))

    def wants(self, task: Task) -> bool:
        """
        Say whether a task that is over is to be in the log.
        """
        level = self.level
        if level & _SCSI:
            return True
        failure = task.failure
        if level & _PR and (
            task.cdb[0] in _RESERVING or task.status == Status.RESERVATION_CONFLICT
        ):
            return True
        if level & (_FLOW | _RETRY) and task.status in _FULL:
            return True
        if failure is None:
            return False
        again = failure.key in _AGAIN
        return bool(level & _RETRY and again) or bool(level & _MINOR)

    def over(self, task: Task, took: float) -> None:
        """
        Take a task that is over after *took* seconds.
        """
        if self.wants(task):
            _log.info(
                "{command} {outcome} {took} us",
                command=command(task),
                outcome=outcome(task),
                took=round(took * 1e6),
                **place(task),
            )

    def heard(self, event: Event) -> None:
        """
        Take an event.
        """
        managing = event.name in {"TM_FN_RECEIVED", "TM_FN_DONE"}
        if self.level & (_MGMT if managing else _SPECIAL):
            _log.info(
                "{event}: {said}",
                **event.fields,
                event=event.name,
                said=_said(event.fields),
            )


def _said(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
