# SPDX-License-Identifier: MIT
"""
The part of a plan (`scstd.management.config.plan`) that is about device groups.

A new group gets its devices last, so that initiators see it as it is to be; what stays
in a group stays in it all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from scstd.management.config.conflicts import claims, given_up_by_target_groups
from scstd.management.config.steps import Step, named, writes
from scstd.management.model.configuration import Configuration
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    NUMBER,
    TARGET_GROUP_ATTRIBUTES,
    DeviceGroupConfiguration,
    TargetGroupConfiguration,
)


def _path(group: DeviceGroupConfiguration, one: TargetGroupConfiguration) -> str:
    return f"device_groups/{group.name}/target_groups/{one.name}"


def _leaves(
    port: str, number: int | None, one: TargetGroupConfiguration, wanted: dict[int, str]
) -> bool:
    """
    Say whether a port is taken out: it is not to be there, or its number another's.
    """
    if port not in one.ports:
        return True
    return number is not None and wanted.get(number, port) != port


def taken_away(
    old: Configuration, new: Configuration, closing: set[str]
) -> Iterator[Step]:
    """
    Yield the steps that take away groups, devices that leave them or are closed, and
    ports.
    """
    after, wanted = named(new.device_groups), claims(new)
    for group in old.device_groups:
        stays = after.get(group.name)
        if stays is None:
            yield Step("device_groups", "del", (group.name,))
            continue
        path = f"device_groups/{group.name}"
        for device in group.devices:
            if device in closing or device not in stays.devices:
                yield Step(f"{path}/devices", "del", (device,))
        remaining = named(stays.groups)
        for one in group.groups:
            if one.name not in remaining:
                yield Step(f"{path}/target_groups", "del", (one.name,))
                continue
            for port, number in one.ports.items():
                if _leaves(port, number, remaining[one.name], wanted):
                    yield Step(_path(group, one), "del", (port,))


def brought(
    old: Configuration, new: Configuration, closing: set[str]
) -> Iterator[Step]:
    """
    Yield the steps that make what is new, and change what is another.
    """
    before, wanted = named(old.device_groups), claims(new)
    ours = new.rel_tgt_ids()
    for group in new.device_groups:
        was = before.get(group.name)
        path = f"device_groups/{group.name}"
        if was is None:
            was = DeviceGroupConfiguration(group.name, {})
            yield Step("device_groups", "create", (group.name,))
        yield from given_up_by_target_groups(was, group)
        known = named(was.groups)
        for one in group.groups:
            had = known.get(one.name)
            where = _path(group, one)
            if had is None:
                had = TargetGroupConfiguration(one.name, {})
                yield Step(f"{path}/target_groups", "create", (one.name,))
            yield from writes(where, TARGET_GROUP_ATTRIBUTES, had.values, one.values)
            for port, number in one.ports.items():
                # A target of ours has its own number.
                said = None if port in ours else number
                there = had.ports.get(port)
                if port not in had.ports or _leaves(port, there, one, wanted):
                    pairs = () if said is None else ((NUMBER, str(said)),)
                    yield Step(where, "add", (port,), pairs)
                elif said is not None and said != there:
                    yield Step(f"{where}/{port}/{NUMBER}", text=str(said))
        yield from writes(path, DEVICE_GROUP_ATTRIBUTES, was.values, group.values)
        for device in group.devices:
            if device not in was.devices or device in closing:
                yield Step(f"{path}/devices", "add", (device,))
