# SPDX-License-Identifier: MIT
"""
The running system: every live object, and the operations that change them.

Devices, target drivers with their portals, and targets are here; what a target's LUN
maps and groups do is in `scstd.management.maps`.  The live objects are what is
configured: `System.configuration` reads them back.  Nothing here knows a file or a
command; the tree (`scstd.management.tree`) is how all of them come here.

It is opened in SCST's order, which is that of a plan from nothing to a configuration
(`scstd.management.plan`), and closed in reverse: the drivers end their sessions and
wait for every task, and only then are devices flushed and closed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from scstd.attributes import ConfigurationError, parse_values
from scstd.blocking import Lane
from scstd.interfaces import (
    IBackstore,
    IReporting,
    IResizeNotice,
    ITargetDriverInstance,
)
from scstd.management.changing import change, changeable
from scstd.management.configuration import (
    ROOT_ATTRIBUTES,
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
    check_identities,
    check_iqn,
    check_path_name,
)
from scstd.management.errors import TreeError, absent, present
from scstd.management.events import Hub
from scstd.management.groups import DeviceGroupConfiguration, LiveGroup, open_group
from scstd.management.logs import Levels
from scstd.management.maps import Maps
from scstd.management.portals import endpoints
from scstd.management.ports import configured, number_ports
from scstd.management.space import SpaceWatch
from scstd.management.state import DeviceMemory, StateDirectory
from scstd.management.watching import Watching
from scstd.plugin import target_drivers
from scstd.scsi import removable
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import close_disk, open_unit
from scstd.scsi.target import Group, Lun, Target
from scstd.scsi.unit import LogicalUnit

_log = Logger()


@attrs.define(eq=False)
class Device:
    """
    A device that is open.
    """

    configuration: DeviceConfiguration
    unit: LogicalUnit
    memory: DeviceMemory

    @property
    def name(self) -> str:
        """Its name."""
        return self.configuration.name

    async def change_medium(self, medium: str, *, force: bool = False) -> None:
        """
        Put another medium into a drive, or none: what its attribute filename says.

        :raises ConfigurationError: it is no drive, there is no such medium, or an
            initiator prevents removal and there is no *force*.
        """
        if self.unit.drive is None:
            raise ConfigurationError(f"{self.name} is no drive: its medium stays")
        try:
            await removable.change(self.unit, medium, force=force)
        except (removable.RemovalPrevented, OSError) as error:
            raise ConfigurationError(f"the medium of {self.name}: {error}") from error
        _log.info(
            "device {name}: {medium}, {blocks} blocks",
            name=self.name,
            medium=medium or "no medium",
            blocks=self.unit.blocks,
        )
        values = {**self.configuration.values, "filename": medium}
        self.configuration = attrs.evolve(self.configuration, values=values)


@attrs.define(eq=False)
class Driver:
    """
    A target driver at work: its targets by name, and its ports by the portal they are
    for.

    *fixed* portals are those of the command line, which a configuration does not
    change; *default* is where it listens when none are configured.
    """

    name: str
    instance: ITargetDriverInstance
    targets: dict[str, Target] = attrs.field(factory=dict)
    portals: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    ports: dict[str, Any] = attrs.field(factory=dict)
    numbers: dict[str, int] = attrs.field(factory=dict)
    """Relative target port identifiers that are configured."""

    def wanted(self) -> tuple[str, ...]:
        """
        Return the portals it is to listen on.
        """
        return self.fixed or self.portals or self.default

    def values(self) -> dict[str, Any]:
        """
        Return its attributes.
        """
        return {**self.instance.attributes(), "portal": self.portals}


@attrs.define(eq=False)
class System:
    """
    Every live object by its name.
    """

    reactor: Any
    state: StateDirectory
    levels: Levels = attrs.field(factory=Levels)
    devices: dict[str, Device] = attrs.field(factory=dict)
    drivers: dict[str, Driver] = attrs.field(factory=dict)
    values: dict[str, Any] = attrs.field(
        factory=lambda: parse_values(ROOT_ATTRIBUTES, ())
    )
    device_groups: dict[str, LiveGroup] = attrs.field(factory=dict)
    events: Hub = attrs.field(init=False)
    watching: Watching = attrs.field(init=False)
    maps: Maps = attrs.field(init=False)
    _lane: Lane = attrs.field(init=False)
    _copies: CopyManager = attrs.field(init=False)
    _space: SpaceWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lane = Lane(self.reactor, "state")
        self.events = Hub(self.reactor.seconds)
        self.watching = Watching(self.reactor, self.events, self._units, self._disks)
        self.maps = Maps(self.reactor)
        self._copies = CopyManager(self.reactor.seconds, self._later)
        self._space = SpaceWatch(self.reactor)

    def _later(self, call: Callable[[], None]) -> None:
        """
        Have something called in another turn of the reactor.
        """
        self.reactor.callLater(0, call)

    def _disks(self) -> list[LogicalUnit]:
        return [device.unit for device in self.devices.values()]

    def _units(self) -> list[LogicalUnit]:
        others = [
            unit
            for target in self.targets.values()
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

    @property
    def targets(self) -> dict[str, Target]:
        """Every driver's targets by name."""
        return {
            name: target
            for driver in self.drivers.values()
            for name, target in driver.targets.items()
        }

    # Devices.

    async def add_device(self, device: DeviceConfiguration) -> None:
        """
        Open a device.

        :raises ConfigurationError: it cannot be opened, or is there already (EEXIST).
        """
        if device.name in self.devices:
            raise present("device", device.name)
        memory = self.state.device(
            device.state_key, self._lane, other=device.other_key, origin=device.origin
        )
        memory.gather()
        store: IBackstore | None = None
        try:
            opened = device.handler.open(self.reactor, device.name, device.values)
            store = await opened if isinstance(opened, Deferred) else opened
            for one in device.filters:
                wrapped = one.filter.wrap(self.reactor, device.name, store, one.values)
                store = await wrapped if isinstance(wrapped, Deferred) else wrapped
            unit = open_unit(
                device.name,
                store,
                device.values,
                memory,
                clock=self.reactor.seconds,
                copies=self._copies,
                later=self._later,
            )
            try:
                self._check_identity(unit)
                if memory.load().get("origin") != device.origin:
                    memory.update("origin", device.origin)
                await memory.settled()
            except BaseException:
                # It may be at work already: a sanitize operation goes on by itself.
                store = None
                with suppress(OSError):
                    await memory.settled()
                await close_disk(unit)
                raise
        except (ConfigurationError, OSError, ValueError) as error:
            memory.close()
            if store is not None:
                closed = store.close()
                if isinstance(closed, Deferred):
                    await closed
            number = getattr(error, "errno", None) or errno.EINVAL
            raise TreeError(number, f"device {device.name}: {error}") from error
        _log.info(
            "device {name}: {blocks} blocks of {size} bytes, serial {serial}",
            name=device.name,
            blocks=unit.blocks,
            size=unit.block_size,
            serial=unit.identity.serial,
        )
        self._space.watch(unit, device.values.get("tp_soft_threshold"))
        self.devices[device.name] = Device(device, unit, memory)
        unit.report = self.events.publish
        self.watching.added(unit)
        self.watching.hold_new(unit)
        self.events.publish(
            "REG_VIRT_DEV",
            device=device.name,
            handler=device.handler.name,
            blocks=unit.blocks,
            block_size=unit.block_size,
        )

    def _check_identity(self, unit: LogicalUnit) -> None:
        """
        See that no other device has one of the unit's names: the state of one may have
        been copied for the other.

        :raises ConfigurationError: one has.
        """
        if unit.name in self.devices:
            raise present("device", unit.name)
        for other in self.devices.values():
            name = unit.identity.shared_with(other.unit.identity)
            if name:
                raise ConfigurationError(
                    f"its {name} is that of device {other.name}: hosts would take the"
                    " two for one disk"
                )

    def device(self, name: str) -> Device:
        """
        Return a device.

        :raises TreeError: there is none (ENOENT).
        """
        if name not in self.devices:
            raise absent("device", name, self.devices)
        return self.devices[name]

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

    async def remove_device(self, name: str, *, force: bool = False) -> None:
        """
        Close a device; with *force* its LUNs are taken away first.

        :raises TreeError: there is none (ENOENT), or it is in use (EBUSY).
        """
        device = self.device(name)
        exports = self.exports(device.unit)
        if exports and not force:
            _driver, target, group, lun = exports[0]
            where = f"{target.name}{f' group {group}' if group else ''} LUN {lun}"
            raise TreeError(
                errno.EBUSY,
                f"device {name} is in use: {where}"
                + (f" and {len(exports) - 1} more" if len(exports) > 1 else ""),
            )
        self.watching.check_going(device.unit)
        for _driver, target, group, lun in exports:
            await self.maps.remove_lun(target, group, lun)
        del self.devices[name]
        await self._close_device(device)

    async def _close_device(self, device: Device) -> None:
        self._space.forget(device.unit)
        try:
            await close_disk(device.unit)
        except Exception:  # noqa: BLE001 - the others are to be closed too
            _log.failure("closing {name} failed", name=device.name)
        device.memory.close()
        self.events.publish("DEVICE_CLOSED", device=device.name)

    async def set_device(self, name: str, attribute: str, value: Any) -> None:
        """
        Give an attribute of a device another value, and tell its initiators.

        :raises TreeError: it can only be said when the device is opened (EPERM).
        """
        device = self.device(name)
        if device.configuration.values.get(attribute) == value:
            return
        if attribute == "filename" and device.unit.drive is not None:
            await device.change_medium(value or "")
            return
        if not changeable(device.unit, attribute):
            raise TreeError(
                errno.EPERM,
                f"{attribute} of device {name} is settled when it is opened",
            )
        values = {**device.configuration.values, attribute: value}
        check_identities(
            [
                attrs.evolve(one.configuration, values=values)
                if one is device
                else one.configuration
                for one in self.devices.values()
            ]
        )
        changed = change(device.unit, attribute, values)
        if changed is not None:
            await changed
        device.configuration = attrs.evolve(device.configuration, values=values)

    def can_change(self, name: str, attribute: str) -> bool:
        """
        Say whether an attribute that is settled at opening can be changed after all.
        """
        device = self.devices.get(name)
        return device is not None and changeable(device.unit, attribute)

    async def resync_device(self, name: str) -> None:
        """
        Look at the size of a device's store again.

        :raises TreeError: its store cannot change its size (EOPNOTSUPP).
        """
        store: Any = self.device(name).unit.store
        if not IResizeNotice.providedBy(store):
            raise TreeError(errno.EOPNOTSUPP, f"the size of device {name} is fixed")
        looked = store.resync_size()
        if isinstance(looked, Deferred):
            await looked

    async def sync_device(self, name: str) -> None:
        """
        Make durable what was written to a device.
        """
        flushed = self.device(name).unit.store.flush()
        if isinstance(flushed, Deferred):
            await flushed

    # Target drivers.

    def load_drivers(
        self,
        fixed: Mapping[str, Sequence[str]] | None = None,
        default: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        Make every installed target driver ready, with nothing configured.

        *fixed* and *default* are portals by the driver's name (`Driver`).
        """
        for plugin in target_drivers():
            name = plugin.name
            if name in self.drivers:
                continue
            try:
                rows = plugin.attributes()
                instance = plugin.open(self.reactor, parse_values(rows, ()))
            except ConfigurationError as error:
                _log.warn("target driver {name}: {error}", name=name, error=error)
                continue
            if IReporting.providedBy(instance):
                instance.report_to(self.events.publish)
            self.drivers[name] = Driver(
                name,
                instance,
                fixed=tuple((fixed or {}).get(name, ())),
                default=tuple((default or {}).get(name, ())),
            )

    def driver(self, name: str) -> Driver:
        """
        Return a target driver.

        :raises TreeError: there is none (ENOENT).
        """
        if name not in self.drivers:
            raise absent("target driver", name, self.drivers)
        return self.drivers[name]

    async def set_driver(self, name: str, attribute: str, value: Any) -> None:
        """
        Give an attribute of a driver another value.
        """
        driver = self.driver(name)
        if attribute == "portal":
            before, driver.portals = driver.portals, value
            try:
                await self.listen(driver)
            except ConfigurationError:
                driver.portals = before
                await self.listen(driver)
                raise
        else:
            driver.instance.set(attribute, value)
            await self.listen(driver)

    async def listen(self, driver: Driver) -> None:
        """
        Listen where a driver is to listen, if it is enabled or has listened before.

        :raises TreeError: a port is taken.
        """
        if not driver.ports and not driver.instance.attributes().get("enabled", True):
            return
        wanted = driver.wanted()
        for portal in wanted:
            if portal not in driver.ports:
                driver.ports[portal] = await _listen(driver.instance, portal)
        for portal in [one for one in driver.ports if one not in wanted]:
            closed = driver.instance.unlisten(driver.ports.pop(portal))
            if isinstance(closed, Deferred):
                await closed

    # Targets.

    def target(self, driver: str, name: str) -> Target:
        """
        Return a target.

        :raises TreeError: there is none (ENOENT).
        """
        found = self.driver(driver).targets
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
        chosen = self.driver(driver)
        check_path_name(name)
        if driver == "iscsi":
            check_iqn(name)
        if name in self.targets:
            raise present("target", name)
        number = values.get("rel_tgt_id")
        ours = {one.name: one.relative_port for one in self.targets.values()}
        groups = [live.configuration() for live in self.device_groups.values()]
        numbers = await number_ports(
            {**ours, name: number}, groups, self.state.path, self._lane
        )
        target = Target(name, relative_port=numbers[name], report=self.events.publish)
        chosen.instance.add_target(target, values)
        chosen.targets[name] = target
        self.watching.added(target.absent, target.well_known)
        if number is not None:
            chosen.numbers[name] = number
        for live in self.device_groups.values():
            live.devices.target_added(target)

    async def remove_target(self, driver: str, name: str) -> None:
        """
        End a target and its sessions.
        """
        target = self.target(driver, name)
        chosen = self.drivers[driver]
        del chosen.targets[name]
        chosen.numbers.pop(name, None)
        for live in self.device_groups.values():
            live.devices.target_removed(target)
        removed = chosen.instance.remove_target(name)
        if isinstance(removed, Deferred):
            await removed

    # Device groups.

    def device_group(self, name: str) -> LiveGroup:
        """
        Return a device group.

        :raises TreeError: there is none (ENOENT).
        """
        if name not in self.device_groups:
            raise absent("device group", name, self.device_groups)
        return self.device_groups[name]

    def add_device_group(self, group: DeviceGroupConfiguration) -> None:
        """
        Make a device group of devices and targets that are there.

        :raises TreeError: there is one of this name (EEXIST).
        :raises ConfigurationError: its ports' numbers do not agree with others.
        """
        if group.name in self.device_groups:
            raise present("device group", group.name)
        ours: dict[str, int | None] = {
            one.name: one.relative_port for one in self.targets.values()
        }
        numbers = configured(ours, [group])
        units = {name: self.device(name).unit for name in group.devices}
        self.device_groups[group.name] = open_group(
            self.reactor, group, units, self.targets, numbers
        )

    def remove_device_group(self, name: str) -> None:
        """
        Have a group's devices reached by every port alike again.
        """
        live = self.device_group(name)
        live.close()
        for unit in list(live.devices.units):
            live.devices.remove_unit(unit)
        del self.device_groups[name]

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
            tuple(one.configuration() for one in self.device_groups.values()),
            dict(self.values),
        )

    def urls(self) -> list[str]:
        """
        Return the URL of each LUN.
        """
        return [
            url for driver in self.drivers.values() for url in driver.instance.urls()
        ]

    def sessions(self) -> list[Any]:
        """
        Return the sessions of every driver.
        """
        return [
            one
            for driver in self.drivers.values()
            for one in driver.instance.sessions()
        ]

    async def close(self) -> None:
        """
        End everything: no acknowledged write is lost.
        """
        for group in self.device_groups.values():
            group.close()
        self.device_groups.clear()
        self.watching.let_go()
        for driver in self.drivers.values():
            stopped = driver.instance.stop()
            if isinstance(stopped, Deferred):
                await stopped
        self.drivers.clear()
        while self.devices:
            _name, device = self.devices.popitem()
            await self._close_device(device)
        await self._lane.close()
        self._lane = Lane(self.reactor, "state")


async def _listen(driver: ITargetDriverInstance, portal: str) -> Any:
    try:
        listening = driver.listen(endpoints(portal))
        return await listening if isinstance(listening, Deferred) else listening
    except CannotListenError as error:
        raise TreeError(
            errno.EADDRINUSE, f"cannot listen on {portal}: {error.socketError}"
        ) from error
    except LookupError as error:
        raise TreeError(
            errno.ENOENT,
            f"cannot listen on {portal}: the service manager has not handed over such a"
            " socket",
        ) from error
    except (ValueError, TypeError, OSError) as error:
        raise TreeError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"cannot listen on {portal}: {error}",
        ) from error


def _luns(luns: Mapping[int, Lun]) -> tuple[LunConfiguration, ...]:
    return tuple(
        LunConfiguration(lun, entry.unit.name, entry.read_only)
        for lun, entry in sorted(luns.items())
    )


def _group(group: Group) -> GroupConfiguration:
    return GroupConfiguration(
        group.name, tuple(group.patterns), _luns(group.luns), group.addr_method
    )


def _target_configuration(driver: Driver, target: Target) -> TargetConfiguration:
    return TargetConfiguration(
        target.name,
        {
            **driver.instance.attributes_of(target.name),
            "rel_tgt_id": driver.numbers.get(target.name),
        },
        _luns(target.luns),
        tuple(map(_group, target.groups)),
    )
