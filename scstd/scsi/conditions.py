# SPDX-License-Identifier: MIT
"""
Conditions of a logical unit that stop commands: no medium, an operation under way.

A condition is imposed on a logical unit (`LogicalUnit.impose`) and lifted again.  While
there is one, every task passes it in the gate: `Condition.check` raises what the task
ends with, unless the command's row allows it.  REQUEST SENSE reports the first one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from scstd.scsi.allow import Allow
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import CheckCondition, SenseKey


class Condition(Protocol):
    """
    Something that stops commands.
    """

    def check(self, task: Task, allow: Allow) -> None:
        """
        Let the task through, or not.

        :raises CheckCondition: what the task ends with.
        """

    def sense(self, itl: ITL) -> CheckCondition | None:
        """Return what REQUEST SENSE reports to this nexus."""


class Background(Protocol):
    """
    What works on the medium without a task, or after its own is over.
    """

    def reset(self, gone: Callable[[], None]) -> None:
        """Take in a logical unit reset; call *gone* when it has had its effect."""

    def stop(self) -> Deferred[None]:
        """Stop for the device is being closed; fire when nothing is under way."""

    def pause(self) -> Deferred[None]:
        """Begin nothing more until `go_on`; fire when nothing is under way."""

    def go_on(self) -> None:
        """Go on where it has paused."""


@attrs.frozen(eq=False)
class NotReady:
    """
    The unit is not ready, for the reason that *asc* says.
    """

    asc: int

    def check(self, task: Task, allow: Allow) -> None:
        """Stop what needs the medium."""
        del task
        if Allow.NO_MEDIUM not in allow:
            raise CheckCondition(SenseKey.NOT_READY, self.asc)

    def sense(self, itl: ITL) -> CheckCondition:
        """Say why."""
        del itl
        return CheckCondition(SenseKey.NOT_READY, self.asc)


@attrs.define(eq=False)
class Operation:
    """
    A format or a sanitize under way: *allowed* is the flag of the commands that it does
    not stop, *done* is how much of it there is, in 65536ths.
    """

    asc: int
    allowed: Allow
    done: int = 0

    def check(self, task: Task, allow: Allow) -> None:
        """Stop what is not allowed meanwhile."""
        if self.allowed not in allow:
            raise self.sense(task.itl)

    def sense(self, itl: ITL) -> CheckCondition:
        """Say how far it is."""
        del itl
        return CheckCondition(SenseKey.NOT_READY, self.asc, progress=self.done)


@attrs.frozen(eq=False)
class Unusable:
    """
    A medium that an operation has left half done: *allowed* is the flag of the commands
    that work nevertheless.
    """

    asc: int
    allowed: Allow

    def check(self, task: Task, allow: Allow) -> None:
        """Stop what needs the medium."""
        if self.allowed not in allow:
            raise self.sense(task.itl)

    def sense(self, itl: ITL) -> CheckCondition:
        """Say why."""
        del itl
        return CheckCondition(SenseKey.MEDIUM_ERROR, self.asc)
