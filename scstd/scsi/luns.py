# SPDX-License-Identifier: MIT
"""
LUN maps: their entries, the groups of initiators that have one, and the addresses by
which a LUN is found.

LUN addressing (SAM-5 section 4.7): a LUN below 256 is found by the peripheral device
method and by the flat space method, a greater one by the latter alone; `addr_method`
says what REPORT LUNS uses.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import attrs

from scstd.scsi.unit import LogicalUnit

PERIPHERAL, FLAT = "PERIPHERAL", "FLAT"
"""Values of *addr_method*, as SCST spells them."""


def flat(lun: int) -> int:
    """
    Return the LUN field that names *lun* by the flat space method.
    """
    return (0x4000 | lun) << 48


def addresses(lun: int) -> list[int]:
    """
    Return every LUN field that names *lun*.
    """
    return [lun << 48, flat(lun)] if lun < 256 else [flat(lun)]


def matches(pattern: str, name: str) -> bool:
    """
    Say whether *name* matches an initiator pattern: ``*``, ``?``, and ``!`` which
    negates the rest; letters' case is ignored.
    """
    if pattern.startswith("!"):
        return not matches(pattern[1:], name)
    # fnmatch has brackets too, which names of initiators in patterns do not mean.
    quoted = pattern.lower().replace("[", "[[]")
    return re.match(fnmatch.translate(quoted), name.lower()) is not None


@attrs.frozen
class Lun:
    """
    One entry of a LUN map.
    """

    unit: LogicalUnit
    read_only: bool = False


@attrs.define(eq=False)
class Group:
    """
    A group of initiators with a LUN map of its own (SCST: ini_groups).

    *values* are its attributes by name, those that are set: *addr_method*, and what is
    the target driver's (`ITargetDriver.group_attributes`).  What is not set is as the
    target has it.
    """

    name: str
    patterns: list[str]
    luns: dict[int, Lun] = attrs.field(factory=dict)
    values: dict[str, Any] = attrs.field(factory=dict)
