# SPDX-License-Identifier: MIT
"""
SCSI targets, their LUN maps, and the I_T nexuses of those who have logged in.

A `Target` maps LUNs to logical units: a default map, and one for each group of
initiators; the first group with a pattern that matches the initiator's name decides
(SCST's rule).  A `Nexus` is one initiator port at one target port: a target driver
makes one for each session, sends its commands to ``nexus.luns``, its task management to
`Nexus.manage`, and calls `Nexus.lose` at the end.

Maps may change while nexuses are there.  Whoever changed one calls `Target.reassign`:
what is the same in a nexus stays untouched; what is new is attached; a LUN that goes is
not found any more at once, its commands are let finish, and only then does the nexus
leave the logical unit.

LUN addressing (SAM-5 section 4.7): a LUN below 256 is found by the peripheral device
method and by the flat space method, a greater one by the latter alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import partial

import attrs
from twisted.internet.defer import Deferred, gatherResults

from scstd.scsi.absent import absent_unit
from scstd.scsi.sam import ITL, Task, TaskManagementFunction
from scstd.scsi.sense import ASC
from scstd.scsi.unit import LogicalUnit

_FUNCTION = TaskManagementFunction


def lun_field(lun: int) -> int:
    """
    Return the 8-byte LUN field, as an integer, that names *lun*.
    """
    return (lun if lun < 256 else 0x4000 | lun) << 48


def _addresses(lun: int) -> list[int]:
    """
    Return every LUN field that names *lun*.
    """
    flat = (0x4000 | lun) << 48
    return [lun << 48, flat] if lun < 256 else [flat]


def matches(pattern: str, name: str) -> bool:
    """
    Say whether *name* matches an initiator pattern: ``*``, ``?``, and ``!`` which
    negates the rest; letters' case is ignored.
    """
    if pattern.startswith("!"):
        return not matches(pattern[1:], name)
    # fnmatch has brackets too, which names of initiators in patterns do not mean.
    quoted = pattern.lower().replace("[", "[[]")
    return re.match(fnmatch.translate(quoted), name.lower()) is not None


@attrs.frozen
class Lun:
    """
    One entry of a LUN map.
    """

    unit: LogicalUnit
    read_only: bool = False


@attrs.define(eq=False)
class Group:
    """
    A group of initiators with a LUN map of its own (SCST: ini_groups).
    """

    name: str
    patterns: list[str]
    luns: dict[int, Lun] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Target:
    """
    A SCSI target device with one target port.
    """

    name: str
    enabled: bool = True
    luns: dict[int, Lun] = attrs.field(factory=dict)
    groups: list[Group] = attrs.field(factory=list)
    nexuses: dict[Nexus, None] = attrs.field(factory=dict)
    relative_port: int = 1

    def add_lun(
        self,
        lun: int,
        unit: LogicalUnit,
        *,
        read_only: bool = False,
        group: Group | None = None,
    ) -> None:
        """
        Map *lun* to *unit* in the default map or a group's.
        """
        chosen = self.luns if group is None else group.luns
        chosen[lun] = Lun(unit, read_only)

    def remove_lun(self, lun: int, *, group: Group | None = None) -> None:
        """
        Take *lun* out of the default map or a group's.
        """
        del (self.luns if group is None else group.luns)[lun]

    def reassign(self, *, tell: bool = True) -> Deferred[None]:
        """
        Bring every nexus in line with the maps and groups as they are now; fire when no
        command is left at what nexuses had to leave.
        """
        drained = [
            one for nexus in list(self.nexuses) for one in nexus.remap(tell=tell)
        ]
        return gatherResults(drained).addCallback(lambda _: None)

    def add_group(self, name: str, patterns: Iterable[str]) -> Group:
        """
        Add a group; groups are asked in the order in which they were added.
        """
        group = Group(name, list(patterns))
        self.groups.append(group)
        return group

    def luns_for(self, initiator: str) -> dict[int, Lun]:
        """
        Return the LUN map for an initiator's name; it may be empty.
        """
        for group in self.groups:
            if any(matches(pattern, initiator) for pattern in group.patterns):
                return group.luns
        return self.luns

    def units(self) -> list[LogicalUnit]:
        """
        Return each logical unit of any map, once.
        """
        maps = [self.luns, *(group.luns for group in self.groups)]
        return list({entry.unit: None for luns in maps for entry in luns.values()})


@attrs.define(eq=False)
class Nexus:
    """
    One I_T nexus.

    *initiator* is the initiator's name, *initiator_port* the port's (for iSCSI
    ``name,i,0xISID``, RFC 7143 section 4.4.3), *target_port* ours.  ``luns`` maps the
    LUN field of a command to its ITL; use ``luns.get(field, absent)``.  *takes_parts*
    says that the driver can send a `FilePart`.
    """

    target: Target
    initiator: str
    initiator_port: str
    target_port: str
    takes_parts: bool = False
    luns: dict[int, ITL] = attrs.field(factory=dict, init=False)
    itls: dict[int, ITL] = attrs.field(factory=dict, init=False)
    leaving: dict[ITL, None] = attrs.field(factory=dict, init=False)
    absent: ITL = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.absent = ITL(self, absent_unit(), lun=-1)
        self.absent.unit.attach(self.absent)
        self.target.nexuses[self] = None

    def attach(self, *attentions: ASC) -> None:
        """
        Attach every logical unit of the map; *attentions* is what each tells first.
        """
        for lun, entry in sorted(self.target.luns_for(self.initiator).items()):
            self._attach(lun, entry, *attentions)

    def _attach(self, lun: int, entry: Lun, *attentions: ASC) -> None:
        itl = ITL(self, entry.unit, lun, read_only=entry.read_only)
        entry.unit.attach(itl, *attentions)
        self.itls[lun] = itl
        for address in _addresses(lun):
            self.luns[address] = itl

    def remap(self, *, tell: bool = True) -> list[Deferred[None]]:
        """
        Do what `Target.reassign` says for this nexus.
        """
        wanted = self.target.luns_for(self.initiator)
        drained: list[Deferred[None]] = []
        changed = False
        for lun, itl in list(self.itls.items()):
            entry = wanted.get(lun)
            if entry is not None and entry.unit is itl.unit:
                if itl.read_only != entry.read_only:
                    itl.read_only = entry.read_only
                    itl.unit.tell(itl, ASC.MODE_PARAMETERS_CHANGED)
                continue
            del self.itls[lun]
            for address in _addresses(lun):
                del self.luns[address]
            drained.append(self._leave(itl))
            if entry is None:
                changed = True
            else:
                told = (ASC.INQUIRY_DATA_HAS_CHANGED,) if tell else ()
                self._attach(lun, entry, *told)
        for lun, entry in sorted(wanted.items()):
            if lun not in self.itls:
                changed = True
                self._attach(
                    lun, entry, ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
                )
        if changed:
            for itl in self.itls.values() if self.itls else (self.absent,):
                itl.unit.tell(itl, ASC.REPORTED_LUNS_DATA_HAS_CHANGED)
        return drained

    def _leave(self, itl: ITL) -> Deferred[None]:
        left: Deferred[None] = Deferred()
        self.leaving[itl] = None

        def over() -> None:
            if itl in self.leaving:
                del self.leaving[itl]
                itl.unit.detach(itl, lambda: left.callback(None))
            else:
                left.callback(None)

        drain(itl, over)
        return left

    def tasks(self) -> list[Task]:
        """
        Return all tasks of this nexus.
        """
        every = [*self.itls.values(), *self.leaving, self.absent]
        return [task for itl in every for task in itl.unit.tasks_of(itl)]

    def manage(self, function: int, lun: int, done: Callable[[bool], None]) -> None:
        """
        Perform a task management function; call *done* when no affected task can
        touch data any more: with False if there is no such logical unit.

        ABORT TASK is the driver's: it knows the tags (`LogicalUnit.abort`).
        """
        if function in {_FUNCTION.TARGET_WARM_RESET, _FUNCTION.TARGET_COLD_RESET}:
            itls = list(self.itls.values())
            _all(
                [partial(itl.unit.reset, by=itl) for itl in itls],
                lambda: done(True),
            )
            return
        found = self.luns.get(lun)
        if found is None:
            done(False)
            return
        itl, unit = found, found.unit

        def gone() -> None:
            done(True)

        if function == _FUNCTION.LOGICAL_UNIT_RESET:
            unit.reset(gone, by=itl)
        elif function == _FUNCTION.CLEAR_TASK_SET and not unit.separate_task_sets:
            others = [other for other in unit.itls if unit.tasks_of(other)]
            for other in others:
                if other is not itl and not unit.task_aborted_status:
                    unit.tell(other, ASC.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)
            unit.abort(unit.tasks(), gone, by=itl)
        else:
            unit.abort(unit.tasks_of(itl), gone, by=itl)

    def lose(self, gone: Callable[[], None]) -> None:
        """
        End the nexus (I_T nexus loss); call *gone* when none of its tasks is left.
        """
        self.target.nexuses.pop(self, None)
        every = [*self.itls.values(), *self.leaving, self.absent]
        self.leaving.clear()
        self.luns = {}
        _all([partial(itl.unit.detach, itl) for itl in every], gone)


def drain(itl: ITL, gone: Callable[[], None]) -> None:
    """
    Call *gone* when every task that an I_T_L nexus has now is over.
    """
    waiting = {task for task in itl.unit.tasks_of(itl) if not task.finished}

    def left(task: Task) -> None:
        waiting.discard(task)
        if not waiting:
            gone()

    if not waiting:
        gone()
        return
    for task in waiting:
        if task.watchers is None:
            task.watchers = []
        task.watchers.append(left)


def _all(
    calls: list[Callable[[Callable[[], None]], None]], done: Callable[[], None]
) -> None:
    """
    Start every call with a callback; call *done* when all of them have called back.
    """
    left = len(calls) + 1

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            done()

    for call in calls:
        call(one)
    one()
