# SPDX-License-Identifier: MIT
"""
What stands where in the tree, and what each ``mgmt`` verb does.

An object declares its attributes as rows and its verbs as `Verb`s; the live objects and
the operations on them are `scstd.management.system`'s and
`scstd.management.ports.lun_maps`'s. Sessions are in `scstd.management.tree.sessions`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

import scstd
from scstd.attributes import Attribute, Flag, find, parse_values
from scstd.interfaces import IDeviceHandler, ITargetDriver
from scstd.management.devices.device import Device
from scstd.management.errors import TreeError
from scstd.management.grammar import scst_dialect, scst_words
from scstd.management.grammar.scst_words import Left
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES, driver_rows
from scstd.management.model.configuration import DeviceConfiguration, device
from scstd.management.model.device_attributes import FILTERS, SIZE, device_rows
from scstd.management.model.group_configuration import NUMBER
from scstd.management.model.portals import listening
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.warnings import warn
from scstd.management.ports.drivers import Driver
from scstd.management.system import System
from scstd.management.tree import prstate
from scstd.management.tree.counter_files import of_sessions
from scstd.management.tree.groupsdir import device_groups
from scstd.management.tree.lunsdir import group_directory, luns_directory
from scstd.management.tree.mgmt import OF_DRIVER, OF_TARGET, PARAMETERS, Mgmt, Verb
from scstd.management.tree.monitor_files import (
    block_file,
    taken,
    threads_of,
    watching_files,
)
from scstd.management.tree.nodes import (
    KEY,
    Attributes,
    Directory,
    Entry,
    File,
    Link,
    parsed,
)
from scstd.management.tree.sessions import session_names, sessions_directory
from scstd.plugin import (
    broken,
    device_handlers,
    find_device_handler,
    find_target_driver,
    known_name,
)
from scstd.scsi.device import soft_threshold_reached
from scstd.scsi.unit import LogicalUnit

_FORCE = (Attribute("force", Flag(), False, "Take its LUNs away first."),)

SCST = "3.11.0"
"""The version of SCST whose tree, files and tool this is like: programs look for it."""

_REFUSED = {"vdisk_nullio": ("dummy",)}
"""
Parameters that a handler is said to have though they are refused: SCST's tool would
leave out what is not listed, and open something else than was meant.
"""

_TYPES = {0x00: "disk", 0x01: "tape", 0x05: "cdrom", 0x08: "changer"}


def _text(call: Callable[[], object]) -> File:
    return File(lambda: str(call()))


def _ours(
    which: str,
    words: Mapping[str, Left],
    rows: Sequence[Attribute[Any]],
    given: Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    """
    Return what of *given* is not SCST's alone; warn of the rest.
    """
    kept, warnings = scst_dialect.accepted(words, rows, given)
    for warning in warnings:
        warn(f"{which}: {warning}")
    return kept


def _names(rows: Sequence[Attribute[Any]]) -> list[str]:
    return [row.name for row in rows]


def _dynamic(rows: Sequence[Attribute[Any]]) -> list[str]:
    return [row.name for row in rows if row.dynamic]


def _no_dummy(
    which: str, rows: Sequence[Attribute[Any]], given: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """
    Return what is *given* without SCST's ``dummy``, if that says nothing.

    :raises TreeError: it asks for a device that only keeps the place of LUN 0.
    """
    if "dummy" in _names(rows):
        return list(given)
    if any(name == "dummy" and text != "0" for name, text in given):
        raise TreeError(
            errno.EINVAL,
            f"device {which}: there is no dummy: LUN 0 may be missing here",
        )
    return [pair for pair in given if pair[0] != "dummy"]


def _type(number: int) -> str:
    return f"{number} - {_TYPES.get(number, 'other')}"


def _sizes(unit: LogicalUnit, files: Mapping[str, File]) -> dict[str, Entry]:
    """
    Return SCST's files that say how large a device is: what is configured, and if
    nothing is, what it is.
    """
    own = files.get(SIZE.name, File())

    def read() -> str:
        said = "\n" if own.reader is None else own.reader()
        return f"{unit.blocks << unit.block_shift}\n" if said == "\n" else said

    return {
        SIZE.name: attrs.evolve(own, reader=read),
        "size_mb": _text(lambda: unit.blocks << unit.block_shift >> 20),
    }


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
    return _text(
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
                    names=lambda: handlers, make=self._handler, missing=_unusable
                ),
                "devices": Directory(names=lambda: system.devices, make=self._device),
                "targets": Directory(names=lambda: system.drivers, make=self._driver),
                "device_groups": device_groups(system.device_groups),
                "version": _text(lambda: f"{SCST}\nscstd {scstd.__version__}"),
                "last_sysfs_mgmt_res": _text(self.last_result),
                "last_error": _text(self.last_error),
                "broken_handlers": _broken(IDeviceHandler),
                "broken_drivers": _broken(ITargetDriver),
                **watching_files(system, own),
            },
            attributes=own,
        )

    # Handlers and devices.

    def _handler(self, name: str) -> Directory:
        handler = find_device_handler(name)
        system = self.system

        def devices() -> Sequence[str]:
            return [
                one.name
                for one in system.devices.values()
                if one.configuration.handler.name == name
            ]

        def add(which: str, given: Sequence[tuple[str, str]]) -> Any:
            rows = device_rows(handler)
            real = _no_dummy(which, rows, given)
            kept = _ours(which, scst_words.DEVICE, rows, real)
            there = system.devices.get(which)
            if there is not None and there.lost and there.handler == name and not kept:
                # It is known, and was not found so far.
                return system.activation.find(which)
            return self.add_device(device(which, name, kept))

        def set_filters(which: str, *texts: str) -> Any:
            row = find(device_rows(handler), FILTERS.name, "attribute")
            chain = [parsed(row, text) for text in texts]
            return system.activation.set_filters(which, chain)

        verbs = (
            Verb(
                "add_device",
                ("DEVICE",),
                "Open a device: "
                + ", ".join(row.name for row in device_rows(handler))
                + ".",
                add,
                rows=None,
            ),
            Verb(
                "set_filters",
                ("DEVICE", "FILTER"),
                "Put these filters before a device's store, which stays open; or none.",
                set_filters,
                optional=1,
                rest=True,
            ),
            Verb(
                "del_device",
                ("DEVICE",),
                "Close a device that is no LUN any more.",
                system.remove_device,
                rows=_FORCE,
            ),
        )
        return Directory(
            {
                "mgmt": Mgmt(
                    verbs=verbs,
                    available={
                        PARAMETERS: [
                            *_names(device_rows(handler)),
                            *_REFUSED.get(handler.name, ()),
                        ]
                    },
                ),
                "summary": _text(lambda: handler.summary),
                "type": _text(lambda: _type(getattr(handler, "device_type", 0))),
            },
            names=devices,
            make=lambda which: Link(f"devices/{which}"),
        )

    def add_device(self, configuration: DeviceConfiguration) -> Any:
        """
        Open a device; one that is known, and was not found so far, in its place.
        """
        system, name = self.system, configuration.name
        there = system.devices.get(name)
        known = there is not None and there.handler == configuration.handler.name
        if known and there is not None and there.lost:
            return system.activation.find(name, configuration)
        return system.devices.add(configuration)

    def _device(self, name: str) -> Directory:
        found = self.system.devices[name]
        unit = found.unit
        system = self.system
        handler = found.configuration.handler

        def exports() -> list[str]:
            return [
                f"targets/{driver.name}/{target.name}/"
                + (f"ini_groups/{group}/luns/{lun}" if group else f"luns/{lun}")
                for driver, target, group, lun in system.exports(unit)
            ]

        own = Attributes(
            device_rows(handler),
            lambda: found.configuration.values,
            partial(self._set_device, found),
            partial(system.devices.settled, name),
        )
        return Directory(
            {
                "handler": Link(f"handlers/{handler.name}"),
                "type": _text(lambda: _type(unit.device_type)),
                "exported": Directory(
                    names=lambda: [f"export{at}" for at in range(len(exports()))],
                    make=lambda name: Link(exports()[int(name[6:])]),
                ),
                **_sizes(unit, own.files()),
                "blocks": _text(lambda: unit.blocks),
                "current_size": _text(lambda: unit.blocks << unit.block_shift),
                "serial": _text(lambda: unit.identity.serial),
                "naa": _text(unit.identity.naa.hex),
                "uuid": _text(unit.identity.uuid.hex),
                "active_commands": _text(lambda: len(unit.tasks())),
                "sessions": _text(lambda: len(unit.itls)),
                "resync_size": File(writer=lambda _: system.resync(name)),
                "state": _text(lambda: found.state),
                "sync": File(writer=lambda _: system.devices.sync(name), patient=True),
                "block": block_file(system.watching, unit),
                "pr_state": File(
                    lambda: prstate.said(
                        unit.reservation.persistent, system.drivers.targets
                    ),
                    lambda text: prstate.write(unit, text, system.drivers.targets),
                ),
                "put_aside": File(
                    lambda: "\n".join(found.put_aside),
                    lambda text: system.devices.settle_aside(name, text),
                ),
                "threads_num": File(
                    lambda: str(threads_of(system, name)),
                    lambda text: taken(name, scst_words.DEVICE, "threads_num", text),
                ),
                "gen_tp_soft_threshold_reached_UA": File(
                    writer=lambda _: soft_threshold_reached(unit)
                ),
            },
            attributes=own,
        )

    def _set_device(self, found: Device, name: str, value: Any) -> Any:
        return self.system.set_device(found.name, name, value)

    # Target drivers and targets.

    def _driver(self, name: str) -> Directory:
        system = self.system
        driver = system.drivers[name]
        plugin = find_target_driver(name)
        rows = target_rows(plugin)
        own = Attributes(
            driver_rows(plugin), driver.values, partial(system.drivers.set, name)
        )

        def add(target: str, given: Sequence[tuple[str, str]]) -> Any:
            kept = _ours(target, scst_words.TARGET, rows, given)
            values = parse_values(rows, kept, "attribute")
            known, why = plugin.target_name(target)
            if why:
                warn(f"target {target}: {why}")
            return system.add_target(name, known, values)

        def of(target: str) -> Attributes:
            return self._target_attributes(driver, system.target(name, target).name)

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
                "listening": _text(
                    lambda: "\n".join(
                        listening(port.getHost()) for port in driver.ports.values()
                    )
                ),
            },
            names=lambda: driver.targets,
            make=partial(self._target, driver),
            spelled=partial(known_name, plugin),
            attributes=own,
        )

    def _target_attributes(self, driver: Driver, name: str) -> Attributes:
        return Attributes(
            target_rows(find_target_driver(driver.name)),
            lambda: driver.values_of(name),
            partial(self.system.set_target, driver, name),
        )

    def _target(self, driver: Driver, name: str) -> Directory:
        target = driver.targets[name]
        system = self.system
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
        own = self._target_attributes(driver, name)

        def marked() -> bool:
            # As in SCST: initiators have seen it.
            return name in driver.numbers or target.enabled

        return Directory(
            {
                # What it is, also when that is not what is configured.
                NUMBER: File(
                    lambda: (
                        f"{target.relative_port}\n" + (f"{KEY}\n" if marked() else "")
                    ),
                    own.files()[NUMBER].writer,
                ),
                **of_sessions(
                    self.system.watching.counters,
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
                    driver.instance, target, path, self.system.watching
                ),
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
