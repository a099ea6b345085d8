# SPDX-License-Identifier: MIT
"""
Device groups as they are configured: asymmetric access as a person says it.

The model is `scstd.scsi.alua`'s; here are the rows of DEVICE_GROUP and TARGET_GROUP of
scst.conf, as SCST has them.  A name in a TARGET_GROUP that is none of our targets is a
port of another node: it is reported when it has a ``rel_tgt_id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import (
    Attribute,
    Choice,
    ConfigurationError,
    Effect,
    Flag,
    Integer,
    IntegerOrNone,
    Seconds,
)
from scstd.management.model.value_kinds import ProgramPath
from scstd.scsi.alua import AccessState

NUMBER = "rel_tgt_id"
"""
The attribute of a port with its relative target port identifier, as SCST spells it.
"""

MAX_NUMBER = 65535
"""The greatest of them (SPC-5)."""


DEVICE_GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "transition_time",
        Seconds(0, 255),
        0.0,
        "How long a change of state takes; ports are transitioning meanwhile.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "on_stpg",
        ProgramPath(),
        "",
        "A program that is asked before SET TARGET PORT GROUPS changes a state.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "on_stpg_timeout",
        Seconds(1, 300),
        17.0,
        "How long it may take; then the change is refused.",
        effect=Effect.LIVE,
    ),
)

TARGET_GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "group_id",
        Integer(0, 65535),
        0,
        "The target port group's number; 0: none yet.",
        effect=Effect.LIVE,
        marked=True,
    ),
    Attribute(
        "state",
        Choice(tuple(state.name.lower() for state in AccessState)),
        "active",
        "The access state of its ports.",
        effect=Effect.LIVE,
        marked=True,
    ),
    Attribute(
        "preferred",
        Flag(),
        False,
        "Prefer these ports to others in the same state.",
        effect=Effect.LIVE,
    ),
)

PORT_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        NUMBER,
        IntegerOrNone(1, 65535),
        None,
        "The port's relative target port identifier; another node's is not reported"
        " without.",
        effect=Effect.LIVE,
    ),
)


@attrs.frozen
class TargetGroupConfiguration:
    """
    A target port group: values for `TARGET_GROUP_ATTRIBUTES`, and its ports with their
    relative target port identifiers, where these are given.
    """

    name: str
    values: Mapping[str, Any]
    ports: Mapping[str, int | None] = attrs.field(factory=dict)


@attrs.frozen
class DeviceGroupConfiguration:
    """
    Devices, and the target port groups by which they are reached.
    """

    name: str
    values: Mapping[str, Any]
    devices: tuple[str, ...] = ()
    groups: tuple[TargetGroupConfiguration, ...] = ()


def check(groups: Iterable[DeviceGroupConfiguration]) -> None:
    """
    See that device groups agree with each other.

    :raises ConfigurationError: a device is in two, a port in two target groups of one,
        or an identifier is there twice.
    """
    homes: dict[str, str] = {}
    for one in groups:
        for device in one.devices:
            if homes.setdefault(device, one.name) != one.name:
                raise ConfigurationError(
                    f"device {device} is in device groups {homes[device]} and"
                    f" {one.name}"
                )
        numbers: dict[int, str] = {}
        ports: dict[str, str] = {}
        for group in one.groups:
            number = group.values["group_id"]
            if number and numbers.setdefault(number, group.name) != group.name:
                raise ConfigurationError(
                    f"device group {one.name}: target groups {numbers[number]} and"
                    f" {group.name} have the same group_id {number}"
                )
            for port in group.ports:
                if ports.setdefault(port, group.name) != group.name:
                    raise ConfigurationError(
                        f"device group {one.name}: {port} is in target groups"
                        f" {ports[port]} and {group.name}"
                    )
