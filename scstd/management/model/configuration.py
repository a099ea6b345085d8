# SPDX-License-Identifier: MIT
"""
What is configured: devices, and target drivers with targets, groups and LUN maps.

scst.conf and the command line both become a `Configuration`, and so does what runs
(`System.configuration`); `scstd.management.config.plan` says what leads from one to
another. Values have been checked against the attribute tables of the plugins by then,
so that nothing is opened for a file with a mistake in it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from scstd.attributes import ConfigurationError, parse_values
from scstd.interfaces import IDeviceHandler
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES
from scstd.management.model.device_attributes import (
    FILENAME,
    FILTERS,
    STATE_KEY,
    UNIQUE,
    device_rows,
)
from scstd.management.model.filters import FilterConfiguration
from scstd.management.model.group_configuration import NUMBER, DeviceGroupConfiguration
from scstd.management.model.names import check_name
from scstd.management.real_path import real_path
from scstd.plugin import find_device_handler, qualified_name

MAX_LUN = 16383
"""The greatest LUN that flat space addressing names (SAM-5 section 4.7.7.3)."""


@attrs.frozen
class DeviceConfiguration:
    """
    A device: its handler, values for the handler's parameters and those of
    `DEVICE_ATTRIBUTES`, and the key under which its state is kept.
    """

    name: str
    handler: IDeviceHandler
    values: Mapping[str, Any]
    state_key: str = ""

    @property
    def filters(self) -> tuple[FilterConfiguration, ...]:
        """The filters before its store; the last is the outermost."""
        return tuple(self.values.get(FILTERS.name, ()))

    @property
    def origin(self) -> str:
        """What the device is made of: its handler, and its file if it has one."""
        return origin(self.handler.name, self.values.get(FILENAME.name))

    @property
    def other_key(self) -> str:
        """
        The key of its state in the other form of configuration, where it may have been
        before: scst.conf knows devices by their names, the command line by names and
        what they are made of.
        """
        other = full_key(self.name, self.origin)
        return self.name if self.state_key == other else other


@attrs.frozen
class LunConfiguration:
    """
    One entry of a LUN map.
    """

    lun: int
    device: str
    read_only: bool = False


@attrs.frozen
class GroupConfiguration:
    """
    A group of initiators: its LUN map, and values for the attributes that are set.
    """

    name: str
    patterns: tuple[str, ...]
    luns: tuple[LunConfiguration, ...]
    values: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class TargetConfiguration:
    """
    A target: values for its driver's target attributes, LUNs, groups.
    """

    name: str
    values: Mapping[str, Any]
    luns: tuple[LunConfiguration, ...] = ()
    groups: tuple[GroupConfiguration, ...] = ()


@attrs.frozen
class DriverConfiguration:
    """
    A target driver: values for its attributes, and its targets.
    """

    name: str
    values: Mapping[str, Any]
    targets: tuple[TargetConfiguration, ...] = ()


def check_identities(
    devices: Iterable[DeviceConfiguration],
    seen: dict[tuple[str, str], str] | None = None,
) -> None:
    """
    See that no two devices are configured to be the same: hosts would take them for two
    paths to one disk, and data would be lost; and that none has the state of another.
    *seen* is what earlier calls have seen.

    :raises ConfigurationError: two are; the text names them and the attribute.
    """
    seen = {} if seen is None else seen
    for one in devices:
        other = seen.setdefault((STATE_KEY.name, one.state_key), one.name)
        if other != one.name:
            raise ConfigurationError(
                f"devices {other} and {one.name} have the same {STATE_KEY.name},"
                f" {one.state_key}"
            )
        for name in UNIQUE:
            value = one.values.get(name)
            if not value:
                continue
            other = seen.setdefault((name, value), one.name)
            if other != one.name:
                raise ConfigurationError(
                    f"devices {other} and {one.name} have the same {name}, {value}:"
                    " hosts would take them for one disk"
                )


@attrs.frozen
class Configuration:
    """
    Everything, in the order in which it is written.

    :raises ConfigurationError: two devices are configured to be the same.
    """

    devices: tuple[DeviceConfiguration, ...] = ()
    drivers: tuple[DriverConfiguration, ...] = ()
    device_groups: tuple[DeviceGroupConfiguration, ...] = ()
    values: Mapping[str, Any] = attrs.field(
        factory=lambda: parse_values(ROOT_ATTRIBUTES, ())
    )

    def rel_tgt_ids(self) -> dict[str, int | None]:
        """
        Return each target's relative target port identifier by the target's qualified
        name (`scstd.plugin.qualified_name`), None where none is given.
        """
        return {
            qualified_name(driver.name, target.name): target.values.get(NUMBER)
            for driver in self.drivers
            for target in driver.targets
        }

    def __attrs_post_init__(self) -> None:
        check_identities(self.devices)


def origin(handler: str, filename: str | None) -> str:
    """
    Return what a device of *handler* is made of.
    """
    where = real_path(filename) if filename else ""
    return f"{handler} {where}"


def full_key(name: str, made_of: str) -> str:
    """
    Return the key of a device of the command line: the name alone is not enough, for
    another directory's "disk" is another disk.
    """
    digest = hashlib.sha256(os.fsencode(made_of)).hexdigest()
    return f"{name}-{digest[:12]}"


def device(
    name: str, handler: str | IDeviceHandler, given: Iterable[tuple[str, str]]
) -> DeviceConfiguration:
    """
    Return a device's configuration, from (name, text) pairs.

    :raises ConfigurationError: no such handler, attribute or filter, or a wrong value.
    """
    check_name(name)
    found = find_device_handler(handler) if isinstance(handler, str) else handler
    return device_of(name, found, parse_values(device_rows(found), given, "attribute"))


def device_of(
    name: str, handler: IDeviceHandler, values: dict[str, Any]
) -> DeviceConfiguration:
    """
    Return a device's configuration, from a value for each attribute.

    :raises ConfigurationError: this can be no device's name.
    """
    check_name(name)
    for row in device_rows(handler):
        # An empty text is no name: it is as if nothing were said.
        if values[row.name] == "" and row.default is None:
            values[row.name] = None
    return DeviceConfiguration(name, handler, values, values[STATE_KEY.name] or name)


def with_state_key(one: DeviceConfiguration, key: str) -> DeviceConfiguration:
    """
    Return a device whose state is kept under a key that nobody has configured.
    """
    return attrs.evolve(one, values={**one.values, STATE_KEY.name: key}, state_key=key)
