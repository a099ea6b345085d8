# SPDX-License-Identifier: MIT
"""
From the statements of scst.conf to a `Configuration`.

Which blocks and attributes may stand where is in the functions below, one a block; what
the attributes are comes from the tables of handlers and drivers.  The first mistake
ends the reading, with file, line, column, the word, and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scstd.attributes import (
    Attribute,
    Choice,
    ConfigurationError,
    Flag,
    Integer,
    parse_values,
    unknown,
)
from scstd.attributes import find as find_row
from scstd.management.configuration import (
    MOST_LUN,
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
    check_identities,
    check_iqn,
    check_name,
    device,
    device_rows,
)
from scstd.management.groups import (
    DEVICE_GROUP_ATTRIBUTES,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
    DeviceGroupConfiguration,
    TargetGroupConfiguration,
    check,
)
from scstd.management.ports import configured
from scstd.management.scstconf import Statement, Word, parse
from scstd.plugin import find_device_handler, find_target_driver

LUN_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute("read_only", Flag(), False, "Refuse writes through this LUN."),
)

GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "addr_method",
        Choice(("PERIPHERAL", "FLAT")),
        None,
        "How REPORT LUNS names LUNs; when not set, as the target does.",
    ),
)


def read_file(path: str) -> Configuration:
    """
    Return what a file configures.

    :raises ConfigurationError: it cannot be read, or there is a mistake in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{path}: {why}") from error
    return read(text, path)


def read(text: str, file: str) -> Configuration:
    """
    Return what *text* configures; *file* is its name for messages.

    :raises ConfigurationError: there is a mistake in it.
    """
    devices: dict[str, DeviceConfiguration] = {}
    drivers: dict[str, DriverConfiguration] = {}
    groups: dict[str, DeviceGroupConfiguration] = {}
    last: Word | None = None
    for statement in parse(text, file):
        word = statement.keyword
        if word.text == "HANDLER":
            _handler(statement, devices)
        elif word.text == "TARGET_DRIVER":
            driver = _driver(statement, devices)
            last = statement.words[1]
            _once(drivers, driver.name, last, "target driver")
            drivers[driver.name] = driver
        elif word.text == "DEVICE_GROUP":
            group = _device_group(statement, devices)
            _once(groups, group.name, statement.words[1], "device group")
            groups[group.name] = group
            _located(statement.words[1], partial(check, list(groups.values())))
            last = statement.words[1]
        elif word.text == "setup_id" and statement.body is None:
            _value(Attribute("setup_id", Integer(), 0, ""), statement)
        else:
            known = ("HANDLER", "TARGET_DRIVER", "DEVICE_GROUP", "setup_id")
            raise word.wrong(unknown("word", word.text, known))
    found = Configuration(
        tuple(devices.values()), tuple(drivers.values()), tuple(groups.values())
    )
    if last is not None:
        # Targets may stand behind the groups that name them.
        _located(last, lambda: configured(found.rel_tgt_ids(), found.device_groups))
    return found


def _arguments(statement: Statement, *names: str) -> list[Word]:
    """
    Return a block's arguments.
    """
    given = list(statement.words[1:])
    if len(given) < len(names):
        raise statement.words[-1].wrong(f"expected {names[len(given)]} after it")
    if len(given) > len(names):
        raise given[len(names)].wrong("expected the end of the line or a brace")
    return given


def _body(statement: Statement) -> tuple[Statement, ...]:
    if statement.body is None:
        raise statement.words[-1].wrong("expected an opening brace after it")
    return statement.body


def _once(there: Any, name: str, word: Word, what: str) -> None:
    if name in there:
        raise word.wrong(f"this {what} is there already")


def _located(word: Word, call: Callable[[], Any]) -> Any:
    """
    Return what *call* does; say where *word* stands if that fails.
    """
    try:
        return call()
    except ConfigurationError as error:
        raise word.wrong(str(error)) from None


def _value(row: Attribute[Any], statement: Statement) -> Any:
    """
    Return the value of an attribute: the words after its name.
    """
    if len(statement.words) < 2:
        raise statement.keyword.wrong(f"expected {row.kind.describe()} after it")
    word = statement.words[1]
    text = " ".join(one.text for one in statement.words[1:])
    return _located(word, lambda: row.kind.parse(text))


def _attributes(
    rows: Sequence[Attribute[Any]],
    statements: Sequence[Statement],
    blocks: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """
    Return (name, text) of the attributes among the statements of a body; each has been
    checked.  *blocks* are the keywords of the blocks that may stand there too.
    """
    given: list[tuple[str, str]] = []
    seen: set[str] = set()
    for statement in statements:
        word = statement.keyword
        if word.text in blocks:
            continue
        if statement.body is not None:
            raise word.wrong(unknown("block", word.text, blocks or ("none here",)))
        try:
            row = find_row(rows, word.text, "attribute")
        except ConfigurationError as error:
            raise word.wrong(str(error)) from None
        if word.text in seen and not row.repeats:
            raise word.wrong("this attribute is given twice")
        seen.add(word.text)
        _value(row, statement)
        given.append((word.text, " ".join(one.text for one in statement.words[1:])))
    return given


def _handler(statement: Statement, devices: dict[str, DeviceConfiguration]) -> None:
    (word,) = _arguments(statement, "a device handler's name")
    handler = _located(word, lambda: find_device_handler(word.text))
    body = _body(statement)
    _attributes((), body, ("DEVICE",))
    for one in body:
        (name,) = _arguments(one, "a device's name")
        _once(devices, name.text, name, "device")
        _located(name, partial(check_name, name.text))
        given = _attributes(device_rows(handler), one.body or ())
        devices[name.text] = _located(name, partial(device, name.text, handler, given))
        _located(name, partial(check_identities, devices.values()))


def _driver(
    statement: Statement, devices: dict[str, DeviceConfiguration]
) -> DriverConfiguration:
    (word,) = _arguments(statement, "a target driver's name")
    driver = _located(word, lambda: find_target_driver(word.text))
    body = _body(statement)
    given = _attributes(driver.attributes(), body, ("TARGET",))
    values = _located(word, lambda: parse_values(driver.attributes(), given))
    targets: dict[str, TargetConfiguration] = {}
    for one in body:
        if one.keyword.text == "TARGET":
            (name,) = _arguments(one, "a target's name")
            _once(targets, name.text, name, "target")
            if word.text == "iscsi":
                _located(name, partial(check_iqn, name.text))
            targets[name.text] = _target(
                name, one.body or (), driver.target_attributes(), devices
            )
    return DriverConfiguration(word.text, values, tuple(targets.values()))


def _target(
    word: Word,
    body: Sequence[Statement],
    rows: Sequence[Attribute[Any]],
    devices: dict[str, DeviceConfiguration],
) -> TargetConfiguration:
    given = _attributes(rows, body, ("LUN", "GROUP"))
    values = _located(word, lambda: parse_values(rows, given))
    groups: dict[str, GroupConfiguration] = {}
    for one in body:
        if one.keyword.text == "GROUP":
            (name,) = _arguments(one, "a group's name")
            _once(groups, name.text, name, "group")
            groups[name.text] = _group(name, one.body or (), devices)
    return TargetConfiguration(
        word.text, values, _luns(body, devices), tuple(groups.values())
    )


def _group(
    word: Word, body: Sequence[Statement], devices: dict[str, DeviceConfiguration]
) -> GroupConfiguration:
    given = _attributes(GROUP_ATTRIBUTES, body, ("LUN", "INITIATOR"))
    values = parse_values(GROUP_ATTRIBUTES, given)
    patterns: list[str] = []
    for one in body:
        if one.keyword.text == "INITIATOR":
            (pattern,) = _arguments(one, "an initiator's name or a pattern")
            _once(patterns, pattern.text, pattern, "pattern")
            _attributes((), one.body or ())
            patterns.append(pattern.text)
    return GroupConfiguration(
        word.text,
        tuple(patterns),
        _luns(body, devices),
        values["addr_method"] or "",
    )


def _luns(
    body: Sequence[Statement], devices: dict[str, DeviceConfiguration]
) -> tuple[LunConfiguration, ...]:
    luns: dict[int, LunConfiguration] = {}
    for one in body:
        if one.keyword.text != "LUN":
            continue
        number, name = _arguments(one, "a LUN", "a device's name")
        lun = _located(number, partial(Integer(0, MOST_LUN).parse, number.text))
        _once(luns, lun, number, "LUN")
        if name.text not in devices:
            raise name.wrong(unknown("device", name.text, devices))
        given = _attributes(LUN_ATTRIBUTES, one.body or ())
        values = parse_values(LUN_ATTRIBUTES, given)
        luns[lun] = LunConfiguration(lun, name.text, values["read_only"])
    return tuple(luns.values())


def _device_group(
    statement: Statement, devices: dict[str, DeviceConfiguration]
) -> DeviceGroupConfiguration:
    (word,) = _arguments(statement, "a device group's name")
    body = _body(statement)
    given = _attributes(DEVICE_GROUP_ATTRIBUTES, body, ("DEVICE", "TARGET_GROUP"))
    members: dict[str, None] = {}
    groups: dict[str, TargetGroupConfiguration] = {}
    for one in body:
        if one.keyword.text == "DEVICE":
            (name,) = _arguments(one, "a device's name")
            _once(members, name.text, name, "device")
            if name.text not in devices:
                raise name.wrong(unknown("device", name.text, devices))
            _attributes((), one.body or ())
            members[name.text] = None
        elif one.keyword.text == "TARGET_GROUP":
            (name,) = _arguments(one, "a target group's name")
            _once(groups, name.text, name, "target group")
            groups[name.text] = _target_group(name, one.body or ())
    values = _located(word, lambda: parse_values(DEVICE_GROUP_ATTRIBUTES, given))
    return DeviceGroupConfiguration(
        word.text, values, tuple(members), tuple(groups.values())
    )


def _target_group(word: Word, body: Sequence[Statement]) -> TargetGroupConfiguration:
    given = _attributes(TARGET_GROUP_ATTRIBUTES, body, ("TARGET",))
    values = _located(word, lambda: parse_values(TARGET_GROUP_ATTRIBUTES, given))
    ports: dict[str, int | None] = {}
    for one in body:
        if one.keyword.text == "TARGET":
            (name,) = _arguments(one, "a target's name")
            _once(ports, name.text, name, "target")
            said = parse_values(
                PORT_ATTRIBUTES, _attributes(PORT_ATTRIBUTES, one.body or ())
            )
            ports[name.text] = said["rel_tgt_id"]
    return TargetGroupConfiguration(word.text, values, ports)
