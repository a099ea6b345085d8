# SPDX-License-Identifier: MIT
"""
I_T nexuses: one initiator port at one target port.

A target driver makes a `Nexus` for each session, sends its commands to ``nexus.luns``,
its task management to `Nexus.manage`, and calls `Nexus.lose` at the end.  What becomes
of it when the LUN map changes is said in `scstd.scsi.target`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred

from scstd.scsi import aca
from scstd.scsi.it_nexus import IT
from scstd.scsi.luns import FLAT, Group, Lun, addresses, flat
from scstd.scsi.sam import ITL, ServiceResponse, Task, TaskManagementFunction
from scstd.scsi.sense import ASC
from scstd.scsi.taskset import settle, when_all
from scstd.scsi.wellknown import REPORT_LUNS

if TYPE_CHECKING:
    from scstd.scsi.target import Target
    from scstd.scsi.unit import LogicalUnit

_FUNCTION = TaskManagementFunction
_COMPLETE = ServiceResponse.FUNCTION_COMPLETE

FUNCTIONS = frozenset(
    (
        _FUNCTION.ABORT_TASK,
        _FUNCTION.ABORT_TASK_SET,
        _FUNCTION.CLEAR_ACA,
        _FUNCTION.CLEAR_TASK_SET,
        _FUNCTION.LOGICAL_UNIT_RESET,
        _FUNCTION.TARGET_WARM_RESET,
        _FUNCTION.TARGET_COLD_RESET,
    )
)
"""The functions that there are on a nexus of whose driver nothing else is said."""


@attrs.define(eq=False, repr=False)
class Nexus:
    """
    One I_T nexus.
    """

    target: Target
    initiator: str
    """The initiator's name."""
    initiator_port: str
    """The initiator port's (for iSCSI ``name,i,0xISID``, RFC 7143 section 4.4.2)."""
    target_port: str
    """Ours."""
    transport_version: int = 0
    """What standard INQUIRY data says of the driver's protocol, if that is not 0."""
    functions: frozenset[TaskManagementFunction] = FUNCTIONS
    """The task management functions that the driver carries out: REPORT SUPPORTED TASK
    MANAGEMENT FUNCTIONS tells them."""
    notify: Callable[[int, ASC], object] = lambda _lun, _asc: None
    """Is called with a LUN and an additional sense code when the initiator had better
    know of a unit attention before it next asks; the driver sets it if it can tell."""
    reassigned: Callable[[], object] = lambda: None
    """Is called when maps or groups have changed: the nexus may be in another group."""
    luns: dict[int, ITL] = attrs.field(factory=dict, init=False)
    """Its I_T_L nexuses by the LUN field of a command: ``luns.get(field, absent)``."""
    itls: dict[int, ITL] = attrs.field(factory=dict, init=False)
    """The same by number."""
    leaving: dict[ITL, list[Deferred[None]]] = attrs.field(factory=dict, init=False)
    """Those whose LUN is gone while they have commands."""
    absent: ITL = attrs.field(init=False)
    """Where commands go whose LUN is none."""
    well_known: ITL = attrs.field(init=False)
    """The REPORT LUNS well known logical unit."""
    it: IT = attrs.field(init=False)
    """What outlives the nexus: its names."""
    it_by_name: IT = attrs.field(init=False)
    """These without the ISID."""
    unaligned: list[int] = attrs.field(factory=lambda: [0, 0, 0], init=False)
    """How many of its commands did not begin and end at 4096 bytes: that read, that
    wrote, that did both."""

    def __attrs_post_init__(self) -> None:
        self.it = (self.initiator_port.lower(), self.target.qualified_name)
        self.it_by_name = (self.initiator.lower(), self.target.qualified_name)
        self.absent = ITL(self, self.target.absent, lun=-1)
        self.absent.unit.attach(self.absent)
        self.well_known = ITL(self, self.target.well_known, lun=-2)
        self.well_known.unit.attach(self.well_known)
        self.luns[REPORT_LUNS] = self.well_known
        self.target.nexuses[self] = None

    def __repr__(self) -> str:
        """Return its names: the objects around it know it, too, and all others."""
        return f"<Nexus {self.initiator_port} {self.target_port}>"

    # The LUN map.

    def attach(self, *attentions: ASC) -> None:
        """
        Attach every logical unit of the map; *attentions* is what each tells first.
        """
        for lun, entry in sorted(self._wanted().items()):
            self._attach(lun, entry, *attentions)
        for asc in attentions:
            self.well_known.unit.tell(self.well_known, asc)

    @property
    def group(self) -> Group | None:
        """The group that its initiator is in now, if it is in one."""
        return self.target.group_for(self.initiator)

    def _wanted(self) -> Mapping[int, Lun]:
        return self.target.luns_for(self.initiator)

    def _attach(self, lun: int, entry: Lun, *attentions: ASC) -> None:
        itl = ITL(self, entry.unit, lun, read_only=entry.read_only)
        self.itls[lun] = itl
        entry.unit.attach(itl, *attentions)
        for address in addresses(lun):
            self.luns[address] = itl

    def remap(self, *, tell: bool = True) -> list[Deferred[None]]:
        """
        Do what `Target.reassign` says for this nexus; return a Deferred for each
        logical unit that still has commands to finish.
        """
        wanted = self._wanted()
        changed = False
        for lun, itl in list(self.itls.items()):
            entry = wanted.get(lun)
            if entry is not None and entry.unit is itl.unit:
                if itl.read_only != entry.read_only:
                    itl.read_only = entry.read_only
                    itl.look_again()
                    itl.unit.tell(itl, ASC.MODE_PARAMETERS_CHANGED)
                continue
            del self.itls[lun]
            for address in addresses(lun):
                del self.luns[address]
            self._leave(itl)
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
            self._inventory_changed()
        self.reassigned()
        drained: list[Deferred[None]] = []
        for waiting in self.leaving.values():
            drained.append(Deferred())
            waiting.append(drained[-1])
        return drained

    def _inventory_changed(self) -> None:
        """
        Tell the nexus that LUNs came or went: whichever it asks next.
        """
        told = [*self.itls.values(), self.well_known]
        if not self.itls:
            told.append(self.absent)
        for itl in told:
            itl.unit.tell(itl, ASC.REPORTED_LUNS_DATA_HAS_CHANGED)
        self.notify(min(self.itls, default=0), ASC.REPORTED_LUNS_DATA_HAS_CHANGED)

    def inventory_reported(self) -> None:
        """
        Forget what `_inventory_changed` told: REPORT LUNS has said what there is (SAM-5
        section 5.14).
        """
        for itl in (*self.itls.values(), self.well_known, self.absent):
            itl.attentions = [
                one
                for one in itl.attentions
                if one.asc != ASC.REPORTED_LUNS_DATA_HAS_CHANGED
            ]

    def _leave(self, itl: ITL) -> None:
        """
        Leave a logical unit when the commands there are over.
        """
        unit = itl.unit
        itl.look_again()
        waiting = self.leaving[itl] = []

        def over() -> None:
            # Else the nexus was lost meanwhile, and has left it.
            if self.leaving.pop(itl, None) is not None:
                unit.detach(itl, lambda: None)
            for deferred in waiting:
                deferred.callback(None)

        settle(unit.tasks_of(itl), over)
        aca.depart(itl)

    def lun_fields(self) -> list[bytes]:
        """
        Return the LUNs of the map as REPORT LUNS names them, 8 bytes each.  LUN 0 is
        always 0 (SCST's rule): it has to be found before anything else is known.
        """
        group = self.group
        own = None if group is None else group.values.get("addr_method")
        method = own or self.target.addr_method
        first_flat = 1 if method == FLAT else 256
        return [
            (flat(lun) if lun >= first_flat else lun << 48).to_bytes(8, "big")
            for lun in sorted(self.itls)
        ]

    def names(self, field: int, itl: ITL) -> bool:
        """
        Say whether a LUN field names this ITL, or did until its LUN was taken away.
        """
        if itl.lun < 0 or self.luns.get(field) is itl:
            return True
        return itl in self.leaving and field in addresses(itl.lun)

    def missing(self, field: int) -> ITL:
        """
        Return where commands go whose LUN field names nothing.
        """
        self.target.report(
            "LUN_NOT_FOUND",
            target=self.target.qualified_name,
            initiator=self.initiator,
            lun=field >> 48 & 0x3FFF,
        )
        return self.absent

    # Tasks.

    def _every(self) -> list[ITL]:
        return [*self.itls.values(), *self.leaving, self.well_known, self.absent]

    def tasks(self) -> list[Task]:
        """
        Return all tasks of this nexus.
        """
        return [task for itl in self._every() for task in itl.unit.tasks_of(itl)]

    def manage(
        self,
        function: TaskManagementFunction,
        lun: int,
        done: Callable[[ServiceResponse], None],
        spared: frozenset[Task] = frozenset(),
    ) -> None:
        """
        Perform a task management function (SAM-5 section 7) on the LUN field *lun*;
        call *done* when no affected task can touch data any more.  Tasks of this nexus
        that are *spared* were sent after ABORT TASK SET or CLEAR TASK SET.

        ABORT TASK is the driver's: it knows the tags (`LogicalUnit.abort`).
        """
        if function in {_FUNCTION.TARGET_WARM_RESET, _FUNCTION.TARGET_COLD_RESET}:
            when_all(
                [partial(unit.reset, by=itl) for unit, itl in self._units().items()],
                lambda: done(_COMPLETE),
            )
            return
        if function == _FUNCTION.I_T_NEXUS_RESET:
            self.reset(lambda: done(_COMPLETE))
            return
        found = self.luns.get(lun)
        itls = self._named(lun)
        if not itls:
            done(ServiceResponse.INCORRECT_LOGICAL_UNIT_NUMBER)
            return

        def gone() -> None:
            done(_COMPLETE)

        if function == _FUNCTION.CLEAR_ACA:
            # A LUN that is gone has none: what it blocked is to end.
            if found is None:
                gone()
            else:
                aca.clear_aca(found, done)
        elif found is not None and function == _FUNCTION.LOGICAL_UNIT_RESET:
            found.unit.reset(gone, by=found)
        elif (
            found is not None
            and function == _FUNCTION.CLEAR_TASK_SET
            and not found.unit.separate_task_sets
        ):
            doomed = [task for task in found.unit.tasks() if task not in spared]
            found.unit.clear(doomed, gone, by=found)
        else:
            # A LUN that is gone has nothing but this nexus' own tasks.
            when_all(
                [partial(_abort_all, itl, spared) for itl in itls],
                gone,
            )

    def affected(self, function: TaskManagementFunction, lun: int) -> list[Task]:
        """
        Return the tasks that `manage` would abort now, of whichever nexus.
        """
        if function in {_FUNCTION.TARGET_WARM_RESET, _FUNCTION.TARGET_COLD_RESET}:
            return [task for unit in self._units() for task in unit.tasks()]
        if function == _FUNCTION.I_T_NEXUS_RESET:
            return self.tasks()
        found = self.luns.get(lun)
        if found is not None and (
            function == _FUNCTION.LOGICAL_UNIT_RESET
            or (
                function == _FUNCTION.CLEAR_TASK_SET
                and not found.unit.separate_task_sets
            )
        ):
            return found.unit.tasks()
        return [task for itl in self._named(lun) for task in itl.unit.tasks_of(itl)]

    def _units(self) -> dict[LogicalUnit, ITL]:
        """
        Return every logical unit that the nexus has access to, and where.
        """
        return {itl.unit: itl for itl in (*self.itls.values(), self.well_known)}

    def _named(self, lun: int) -> list[ITL]:
        """
        Return what the LUN field *lun* names, or did until it was taken away.
        """
        found = self.luns.get(lun)
        return [itl for itl in (found, *self.leaving) if itl and self.names(lun, itl)]

    def reset(self, gone: Callable[[], None]) -> None:
        """
        Reset the nexus (SAM-5, I_T NEXUS RESET): do what a nexus loss does, but stay;
        each logical unit tells of it.
        """
        calls: list[Callable[[Callable[[], None]], None]] = []
        for itl in self._every():
            unit = itl.unit
            unit.reservation.nexus_lost(itl)
            itl.forget()
            if itl in self.itls.values():
                unit.tell(itl, ASC.I_T_NEXUS_LOSS_OCCURRED)
            calls.append(partial(unit.abort, unit.tasks_of(itl)))
        when_all(calls, gone)
        for itl in self._every():
            aca.end(itl)

    def lose(self, gone: Callable[[], None]) -> None:
        """
        End the nexus (I_T nexus loss); call *gone* when none of its tasks is left.
        """
        self.target.nexuses.pop(self, None)
        every = self._every()
        for itl in every:
            itl.look_again()
        self.leaving.clear()
        self.luns = {}
        when_all([partial(itl.unit.detach, itl) for itl in every], gone)


def _abort_all(itl: ITL, spared: frozenset[Task], gone: Callable[[], None]) -> None:
    """
    Abort the tasks of one I_T_L nexus (ABORT TASK SET).
    """
    doomed = [task for task in itl.unit.tasks_of(itl) if task not in spared]
    itl.unit.abort(doomed, gone, by=itl)
