# SPDX-License-Identifier: MIT
"""
What is changed of a device while initiators use it: the attribute's row says what they
are told (`scstd.management.model.device_attributes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from scstd.management.model.device_attributes import (
    SIZE,
    DeviceAttribute,
    unit_settings,
)
from scstd.scsi.unit import LogicalUnit


def change(
    unit: LogicalUnit, row: DeviceAttribute, values: Mapping[str, Any]
) -> Deferred[Any] | None:
    """
    Have a unit take over an attribute from *values*, and tell its initiators.

    :raises ConfigurationError: the store refuses.
    """
    if row.name == SIZE.name:
        resizing = unit.volume.can.resize
        done = None if resizing is None else resizing.resize(values[row.name])
        return done if isinstance(done, Deferred) else None
    unit.configure(unit_settings(values))
    if row.told is not None:
        unit.attention(row.told)
    return None
