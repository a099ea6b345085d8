# SPDX-License-Identifier: MIT
"""
The attributes that do not belong to a plugin: of the whole, of every target driver, of
groups of initiators, of LUNs (those of devices are in
`scstd.management.model.device_attributes`, of targets in `target_attributes`, of device
groups in `group_configuration`).

A row is all there is to an attribute: the tree, scst.conf, the tools' help and the
reference page in doc/ are made of it (`scstd.attributes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scstd.attributes import Attribute, Choice, Effect, Flag, Integer
from scstd.interfaces import ITargetDriver
from scstd.management.model.portals import Portal
from scstd.management.model.trace_level import DEFAULT, TraceLevel
from scstd.management.model.value_kinds import LogLevels

WORKERS = Attribute(
    "workers",
    Integer(0, 256),
    0,
    "Processes that have the devices and sessions, beside this one; 0: this one does.",
    effect=Effect.START,
)

ROOT_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "setup_id",
        Integer(0, 2**32 - 1),
        0,
        "A number of this installation; kept for SCST's files, names do not need it.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "trace_level",
        TraceLevel(),
        DEFAULT,
        "What the log says of single commands; add TOKEN and del TOKEN change it.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "log_levels",
        LogLevels(),
        (),
        "Which lines the log has, over what --log-level says.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "measure_latency",
        Flag(),
        False,
        "Measure how long commands take: latency/ of each session.",
        effect=Effect.LIVE,
    ),
    WORKERS,
)
"""Attributes of the whole."""

DRIVER_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "portal",
        Portal(),
        None,
        "Where to listen; when there is none, where --listen says, or everywhere.",
        repeats=True,
        effect=Effect.LIVE,
    ),
)
"""Attributes that every target driver has beside its own."""

GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "addr_method",
        Choice(("PERIPHERAL", "FLAT")),
        None,
        "How REPORT LUNS names LUNs; when not set, as the target does.",
        effect=Effect.LIVE,
    ),
)
"""Attributes of a group of initiators that every target driver has."""

LUN_READ_ONLY = Attribute("read_only", Flag(), False, "Refuse writes through this LUN.")

LUN_ATTRIBUTES: Sequence[Attribute[Any]] = (LUN_READ_ONLY,)
"""Attributes of an entry of a LUN map."""


def driver_rows(driver: ITargetDriver) -> list[Attribute[Any]]:
    """
    Return all attributes of a target driver.
    """
    return [*driver.attributes(), *DRIVER_ATTRIBUTES]


def group_rows(driver: ITargetDriver) -> list[Attribute[Any]]:
    """
    Return all attributes of a group of initiators at a target driver's targets.
    """
    return [*GROUP_ATTRIBUTES, *driver.group_attributes()]
