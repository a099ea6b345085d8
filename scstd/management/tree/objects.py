# SPDX-License-Identifier: MIT
"""
The root of the tree, and what stands where below it.

An object declares its attributes as rows and its verbs as `Verb`s, and each kind of
object has a file: handlers and devices `device_files`, target drivers and targets
`target_files`, LUN maps and groups of initiators `lun_files`, sessions `session_files`,
device groups `device_group_files`, what is about all of it `monitor_files`.  The live
objects and the operations on them are `scstd.management.system`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

import scstd
from scstd.interfaces import IDeviceHandler, ITargetDriver
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES
from scstd.management.system import System
from scstd.management.tree.device_files import device_directory, handler_directory
from scstd.management.tree.device_group_files import device_groups
from scstd.management.tree.monitor_files import (
    watching_files,
)
from scstd.management.tree.nodes import (
    Attributes,
    Directory,
    File,
    text_file,
)
from scstd.management.tree.target_files import driver_directory
from scstd.plugin import (
    broken,
    device_handlers,
)

SCST = "3.11.0"
"""The version of SCST whose tree, files and tool this is like: programs look for it."""


def _unusable(name: str) -> str:
    """
    Return why a device handler cannot be used, if it is installed.
    """
    found = [one for one in broken(IDeviceHandler) if one.name == name]
    return f"device handler {found[0]}" if found else ""


def _broken(interface: Any) -> File:
    """
    Return the file that names the plugins of a kind that cannot be used, a line each.
    """
    return text_file(
        lambda: "\n".join(f"{one.name}: {one.why}" for one in broken(interface))
    )


@attrs.define(eq=False)
class Objects:
    """
    Makes the directories of one system.
    """

    system: System
    last_result: Callable[[], int]
    last_error: Callable[[], str]

    def root(self) -> Directory:
        """
        Return the top.
        """
        system = self.system
        handlers = {one.name: one for one in device_handlers()}
        own = Attributes(ROOT_ATTRIBUTES, lambda: system.values, system.set_root)
        return Directory(
            {
                "handlers": Directory(
                    names=lambda: handlers,
                    make=partial(handler_directory, system),
                    missing=_unusable,
                ),
                "devices": Directory(
                    names=lambda: system.devices, make=partial(device_directory, system)
                ),
                "targets": Directory(
                    names=lambda: system.drivers, make=partial(driver_directory, system)
                ),
                "device_groups": device_groups(system.device_groups),
                "version": text_file(lambda: f"{SCST}\nscstd {scstd.__version__}"),
                "last_sysfs_mgmt_res": text_file(self.last_result),
                "last_error": text_file(self.last_error),
                "broken_handlers": _broken(IDeviceHandler),
                "broken_drivers": _broken(ITargetDriver),
                **watching_files(system, own),
            },
            attributes=own,
        )


def walk(directory: Directory, path: str = "") -> list[str]:
    """
    Return the path of every object below a directory that has attributes.
    """
    found = []
    for name, entry in directory.entries():
        if isinstance(entry, Directory):
            where = f"{path}/{name}" if path else name
            if entry.attributes is not None:
                found.append(where)
            found += walk(entry, where)
    return found
