# SPDX-License-Identifier: MIT
"""
Target drivers and targets in the tree: ``targets/DRIVER/`` and
``targets/DRIVER/TARGET/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from scstd.attributes import Attribute, parse_values
from scstd.management.grammar import scst_words
from scstd.management.model.attribute_tables import driver_rows
from scstd.management.model.group_configuration import NUMBER
from scstd.management.model.portals import listening
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.warnings import warn
from scstd.management.ports.drivers import Driver
from scstd.management.system import System
from scstd.management.tree.lun_files import group_directory, luns_directory
from scstd.management.tree.mgmt import (
    OF_DRIVER,
    OF_TARGET,
    Mgmt,
    Verb,
    without_scst,
)
from scstd.management.tree.nodes import (
    KEY,
    Attributes,
    Directory,
    File,
    text_file,
)
from scstd.management.tree.session_files import (
    session_names,
    sessions_directory,
    sums_of_sessions,
)
from scstd.plugin import (
    find_target_driver,
    known_name,
    target_name,
)


def _dynamic(rows: Sequence[Attribute[Any]]) -> list[str]:
    return [row.name for row in rows if row.dynamic]


def driver_directory(system: System, name: str) -> Directory:
    """
    Return the directory of a target driver.
    """
    driver = system.drivers[name]
    plugin = find_target_driver(name)
    rows = target_rows(plugin)
    own = Attributes(
        driver_rows(plugin), driver.values, partial(system.drivers.set, name)
    )

    def add(target: str, given: Sequence[tuple[str, str]]) -> Any:
        kept = without_scst(target, scst_words.TARGET, rows, given)
        values = parse_values(rows, kept, "attribute")
        known, why = target_name(plugin, target)
        if why:
            warn(f"target {target}: {why}")
        return system.add_target(name, known, values)

    def of(target: str) -> Attributes:
        return _attributes(system, driver, system.target(name, target).name)

    verbs = (
        Verb("add_target", ("TARGET",), "Make a target.", add, rows=None),
        Verb(
            "del_target",
            ("TARGET",),
            "End a target and its sessions.",
            partial(system.remove_target, name),
        ),
        Verb(
            "add_attribute",
            ("ATTRIBUTE", "VALUE"),
            "Add a value to an attribute of the driver.",
            own.add,
            raw=True,
        ),
        Verb(
            "del_attribute",
            ("ATTRIBUTE", "VALUE"),
            "Remove a value from an attribute of the driver.",
            own.remove,
            raw=True,
        ),
        Verb(
            "set_attribute",
            ("ATTRIBUTE", "VALUE"),
            "Give an attribute all its values; none: its default.",
            lambda attribute, *values: own.change(attribute, values),
            optional=1,
            rest=True,
        ),
        Verb(
            "add_target_attribute",
            ("TARGET", "ATTRIBUTE", "VALUE"),
            "Add a value to an attribute of a target.",
            lambda target, attribute, value: of(target).add(attribute, value),
            raw=True,
        ),
        Verb(
            "del_target_attribute",
            ("TARGET", "ATTRIBUTE", "VALUE"),
            "Remove a value from an attribute of a target.",
            lambda target, attribute, value: of(target).remove(attribute, value),
            raw=True,
        ),
        Verb(
            "set_target_attribute",
            ("TARGET", "ATTRIBUTE", "VALUE"),
            "Give an attribute of a target all its values; none: its default.",
            lambda target, attribute, *values: of(target).change(attribute, values),
            optional=1,
            rest=True,
        ),
    )
    return Directory(
        {
            "mgmt": Mgmt(
                verbs=verbs,
                available={
                    # Of a new target none: what stands here SCST's tool gives it
                    # when it makes it, and does not change later.
                    OF_DRIVER: _dynamic(own.rows),
                    OF_TARGET: _dynamic(rows),
                },
            ),
            "listening": text_file(
                lambda: "\n".join(
                    listening(port.getHost()) for port in driver.ports.values()
                )
            ),
        },
        names=lambda: driver.targets,
        make=partial(_target, system, driver),
        spelled=partial(known_name, plugin),
        attributes=own,
    )


def _attributes(system: System, driver: Driver, name: str) -> Attributes:
    return Attributes(
        target_rows(find_target_driver(driver.name)),
        lambda: driver.values_of(name),
        partial(system.set_target, driver, name),
    )


def _target(system: System, driver: Driver, name: str) -> Directory:
    target = driver.targets[name]
    maps = system.maps
    path = f"targets/{driver.name}/{name}"
    groups = (
        Verb(
            "create",
            ("GROUP",),
            "Add a group of initiators.",
            partial(maps.create_group, target),
        ),
        Verb(
            "del",
            ("GROUP",),
            "Remove a group.",
            partial(maps.remove_group, target),
        ),
        Verb(
            "order",
            ("GROUP",),
            "Say in which order all groups are asked.",
            lambda *names: maps.order_groups(target, names),
            optional=1,
            rest=True,
        ),
    )
    own = _attributes(system, driver, name)

    def marked() -> bool:
        # As in SCST: initiators have seen it.
        return name in driver.numbers or target.enabled

    return Directory(
        {
            # What it is, also when that is not what is configured.
            NUMBER: File(
                lambda: f"{target.relative_port}\n" + (f"{KEY}\n" if marked() else ""),
                own.files()[NUMBER].writer,
            ),
            **sums_of_sessions(
                system.watching.counters,
                driver.instance,
                lambda: session_names(driver.instance, target).values(),
            ),
            "luns": luns_directory(system, target, ""),
            "ini_groups": Directory(
                {"mgmt": Mgmt(verbs=groups)},
                names=lambda: [group.name for group in target.groups],
                make=partial(group_directory, system, driver, target),
            ),
            "sessions": sessions_directory(
                driver.instance, target, path, system.watching
            ),
        },
        attributes=own,
    )
