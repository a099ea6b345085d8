# SPDX-License-Identifier: MIT
"""
Device handlers and devices in the tree: ``handlers/HANDLER/`` and ``devices/DEVICE/``.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import Attribute, Flag, find
from scstd.management.errors import TreeError
from scstd.management.grammar import scst_words
from scstd.management.model.configuration import DeviceConfiguration, device
from scstd.management.model.device_attributes import FILTERS, SIZE, device_rows
from scstd.management.system import System
from scstd.management.tree import prstate
from scstd.management.tree.mgmt import (
    PARAMETERS,
    Mgmt,
    Verb,
    without_scst,
)
from scstd.management.tree.monitor_files import (
    block_file,
    taken,
    threads_of,
)
from scstd.management.tree.nodes import (
    Attributes,
    Directory,
    Entry,
    File,
    Link,
    parsed,
    text_file,
)
from scstd.plugin import (
    find_device_handler,
)
from scstd.scsi.device import soft_threshold_reached
from scstd.scsi.unit import LogicalUnit

_FORCE = (Attribute("force", Flag(), False, "Take its LUNs away first."),)

_REFUSED = {"vdisk_nullio": ("dummy",)}
"""
Parameters that a handler is said to have though they are refused: SCST's tool would
leave out what is not listed, and open something else than was meant.
"""

_TYPES = {0x00: "disk", 0x01: "tape", 0x05: "cdrom", 0x08: "changer"}


def _names(rows: Sequence[Attribute[Any]]) -> list[str]:
    return [row.name for row in rows]


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
        "size_mb": text_file(lambda: unit.blocks << unit.block_shift >> 20),
    }


def handler_directory(system: System, name: str) -> Directory:
    """
    Return the directory of a device handler.
    """
    handler = find_device_handler(name)

    def devices() -> Sequence[str]:
        return [
            one.name
            for one in system.devices.values()
            if one.configuration.handler.name == name
        ]

    def add(which: str, given: Sequence[tuple[str, str]]) -> Any:
        rows = device_rows(handler)
        real = _no_dummy(which, rows, given)
        kept = without_scst(which, scst_words.DEVICE, rows, real)
        there = system.devices.get(which)
        if there is not None and there.lost and there.handler == name and not kept:
            # It is known, and was not found so far.
            return system.activation.find(which)
        return add_device(system, device(which, name, kept))

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
            "summary": text_file(lambda: handler.summary),
            "type": text_file(lambda: _type(getattr(handler, "device_type", 0))),
        },
        names=devices,
        make=lambda which: Link(f"devices/{which}"),
    )


def add_device(system: System, configuration: DeviceConfiguration) -> Any:
    """
    Open a device; one that is known, and was not found so far, in its place.
    """
    name = configuration.name
    there = system.devices.get(name)
    known = there is not None and there.handler == configuration.handler.name
    if known and there is not None and there.lost:
        return system.activation.find(name, configuration)
    return system.devices.add(configuration)


def device_directory(system: System, name: str) -> Directory:
    """
    Return the directory of a device.
    """
    found = system.devices[name]
    unit = found.unit
    handler = found.configuration.handler

    def exports() -> list[str]:
        return [
            f"targets/{driver.name}/{target.name}/"
            + (f"ini_groups/{group}/luns/{lun}" if group else f"luns/{lun}")
            for driver, target, group, lun in system.exports(unit)
        ]

    def set_device(attribute: str, value: Any) -> Any:
        return system.set_device(found.name, attribute, value)

    rows = {row.name: row for row in device_rows(handler)}
    own = Attributes(
        list(rows.values()),
        lambda: found.configuration.values,
        set_device,
        lambda row: not rows[row.name].changeable(unit),
    )
    return Directory(
        {
            "handler": Link(f"handlers/{handler.name}"),
            "type": text_file(lambda: _type(unit.device_type)),
            "exported": Directory(
                names=lambda: [f"export{at}" for at in range(len(exports()))],
                make=lambda name: Link(exports()[int(name[6:])]),
            ),
            **_sizes(unit, own.files()),
            "blocks": text_file(lambda: unit.blocks),
            "current_size": text_file(lambda: unit.blocks << unit.block_shift),
            "serial": text_file(lambda: unit.identity.serial),
            "naa": text_file(unit.identity.naa.hex),
            "uuid": text_file(unit.identity.uuid.hex),
            "active_commands": text_file(lambda: len(unit.tasks())),
            "sessions": text_file(lambda: len(unit.itls)),
            "resync_size": File(writer=lambda _: system.resync(name)),
            "state": text_file(lambda: found.state),
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
