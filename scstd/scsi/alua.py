# SPDX-License-Identifier: MIT
"""
Asymmetric logical unit access (SPC-5 section 5.18): by which ports a logical unit is
best reached, or not at all.

A `DeviceGroup` is a set of logical units that share their paths, and the target port
groups by which they are reached; SCST has both as device_groups.  A port that is not
one of our targets is another node's: REPORT TARGET PORT GROUPS tells of it, and no
command ever comes by it.  What a state lets through is said by the commands' rows
(`Allow.STANDBY`, `Allow.UNAVAILABLE`); the gate looks only while one of our own ports
is in a state that stops anything.

A change of state that takes commands away from a port waits for those that have begun
there: they could still write after another path was told that it may.  Meanwhile the
state is transitioning.  `DeviceGroup.carry_out` is where a change may take longer (a
timer, a script): there are no timers here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from struct import pack

import attrs
from twisted.internet.defer import Deferred, succeed

from scstd.interfaces import Result
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, amend
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.target import Target
from scstd.scsi.taskset import settle
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()
"""The commands of `scstd.scsi.spc.access`: units in a device group have them."""


class AccessState(IntEnum):
    """
    Target port asymmetric access states (SPC-5 section 5.18.2); SCST's words for them.
    """

    ACTIVE = 0x0
    NONOPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    OFFLINE = 0xE
    TRANSITIONING = 0xF


_STATE = AccessState

SETTABLE = (_STATE.ACTIVE, _STATE.NONOPTIMIZED, _STATE.STANDBY, _STATE.UNAVAILABLE)
"""What SET TARGET PORT GROUPS can ask for."""

_STOPS: dict[AccessState, tuple[Allow, ASC]] = {
    _STATE.STANDBY: (Allow.STANDBY, ASC.TARGET_PORT_IN_STANDBY_STATE),
    _STATE.UNAVAILABLE: (Allow.UNAVAILABLE, ASC.TARGET_PORT_IN_UNAVAILABLE_STATE),
    _STATE.OFFLINE: (Allow.UNAVAILABLE, ASC.TARGET_PORT_IN_UNAVAILABLE_STATE),
    _STATE.TRANSITIONING: (Allow.UNAVAILABLE, ASC.ASYMMETRIC_ACCESS_STATE_TRANSITION),
}
"""The states that stop commands: what they let through, what the others are told."""

# T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP
_SUPPORTED = 0x80 | 0x40 | 0x08 | 0x04 | 0x02 | 0x01

_EXPLICITLY, _IMPLICITLY = 1, 2


class TransitionRefused(Exception):  # noqa: N818 - no error of ours
    """
    A change of state is not to be; why is in the log.
    """


def not_accessible(state: AccessState) -> CheckCondition:
    """
    Return what a command is told that this state stops.
    """
    return CheckCondition(SenseKey.NOT_READY, _STOPS[state][1])


@attrs.frozen
class Port:
    """
    A target port: one of our targets, or another node's with a *relative_id* of its
    own; 0: it is not known yet.
    """

    name: str
    relative_id: int
    target: Target | None = None

    @property
    def relative_port(self) -> int:
        """Its relative target port identifier."""
        return self.relative_id if self.target is None else self.target.relative_port


@attrs.define(eq=False)
class TargetPortGroup:
    """
    Target ports in the same access state (SCST: target_groups); *left* is the state
    that the last transition began in, *asked_by* the SET TARGET PORT GROUPS command of
    the one under way.
    """

    name: str
    group_id: int
    state: AccessState = AccessState.ACTIVE
    preferred: bool = False
    ports: dict[str, Port] = attrs.field(factory=dict)
    status: int = 0
    changes: int = 0
    left: AccessState = AccessState.ACTIVE
    asked_by: Task | None = None

    @property
    def stops(self) -> bool:
        """Whether its state stops commands on any port of ours."""
        ours = any(port.target is not None for port in self.ports.values())
        return ours and self.state in _STOPS

    def descriptor(self) -> bytes:
        """
        Return its descriptor in REPORT TARGET PORT GROUPS (SPC-5 section 6.37).
        """
        first = self.state | (0x80 if self.preferred else 0)
        numbers = [port.relative_port for port in self.ports.values()]
        ports = sorted(number for number in numbers if number)
        head = pack(
            ">BBHxBxB", first, _SUPPORTED, self.group_id, self.status, len(ports)
        )
        return head + b"".join(pack(">xxH", port) for port in ports)


@attrs.frozen(eq=False)
class _Access:
    """
    The condition that a logical unit has while a port of ours stops commands.
    """

    devices: DeviceGroup

    def check(self, task: Task, allow: Allow) -> None:
        """Stop what the state of the port does not let through."""
        state = self.devices.state_at(task.itl)
        stops = _STOPS.get(state)
        if stops is not None and stops[0] not in allow:
            raise not_accessible(state)

    def sense(self, itl: ITL) -> CheckCondition | None:
        """Say in what state the port is."""
        state = self.devices.state_at(itl)
        return not_accessible(state) if state in _STOPS else None


@attrs.define(eq=False)
class DeviceGroup:
    """
    Logical units, and the target port groups by which they are reached.

    *transition_time* is how many seconds a change may take, as initiators are told (0:
    no word).  ``carry_out(group, state)`` is called when a change is due and no command
    is in its way; it is done when the result is there, and has failed if that raises.
    """

    name: str
    transition_time: int = 0
    carry_out: Callable[[TargetPortGroup, AccessState], Result[None]] | None = None
    units: dict[LogicalUnit, None] = attrs.field(factory=dict)
    groups: dict[str, TargetPortGroup] = attrs.field(factory=dict)
    _condition: _Access = attrs.field(
        default=attrs.Factory(_Access, takes_self=True), init=False
    )

    # What belongs to it.

    def add_unit(self, unit: LogicalUnit) -> None:
        """
        Take a logical unit in.

        :raises ValueError: it is in a device group already.
        """
        if unit.access is not None:
            raise ValueError(f"{unit.name} is in device group {unit.access.name}")
        unit.describe(access=self)
        self.units[unit] = None
        self._announce(unit)

    def remove_unit(self, unit: LogicalUnit) -> None:
        """
        Let a logical unit go: it is reached by every port alike again.
        """
        del self.units[unit]
        unit.describe(access=None)
        unit.lift(self._condition)
        self._announce(unit)

    def _announce(self, unit: LogicalUnit) -> None:
        """
        Let a unit have the commands that go with being here, and say that it does.
        """
        amend(unit.commands, COMMANDS, unit)
        self._restrict()
        unit.attention(ASC.INQUIRY_DATA_HAS_CHANGED)

    def set_explicit(self, unit: LogicalUnit, explicit: bool) -> None:
        """
        Let initiators change states by SET TARGET PORT GROUPS at this unit, or not.
        """
        if unit.explicit_access != explicit:
            unit.describe(explicit_access=explicit)
            self._announce(unit)

    def add_group(self, group: TargetPortGroup) -> None:
        """
        Add a target port group.

        :raises ValueError: its name or its identifier is taken.
        """
        if group.name in self.groups:
            raise ValueError(f"target group {group.name} is there already")
        self._check_id(group.group_id)
        self.groups[group.name] = group
        self._changed()

    def set_group_id(self, group: TargetPortGroup, group_id: int) -> None:
        """
        Give a target port group another identifier.

        :raises ValueError: it is taken.
        """
        if group.group_id != group_id:
            self._check_id(group_id)
            group.group_id = group_id
            self._changed()

    def _check_id(self, group_id: int) -> None:
        there = self.by_id(group_id)
        if there is not None:
            raise ValueError(f"target group {there.name} has the number {group_id}")

    def remove_group(self, name: str) -> None:
        """
        Remove a target port group: its ports are in none then, and stop nothing.
        """
        del self.groups[name]
        self._changed()

    def add_port(self, group: TargetPortGroup, port: Port) -> None:
        """
        Add a port to a target port group.

        :raises ValueError: it is in one already, or there are too many.
        """
        there = self.group_of(port.name)
        if there is not None:
            raise ValueError(f"{port.name} is in target group {there.name}")
        if len(group.ports) == 255:
            raise ValueError(f"target group {group.name} has 255 ports")
        group.ports[port.name] = port
        self._changed()

    def remove_port(self, group: TargetPortGroup, name: str) -> None:
        """
        Take a port out of a target port group.
        """
        del group.ports[name]
        self._changed()

    def renumber(self, name: str, relative_id: int) -> None:
        """
        Know that the port *name*, if it is here, has another relative identifier.
        """
        group = self.group_of(name)
        if group is not None:
            port = group.ports[name]
            group.ports[name] = attrs.evolve(port, relative_id=relative_id)
            self._changed()

    def target_added(self, target: Target) -> None:
        """
        Know a target of ours that was added after its port was named here.
        """
        self._bind(target.qualified_name, target)

    def target_removed(self, target: Target) -> None:
        """
        Forget a target of ours.
        """
        self._bind(target.qualified_name, None)

    def _bind(self, name: str, target: Target | None) -> None:
        group = self.group_of(name)
        if group is not None:
            port = group.ports[name]
            group.ports[name] = attrs.evolve(
                port, target=target, relative_id=port.relative_port
            )
            self._restrict()

    def _changed(self) -> None:
        self._restrict()
        for unit in self.units:
            unit.attention(ASC.ASYMMETRIC_ACCESS_STATE_CHANGED)

    # What is asked of it.

    def group_of(self, name: str) -> TargetPortGroup | None:
        """
        Return the target port group of the port *name*.
        """
        for group in self.groups.values():
            if name in group.ports:
                return group
        return None

    def by_id(self, group_id: int) -> TargetPortGroup | None:
        """
        Return the target port group with an identifier; 0 is that of groups which have
        none yet, and finds none (SCST's rule).
        """
        for group in self.groups.values():
            if group_id and group.group_id == group_id:
                return group
        return None

    def state_at(self, itl: ITL) -> AccessState:
        """
        Return the state of the port by which a nexus comes.
        """
        group = self.group_of(itl.nexus.target.qualified_name)
        return AccessState.ACTIVE if group is None else group.state

    def hidden_at(self, itl: ITL) -> bool:
        """
        Say whether INQUIRY by a nexus has to say that the unit is not connected here.
        """
        return self.state_at(itl) is AccessState.UNAVAILABLE

    # Changes of state.

    def set_state(
        self, group: TargetPortGroup, state: AccessState, *, by: Task | None = None
    ) -> Deferred[None]:
        """
        Put a target port group into another state; fire when it is there, or another
        change has overtaken this one.

        *by* is the SET TARGET PORT GROUPS command that asked: its nexus need not be
        told.  If `carry_out` fails the state is what it was, and the Deferred fails.
        """
        if not self.units:
            # Nobody sees it, and nothing waits for it.
            group.changes += 1
            self._enter(group, state)
            return succeed(None)
        return Deferred.fromCoroutine(self._change(group, state, by))

    async def _change(
        self, group: TargetPortGroup, state: AccessState, by: Task | None
    ) -> None:
        group.changes += 1
        change = group.changes
        before = group.state
        if state is before:
            return
        if state in _STOPS or self.carry_out is not None:
            if before is not _STATE.TRANSITIONING:
                # Else this change overtakes another.
                group.left = before
            self._enter(group, _STATE.TRANSITIONING)
            try:
                await self._drained(group, by)
                if self.carry_out is not None and group.changes == change:
                    group.asked_by = by
                    carried = self.carry_out(group, state)
                    if isinstance(carried, Deferred):
                        await carried
            except BaseException:
                if group.changes == change:
                    self._enter(group, group.left)
                raise
            if group.changes != change:
                return
        group.status = _IMPLICITLY if by is None else _EXPLICITLY
        self._enter(group, state)
        for unit in self.units:
            unit.attention(
                ASC.ASYMMETRIC_ACCESS_STATE_CHANGED, but=None if by is None else by.itl
            )

    def set_preferred(self, group: TargetPortGroup, *, preferred: bool) -> None:
        """
        Prefer the ports of *group*, or not.
        """
        if group.preferred != preferred:
            group.preferred = preferred
            self._changed()

    def _enter(self, group: TargetPortGroup, state: AccessState) -> None:
        group.state = state
        self._restrict()

    def _restrict(self) -> None:
        """
        Have every unit's gate look at the state of ports, if one stops anything.
        """
        stops = any(group.stops for group in self.groups.values())
        for unit in self.units:
            if stops != (self._condition in unit.conditions):
                (unit.impose if stops else unit.lift)(self._condition)

    def _drained(self, group: TargetPortGroup, by: Task | None) -> Deferred[None]:
        """
        Fire when no command that has begun on a port of *group* is left, but *by* and
        others of its kind: they touch no data, and may wait for us.
        """
        drained: Deferred[None] = Deferred()
        under_way = [
            task
            for unit in self.units
            for task in unit.tasks()
            if task.itl.nexus.target.qualified_name in group.ports
            and task.started
            and task is not by
            and not _changes_access(task)
        ]
        settle(under_way, lambda: drained.callback(None))
        return drained


def _changes_access(task: Task) -> bool:
    return task.row is not None and task.row.name == "SET TARGET PORT GROUPS"
