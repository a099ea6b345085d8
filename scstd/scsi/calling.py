# SPDX-License-Identifier: MIT
"""
The command for which a store is being called, before it is a task.

A read or write that goes by the express way (`scstd.scsi.express`) is no `Task` while
the store is called, for the call nearly always answers it.  But what a store does in
that call is its own affair: it may bring about a reset of its unit, the end of the
session, or a look at what is under way.  Whoever looks for tasks asks first that this
one be seen (`Calling.reveal`): then it is aborted, waited for and told of as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scstd.scsi.express import Express
    from scstd.scsi.sam import Task


class Calling:
    """
    What one logical unit's store is being called for by the express way.
    """

    __slots__ = ("caller", "start", "task", "way")

    caller: Any
    """Who calls it, or is about to, and by which way; else None: who is gone is not
    kept."""
    way: Express | None

    def __init__(self) -> None:
        self.caller = self.way = None
        self.start = -1
        """Where its caller has the command; -1: no call is under way."""
        self.task: Task | None = None
        """What the command is, if somebody has looked."""

    def reveal(self) -> None:
        """
        Have the command be a task, and be carried to its end as one.
        """
        if self.start >= 0 and self.task is None:
            assert self.way is not None
            self.task = self.way.task_at(self.way, self.caller, self.start)
            self.way.close()

    def over(self) -> None:
        """
        Take it that its caller is at its end: there is no call.
        """
        self.caller = self.way = None
