# SPDX-License-Identifier: MIT
"""
A session of a simple target driver: one initiator port at one target, whose commands
come with all of their data.

It is what a driver does with the SCSI core in the order in which it has to be done.  A
driver that needs more (Data-Out that is asked for, order of commands, several
connections) does the same with a `scstd.scsi.nexus.Nexus` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import (
    ServiceResponse,
    Status,
    Task,
    TaskAttribute,
    TaskManagementFunction,
)
from scstd.scsi.sense import ASC
from scstd.scsi.target import Target

if TYPE_CHECKING:
    from scstd.drivers.base import BaseDriver

LONGEST_CDB = 260
"""Bytes of the longest CDB: one of variable length (SPC-5 section 4.2.3)."""

MOST = 1 << 24
"""Bytes of Data-In that are taken of a command of which nothing else is said."""

_NAME = re.compile(r"[!-.0-~]{1,223}")
"""Names that can be part of a path."""

_numbers = count(1)


@attrs.define(eq=False)
class DriverSession:
    """
    A session.  Making one lets the initiator in: the driver has it from now on, and
    each of its logical units tells a unit attention first.

    :raises ValueError: the initiator's name can be none.
    """

    driver: BaseDriver
    target: Target
    initiator: str
    """
    The initiator's name: LUN maps and reservations go by it.  It is part of a path in
    the tree, so ``/`` is not in it.
    """
    close: Callable[[], object] = lambda: None
    """Called at the end: closes what the session came by."""
    initiator_port: str = ""
    """
    The name of the initiator port, where an initiator has several
    (`scstd.scsi.transport`); else the initiator's.
    """
    target_port: str = ""
    """The SCSI name of our port, where the protocol has one."""
    peer: str = ""
    """Where it comes from, and *portal* where it came to: for people."""
    portal: str = ""
    nexus: Nexus = attrs.field(init=False)
    commands: int = attrs.field(default=0, init=False)
    number: int = attrs.field(factory=lambda: next(_numbers), init=False)
    began: float = attrs.field(init=False)
    tasks: dict[int, Task] = attrs.field(factory=dict, init=False)
    """What is under way, by its tag."""
    ended: bool = attrs.field(default=False, init=False)
    _lost: bool = attrs.field(default=False, init=False)
    _waiting: list[Deferred[None]] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.initiator) or self.initiator in {".", ".."}:
            raise ValueError(f"{self.initiator!r} can be no initiator's name")
        self.nexus = Nexus(
            self.target,
            self.initiator,
            self.initiator_port or self.initiator,
            self.target_port,
        )
        self.nexus.attach(ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
        self.began = self.driver.reactor.seconds()
        self.driver.opened[self] = None
        self._tell("SESSION_OPENED")

    def _tell(self, event: str, **more: Any) -> None:
        self.driver.event(
            event,
            target=self.target.qualified_name,
            initiator=self.initiator,
            peer=self.peer,
            portal=self.portal,
            tsih=self.number,
            **more,
        )

    def report(self) -> dict[str, Any]:
        """
        Return what there is to say of it.
        """
        return {
            "initiator_name": self.initiator,
            "ip": self.peer,
            "target_ip": self.portal,
            "commands": self.commands,
            "active_commands": len(self.nexus.tasks()),
        }

    # Commands.

    def command(
        self,
        tag: int,
        lun: int,
        cdb: bytes,
        done: Callable[[Task], object],
        *,
        data: Buffer = b"",
        expected: int = MOST,
        attribute: int = TaskAttribute.SIMPLE,
    ) -> None:
        """
        Carry out a command: *lun* is the LUN field as a number of 8 bytes, *data* all
        of its Data-Out, *expected* how much Data-In is taken if there is none.

        *done* is called once, at once or later, with the task: its ``status``,
        ``sense``, ``data_in`` and, at last, the initiator's next command.  Of a task
        that was aborted, and whose initiator is not to be told, it is never called.

        :raises ValueError: the tag is one of a task under way, or it is no CDB.
        """
        if tag in self.tasks or not 0 < len(cdb) <= LONGEST_CDB:
            raise ValueError("the tag is in use, or this is no CDB")
        nexus = self.nexus
        itl = nexus.luns.get(lun) or nexus.missing(lun)

        def over(task: Task) -> None:
            del self.tasks[tag]
            if not self.ended and (not task.aborted or task.tell_aborted):
                done(task)

        length = len(data) or expected
        # Rows look at as many bytes as their CDBs have; what is missing is zero.
        task = Task(itl, tag, attribute, cdb.ljust(16, b"\0"), length, over)
        if self.ended or self.driver.stopping:
            task.status = Status.BUSY
            done(task)
            return
        self.commands += 1
        self.tasks[tag] = task
        try:
            itl.unit.arrive(task)
        except BaseException:
            del self.tasks[tag]
            raise
        task.data_out = data[: task.data_out_length]
        itl.unit.run(task)

    def abort(self, tag: int, gone: Callable[[], object]) -> None:
        """
        Abort a task (ABORT TASK); call *gone* when it cannot touch data any more.
        There need not be one.
        """
        task = self.tasks.get(tag)
        if task is None:
            gone()
        else:
            task.itl.unit.abort([task], lambda: _ignore(gone()), by=task.itl)

    def manage(
        self,
        function: TaskManagementFunction,
        lun: int,
        done: Callable[[ServiceResponse], object],
    ) -> None:
        """
        Carry out any other task management function (SAM-5 section 7); *done* is called
        when no task that it affects can touch data any more.
        """
        self.nexus.manage(function, lun, lambda response: _ignore(done(response)))

    # The end.

    def end(self, why: str) -> Deferred[None]:
        """
        End the session, also if it has ended: fire when none of its tasks can touch
        data.  What it came by is closed, and nothing more is answered.
        """
        over: Deferred[None] = Deferred()
        self._waiting.append(over)
        if not self.ended:
            self.ended = True
            self.driver.opened.pop(self, None)
            seconds = self.driver.reactor.seconds() - self.began
            self._tell(
                "SESSION_CLOSED",
                reason=why,
                commands=self.commands,
                seconds=round(seconds, 3),
            )
            self.close()
            self.nexus.lose(self._gone)
        elif self._lost:
            self._gone()
        return over

    def _gone(self) -> None:
        self._lost = True
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)


def _ignore(result: object) -> None:
    del result
