# SPDX-License-Identifier: MIT
"""
What a person at the console can say: names for the live objects, and verbs.

``get`` and ``set`` know objects by the path that ``ls`` prints, and attributes by the
tables of handlers and drivers: values are checked as those of a configuration file are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import Attribute, ConfigurationError, Flag, find, unknown
from scstd.management import groups
from scstd.management.configuration import device_rows
from scstd.management.system import Device, System
from scstd.plugin import find_target_driver
from scstd.scsi.device import soft_threshold_reached
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC

_IDENTITY = {"t10_vend_id": "vendor", "prod_id": "product", "prod_rev_lvl": "revision"}
"""Attributes of a device that can be changed while it is open, and what they change."""

_SOFT_THRESHOLD: Attribute[bool] = Attribute(
    "gen_tp_soft_threshold_reached_UA",
    Flag(),
    False,
    "Written to, tells every initiator that the soft threshold is reached.",
)

_HELP = """\
ls()                 every object, by its path
get("PATH")          the attributes of an object
set("PATH", "ATTRIBUTE", "VALUE")
                     of a drive, "filename" changes the disc ("" takes it out)
sessions()           the sessions there are; close(SESSION) ends one
tasks()              the commands under way
devices, targets, drivers, system: the live objects themselves"""


def _session_rows(session: Any) -> dict[str, Any]:
    connection = session.connection
    return {
        "initiator": session.initiator,
        "target": session.nexus.target.name,
        "peer": connection.peer,
        "isid": session.isid.hex(),
        "tsih": session.tsih,
        "commands": session.commands,
        "read_bytes": session.read_bytes,
        "write_bytes": session.write_bytes,
        "tasks": len(session.tasks),
        "exp_cmd_sn": connection.window.exp_cmd_sn,
        "max_cmd_sn": connection.window.max_cmd_sn,
        "stat_sn": connection.stat_sn,
        **attrs.asdict(connection.parameters),
    }


class Verbs:
    """
    The verbs, over one system.
    """

    def __init__(self, system: System) -> None:
        self._system = system

    def namespace(self) -> dict[str, Any]:
        """
        Return the names at the prompt.
        """
        system = self._system
        return {
            "system": system,
            "devices": system.devices,
            "targets": system.targets,
            "drivers": system.drivers,
            "sessions": self.sessions,
            "tasks": self.tasks,
            "ls": self.ls,
            "get": self.get,
            "set": self.set,
            "close": self.close,
            "help": lambda: print(_HELP),  # noqa: T201
        }

    def sessions(self) -> list[Any]:
        """
        Return the sessions there are.
        """
        return self._system.sessions()

    def tasks(self) -> list[Task]:
        """
        Return the commands under way.
        """
        return [
            task
            for device in self._system.devices.values()
            for task in device.unit.tasks()
        ]

    def ls(self) -> list[str]:
        """
        Return the path of every object.
        """
        return sorted(self._objects())

    def get(self, path: str) -> dict[str, Any]:
        """
        Return the attributes of the object at *path*.
        """
        return dict(self._object(path)[0]())

    def set(self, path: str, attribute: str, value: str) -> Deferred[None] | None:
        """
        Give an attribute another value; what takes a while is a Deferred.

        :raises ConfigurationError: no such object or attribute, a wrong value, or one
            that cannot be changed.
        """
        _get, rows, change = self._object(path)
        row = find(rows, attribute, "attribute that can be changed")
        return change(row.name, row.kind.parse(str(value)))

    def close(self, session: Any) -> None:
        """
        End a session: one of `sessions`, its number there, or its initiator's name.
        """
        found = self.sessions()
        if isinstance(session, int):
            chosen = found[session : session + 1]
        else:
            chosen = [one for one in found if session in {one, one.initiator}]
        if not chosen:
            raise ConfigurationError(f"no such session: {session!r}")
        for one in chosen:
            one.connection.fail("closed at the console")

    def _object(self, path: str) -> _Object:
        objects = self._objects()
        if path not in objects:
            raise ConfigurationError(unknown("path", path, objects))
        return objects[path]

    def _objects(self) -> dict[str, _Object]:
        found: dict[str, _Object] = {}
        for name, device in self._system.devices.items():
            found[f"devices/{name}"] = _device(device)
        for name, driver in self._system.drivers.items():
            rows = find_target_driver(name).target_attributes()
            for target in self._system.targets:
                found[f"targets/{name}/{target}"] = _target(driver, target, rows)
        found.update(groups.objects(self._system.device_groups))
        for number, session in enumerate(self.sessions()):
            found[f"sessions/{number}"] = (
                partial(_session_rows, session),
                (),
                _fixed,
            )
        return found


_Object = tuple[
    Callable[[], Mapping[str, Any]],
    Sequence[Attribute[Any]],
    Callable[[str, Any], "Deferred[None] | None"],
]
"""What reads an object's attributes, which can be changed, and what changes them."""


def _fixed(name: str, value: Any) -> None:
    raise ConfigurationError(f"{name} cannot be changed to {value!r}")


def _target(driver: Any, target: str, rows: Sequence[Attribute[Any]]) -> _Object:
    def change(name: str, value: Any) -> None:
        driver.set_attribute(target, name, value)

    return (lambda: driver.attributes_of(target)), rows, change


def _device(device: Device) -> _Object:
    unit = device.unit
    rows = [
        row
        for row in device_rows(device.configuration.handler)
        if row.name in _IDENTITY
        or row.name == "read_only"
        or (row.name == "filename" and unit.drive is not None)
    ]
    rows.append(_SOFT_THRESHOLD)

    def read() -> Mapping[str, Any]:
        identity = unit.identity
        return {
            **device.configuration.values,
            "read_only": unit.read_only,
            **{name: getattr(unit, field) for name, field in _IDENTITY.items()},
            "usn": identity.serial,
            "naa_id": identity.naa.hex(),
            "uuid": identity.uuid.hex(),
            "size": unit.blocks << unit.block_shift,
            "sessions": len(unit.itls),
        }

    def change(name: str, value: Any) -> Deferred[None] | None:
        if name == "filename":
            return Deferred.fromCoroutine(device.change_medium(value))
        if name == _SOFT_THRESHOLD.name:
            soft_threshold_reached(unit)
        elif name == "read_only":
            unit.read_only = value
            unit.modes_changed()
            unit.attention(ASC.MODE_PARAMETERS_CHANGED)
        else:
            setattr(unit, _IDENTITY[name], value or "")
            unit.attention(ASC.INQUIRY_DATA_HAS_CHANGED)
        return None

    return read, rows, change
