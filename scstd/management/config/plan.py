# SPDX-License-Identifier: MIT
"""
From the running tree to a wanted configuration: a list of steps, and nothing else.

What is the same in both has no step, so a reload of an unchanged file touches nothing.
The order keeps every step possible, and it is SCST's where things are new: devices,
then targets with their LUNs and groups, then targets and at last drivers are enabled.
What goes is taken away before that, from the other end: targets, LUNs, devices.

A device whose settled attributes change is opened anew: its LUNs go first and come
back after it.  A new device is opened before LUNs change, so that a LUN moves from one
device to another in one step, unless it takes the place, the file or a name of one that
goes.  What nobody may have together with something that is new, though neither
configuration has both, is given up first (`scstd.management.config.conflicts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import attrs

from scstd.attributes import Attribute, Effect, changed_values
from scstd.management.config import groupplan
from scstd.management.config.conflicts import (
    given_up_by_accounts,
    given_up_by_devices,
    given_up_by_targets,
    held_by,
)
from scstd.management.config.lunplan import LunPlan
from scstd.management.config.running import NothingRuns, RunningDevices
from scstd.management.config.steps import (
    Step,
    differing,
    named,
    texts,
    value_of,
    writes,
    written,
)
from scstd.management.model.attribute_tables import (
    ROOT_ATTRIBUTES,
    driver_rows,
    group_rows,
)
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    TargetConfiguration,
)
from scstd.management.model.device_attributes import (
    ACTIVE,
    FILENAME,
    FILTERS,
    SIZE,
    STATE_KEY,
    device_rows,
)
from scstd.management.model.group_configuration import NUMBER
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.warnings import contents_go
from scstd.plugin import find_target_driver

_NOTHING = NothingRuns()


def plan(
    running: Configuration, wanted: Configuration, devices: RunningDevices = _NOTHING
) -> list[Step]:
    """
    Return what leads from one configuration to the other; *devices* are those
    that run.
    """
    return _Planner(running, wanted, devices).steps()


@attrs.define
class _Planner:
    old: Configuration
    new: Configuration
    devices: RunningDevices
    closing: set[str] = attrs.field(factory=set, init=False)
    opening: dict[str, DeviceConfiguration] = attrs.field(factory=dict, init=False)
    early: set[str] = attrs.field(factory=set, init=False)
    """New devices that are opened before LUNs change."""

    def steps(self) -> list[Step]:
        old, new = named(self.old.devices), named(self.new.devices)
        self.closing = {
            name
            for name, device in old.items()
            if name not in new or self._reopens(device, new[name])
        }
        self.opening = {
            name: device
            for name, device in new.items()
            if name not in old or name in self.closing
        }
        # What a new device would wait for: a name, or a file that is locked.
        held = set(chain.from_iterable(held_by(old[name]) for name in self.closing))
        self.early = {
            name
            for name, device in self.opening.items()
            if name not in old and held.isdisjoint(held_by(device))
        }
        early = [self.opening[name] for name in self.opening if name in self.early]
        late = [self.opening[name] for name in self.opening if name not in self.early]
        luns = LunPlan(self.closing, self.opening, self.early)
        drivers = self._drivers()
        targets = list(self._targets())
        return [
            *self._root(),
            *chain.from_iterable(self._disable(*pair) for pair in drivers),
            *groupplan.taken_away(self.old, self.new, self.closing),
            *self._remove_targets(),
            *given_up_by_devices(self.old, self.new, self.closing),
            *given_up_by_targets(self.old, self.new),
            *map(self._open, early),
            *chain.from_iterable(luns.take_away(*one) for one in targets),
            *map(self._close, [old[name] for name in old if name in self.closing]),
            *map(self._open, late),
            *chain.from_iterable(
                self._change_device(old[name], new[name])
                for name in new
                if name in old and name not in self.closing
            ),
            *chain.from_iterable(self._add_targets(*pair) for pair in drivers),
            *chain.from_iterable(luns.add(*one) for one in targets),
            *chain.from_iterable(self._group_values(*pair) for pair in drivers),
            *chain.from_iterable(luns.regroup(*one) for one in targets),
            *groupplan.brought(self.old, self.new, self.closing),
            *chain.from_iterable(given_up_by_accounts(*pair) for pair in drivers),
            *chain.from_iterable(self._target_values(*pair) for pair in drivers),
            *chain.from_iterable(self._driver_values(*pair) for pair in drivers),
        ]

    def _root(self) -> Iterator[Step]:
        yield from writes("", ROOT_ATTRIBUTES, self.old.values, self.new.values)

    # Devices.

    def _reopens(self, old: DeviceConfiguration, new: DeviceConfiguration) -> bool:
        if old.handler.name != new.handler.name or old.state_key != new.state_key:
            return True
        return bool(self._settled(old, new))

    def _settled(self, old: DeviceConfiguration, new: DeviceConfiguration) -> list[str]:
        """
        Return the attributes that differ and are settled when a device is opened.
        """
        return [
            row.name
            for row in differing(device_rows(new.handler), old.values, new.values)
            if row.effect is not Effect.LIVE
            and row.name != STATE_KEY.name
            and not self._stays_as_large(row, old, new)
            and not self.devices.can_change(old.name, row.name)
        ]

    def _stays_as_large(
        self, row: Attribute[Any], old: DeviceConfiguration, new: DeviceConfiguration
    ) -> bool:
        """
        Say whether another size means nothing: a file that is larger is as it is, now
        as at a start.
        """
        wanted = new.values.get(SIZE.name)
        return (
            row.name == SIZE.name
            and FILENAME.name in new.values
            and (wanted is None or wanted <= self.devices.bytes_of(old.name))
        )

    @staticmethod
    def _open(device: DeviceConfiguration) -> Step:
        pairs = changed_values(device_rows(device.handler), device.values)
        return Step(
            f"handlers/{device.handler.name}",
            "add_device",
            (device.name,),
            tuple(pairs),
            device=device,
        )

    def _close(self, device: DeviceConfiguration) -> Step:
        return Step(
            f"handlers/{device.handler.name}",
            "del_device",
            (device.name,),
            loses=self._loses(device.name, self._why_closed(device)),
        )

    def _why_closed(self, old: DeviceConfiguration) -> str:
        new = self.opening.get(old.name)
        if new is None:
            return "it is taken away"
        if old.handler.name != new.handler.name or old.state_key != new.state_key:
            return "it is to be another device"
        return f"another {', '.join(self._settled(old, new))} takes opening it anew"

    def _loses(self, name: str, why: str) -> str:
        return contents_go(name, why) if self.devices.is_volatile(name) else ""

    def _change_device(
        self, old: DeviceConfiguration, new: DeviceConfiguration
    ) -> Iterator[Step]:
        for row in differing(device_rows(new.handler), old.values, new.values):
            if row.name == STATE_KEY.name or self._stays_as_large(row, old, new):
                continue
            value = value_of(row, new.values)
            if row.name == FILTERS.name:
                path = f"handlers/{new.handler.name}"
                words = (new.name, *texts(row, value))
                put = (f"devices/{new.name}", row.name, value)
                yield Step(path, "set_filters", words, put=put)
                continue
            closes = row.name == ACTIVE.name and not value
            loses = self._loses(new.name, "it is closed") if closes else ""
            yield written(f"devices/{new.name}", row, value, loses)
        if self.devices.is_lost(new.name) and new.values.get(ACTIVE.name, True):
            yield Step(f"devices/{new.name}/resync_size", text="1", tried=True)

    # Drivers and targets.

    def _drivers(self) -> list[tuple[DriverConfiguration, DriverConfiguration]]:
        """
        Return each driver as it is and as it is to be; one that is not mentioned is as
        it would be with nothing configured.
        """
        old, new = named(self.old.drivers), named(self.new.drivers)
        old = {
            name: attrs.evolve(
                driver,
                targets=tuple(
                    target
                    for target in driver.targets
                    if self._stays(name, target, new.get(name))
                ),
            )
            for name, driver in old.items()
        }
        return [
            (
                old.get(name, DriverConfiguration(name, {})),
                new.get(name, DriverConfiguration(name, {})),
            )
            for name in {**old, **new}
        ]

    def _targets(
        self,
    ) -> Iterator[tuple[str, TargetConfiguration, TargetConfiguration]]:
        """
        Yield the path of each target that is to be, as it is and as it is to be.
        """
        for old, new in self._drivers():
            before = named(old.targets)
            for target in new.targets:
                yield (
                    f"targets/{new.name}/{target.name}",
                    before.get(target.name, TargetConfiguration(target.name, {})),
                    target,
                )

    @staticmethod
    def _disable(old: DriverConfiguration, new: DriverConfiguration) -> Iterator[Step]:
        """
        Yield steps that let nobody in any more: first of all, as enabling comes last.
        """
        path = f"targets/{old.name}"
        if old.values.get("enabled") and not new.values.get("enabled"):
            yield Step(f"{path}/enabled", text="0")
        after = named(new.targets)
        for target in old.targets:
            wanted = after.get(target.name)
            if (
                wanted is not None
                and target.values.get("enabled")
                and not wanted.values.get("enabled")
            ):
                yield Step(f"{path}/{target.name}/enabled", text="0")

    @staticmethod
    def _stays(
        driver: str, target: TargetConfiguration, new: DriverConfiguration | None
    ) -> bool:
        """
        Say whether a target is to be, with what is settled when it is made.
        """
        after = named(new.targets).get(target.name) if new is not None else None
        if after is None:
            return False
        rows = target_rows(find_target_driver(driver))
        changed = differing(rows, target.values, after.values)
        return not any(row.effect is Effect.OPEN for row in changed)

    def _remove_targets(self) -> Iterator[Step]:
        new = named(self.new.drivers)
        for driver in self.old.drivers:
            for target in driver.targets:
                if not self._stays(driver.name, target, new.get(driver.name)):
                    path = f"targets/{driver.name}"
                    yield Step(path, "del_target", (target.name,))

    @staticmethod
    def _add_targets(
        old: DriverConfiguration, new: DriverConfiguration
    ) -> Iterator[Step]:
        before = named(old.targets)
        rows = [
            row
            for row in target_rows(find_target_driver(new.name))
            if row.effect is Effect.OPEN or row.name == NUMBER
        ]
        for target in new.targets:
            if target.name not in before:
                pairs = tuple(changed_values(rows, target.values))
                path = f"targets/{old.name}"
                yield Step(path, "add_target", (target.name,), pairs)

    @staticmethod
    def _target_values(
        old: DriverConfiguration, new: DriverConfiguration
    ) -> Iterator[Step]:
        rows = target_rows(find_target_driver(new.name))
        before = named(old.targets)
        for target in new.targets:
            was = before.get(target.name, TargetConfiguration(target.name, {}))
            for row in _last(rows):
                value = value_of(row, target.values)
                if value == value_of(row, was.values):
                    continue
                if row.effect is Effect.OPEN or (row.name == "enabled" and not value):
                    continue
                if row.name == NUMBER and target.name not in before:
                    continue
                yield Step(
                    f"targets/{new.name}",
                    "set_target_attribute",
                    (target.name, row.name, *texts(row, value)),
                    hidden=2 if row.secret else 0,
                    put=(f"targets/{new.name}/{target.name}", row.name, value),
                )

    @staticmethod
    def _group_values(
        old: DriverConfiguration, new: DriverConfiguration
    ) -> Iterator[Step]:
        rows = group_rows(find_target_driver(new.name))
        before = named(old.targets)
        for target in new.targets:
            known = before.get(target.name)
            was = {} if known is None else named(known.groups)
            for group in target.groups:
                values = was[group.name].values if group.name in was else {}
                path = f"targets/{new.name}/{target.name}/ini_groups/{group.name}"
                yield from writes(path, rows, values, group.values)

    @staticmethod
    def _driver_values(
        old: DriverConfiguration, new: DriverConfiguration
    ) -> Iterator[Step]:
        rows = driver_rows(find_target_driver(new.name))
        for row in _last(rows):
            value = value_of(row, new.values)
            if value == value_of(row, old.values) or (
                row.name == "enabled" and not value
            ):
                continue
            yield Step(
                f"targets/{new.name}",
                "set_attribute",
                (row.name, *texts(row, value)),
                hidden=1 if row.secret else 0,
                put=(f"targets/{new.name}", row.name, value),
            )


def _last(rows: Sequence[Attribute[Any]]) -> list[Attribute[Any]]:
    """
    Return the rows with the one that enables behind the others.
    """
    return sorted(rows, key=lambda row: row.name == "enabled")
