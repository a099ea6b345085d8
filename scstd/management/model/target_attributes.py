# SPDX-License-Identifier: MIT
"""
Attributes that every target has, whatever its driver: they are kept by the
`scstd.scsi.target.Target` itself, in fields of the rows' names.

The relative target port identifier is the exception: what is configured is not what the
port has while nothing is (`scstd.management.ports.ports`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scstd.attributes import (
    Attribute,
    Choice,
    Effect,
    Flag,
    IntegerOrNone,
)
from scstd.interfaces import ITargetDriver
from scstd.management.model.group_configuration import MAX_NUMBER, NUMBER
from scstd.scsi.luns import FLAT, PERIPHERAL

TARGET_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "enabled",
        Flag(),
        False,
        "Let initiators see the target and log in.",
        effect=Effect.LIVE,
        marked=False,
    ),
    Attribute(
        "addr_method",
        Choice((PERIPHERAL, FLAT)),
        PERIPHERAL,
        "How REPORT LUNS names LUNs below 256.",
        effect=Effect.LIVE,
    ),
    Attribute(
        NUMBER,
        IntegerOrNone(1, MAX_NUMBER),
        None,
        "Relative target port identifier, of no other target or port, enabled or not;"
        " when not set, chosen once and remembered. Initiators are told of another.",
        effect=Effect.LIVE,
    ),
)

KEPT = tuple(row.name for row in TARGET_ATTRIBUTES if row.name != NUMBER)
"""Those that a target has in a field of the same name."""

_NAMES = frozenset(row.name for row in TARGET_ATTRIBUTES)


def target_rows(driver: ITargetDriver) -> list[Attribute[Any]]:
    """
    Return all attributes of a target driver's targets: those of every target, and its
    own.
    """
    return [*TARGET_ATTRIBUTES, *driver.target_attributes()]


def own_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what of a target's values is its driver's.
    """
    return {name: value for name, value in values.items() if name not in _NAMES}
