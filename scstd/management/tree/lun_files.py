# SPDX-License-Identifier: MIT
"""
LUN maps and groups of initiators in the tree: ``targets/DRIVER/TARGET/luns/`` and
``targets/DRIVER/TARGET/ini_groups/GROUP/``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from scstd.attributes import ConfigurationError, Integer
from scstd.management.model.attribute_tables import (
    LUN_ATTRIBUTES,
    LUN_READ_ONLY,
    group_rows,
)
from scstd.management.model.configuration import MAX_LUN
from scstd.management.ports.drivers import Driver
from scstd.management.system import System
from scstd.management.tree.mgmt import PARAMETERS, Mgmt, Verb
from scstd.management.tree.nodes import Attributes, Directory, File, Link
from scstd.plugin import find_target_driver
from scstd.scsi.luns import Lun
from scstd.scsi.target import Target


def _lun(text: str) -> int:
    try:
        return Integer(0, MAX_LUN).parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"LUN {text!r}: {error}") from None


def group_directory(
    system: System, driver: Driver, target: Target, name: str
) -> Directory:
    """
    Return the directory of a group of initiators.
    """
    maps = system.maps
    group = maps.group(target, name)

    def put(attribute: str, value: Any) -> None:
        if value is None:
            group.values.pop(attribute, None)
        else:
            group.values[attribute] = value
        driver.instance.group_changed(target.name)

    verbs = (
        Verb(
            "add",
            ("INITIATOR",),
            "Add a name or a pattern.",
            partial(maps.add_initiator, target, name),
        ),
        Verb(
            "del",
            ("INITIATOR",),
            "Remove a name or a pattern.",
            partial(maps.remove_initiator, target, name),
        ),
        Verb(
            "move",
            ("INITIATOR", "GROUP"),
            "Move a name or a pattern to another group.",
            partial(maps.move_initiator, target, name),
        ),
        Verb(
            "clear",
            (),
            "Remove all of them.",
            partial(maps.clear_initiators, target, name),
        ),
    )
    return Directory(
        {
            "luns": luns_directory(system, target, name),
            "initiators": Directory(
                {"mgmt": Mgmt(verbs=verbs)},
                names=lambda: group.patterns,
                make=lambda pattern: File(lambda: pattern),
            ),
        },
        attributes=Attributes(
            group_rows(find_target_driver(driver.name)), lambda: group.values, put
        ),
    )


def luns_directory(system: System, target: Target, group: str) -> Directory:
    """
    Return the directory of a LUN map: a group's, or without one that for all others.
    """
    maps = system.maps
    luns = maps.group(target, group).luns if group else target.luns

    def add(name: str, lun: str, *, read_only: bool) -> Any:
        unit = system.devices.find(name).unit
        return maps.add_lun(target, group, _lun(lun), unit, read_only=read_only)

    def replace(name: str, lun: str, *, read_only: bool, quiet: bool) -> Any:
        unit = system.devices.find(name).unit
        return maps.replace_lun(
            target, group, _lun(lun), unit, read_only=read_only, quiet=quiet
        )

    def remove(lun: str) -> Any:
        return maps.remove_lun(target, group, _lun(lun))

    verbs = (
        Verb("add", ("DEVICE", "LUN"), "Add a LUN.", add, rows=LUN_ATTRIBUTES),
        Verb(
            "replace",
            ("DEVICE", "LUN"),
            "Put another device at a LUN; initiators are told.",
            partial(replace, quiet=False),
            rows=LUN_ATTRIBUTES,
        ),
        Verb(
            "replace_no_ua",
            ("DEVICE", "LUN"),
            "Put another device at a LUN; initiators are not told.",
            partial(replace, quiet=True),
            rows=LUN_ATTRIBUTES,
        ),
        Verb("del", ("LUN",), "Take a LUN away.", remove),
        Verb("clear", (), "Take all away.", partial(maps.clear_luns, target, group)),
    )
    available = {PARAMETERS: [row.name for row in LUN_ATTRIBUTES]}
    return Directory(
        {"mgmt": Mgmt(verbs=verbs, available=available)},
        names=lambda: [str(lun) for lun in sorted(luns)],
        make=lambda lun: _entry(system, target, group, int(lun), luns[int(lun)]),
    )


def _entry(
    system: System, target: Target, group: str, lun: int, entry: Lun
) -> Directory:
    def change(_name: str, value: Any) -> Any:
        return system.maps.replace_lun(target, group, lun, entry.unit, read_only=value)

    return Directory(
        {"device": Link(f"devices/{entry.unit.name}")},
        attributes=Attributes(
            LUN_ATTRIBUTES, lambda: {LUN_READ_ONLY.name: entry.read_only}, change
        ),
    )
