# SPDX-License-Identifier: MIT
"""
The running system: a `Configuration` made of live objects.

It is opened in SCST's order: devices, then targets with their LUN maps and groups, then
the drivers listen.  It is closed in reverse: the drivers end their sessions and wait
for every task, and only then are devices flushed and closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.interfaces import IBackstore, ITargetDriverInstance
from scstd.management.configuration import (
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    TargetConfiguration,
)
from scstd.management.groups import LiveGroup, open_group
from scstd.management.ports import number_ports
from scstd.management.space import SpaceWatch
from scstd.management.state import DeviceMemory, StateDirectory
from scstd.plugin import find_target_driver
from scstd.scsi import removable
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import close_disk, open_unit
from scstd.scsi.target import Target
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
class System:
    """
    Every live object by its name.
    """

    reactor: Any
    state: StateDirectory
    devices: dict[str, Device] = attrs.field(factory=dict)
    drivers: dict[str, ITargetDriverInstance] = attrs.field(factory=dict)
    targets: dict[str, Target] = attrs.field(factory=dict)
    device_groups: dict[str, LiveGroup] = attrs.field(factory=dict)
    _lane: Lane = attrs.field(init=False)
    _copies: CopyManager = attrs.field(init=False)
    _space: SpaceWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lane = Lane(self.reactor, "state")
        self._copies = CopyManager(self.reactor.seconds, self._later)
        self._space = SpaceWatch(self.reactor)

    def _later(self, call: Callable[[], None]) -> None:
        """
        Have something called in another turn of the reactor.
        """
        self.reactor.callLater(0, call)

    async def open(
        self, configuration: Configuration, listen: Mapping[str, Sequence[str]]
    ) -> None:
        """
        Open what is configured, and listen: *listen* has endpoints for each driver.

        :raises ConfigurationError: something cannot be opened; what was is closed
        again.
        """
        try:
            for device in configuration.devices:
                self.devices[device.name] = await self._open_device(device)
            numbers = await self._number(configuration)
            for driver in configuration.drivers:
                self._open_driver(driver, numbers)
            units = {name: device.unit for name, device in self.devices.items()}
            for group in configuration.device_groups:
                self.device_groups[group.name] = open_group(
                    self.reactor, group, units, self.targets, numbers
                )
            for name, endpoints in listen.items():
                for endpoint in endpoints:
                    await self._listen(self.drivers[name], endpoint)
        except BaseException:
            await self.close()
            raise

    async def _open_device(self, device: DeviceConfiguration) -> Device:
        memory = self.state.device(
            device.state_key, self._lane, other=device.other_key, origin=device.origin
        )
        try:
            opened = device.handler.open(self.reactor, device.name, device.values)
            store: IBackstore = await opened if isinstance(opened, Deferred) else opened
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
                await close_disk(unit)
                raise
        except (ConfigurationError, OSError, ValueError) as error:
            memory.close()
            raise ConfigurationError(f"device {device.name}: {error}") from error
        _log.info(
            "device {name}: {blocks} blocks of {size} bytes, serial {serial}",
            name=device.name,
            blocks=unit.blocks,
            size=unit.block_size,
            serial=unit.identity.serial,
        )
        self._space.watch(unit, device.values.get("tp_soft_threshold"))
        return Device(device, unit, memory)

    def _check_identity(self, unit: LogicalUnit) -> None:
        """
        See that no other device has one of the unit's names: the state of one may have
        been copied for the other.

        :raises ConfigurationError: one has.
        """
        for other in self.devices.values():
            name = unit.identity.shared_with(other.unit.identity)
            if name:
                raise ConfigurationError(
                    f"its {name} is that of device {other.name}: hosts would take the"
                    " two for one disk"
                )

    async def _number(self, configuration: Configuration) -> dict[str, int]:
        """
        Return the relative target port identifiers.
        """
        return await number_ports(
            configuration.rel_tgt_ids(),
            configuration.device_groups,
            self.state.path,
            self._lane,
        )

    def _open_driver(
        self, configuration: DriverConfiguration, numbers: Mapping[str, int]
    ) -> None:
        driver = find_target_driver(configuration.name).open(
            self.reactor, configuration.values
        )
        self.drivers[configuration.name] = driver
        for one in configuration.targets:
            target = self._target(one, numbers[one.name])
            self.targets[target.name] = target
            driver.add_target(target, one.values)

    def _target(self, configuration: TargetConfiguration, number: int) -> Target:
        target = Target(configuration.name, relative_port=number)
        for one in configuration.luns:
            unit = self.devices[one.device].unit
            target.add_lun(one.lun, unit, read_only=one.read_only)
        for named in configuration.groups:
            group = target.add_group(named.name, named.patterns)
            group.addr_method = named.addr_method
            for one in named.luns:
                unit = self.devices[one.device].unit
                target.add_lun(one.lun, unit, read_only=one.read_only, group=group)
        return target

    @staticmethod
    async def _listen(driver: ITargetDriverInstance, endpoint: str) -> None:
        try:
            listening = driver.listen(endpoint)
            if isinstance(listening, Deferred):
                await listening
        except CannotListenError as error:
            raise ConfigurationError(
                f"cannot listen on {endpoint}: {error.socketError}"
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise ConfigurationError(f"cannot listen on {endpoint}: {error}") from error

    def urls(self) -> list[str]:
        """
        Return the URL of each LUN.
        """
        return [url for driver in self.drivers.values() for url in driver.urls()]

    def sessions(self) -> list[Any]:
        """
        Return the sessions of every driver.
        """
        return [one for driver in self.drivers.values() for one in driver.sessions()]

    async def close(self) -> None:
        """
        End everything: no acknowledged write is lost.
        """
        for group in self.device_groups.values():
            group.close()
        self.device_groups.clear()
        for driver in self.drivers.values():
            stopped = driver.stop()
            if isinstance(stopped, Deferred):
                await stopped
        self.drivers.clear()
        self.targets.clear()
        while self.devices:
            _name, device = self.devices.popitem()
            self._space.forget(device.unit)
            try:
                await close_disk(device.unit)
            except Exception:  # noqa: BLE001 - the others are to be closed too
                _log.failure("closing {name} failed", name=device.name)
            device.memory.close()
        await self._lane.close()
        self._lane = Lane(self.reactor, "state")
