# SPDX-License-Identifier: MIT
"""
What can be done to device groups while initiators are logged in, and which port has
which relative target port identifier.

The model is `scstd.scsi.alua`'s, what is configured
`scstd.management.model.group_configuration`'s.  All numbers are given out here, for a
target may get another one whenever any port, of ours or of another node, claims its
own: what is configured comes first, as at a start (`scstd.management.ports.ports`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from twisted.logger import Logger

from scstd.attributes import parse_values
from scstd.management.devices.devices import Devices
from scstd.management.errors import TreeError, absent, present
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
    DeviceGroupConfiguration,
)
from scstd.management.model.names import check_path_name
from scstd.management.model.registry import Registry
from scstd.management.ports.activation import Activation
from scstd.management.ports.alua_groups import LiveGroup
from scstd.management.ports.drivers import Drivers
from scstd.management.ports.ports import Ports
from scstd.scsi.alua import AccessState, DeviceGroup, Port, TargetPortGroup
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit

_log = Logger()

MAX_PORTS = 255
"""Ports of one target port group: a byte counts them (SPC-5)."""


@attrs.define(eq=False)
class DeviceGroups(Registry[LiveGroup]):
    """
    The device groups by name.
    """

    kind = "device group"
    made: ClassVar[type[LiveGroup]] = LiveGroup
    """What its groups are."""

    reactor: Any
    devices: Devices
    drivers: Drivers
    ports: Ports
    activation: Activation

    def configurations(self) -> list[DeviceGroupConfiguration]:
        """
        Return what would make them like this.
        """
        return [live.configuration() for live in self._named.values()]

    def look(self) -> None:
        """
        See anew which changes of state have to wait for devices.
        """
        for live in self._named.values():
            live.look()

    # The groups.

    def create(self, name: str) -> None:
        """
        Make a device group without devices and target groups.

        :raises TreeError: there is one of this name (EEXIST), or it is no name.
        """
        check_path_name(name)
        if name in self._named:
            raise present("device group", name)
        values = parse_values(DEVICE_GROUP_ATTRIBUTES, ())
        live = self.made(
            self.reactor,
            DeviceGroup(name),
            follow=self.activation.follow,
            bound=self.activation.bound,
        )
        for attribute, value in values.items():
            live.set(attribute, value)
        self._named[name] = live

    def remove(self, name: str) -> None:
        """
        Have a group's devices reached by every port alike again.
        """
        live = self.find(name)
        live.close()
        for unit in list(live.devices.units):
            live.devices.remove_unit(unit)
        del self._named[name]

    def hurry(self) -> None:
        """
        Let changes of state take no time any more: it all ends.
        """
        for live in self._named.values():
            live.close()

    def clear(self) -> None:
        """
        Have no groups any more.
        """
        self._named.clear()

    # Their devices.

    async def add_device(self, group: str, name: str) -> None:
        """
        Take a device in.

        :raises TreeError: there is no such device (ENOENT), or it is here (EEXIST) or
            in another group (EBUSY).
        """
        live = self.find(group)
        unit = self.devices.find(name).unit
        if unit in live.devices.units:
            raise present("device", name)
        if unit.access is not None:
            raise TreeError(
                errno.EBUSY, f"device {name} is in device group {unit.access.name}"
            )
        live.devices.add_unit(unit)
        live.look()
        await self.activation.joined(live, unit)

    def remove_device(self, group: str, name: str) -> None:
        """
        Let a device go: it is reached by every port alike again.
        """
        live = self.find(group)
        for unit in live.devices.units:
            if unit.name == name:
                live.devices.remove_unit(unit)
                live.look()
                return
        raise absent("device", name, [one.name for one in live.devices.units])

    def forget(self, unit: LogicalUnit) -> None:
        """
        Let a unit go that is to be closed.
        """
        if unit.access is not None:
            unit.access.remove_unit(unit)

    # Their target groups, and the ports of those.

    def target_group(self, group: str, name: str) -> TargetPortGroup:
        """
        Return a target group.

        :raises TreeError: there is none (ENOENT).
        """
        found = self.find(group).devices.groups
        if name not in found:
            raise absent("target group", name, found)
        return found[name]

    def create_target_group(self, group: str, name: str) -> None:
        """
        Make a target group without ports.
        """
        check_path_name(name)
        devices = self.find(group).devices
        if name in devices.groups:
            raise present("target group", name)
        values = parse_values(TARGET_GROUP_ATTRIBUTES, ())
        state = AccessState[values["state"].upper()]
        devices.add_group(TargetPortGroup(name, values["group_id"], state))

    def remove_target_group(self, group: str, name: str) -> None:
        """
        Remove a target group: its ports are in none then.
        """
        self.target_group(group, name)
        self.find(group).devices.remove_group(name)

    async def add_port(
        self, group: str, name: str, port: str, rel_tgt_id: int | None = None
    ) -> None:
        """
        Add a port to a target group: a target of ours, or a port of another node.  One
        of those that has no number yet is not reported.

        :raises TreeError: it is here (EEXIST) or in another target group (EBUSY), its
            number is another's (EEXIST), or there are too many (ENOSPC).
        """
        devices = self.find(group).devices
        found = self.target_group(group, name)
        check_path_name(port)
        there = devices.group_of(port)
        if there is found:
            raise present("target", port)
        if there is not None:
            raise TreeError(errno.EBUSY, f"{port} is in target group {there.name}")
        if len(found.ports) == MAX_PORTS:
            raise TreeError(
                errno.ENOSPC, f"target group {name} has {MAX_PORTS} targets"
            )
        ours = self.drivers.targets.get(port)
        if rel_tgt_id is not None:
            await self._claim(port, rel_tgt_id)
        number = rel_tgt_id or 0 if ours is None else ours.relative_port
        devices.add_port(found, Port(port, number, ours))

    def remove_port(self, group: str, name: str, port: str) -> None:
        """
        Take a port out of a target group.
        """
        found = self.target_group(group, name)
        if port not in found.ports:
            raise absent("target", port, found.ports)
        self.find(group).devices.remove_port(found, port)

    async def number_port(self, port: str, number: int | None) -> None:
        """
        Give a port another number: a target of ours, or a port of another node, in all
        device groups; None: none of its own any more.

        :raises TreeError: it is another port's (EEXIST).
        """
        await self._claim(port, number)
        if port not in self.drivers.targets:
            for live in self._named.values():
                live.devices.renumber(port, number or 0)

    # Numbers.

    async def _claim(self, port: str, number: int | None) -> None:
        """
        See that a port can have a number; one of ours gets it.
        """
        if port in self.drivers.targets:
            await self.number({port: number})
            target = self.drivers.targets[port]
            numbers = self.drivers.of(target).numbers
            if number is None:
                numbers.pop(target.name, None)
            else:
                numbers[target.name] = number
        elif number is not None:
            await self.number({}, {port: number})

    async def number(
        self,
        changes: Mapping[str, int | None],
        others: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """
        Return every port's number, if those of *changes* have these configured, and
        ports of other nodes those of *others*.  Targets whose number is another one
        then have it when this is done, and their initiators are told.

        :raises TreeError: two would have the same (EEXIST).
        :raises ConfigurationError: it cannot be remembered.
        """
        ours = {
            target.qualified_name: driver.numbers.get(name)
            for driver in self.drivers.values()
            for name, target in driver.targets.items()
        }
        theirs = {
            port.name: port.relative_id
            for live in self._named.values()
            for group in live.devices.groups.values()
            for port in group.ports.values()
            if port.target is None and port.relative_id
        }
        numbers = await self.ports.number(
            {**ours, **changes}, {**theirs, **(others or {})}
        )
        for target in self.drivers.targets.values():
            number = numbers[target.qualified_name]
            if target.relative_port != number:
                self._renumber(target, number)
        return numbers

    def _renumber(self, target: Target, number: int) -> None:
        _log.info(
            "target {name}: relative target port identifier {number}, not {before}",
            name=target.qualified_name,
            number=number,
            before=target.relative_port,
        )
        target.renumber(number)
        for live in self._named.values():
            live.devices.renumber(target.qualified_name, number)

    # What the targets do.

    def target_added(self, target: Target) -> None:
        """
        Know a target of ours that was added after its port was named in a group.
        """
        for live in self._named.values():
            live.devices.target_added(target)

    def target_removed(self, target: Target) -> None:
        """
        Forget a target of ours: its port may be another node's now.
        """
        for live in self._named.values():
            live.devices.target_removed(target)
