# SPDX-License-Identifier: MIT
"""
The front's system: everything that is configured, and nothing that works.

Its devices have no stores and no files in the state directory: their units stand in,
and nobody is ever logged in to them.  Its target drivers are real: they listen, and
know every target and its LUNs.  What is done to it changes what is configured, and
nothing else: the worker whose it is has done it before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from scstd.management.devices.device import INACTIVE, Device
from scstd.management.devices.stand_ins import StandIns
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import ACTIVE, FILTERS, unit_settings
from scstd.management.model.filters import FilterConfiguration
from scstd.management.model.warnings import unsaid
from scstd.management.monitor.logs import Levels
from scstd.management.ports.activation import Activation
from scstd.management.ports.alua_groups import LiveGroup
from scstd.management.ports.device_groups import DeviceGroups
from scstd.management.ports.drivers import Drivers
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.scsi.alua import AccessState, TargetPortGroup
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.workers.facts import DeviceFacts


# Without a repr: units refer to it, and it to everything there is.
@attrs.define(eq=False, repr=False)
class Mirrored(StandIns):
    """
    Devices that workers have; *facts* is what they have told of them, by their names.
    """

    facts: dict[str, DeviceFacts] = attrs.field(factory=dict)

    def know(self, facts: Mapping[str, DeviceFacts]) -> None:
        """
        Take what a worker tells.
        """
        for name, told in facts.items():
            device = self._named.get(name)
            if device is not None:
                self.facts[name] = told
                device.missing = told.missing

    def lost(self, names: Sequence[str], why: str) -> None:
        """
        Know that a worker is not there: its devices are missing.
        """
        for name in names:
            if name in self._named and self._named[name].missing != INACTIVE:
                self._named[name].missing = why

    async def add_missing(self, device: DeviceConfiguration, why: str) -> None:
        """
        Have a device that a worker has, and could not open.
        """
        await self.add(device)
        self._named[device.name].missing = why

    async def remove(self, name: str) -> None:
        """
        Forget a device that a worker has closed.

        :raises TreeError: there is none (ENOENT).
        """
        await self._close(self.find(name))

    async def _close(self, device: Device) -> None:
        del self._named[device.name]
        self.facts.pop(device.name, None)
        device.memory.close()

    async def set(self, name: str, attribute: str, value: Any) -> None:
        """
        Have an attribute configured to be something else.
        """
        device = self.find(name)
        values = {**device.configuration.values, attribute: value}
        device.configuration = attrs.evolve(device.configuration, values=values)
        # Its names are looked at when others are opened.
        device.unit.configure(unit_settings(values))

    # What a plan wants to know.

    def can_change(self, name: str, attribute: str) -> bool:
        """
        Say whether an attribute that is settled at opening can be changed after all.
        """
        return name in self.facts and attribute in self.facts[name].changeable

    def bytes_of(self, name: str) -> int:
        """
        Return how large a device is; 0 without its store.
        """
        return self.facts[name].size if name in self.facts else 0

    def is_volatile(self, name: str) -> bool:
        """
        Say whether what a device holds is gone when it is closed.
        """
        return name in self.facts and self.facts[name].volatile


@attrs.define(eq=False)
class MirroredActivation(Activation):
    """
    What would open and close stores, and has only to be configured here.
    """

    async def set_active(self, name: str, active: bool) -> None:
        """Have a device configured so."""
        await self.devices.set(name, ACTIVE.name, active)

    async def set_filters(
        self, name: str, chain: Sequence[FilterConfiguration]
    ) -> None:
        """Have other filters configured."""
        await self.devices.set(name, FILTERS.name, tuple(chain))

    async def find(
        self, name: str, configuration: DeviceConfiguration | None = None
    ) -> None:
        """Have a device that was missing perhaps configured otherwise."""
        if configuration is not None:
            self.devices.find(name).configuration = configuration

    def bound(self, live: LiveGroup) -> bool:
        """Nothing waits for stores here."""
        del live
        return False

    def follow(
        self, live: LiveGroup, group: TargetPortGroup, state: AccessState
    ) -> Deferred[None]:
        """Do nothing."""
        del live, group, state
        return succeed(None)

    async def joined(self, live: LiveGroup, unit: LogicalUnit) -> None:
        """Do nothing."""


class MirroredGroup(LiveGroup):
    """
    A device group whose changes of state are over when they come here.
    """

    def look(self) -> None:
        """Have nothing waited for."""
        self.devices.carry_out = None


@attrs.define(eq=False)
class MirroredGroups(DeviceGroups):
    """
    Device groups that workers have; *renumbered* are the targets that have got another
    number since somebody has looked.
    """

    made = MirroredGroup
    renumbered: set[str] = attrs.field(factory=set)

    def _renumber(self, target: Target, number: int) -> None:
        self.renumbered.add(target.qualified_name)
        super()._renumber(target, number)


def mirror(
    reactor: Any,
    state: StateDirectory,
    levels: Levels | None = None,
    drivers: type[Drivers] = Drivers,
) -> System:
    """
    Return the front's system, with nothing configured.
    """
    return System(
        reactor,
        state,
        levels or Levels(),
        devices=Mirrored,
        drivers=drivers,
        activation=MirroredActivation,
        groups=MirroredGroups,
    )


def mirrored(system: System) -> tuple[Mirrored, MirroredGroups]:
    """
    Return the devices and device groups of a front's system.
    """
    devices, groups = system.devices, system.device_groups
    assert isinstance(devices, Mirrored)
    assert isinstance(groups, MirroredGroups)
    return devices, groups


async def reflected(call: Callable[[], Any]) -> Any:
    """
    Do in the mirror what was done elsewhere: what is to be said of it has been said.
    """
    with unsaid():
        done = call()
        return await done if hasattr(done, "__await__") else done


@attrs.define(eq=False)
class MirrorTree(Tree):
    """
    The tree of the mirror alone: what is changed by it changes only what is configured.
    """

    def do_write(self, path: str, text: str) -> Any:
        """Write to a file of the mirror."""
        return reflected(lambda: super(MirrorTree, self).do_write(path, text))

    def do_put(self, path: str, name: str, value: Any) -> Any:
        """Give an attribute another value in the mirror."""
        return reflected(lambda: super(MirrorTree, self).do_put(path, name, value))

    def do_add_device(self, configuration: DeviceConfiguration) -> Any:
        """Have a device in the mirror."""
        return reflected(lambda: super(MirrorTree, self).do_add_device(configuration))

    def do_add_missing(self, configuration: DeviceConfiguration, why: str) -> Any:
        """Have a device in the mirror that could not be opened."""
        return reflected(
            lambda: super(MirrorTree, self).do_add_missing(configuration, why)
        )

    def do_manage(
        self,
        path: str,
        verb: str,
        words: Sequence[str] = (),
        pairs: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """Run a verb in the mirror."""
        return reflected(
            lambda: super(MirrorTree, self).do_manage(path, verb, words, pairs)
        )
