# SPDX-License-Identifier: MIT
"""
From a `Configuration` to the text of scst.conf.

SCST's rule: what differs from its default is written, nothing else.  What is written
reads back to the same configuration (`scstd.management.config.reading`), and SCST's own
tool reads the same values: numbers are plain, and words written in the way of its
grammar (`scstd.management.grammar.scstconf.quoted`); where that has none `unlike` says
so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scstd.attributes import Attribute, changed_values
from scstd.interfaces import ITargetDriver
from scstd.management.grammar.scstconf import Statement, expressible, parse, quoted
from scstd.management.model.attribute_tables import (
    LUN_ATTRIBUTES,
    LUN_READ_ONLY,
    ROOT_ATTRIBUTES,
    driver_rows,
    group_rows,
)
from scstd.management.model.configuration import (
    Configuration,
    DriverConfiguration,
    LunConfiguration,
    TargetConfiguration,
)
from scstd.management.model.device_attributes import FILENAME, device_rows
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    NUMBER,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
    DeviceGroupConfiguration,
)
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.warnings import warn
from scstd.management.state.durable import write_atomically
from scstd.plugin import find_target_driver

_INDENT = "    "


def render(configuration: Configuration) -> str:
    """
    Return the text of a file that configures this.
    """
    lines = [*_attributes(ROOT_ATTRIBUTES, configuration.values)]
    by_handler: dict[str, list[str]] = {}
    for device in configuration.devices:
        inside = _attributes(device_rows(device.handler), _whole(device.values))
        by_handler.setdefault(device.handler.name, []).extend(
            _block(f"DEVICE {quoted(device.name)}", inside)
        )
    for handler, devices in by_handler.items():
        lines += _block(f"HANDLER {quoted(handler)}", devices)
    for driver in configuration.drivers:
        inside = _driver(driver)
        if inside:
            lines += _block(f"TARGET_DRIVER {quoted(driver.name)}", inside)
    for group in configuration.device_groups:
        inside = list(_device_group(group))
        # What is at the top has braces, even with nothing between them.
        head = f"DEVICE_GROUP {quoted(group.name)}"
        lines += _block(head, inside) if inside else [f"{head} {{", "}"]
    return "".join(f"{line}\n" for line in lines)


def _attributes(rows: Sequence[Attribute[Any]], values: Mapping[str, Any]) -> list[str]:
    return [f"{name} {quoted(text)}" for name, text in changed_values(rows, values)]


def _whole(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Return a device's values with the whole path of its file: SCST takes no other, and
    who starts elsewhere means the same.
    """
    name = values.get(FILENAME.name)
    return {**values, FILENAME.name: str(Path(name).absolute())} if name else values


def unlike(text: str) -> list[str]:
    """
    Return what SCST's tool would read otherwise of a file that `render` has made: words
    that its grammar cannot write, by line.
    """
    # Without the word, which may be a secret.
    return [
        f"line {word.line}: SCST has no way to write what stands behind"
        f" {statement.keyword.text}: its tool would read this file otherwise"
        for statement in _every(parse(text, ""))
        for word in statement.words
        if not expressible(word.text)
    ]


def _every(statements: Iterable[Statement]) -> Iterator[Statement]:
    for one in statements:
        yield one
        yield from _every(one.body or ())


def _block(head: str, inside: Iterable[str]) -> Iterator[str]:
    body = list(inside)
    if not body:
        yield head
        return
    yield f"{head} {{"
    for line in body:
        yield _INDENT + line
    yield "}"


def _driver(driver: DriverConfiguration) -> list[str]:
    plugin = find_target_driver(driver.name)
    lines = _attributes(driver_rows(plugin), driver.values)
    for target in driver.targets:
        inside = _target(target, plugin)
        lines += _block(f"TARGET {quoted(target.name)}", inside)
    return lines


def _target(target: TargetConfiguration, driver: ITargetDriver) -> Iterator[str]:
    yield from _attributes(target_rows(driver), target.values)
    yield from _luns(target.luns)
    for group in target.groups:
        names = [f"INITIATOR {quoted(pattern)}" for pattern in group.patterns]
        own = _attributes(group_rows(driver), group.values)
        inside = [*own, *_luns(group.luns), *names]
        yield from _block(f"GROUP {quoted(group.name)}", inside)


def _device_group(group: DeviceGroupConfiguration) -> Iterator[str]:
    yield from _attributes(DEVICE_GROUP_ATTRIBUTES, group.values)
    yield from (f"DEVICE {quoted(name)}" for name in group.devices)
    for one in group.groups:
        inside = _attributes(TARGET_GROUP_ATTRIBUTES, one.values)
        for port, number in one.ports.items():
            said = _attributes(PORT_ATTRIBUTES, {NUMBER: number})
            inside += _block(f"TARGET {quoted(port)}", said)
        yield from _block(f"TARGET_GROUP {quoted(one.name)}", inside)


def _luns(luns: Sequence[LunConfiguration]) -> Iterator[str]:
    for one in luns:
        inside = _attributes(LUN_ATTRIBUTES, {LUN_READ_ONLY.name: one.read_only})
        yield from _block(f"LUN {one.lun} {quoted(one.device)}", inside)


def save(path: str, configuration: Configuration) -> None:
    """
    Write a file, atomically; one that is there keeps its mode and owner.

    :raises OSError: it cannot be written, or is not a file: a device is not replaced.
    """
    where = Path(os.path.realpath(path))
    if where.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if where.is_symlink() or (where.exists() and not where.is_file()):
        raise OSError(errno.EINVAL, "not a regular file", path)
    text = render(configuration)
    for said in unlike(text):
        warn(f"{path}: {said}")
    write_atomically(where, text.encode(), like=where)
