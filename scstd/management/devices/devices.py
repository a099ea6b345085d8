# SPDX-License-Identifier: MIT
"""
The devices that are open: opening them with what they remember, changing, closing.

A device is a store with its filters, the logical unit that is made of it, and its
memory in the state directory.  Where it is a LUN is not known here: what is about
devices and targets together is in `scstd.management.system`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.block.checked import StoreFault
from scstd.blocking import Lane
from scstd.interfaces import IBackstore
from scstd.management.devices.changes import DeviceChanges
from scstd.management.devices.device import INACTIVE, Device
from scstd.management.devices.opening import (
    close_store,
    close_stores,
    filtered,
    flush_without_waiting,
    opening,
)
from scstd.management.errors import TreeError, present
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import (
    ACTIVE,
    SIZE,
    SOFT_THRESHOLD,
    unit_settings,
)
from scstd.management.model.warnings import warn
from scstd.management.monitor.events import Hub
from scstd.management.monitor.monitoring import Watching
from scstd.management.monitor.patience import CLOSING, HUNG, LIVE, OPENING, Patience
from scstd.management.monitor.stalls import StallWatch, at_work
from scstd.management.monitor.thin_space import SpaceWatch
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.medium import Aside, bind, identity_of
from scstd.management.state.state import StateDirectory
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import close_disk, open_dormant, open_unit
from scstd.scsi.sam import Task
from scstd.scsi.unit import LogicalUnit

_log = Logger("scstd.devices")


# Without a repr: units refer to it, and it to everything there is.
@attrs.define(eq=False, repr=False)
class Devices(DeviceChanges):
    """
    The open devices by name.
    """

    reactor: Any
    state: StateDirectory
    events: Hub
    watching: Watching
    date: Callable[[], float] = time.time
    _copies: CopyManager = attrs.field(init=False)
    _space: SpaceWatch = attrs.field(init=False)
    _closing: dict[str, Device] = attrs.field(factory=dict)
    """What is being closed, and not found any more."""
    stalls: StallWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lane = Lane(self.reactor, "state")
        self._copies = CopyManager(self.reactor.seconds, self._later)
        self._space = SpaceWatch(self.reactor)
        self.stalls = StallWatch(self.reactor, self._open_units)

    def _open_units(self) -> list[tuple[LogicalUnit, str]]:
        return [
            (one.unit, one.configuration.handler.name)
            for one in (*self._named.values(), *self._closing.values())
        ]

    def _later(self, call: Callable[[], None]) -> None:
        """
        Have something called in another turn of the reactor.
        """
        self.reactor.callLater(0, call)

    async def add(self, device: DeviceConfiguration) -> None:
        """
        Open a device; one that is not to be active has no store.

        :raises ConfigurationError: it cannot be opened, or is there already (EEXIST).
        """
        memory = await self._remembered(device)
        try:
            if device.values[ACTIVE.name]:
                unit, aside = await self._open(device, memory)
                found = Device(device, unit, memory, aside=aside)
            else:
                unit = await self._stand_in(device, memory)
                found = Device(device, unit, memory, INACTIVE)
        except BaseException:
            await memory.finish()
            memory.close()
            raise
        self._named[device.name] = found
        self._begin(found)
        self.events.publish(
            "REG_VIRT_DEV",
            device=device.name,
            handler=device.handler.name,
            blocks=unit.blocks,
            block_size=unit.block_size,
        )

    async def add_missing(self, device: DeviceConfiguration, why: str) -> None:
        """
        Have a device without its store, which cannot be opened now: *why*.

        :raises ConfigurationError: not even that can be done.
        """
        memory = await self._remembered(device)
        try:
            unit = await self._stand_in(device, memory)
        except BaseException:
            await memory.finish()
            memory.close()
            raise
        self._named[device.name] = found = Device(device, unit, memory, why)
        self._begin(found)
        self.events.publish("DEVICE_MISSING", device=device.name, error=why)

    async def _remembered(self, device: DeviceConfiguration) -> DeviceMemory:
        """
        Return what a new device remembers.

        :raises TreeError: it cannot be there.
        """
        self._check_new(device)
        memory: DeviceMemory = await self.lane.call(self._memory_of, device)
        memory.retry_with(self.reactor.callLater)
        return memory

    def _memory_of(self, device: DeviceConfiguration) -> DeviceMemory:
        # In a thread: where it comes from is asked of its file system.
        return self.state.device(
            device.state_key, self.lane, other=device.other_key, origin=device.origin
        )

    async def refilter(
        self, device: Device, configuration: DeviceConfiguration
    ) -> LogicalUnit:
        """
        Return the unit that is to take the place of a device's unit, with other filters
        before the same store.  That is lent to both from now on: who calls takes it
        back when the one before is closed.

        :raises ConfigurationError: one of them cannot be; all is as before.
        """
        unit = device.unit
        bottom: Any = unit.store.bottom  # type: ignore[attr-defined]
        bottom.lent = True
        try:
            store = await filtered(self.reactor, configuration, bottom)
            made = self._unit_of(configuration, store, device.memory)
        except BaseException:
            bottom.lent = False
            raise
        made.reservation.restore(unit.reservation.persistent)
        return made

    def _unit_of(
        self, device: DeviceConfiguration, store: IBackstore, memory: DeviceMemory
    ) -> LogicalUnit:
        return open_unit(
            device.name,
            store,
            unit_settings(device.values),
            memory,
            clock=self.date,
            steady=self.reactor.seconds,
            copies=self._copies,
            later=self._later,
        )

    async def _open(
        self, device: DeviceConfiguration, memory: DeviceMemory
    ) -> tuple[LogicalUnit, list[Aside]]:
        """
        Return the unit of a device that is open, and what is put aside of other media.

        :raises ConfigurationError: it cannot be opened.
        """
        memory.gather()
        store: IBackstore | None = None
        try:
            store = await self._opened(device)
            identity = await identity_of(store, device)
            aside = await bind(memory, device.name, identity)
            unit = self._unit_of(device, store, memory)
            try:
                self._check_identity(unit)
                origin = await self.lane.call(lambda: device.origin)
                if memory.load().get("origin") != origin:
                    memory.update("origin", origin)
                await memory.settled()
            except BaseException:
                # It may be at work already: a sanitize operation goes on by itself.
                store = None
                with suppress(OSError):
                    await memory.settled()
                await close_disk(unit)
                raise
        except (ConfigurationError, OSError, ValueError) as error:
            if store is not None:
                await close_store(store)
            number = getattr(error, "errno", None) or errno.EINVAL
            why = getattr(error, "strerror", None) or error
            raise TreeError(number, f"device {device.name}: {why}") from error
        wanted = device.values.get(SIZE.name)
        if isinstance(wanted, int) and store.size > wanted:
            warn(
                f"device {device.name}: its file has {store.size} bytes, more than size"
                f" {wanted}: the size of the file counts"
            )
        return unit, aside

    async def _stand_in(
        self, device: DeviceConfiguration, memory: DeviceMemory
    ) -> LogicalUnit:
        """
        Return the unit of a device that is not open.
        """
        memory.gather()
        unit = open_dormant(
            device.name,
            unit_settings(device.values),
            memory,
            clock=self.date,
            steady=self.reactor.seconds,
            device_type=getattr(device.handler, "device_type", 0),
        )
        self._check_identity(unit)
        with suppress(OSError):
            await memory.settled()
        return unit

    def _begin(self, device: Device) -> None:
        """
        Have a device's unit be known.
        """
        unit = device.unit
        if device.missing:
            _log.info(
                "device {name}: not open: {why}", name=unit.name, why=device.missing
            )
        else:
            _log.info(
                "device {name}: {blocks} blocks of {size} bytes, serial {serial}",
                name=unit.name,
                blocks=unit.blocks,
                size=unit.block_size,
                serial=unit.identity.serial,
            )
            threshold = device.configuration.values.get(SOFT_THRESHOLD.name)
            self._space.watch(unit, threshold)
        unit.report_to(self.events.publish)
        self.watching.added(unit)
        self.watching.hold_new(unit)

    # A device that is there, with its store or without.

    async def wake(self, device: Device) -> LogicalUnit:
        """
        Open the store of a device that is there without; return the unit that is to
        take the place of its unit, which is not used by anybody yet.

        :raises ConfigurationError: it cannot be opened; why is remembered.
        """
        try:
            unit, aside = await self._open(device.configuration, device.memory)
        except ConfigurationError as error:
            device.missing = str(error).removeprefix(f"device {device.name}: ")
            with suppress(OSError):
                await device.memory.settled()
            raise
        device.aside = aside
        unit.reservation.restore(device.unit.reservation.persistent)
        return unit

    async def sleep(self, device: Device) -> LogicalUnit:
        """
        Return the unit that is to take the place of a device's unit without its store.
        """
        unit = await self._stand_in(device.configuration, device.memory)
        unit.reservation.restore(device.unit.reservation.persistent)
        return unit

    def put(self, device: Device, unit: LogicalUnit, missing: str) -> LogicalUnit:
        """
        Give a device another unit; return the one before.
        """
        before, device.unit, device.missing = device.unit, unit, missing
        self._begin(device)
        self._space.forget(before)
        self.watching.removed(before)
        return before

    async def retired(
        self,
        device: Device,
        unit: LogicalUnit,
        but: Callable[[Task], bool],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Close the store of a unit that *device* does not have any more; *but* as in
        `close_disk`, *after* is called when it is closed.  One that takes too long is
        closed when it can be.
        """

        async def closed() -> None:
            await device.answered()
            await self._retire(unit, but)
            after()

        await Patience(self.reactor).within(
            2 * LIVE,
            closed(),
            lambda: f"device {unit.name}: {at_work(self.reactor, unit)}",
        )

    async def _retire(
        self, unit: LogicalUnit, but: Callable[[Task], bool] = lambda _task: False
    ) -> None:
        try:
            await close_disk(unit, but=but)
        except (OSError, StoreFault) as error:
            _log.error("closing {name}: {error}", name=unit.name, error=error)
        except Exception:  # noqa: BLE001 - the others are to be closed too
            _log.failure("closing {name} failed", name=unit.name)

    def _check_new(self, device: DeviceConfiguration) -> None:
        """
        :raises TreeError: it is there, or another device, that is open or being closed,
            has the state.
        """
        if device.name in self._named:
            raise present("device", device.name)
        if device.name in self._closing:
            raise TreeError(
                errno.EBUSY,
                f"device {device.name} is still being closed:"
                f" {at_work(self.reactor, self._closing[device.name].unit)}",
            )
        for other in (*self._named.values(), *self._closing.values()):
            if other.configuration.state_key == device.state_key:
                raise TreeError(
                    errno.EBUSY,
                    f"device {device.name}: device {other.name} has the state"
                    f" {device.state_key}",
                )

    async def _opened(self, device: DeviceConfiguration) -> IBackstore:
        """
        Return a device's store; one that comes too late is closed.

        :raises ConfigurationError: it cannot be opened, or has not been in time.
        """
        opened = Deferred.fromCoroutine(opening(self.reactor, device))
        stores: list[IBackstore] = []
        opened.addCallback(stores.append)
        if not await Patience(self.reactor).within(
            OPENING, opened, lambda: f"device {device.name}: opening it"
        ):
            opened.addCallback(lambda _: close_stores(stores))
            raise TreeError(
                errno.ETIMEDOUT,
                f"opening it has not ended for {OPENING:g} s: does its disk answer?",
            )
        return stores[0]

    def _check_identity(self, unit: LogicalUnit) -> None:
        """
        See that no other device has one of the unit's names: the state of one may have
        been copied for the other.

        :raises ConfigurationError: one has.
        """
        for other in self._named.values():
            if other.name == unit.name:
                continue
            name = unit.identity.shared_with(other.unit.identity)
            if name:
                raise ConfigurationError(
                    f"its {name} is that of device {other.name}: hosts would take the"
                    " two for one disk"
                )

    async def remove(self, name: str) -> None:
        """
        Close a device: nothing finds it from now on, and no acknowledged write is lost.

        :raises TreeError: there is none (ENOENT).  Or a store takes too long for all
            others to wait for it (ETIMEDOUT): one whose commands do not end stays
            there; one that is flushed or closed is gone, and closed when it can be.
        """
        unit = self.find(name).unit
        patience = Patience(self.reactor)

        def what() -> str:
            return f"device {name}: {at_work(self.reactor, unit)}"

        if unit.tasks() and not await patience.within(LIVE, unit.quiet(), what):
            raise TreeError(
                errno.ETIMEDOUT,
                f"device {name} stays: a command has not ended for {LIVE:g} s:"
                f" {at_work(self.reactor, unit)}",
            )
        device = self.find(name)
        if not await patience.within(2 * LIVE, self._close(device), what):
            raise TreeError(
                errno.ETIMEDOUT,
                f"device {name} is still being closed, after {2 * LIVE:g} s:"
                f" {at_work(self.reactor, unit)}",
            )

    async def _close(self, device: Device) -> None:
        """
        Close a device that nothing is to find any more.
        """
        del self._named[device.name]
        self._closing[device.name] = device
        self._space.forget(device.unit)
        self.watching.removed(device.unit)
        await device.answered()
        await self._retire(device.unit)
        await device.memory.finish()
        device.memory.close()
        del self._closing[device.name]
        self.events.publish("DEVICE_CLOSED", device=device.name)

    async def close(self, patience: Patience | None = None) -> None:
        """
        Close all of them, the one that came last first, but one that hangs delays no
        other.
        """
        patience = patience or Patience(self.reactor)
        until = self.reactor.seconds() + CLOSING
        hung: list[Device] = []
        others: list[Device] = []
        for device in reversed(self._named.values()):
            (hung if device.unit.tasks() else others).append(device)
        for device in hung:
            flush_without_waiting(device.unit)
        await self._all_closed(patience, CLOSING, others)
        await self._all_closed(patience, HUNG, hung)
        lane, self.lane = self.lane, Lane(self.reactor, "state")
        # All of it together has so long.
        left = max(until - self.reactor.seconds(), HUNG)
        await patience.within(left, lane.close(), lambda: "the state directory")

    async def _all_closed(
        self, patience: Patience, seconds: float, devices: list[Device]
    ) -> None:
        closing = [Deferred.fromCoroutine(self._close(one)) for one in devices]
        if not closing:
            return
        over: Deferred[Any] = DeferredList(closing)

        def what() -> str:
            return ", ".join(
                f"device {name}: {at_work(self.reactor, one.unit)}"
                for name, one in self._closing.items()
            )

        await patience.within(seconds, over, what)
