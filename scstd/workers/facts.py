# SPDX-License-Identifier: MIT
"""
What a worker tells the front of what it has, beside what is configured.

The front has no stores: how large a device is, whether it is open, and what of it can
be changed is known where the device is.  So is what would be lost by closing it, which
is what a device is moved to another worker by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from scstd.management.devices.device import Device
from scstd.management.model.device_attributes import device_rows
from scstd.management.system import System
from scstd.scsi.identity import Identity

States = Mapping[str, Mapping[str, str]]
"""The access state of each target group, by the name of its device group."""


@attrs.frozen
class DeviceFacts:
    """
    What is known of one device.
    """

    missing: str
    """Why it is not open (`scstd.management.devices.device.Device`), if it is not."""
    size: int
    """Its bytes."""
    volatile: bool
    """Whether what it holds is gone when it is closed."""
    changeable: frozenset[str]
    """Attributes that can be changed though they are settled at opening."""
    identity: Identity
    busy: str
    """Why it may not be closed and opened again now, if there is a reason."""


def facts_of(system: System, device: Device) -> DeviceFacts:
    """
    Return what is known of a device.
    """
    devices, name = system.devices, device.name
    rows = device_rows(device.configuration.handler)
    return DeviceFacts(
        device.missing,
        devices.bytes_of(name),
        devices.is_volatile(name),
        frozenset(row.name for row in rows if devices.can_change(name, row.name)),
        device.unit.identity,
        _busy(system, device),
    )


def _busy(system: System, device: Device) -> str:
    """
    Return why a device may not be closed now: what is not over, and what initiators
    rely on while they are logged out.  (Mode pages that were not saved are lost at any
    restart, and nobody expects anything else of them.)
    """
    unit = device.unit
    persistent = unit.reservation.persistent
    if persistent.registrations and not persistent.aptpl:
        return "it has registrations that are not kept (APTPL 0)"
    if unit.background is not None:
        return "it is being formatted or sanitized"
    if system.watching.holds.by(unit):
        return "its commands are held (suspend, block)"
    if unit.tasks():
        return "it has commands under way"
    return ""


def facts(system: System) -> tuple[dict[str, DeviceFacts], States]:
    """
    Return what is known of every device, and the access states there are.
    """
    return (
        {name: facts_of(system, one) for name, one in system.devices.items()},
        {
            name: {
                group.name: group.state.name.lower()
                for group in live.devices.groups.values()
            }
            for name, live in system.device_groups.items()
        },
    )


@attrs.frozen
class Session:
    """
    A session of a worker as the front is told of it.
    """

    initiator: str
    target: str
    """The target's qualified name."""
    path: str
    """Where it is in the tree."""
    report: Mapping[str, Any]
