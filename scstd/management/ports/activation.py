# SPDX-License-Identifier: MIT
"""
Devices whose stores come and go while they stay LUNs: ``active``, ``bind_alua_state``,
and what could not be opened.

A device without its store has a unit that stands in (`scstd.scsi.dormant`): when it is
opened or closed, the other unit takes its place in every LUN map and in its device
group, and initiators are told that the LUN has changed.  Reservations go along.  What
is configured does not change by it: access states open and close a device that is, or
is not, configured to be active.

One thing happens after the other for one device, whoever asks: a person by the tree, or
an initiator by SET TARGET PORT GROUPS.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.devices.device import INACTIVE, STANDBY, Device
from scstd.management.devices.devices import Devices
from scstd.management.errors import TreeError
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import ACTIVE, FILTERS
from scstd.management.model.filters import FilterConfiguration
from scstd.management.model.warnings import contents_go, warn
from scstd.management.monitor.monitoring import Watching
from scstd.management.monitor.patience import LIVE, Patience
from scstd.management.ports.alua_groups import LiveGroup
from scstd.management.ports.lun_maps import Maps
from scstd.scsi.alua import AccessState, TargetPortGroup
from scstd.scsi.luns import Lun
from scstd.scsi.sam import Task
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit

_log = Logger()

_FILTERS = "filters"
"""For what commands are held while filters change."""

_OPEN = (AccessState.ACTIVE, AccessState.NONOPTIMIZED)
"""The states in which a node uses what its devices are made of."""

Exports = Callable[[LogicalUnit], list[tuple[Any, Target, str, int]]]


def _only_access(task: Task) -> bool:
    """
    Say whether a task changes access states: it waits for us, and touches no store.
    """
    return task.row is not None and task.row.name == "SET TARGET PORT GROUPS"


@attrs.define(eq=False)
class Activation:
    """
    Opens and closes; *exports* says where a unit is a LUN.
    """

    devices: Devices
    maps: Maps
    watching: Watching
    exports: Exports
    _turns: dict[str, DeferredLock] = attrs.field(factory=dict)

    async def _alone(self, name: str, call: Callable[[Device], Any]) -> None:
        """
        Do something with a device when nothing else of this is done with it.
        """
        lock = self._turns.setdefault(name, DeferredLock())
        await lock.acquire()
        try:
            await call(self.devices.find(name))
        finally:
            lock.release()
            if not lock.locked:
                self._turns.pop(name, None)

    # What a person asks for.

    async def set_active(self, name: str, active: bool) -> None:
        """
        Open a device's store, or close it, and have it configured so.

        :raises ConfigurationError: it cannot be opened: all is as before.
        """

        async def change(device: Device) -> None:
            before = device.configuration
            values: Mapping[str, Any] = {**before.values, ACTIVE.name: active}
            if active and device.missing:
                await self._open(device)
            elif not active:
                if self.devices.is_volatile(name):
                    warn(contents_go(name, "it is closed"))
                await self._close(device, INACTIVE)
            device.configuration = attrs.evolve(device.configuration, values=values)

        await self._alone(name, change)

    async def find(
        self, name: str, configuration: DeviceConfiguration | None = None
    ) -> None:
        """
        Open the store of a device that was missing, perhaps with another
        *configuration*.

        :raises ConfigurationError: it cannot be opened yet, or is not to be.
        """

        async def look(device: Device) -> None:
            before = device.configuration
            if configuration is not None:
                device.configuration = configuration
            try:
                await self._find(device)
            except BaseException:
                device.configuration = before
                raise

        await self._alone(name, look)

    async def _find(self, device: Device) -> None:
        if not device.configuration.values[ACTIVE.name]:
            device.missing = INACTIVE
            raise TreeError(errno.EINVAL, f"device {device.name}: {INACTIVE}")
        if device.missing:
            await self._open(device)

    async def set_filters(
        self, name: str, chain: Sequence[FilterConfiguration]
    ) -> None:
        """
        Put other filters before a device's store, which stays open.  Commands that come
        meanwhile wait.

        :raises ConfigurationError: one of them cannot be; all is as before.
        """

        async def change(device: Device) -> None:
            before = device.configuration
            values: Mapping[str, Any] = {**before.values, FILTERS.name: tuple(chain)}
            wanted = attrs.evolve(before, values=values)
            if not device.missing:
                await self._refilter(device, wanted)
            device.configuration = wanted

        await self._alone(name, change)

    async def _refilter(self, device: Device, wanted: DeviceConfiguration) -> None:
        holds = self.watching.holds
        old = device.unit
        self.watching.check_going(old)
        if old.background is not None:
            raise TreeError(
                errno.EBUSY, f"device {device.name}: it is being formatted or sanitized"
            )
        try:
            await self._quiet(old)
            unit = await self.devices.refilter(device, wanted)
        except BaseException:
            holds.release(old, _FILTERS)
            raise
        # What waits there still comes before what waits here.
        holds.hold(unit, _FILTERS)
        self.devices.put(device, unit, "")
        bottom: Any = unit.store.bottom  # type: ignore[attr-defined]

        def own() -> None:
            bottom.lent = False

        try:
            await self._replace(old, unit, wait=True)
            await self.devices.retired(device, old, _only_access, own)
        finally:
            holds.release(unit, _FILTERS)

    async def _quiet(self, unit: LogicalUnit) -> None:
        """
        Hold a unit's commands until none is at work.

        :raises TreeError: they take too long (ETIMEDOUT).
        """
        quiet = self.watching.holds.hold(unit, _FILTERS)
        if not await Patience(self.devices.reactor).within(
            LIVE, quiet, lambda: f"device {unit.name}: other filters"
        ):
            raise TreeError(
                errno.ETIMEDOUT,
                f"device {unit.name}: a command has not ended for {LIVE:g} s",
            )

    # What access states ask for.

    def bound(self, live: LiveGroup) -> bool:
        """
        Say whether changes of state in a group open and close any device.
        """
        return any(self._device(unit).bound for unit in live.devices.units)

    def _device(self, unit: LogicalUnit) -> Device:
        return self.devices[unit.name]

    def follow(
        self, live: LiveGroup, group: TargetPortGroup, state: AccessState
    ) -> Deferred[None]:
        """
        Have the devices of a group open or closed as they are to be when one of its
        target groups is in another state.
        """
        return Deferred.fromCoroutine(self._follow(live, group, state))

    async def _follow(
        self, live: LiveGroup, group: TargetPortGroup, state: AccessState
    ) -> None:
        ours = [
            state if one is group else one.state
            for one in live.devices.groups.values()
            if any(port.target is not None for port in one.ports.values())
        ]
        if not ours or all(port.target is None for port in group.ports.values()):
            # Only other nodes' ports: what they do is theirs.
            return
        wanted = any(one in _OPEN for one in ours)
        for unit in list(live.devices.units):
            if self._device(unit).bound:
                await self._alone(
                    unit.name,
                    self._opened if wanted else self._closed,
                )

    async def joined(self, live: LiveGroup, unit: LogicalUnit) -> None:
        """
        Close a device that has come into a group no target group of which is active.
        """
        device = self._device(unit)
        states = [
            one.state
            for one in live.devices.groups.values()
            if any(port.target is not None for port in one.ports.values())
        ]
        if device.bound and states and not any(one in _OPEN for one in states):
            await self._alone(unit.name, self._closed)

    async def _opened(self, device: Device) -> None:
        if not device.missing:
            return
        try:
            await self._open(device, wait=False)
        except ConfigurationError as error:
            _log.error("{error}: its LUNs stay not ready", error=error)

    async def _closed(self, device: Device) -> None:
        if not device.missing:
            await self._close(device, STANDBY, wait=False)

    # How it is done.

    async def _open(self, device: Device, *, wait: bool = True) -> None:
        unit = await self.devices.wake(device)
        await self._see_there(device, unit)
        before = self.devices.put(device, unit, "")
        await self._replace(before, unit, wait=wait)
        await self.devices.retired(device, before, _only_access)
        self.devices.events.publish("DEVICE_OPENED", device=device.name)

    async def _close(self, device: Device, why: str, *, wait: bool = True) -> None:
        if device.missing:
            device.missing = why
            return
        self.watching.check_going(device.unit)
        unit = await self.devices.sleep(device)
        await self._see_there(device, unit)
        before = self.devices.put(device, unit, why)
        await self._replace(before, unit, wait=wait)
        await self.devices.retired(device, before, _only_access)
        self.devices.events.publish("DEVICE_CLOSED", device=device.name, reason=why)

    async def _see_there(self, device: Device, unit: LogicalUnit) -> None:
        """
        :raises TreeError: the device was closed meanwhile (an initiator had asked for
            this); its new unit is closed, too.
        """
        if self.devices.get(device.name) is not device:
            await self.devices.retired(device, unit, _only_access)
            raise TreeError(errno.ENOENT, f"device {device.name} was closed meanwhile")

    async def _replace(
        self, before: LogicalUnit, unit: LogicalUnit, *, wait: bool
    ) -> None:
        """
        Put a unit in the place of another one; unless *wait* says so not waiting for
        the commands of those who had that.
        """
        access = before.access
        targets: dict[Target, None] = {}
        for _driver, target, group, lun in self.exports(before):
            luns = self.maps.group(target, group).luns if group else target.luns
            luns[lun] = Lun(unit, luns[lun].read_only)
            targets[target] = None
        if access is not None:
            access.remove_unit(before)
            access.add_unit(unit)
        # All at once: else the sessions of one target would still work the unit before
        # while those of another are waited for.
        followed = [Deferred.fromCoroutine(self.maps.follow(one)) for one in targets]
        if not wait:
            for one in followed:
                one.addErrback(
                    lambda failure: _log.failure("a LUN has changed", failure=failure)
                )
            return
        for _done, result in await DeferredList(followed, consumeErrors=True):
            if isinstance(result, Failure):
                result.raiseException()
