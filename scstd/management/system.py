# SPDX-License-Identifier: MIT
"""
The running system: every live object, and the operations that change them.

What is about one kind alone is with it: devices in `scstd.management.devices.devices`,
target drivers and their portals in `drivers`, LUN maps and groups of initiators in
`maps`. Here is what is about several.  The live objects are what is configured:
`System.configuration` reads them back.  Nothing here knows a file or a command; the
tree (`scstd.management.tree.tree`) is how all of them come here.

It is opened in SCST's order, which is that of a plan from nothing to a configuration
(`scstd.management.config.plan`), and closed in reverse: the drivers end their sessions
and wait for every task, and only then are devices flushed and closed.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.attributes import parse_values
from scstd.management.devices.devices import Devices
from scstd.management.errors import TreeError, absent, present
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES, WORKERS
from scstd.management.model.configuration import (
    Configuration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
)
from scstd.management.model.device_attributes import ACTIVE, BIND_ALUA_STATE, FILTERS
from scstd.management.model.group_configuration import NUMBER
from scstd.management.model.names import check_path_name
from scstd.management.model.portals import encrypted, here
from scstd.management.model.target_attributes import KEPT, own_values
from scstd.management.monitor.event_log import Chronicle
from scstd.management.monitor.events import Hub
from scstd.management.monitor.logs import Levels
from scstd.management.monitor.monitoring import Watching
from scstd.management.monitor.patience import AFTER, COMMANDS, LIVE, Patience
from scstd.management.monitor.stalls import at_work
from scstd.management.ports.activation import Activation
from scstd.management.ports.device_groups import DeviceGroups
from scstd.management.ports.drivers import Driver, Drivers
from scstd.management.ports.lun_maps import Maps
from scstd.management.ports.ports import Ports
from scstd.management.state.state import StateDirectory
from scstd.plugin import (
    find_target_driver,
    known_name,
    qualified_name,
    target_name,
)
from scstd.scsi.luns import Group, Lun
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.steady import keep_time

_log = Logger()


@attrs.define(eq=False)
class System:
    """
    Every live object by its name.

    Its *reactor* counts by the monotonic clock from now on (`scstd.steady`); *date*
    returns the time of day, in seconds since 1970.
    """

    reactor: Any
    state: StateDirectory
    levels: Levels = attrs.field(factory=Levels)
    date: Callable[[], float] = time.time
    values: dict[str, Any] = attrs.field(
        factory=lambda: parse_values(ROOT_ATTRIBUTES, ())
    )
    threads: int = 0
    """What SCST's `threads` was set to: it has no meaning here, but is read back."""
    workers_set: Callable[[int], None] = attrs.field(
        default=lambda _count: None, kw_only=True
    )
    """Told how many workers there are to be, as often as it is set."""
    _devices: type[Devices] = attrs.field(default=Devices, kw_only=True)
    _drivers: type[Drivers] = attrs.field(default=Drivers, kw_only=True)
    _activation: type[Activation] = attrs.field(default=Activation, kw_only=True)
    _groups: type[DeviceGroups] = attrs.field(default=DeviceGroups, kw_only=True)
    device_groups: DeviceGroups = attrs.field(init=False)
    events: Hub = attrs.field(init=False)
    chronicle: Chronicle = attrs.field(init=False)
    watching: Watching = attrs.field(init=False)
    devices: Devices = attrs.field(init=False)
    drivers: Drivers = attrs.field(init=False)
    maps: Maps = attrs.field(init=False)
    activation: Activation = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        keep_time(self.reactor)
        self.events = Hub(self.date)
        self.chronicle = Chronicle(self.reactor)
        self.events.listeners.append(self.chronicle.heard)
        self.watching = Watching(self.reactor, self.events, self._units, self._disks)
        self.devices = self._devices(
            self.reactor, self.state, self.events, self.watching, self.date
        )
        self.drivers = self._drivers(self.reactor, self.events.publish)
        self.maps = Maps(self.reactor)
        self.activation = self._activation(
            self.devices, self.maps, self.watching, self.exports
        )
        ports = Ports(self.state.path, self._in_thread)
        self.device_groups = self._groups(
            self.reactor, self.devices, self.drivers, ports, self.activation
        )

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """
        Call something where it may wait for the state directory.
        """
        return self.devices.lane.call(call, *arguments)

    def _disks(self) -> list[LogicalUnit]:
        return [device.unit for device in self.devices.values()]

    def _units(self) -> list[LogicalUnit]:
        others = [
            unit
            for target in self.drivers.targets.values()
            for unit in (target.absent, target.well_known)
        ]
        return self._disks() + others

    def set_root(self, name: str, value: Any) -> None:
        """
        Give an attribute of the whole another value.
        """
        self.values[name] = value
        if name == "trace_level":
            self.watching.set_level(value)
        elif name == "log_levels":
            self.levels.set(value)
        elif name == "measure_latency":
            self.watching.set_measure(value)
        elif name == WORKERS.name:
            self.workers_set(value)

    # Devices and where they are LUNs.

    def exports(self, unit: LogicalUnit) -> list[tuple[Driver, Target, str, int]]:
        """
        Return where a unit is a LUN: driver, target, group ('' for the default map).
        """
        return [
            (driver, target, group, lun)
            for driver in self.drivers.values()
            for target in driver.targets.values()
            for group, luns in [
                ("", target.luns),
                *((one.name, one.luns) for one in target.groups),
            ]
            for lun, entry in luns.items()
            if entry.unit is unit
        ]

    async def set_device(self, name: str, attribute: str, value: Any) -> None:
        """
        Give an attribute of a device another value, and tell its initiators.

        :raises ConfigurationError: it cannot be done.
        """
        if attribute == ACTIVE.name:
            await self.activation.set_active(name, value)
            return
        if attribute == FILTERS.name:
            await self.activation.set_filters(name, value)
            return
        await self.devices.set(name, attribute, value)
        if attribute == BIND_ALUA_STATE.name:
            self.device_groups.look()

    async def resync(self, name: str) -> None:
        """
        Look at the size of a device's store again; open one that is missing.

        :raises ConfigurationError: it cannot be done.
        """
        if self.devices.find(name).missing:
            await self.activation.find(name)
        else:
            await self.devices.resync(name)

    async def remove_device(self, name: str, *, force: bool = False) -> None:
        """
        Close a device; with *force* its LUNs are taken away first.

        :raises TreeError: there is none (ENOENT), or it is in use (EBUSY).
        """
        device = self.devices.find(name)
        exports = self.exports(device.unit)
        if exports and not force:
            _driver, target, group, lun = exports[0]
            where = (
                f"{target.qualified_name}{f' group {group}' if group else ''} LUN {lun}"
            )
            raise TreeError(
                errno.EBUSY,
                f"device {name} is in use: {where}"
                + (f" and {len(exports) - 1} more" if len(exports) > 1 else ""),
            )
        self.watching.check_going(device.unit)
        for _driver, target, group, lun in exports:
            await self.maps.remove_lun(target, group, lun)
        self.device_groups.forget(device.unit)
        await self.devices.remove(name)

    # Targets.

    def target(self, driver: str, name: str) -> Target:
        """
        Return a target.

        :raises TreeError: there is none (ENOENT).
        """
        found = self.drivers.find(driver).targets
        name = known_name(find_target_driver(driver), name)
        if name not in found:
            raise absent("target", name, found)
        return found[name]

    async def add_target(
        self, driver: str, name: str, values: Mapping[str, Any]
    ) -> None:
        """
        Make a target without LUNs.

        :raises TreeError: there is one of this name (EEXIST), or it is no name.
        """
        chosen = self.drivers.find(driver)
        name, _remark = target_name(find_target_driver(driver), name)
        check_path_name(name)
        if name in chosen.targets:
            raise present("target", name)
        number = values.get(NUMBER)
        known = qualified_name(driver, name)
        numbers = await self.device_groups.number({known: number})
        target = Target(
            name,
            known,
            relative_port=numbers[known],
            report=self.events.publish,
            **{kept: values[kept] for kept in KEPT},
        )
        chosen.instance.add_target(target, own_values(values))
        chosen.targets[name] = target
        self.watching.added(target.absent, target.well_known)
        if number is not None:
            chosen.numbers[name] = number
        self.device_groups.target_added(target)

    def set_target(self, driver: Driver, name: str, attribute: str, value: Any) -> Any:
        """
        Give an attribute of a target another value; return a Result.
        """
        if attribute == NUMBER:
            known = driver.targets[name].qualified_name
            return self.device_groups.number_port(known, value)
        return driver.set_target(name, attribute, value)

    async def remove_target(self, driver: str, name: str) -> None:
        """
        End a target and its sessions.
        """
        target = self.target(driver, name)
        name = target.name
        chosen = self.drivers[driver]
        del chosen.targets[name]
        chosen.numbers.pop(name, None)
        self.device_groups.target_removed(target)
        removed = chosen.instance.remove_target(name)
        if isinstance(removed, Deferred):
            await Patience(self.reactor).within(
                2 * LIVE, removed, lambda: f"sessions of {name}: {self.at_work()}"
            )

    # The whole.

    def configuration(self) -> Configuration:
        """
        Return what is configured.
        """
        return Configuration(
            tuple(one.configuration for one in self.devices.values()),
            tuple(
                DriverConfiguration(
                    driver.name,
                    driver.values(),
                    tuple(
                        _target_configuration(driver, target)
                        for target in driver.targets.values()
                    ),
                )
                for driver in self.drivers.values()
            ),
            tuple(self.device_groups.configurations()),
            dict(self.values),
        )

    def urls(self) -> list[str]:
        """
        Return the URL of each LUN.
        """
        return [
            url for driver in self.drivers.values() for url in driver.instance.urls()
        ]

    def portal(self) -> str:
        """
        Return where a local initiator reaches the first driver that listens: of one
        without TLS, if there is one, as HOST:PORT ([HOST]:PORT for IPv6), else ''.
        """
        for url in self.urls():
            return url.partition("://")[2].partition("/")[0]
        for driver in self.drivers.values():
            for portal in sorted(driver.ports, key=encrypted):
                return here(driver.ports[portal].getHost())
        return ""

    def sessions(self) -> list[Any]:
        """
        Return the sessions of every driver.
        """
        return [
            one
            for driver in self.drivers.values()
            for one in driver.instance.sessions()
        ]

    async def stop(self, patience: Patience | None = None) -> None:
        """
        End every session and every port, and have nothing wait that need not.
        """
        self.device_groups.hurry()
        self.watching.let_go()
        patience = patience or Patience(self.reactor)
        telling = self.reactor.callLater(AFTER, self._tell_waiting)
        try:
            await patience.within(COMMANDS + AFTER, self.drivers.stop(), self.at_work)
        finally:
            if telling.active():
                telling.cancel()

    def tell_abandoned(self) -> None:
        """
        Have the log name the commands that have not ended, if there are any.
        """
        if any(unit.tasks() for unit in self._disks()):
            _log.warn("commands are abandoned: {what}", what=self.at_work())

    def _tell_waiting(self) -> None:
        _log.info("the stop waits for {what}", what=self.at_work())

    async def close(self, patience: Patience | None = None) -> None:
        """
        End everything: no acknowledged write is lost, unless a store does not end what
        it does.
        """
        await self.stop(patience)
        self.drivers.clear()
        self.device_groups.clear()
        await self.devices.close(patience)
        self.chronicle.close()

    def at_work(self) -> str:
        """
        Return which devices have commands under way, and what their stores are at.
        """
        return (
            "; ".join(
                f"device {unit.name}: {at_work(self.reactor, unit)}"
                for unit in self._disks()
                if unit.tasks()
            )
            or "sessions"
        )


def _luns(luns: Mapping[int, Lun]) -> tuple[LunConfiguration, ...]:
    return tuple(
        LunConfiguration(lun, entry.unit.name, entry.read_only)
        for lun, entry in sorted(luns.items())
    )


def _group(group: Group) -> GroupConfiguration:
    return GroupConfiguration(
        group.name, tuple(group.patterns), _luns(group.luns), dict(group.values)
    )


def _target_configuration(driver: Driver, target: Target) -> TargetConfiguration:
    return TargetConfiguration(
        target.name,
        driver.values_of(target.name),
        _luns(target.luns),
        tuple(map(_group, target.groups)),
    )
