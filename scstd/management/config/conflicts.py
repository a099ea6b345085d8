# SPDX-License-Identifier: MIT
"""
What a plan must not pass through: states that are refused, though neither the old nor
the new configuration is one.

Two devices that change names, two target groups that change numbers, accounts whose
secrets change places: whichever is written first, for a moment two would have the same.
So whatever somebody else is to have is given up first.  In between it has its default,
and nobody sees that: such steps are taken without a turn of the reactor between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scstd.attributes import Attribute
from scstd.management.config.steps import Step, differing, named, value_of
from scstd.management.model.attribute_tables import driver_rows
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    TargetConfiguration,
)
from scstd.management.model.device_attributes import FILENAME, STATE_KEY, UNIQUE
from scstd.management.model.group_configuration import NUMBER, DeviceGroupConfiguration
from scstd.management.model.target_attributes import target_rows
from scstd.management.ports.ports import others
from scstd.plugin import find_target_driver, qualified_name


def held_by(device: DeviceConfiguration) -> set[tuple[str, str]]:
    """
    Return what no other device can have while this one is open: its file, its state,
    its names.
    """
    values = {**device.values, STATE_KEY.name: device.state_key}
    return {
        (name, values[name])
        for name in (FILENAME.name, STATE_KEY.name, *UNIQUE)
        if values.get(name)
    }


def given_up_by_devices(
    old: Configuration, new: Configuration, closing: set[str]
) -> Iterator[Step]:
    """
    Yield the steps by which devices that stay give up names that others are to have.
    """
    after = named(new.devices)
    wanted = {
        (name, device.values.get(name)): device.name
        for device in new.devices
        for name in UNIQUE
    }
    for device in old.devices:
        if device.name in closing or device.name not in after:
            continue
        for name in UNIQUE:
            value = device.values.get(name)
            if value and wanted.get((name, value), device.name) != device.name:
                yield Step(f"devices/{device.name}/{name}", text="")


def claims(configuration: Configuration) -> dict[int, str]:
    """
    Return the port that is to have each relative target port identifier.
    """
    ours = configuration.rel_tgt_ids()
    theirs = [one for one in others(configuration.device_groups) if one[0] not in ours]
    return {number: name for name, number in [*ours.items(), *theirs] if number}


def given_up_by_targets(old: Configuration, new: Configuration) -> Iterator[Step]:
    """
    Yield the steps by which targets that stay give up numbers that other ports are to
    have: until they have their own, they have any that nobody is to have.
    """
    wanted = claims(new)
    for driver in old.drivers:
        after = {
            target.name
            for one in new.drivers
            if one.name == driver.name
            for target in one.targets
        }
        for target in driver.targets:
            number = target.values.get(NUMBER) or 0
            port = qualified_name(driver.name, target.name)
            if target.name in after and wanted.get(number, port) != port:
                yield Step(
                    f"targets/{driver.name}",
                    "set_target_attribute",
                    (target.name, NUMBER),
                )


def given_up_by_target_groups(
    old: DeviceGroupConfiguration, new: DeviceGroupConfiguration
) -> Iterator[Step]:
    """
    Yield the steps by which target groups give up numbers that others are to have.
    """
    wanted = {one.values["group_id"]: one.name for one in new.groups}
    for group in old.groups:
        number = group.values["group_id"]
        if number and wanted.get(number, group.name) != group.name:
            path = f"device_groups/{old.name}/target_groups/{group.name}"
            yield Step(f"{path}/group_id", text="0")


def given_up_by_accounts(
    old: DriverConfiguration, new: DriverConfiguration
) -> Iterator[Step]:
    """
    Yield the steps that take secrets away where several attributes with secrets change.
    """
    plugin = find_target_driver(new.name)
    path = f"targets/{new.name}"
    for name in _secrets(driver_rows(plugin), old.values, new.values):
        yield Step(path, "set_attribute", (name,))
    before = named(old.targets)
    for target in new.targets:
        was = before.get(target.name, TargetConfiguration(target.name, {}))
        rows = target_rows(plugin)
        for name in _secrets(rows, was.values, target.values):
            yield Step(path, "set_target_attribute", (target.name, name))


def _secrets(
    rows: Sequence[Attribute[Any]], old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[str]:
    """
    Return the attributes to be taken away: those with one value, that have one now.
    """
    changing = [row for row in differing(rows, old, new) if row.secret]
    if len(changing) < 2:
        return []
    return [
        row.name
        for row in changing
        if not row.repeats and value_of(row, old) != row.default
    ]
