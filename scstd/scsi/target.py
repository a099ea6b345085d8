# SPDX-License-Identifier: MIT
"""
SCSI targets and their LUN maps.

A `Target` maps LUNs to logical units: a default map, and one for each group of
initiators; the first group with a pattern that matches the initiator's name decides
(SCST's rule).  Who has logged in has a `Nexus` (`scstd.scsi.nexus`).

Maps may change while nexuses are there.  Whatever was changed, `Target.reassign` brings
every nexus in line with its map and tells it: REPORTED LUNS DATA HAS CHANGED where LUNs
came or went, INQUIRY DATA HAS CHANGED where another logical unit is behind one.  A LUN
that goes is not found any more at once; the commands it still has are let finish, and
only then does the nexus leave the logical unit.

The REPORT LUNS well known logical unit is there always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred, gatherResults

from scstd.scsi.absent import absent_unit
from scstd.scsi.luns import PERIPHERAL, Group, Lun, matches
from scstd.scsi.reporting import Report, nobody
from scstd.scsi.sense import ASC
from scstd.scsi.transport import NOTHING, Transport
from scstd.scsi.unit import LogicalUnit
from scstd.scsi.wellknown import well_known_unit

if TYPE_CHECKING:
    from scstd.scsi.nexus import Nexus


@attrs.define(eq=False, repr=False)
class Target:
    """
    A SCSI target device with one target port.

    *relative_port* is the port's relative target port identifier: not 0, and unique
    among all targets of the system.  *report* is told of events.
    """

    name: str
    """As its driver knows it."""
    qualified_name: str = ""
    """
    As the whole system knows it, where targets of several drivers may have one name: in
    what is remembered, in device groups and in events.  Without any other the name.
    """
    enabled: bool = True
    luns: dict[int, Lun] = attrs.field(factory=dict)
    groups: list[Group] = attrs.field(factory=list)
    nexuses: dict[Nexus, None] = attrs.field(factory=dict)
    relative_port: int = 1
    addr_method: str = PERIPHERAL
    report: Report = nobody
    absent: LogicalUnit = attrs.field(factory=absent_unit)
    well_known: LogicalUnit = attrs.field(factory=well_known_unit)
    transport: Transport = NOTHING
    """What its driver's protocol brings: `scstd.scsi.transport`."""

    def __attrs_post_init__(self) -> None:
        self.qualified_name = self.qualified_name or self.name

    def __repr__(self) -> str:
        """Return its name: what it knows, knows it."""
        return f"<Target {self.qualified_name}>"

    def renumber(self, relative_port: int) -> None:
        """
        Have another relative target port identifier; initiators are told that their
        INQUIRY data has changed.
        """
        self.relative_port = relative_port
        for nexus in self.nexuses:
            for itl in nexus.itls.values():
                itl.unit.tell(itl, ASC.INQUIRY_DATA_HAS_CHANGED)

    # The maps.  What a nexus sees of a change, it sees at once.

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
        self._map(group)[lun] = Lun(unit, read_only)
        self.reassign()

    def remove_lun(self, lun: int, *, group: Group | None = None) -> Deferred[None]:
        """
        Take *lun* out of the default map or a group's; fire when no command that came
        through it is left.

        :raises KeyError: there is no such LUN.
        """
        del self._map(group)[lun]
        return self.reassign()

    def replace_lun(
        self,
        lun: int,
        unit: LogicalUnit,
        *,
        read_only: bool = False,
        group: Group | None = None,
        tell: bool = True,
    ) -> Deferred[None]:
        """
        Put another logical unit behind *lun*; fire when no command to the one before is
        left.  Without *tell* there is no unit attention (SCST: replace_no_ua).

        :raises KeyError: there is no such LUN.
        """
        luns = self._map(group)
        luns[lun] = attrs.evolve(luns[lun], unit=unit, read_only=read_only)
        return self.reassign(tell=tell)

    def remove_unit(self, unit: LogicalUnit) -> Deferred[None]:
        """
        Take a logical unit out of every map; fire when no command that came through
        this target is left at it: it may be closed then, if no other target has it.
        """
        for luns in self._maps():
            for lun in [lun for lun, entry in luns.items() if entry.unit is unit]:
                del luns[lun]
        return self.reassign()

    def _map(self, group: Group | None) -> dict[int, Lun]:
        return self.luns if group is None else group.luns

    def _maps(self) -> list[dict[int, Lun]]:
        return [self.luns, *(group.luns for group in self.groups)]

    # The groups.

    def add_group(self, name: str, patterns: Iterable[str]) -> Group:
        """
        Add a group; groups are asked in the order in which they were added.

        Nexuses that belong to it see so with the next `reassign`: give it its LUNs
        first.
        """
        group = Group(name, list(patterns))
        self.groups.append(group)
        return group

    def remove_group(self, group: Group) -> Deferred[None]:
        """
        Remove a group; its nexuses fall to the next that matches, or the default map.
        Fire as `reassign` does.
        """
        self.groups.remove(group)
        return self.reassign()

    def set_patterns(self, group: Group, patterns: Iterable[str]) -> Deferred[None]:
        """
        Give a group other patterns of initiators.  Fire as `reassign` does.
        """
        group.patterns[:] = patterns
        return self.reassign()

    def group_for(self, initiator: str) -> Group | None:
        """
        Return the group of an initiator, if it is in one.
        """
        for group in self.groups:
            if any(matches(pattern, initiator) for pattern in group.patterns):
                return group
        return None

    def luns_for(self, initiator: str) -> dict[int, Lun]:
        """
        Return the LUN map for an initiator's name; it may be empty.
        """
        return self._map(self.group_for(initiator))

    def reassign(self, *, tell: bool = True) -> Deferred[None]:
        """
        Bring every nexus in line with the maps and groups as they are now; fire when no
        command is left at what nexuses had to leave, now or before.  Nexuses whose map
        is the same notice nothing.

        ``luns`` and ``groups`` may be changed at will before: what nexuses see is the
        sum of it.
        """
        for unit in self.units():
            unit.targets[self] = None
        drained = [
            one for nexus in list(self.nexuses) for one in nexus.remap(tell=tell)
        ]
        return gatherResults(drained).addCallback(lambda _: None)

    def units(self) -> list[LogicalUnit]:
        """
        Return each logical unit of any map, once.
        """
        return list(
            {entry.unit: None for luns in self._maps() for entry in luns.values()}
        )
