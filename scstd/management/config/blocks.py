# SPDX-License-Identifier: MIT
"""
The blocks of scst.conf: from statements to a `Configuration`.

Which blocks and attributes may stand where is in the methods below, one a block; what
the attributes are comes from the tables of handlers and drivers.  Every mistake is
noted, with file, line, column, the word, and what was expected, and the reading goes
on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from scstd.attributes import (
    Attribute,
    ConfigurationError,
    Integer,
    complete,
    unknown,
)
from scstd.attributes import find as find_row
from scstd.interfaces import ITargetDriver
from scstd.management.grammar.scstconf import (
    Statement,
    Word,
)
from scstd.management.model.attribute_tables import (
    LUN_ATTRIBUTES,
    LUN_READ_ONLY,
    ROOT_ATTRIBUTES,
    driver_rows,
    group_rows,
)
from scstd.management.model.configuration import (
    MAX_LUN,
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
    check_identities,
    device_of,
)
from scstd.management.model.device_attributes import device_rows
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    NUMBER,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
    DeviceGroupConfiguration,
    TargetGroupConfiguration,
    check,
)
from scstd.management.model.names import check_name, check_path_name
from scstd.management.model.target_attributes import target_rows
from scstd.management.ports.ports import configured, others
from scstd.plugin import (
    find_device_handler,
    find_target_driver,
    qualified_name,
    target_name,
)

T = TypeVar("T")


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


def _once(there: Any, name: Any, word: Word, what: str) -> None:
    if name in there:
        raise word.wrong(f"this {what} is there already")


def _located(word: Word, call: Callable[[], T]) -> T:
    """
    Return what *call* does; say where *word* stands if that fails.
    """
    try:
        return call()
    except ConfigurationError as error:
        raise word.wrong(str(error)) from None


def _text(statement: Statement) -> str:
    return " ".join(word.text for word in statement.words[1:])


def _value(row: Attribute[Any], statement: Statement) -> Any:
    """
    Return the value of an attribute: the words after its name.
    """
    if len(statement.words) < 2:
        raise statement.keyword.wrong(f"expected {row.kind.describe()} after it")
    # A message names the word it is about; a secret is in none.
    where = statement.keyword if row.secret else statement.words[1]
    return _located(where, lambda: row.parse(_text(statement)))


@attrs.define
class Reader:
    """
    Reads one file; `mistakes` has what is wrong with it so far.
    """

    mistakes: list[ConfigurationError] = attrs.field(factory=list)
    devices: dict[str, DeviceConfiguration | None] = attrs.field(factory=dict)
    """The devices; None for one in which there is a mistake."""
    identities: dict[tuple[str, str], str] = attrs.field(factory=dict)
    """Who has which configured name (`check_identities`)."""
    drivers: dict[str, DriverConfiguration | None] = attrs.field(factory=dict)
    device_groups: dict[str, DeviceGroupConfiguration] = attrs.field(factory=dict)
    places: dict[str, Word] = attrs.field(factory=dict)
    """What stands where, by its path in the tree."""

    def _each(
        self, statements: Sequence[Statement], call: Callable[[Statement], None]
    ) -> None:
        """
        Call for each statement, and note what is wrong with it.
        """
        for statement in statements:
            try:
                call(statement)
            except ConfigurationError as error:  # noqa: PERF203 - each is noted
                self.mistakes.append(error)

    def whole(self, statements: Sequence[Statement]) -> Configuration:
        """
        Return what a file's statements configure.
        """
        blocks: Mapping[str, Callable[[Statement], None]] = {
            "HANDLER": self._handler,
            "TARGET_DRIVER": self._driver,
            "DEVICE_GROUP": self._device_group,
        }
        # Devices come first, wherever they stand.
        for keyword, read_block in blocks.items():
            self._each(
                [one for one in statements if one.keyword.text == keyword], read_block
            )
        others = [one for one in statements if one.keyword.text not in blocks]
        given = self._attributes(
            ROOT_ATTRIBUTES, others, tuple(blocks), what="word", own=False
        )
        found = Configuration(
            tuple(one for one in self.devices.values() if one is not None),
            tuple(one for one in self.drivers.values() if one is not None),
            tuple(self.device_groups.values()),
            complete(ROOT_ATTRIBUTES, given),
        )
        last = next((one for one in reversed(statements) if one.body is not None), None)
        if last is not None and not self.mistakes:
            # What several blocks have to agree on.
            self._each([last], partial(_agree, found))
        return found if self.mistakes else _numbered(found)

    def _attributes(
        self,
        rows: Sequence[Attribute[Any]],
        statements: Sequence[Statement],
        blocks: Sequence[str] = (),
        *,
        what: str = "attribute",
        own: bool = True,
        path: str = "",
    ) -> list[tuple[str, Any]]:
        """
        Return (name, value) of the attributes among the statements of a body, but of
        those that are wrong; *path* is that of the object.

        *blocks* are the keywords of the blocks that may stand there too; they are
        passed over if they are the body's *own*.
        """
        given: list[tuple[str, Any]] = []
        seen: set[str] = set()

        def one(statement: Statement) -> None:
            word = statement.keyword
            if own and word.text in blocks:
                return
            known = [*blocks, *(row.name for row in rows)] if not own else None
            if known is not None and word.text not in known:
                raise word.wrong(unknown(what, word.text, known))
            if statement.body is not None:
                raise word.wrong(unknown("block", word.text, blocks or ("none here",)))
            row = _located(word, partial(find_row, rows, word.text, what))
            if word.text in seen and not row.repeats:
                raise word.wrong("this attribute is given twice")
            seen.add(word.text)
            self.places[f"{path}/{word.text}"] = word
            given.append((word.text, _value(row, statement)))

        self._each(statements, one)
        return given

    # HANDLER and DEVICE.

    def _handler(self, statement: Statement) -> None:
        (word,) = _arguments(statement, "a device handler's name")
        body = _body(statement)
        try:
            handler = _located(word, lambda: find_device_handler(word.text))
        except ConfigurationError:
            # Its devices are known at least: their LUNs are no further mistakes.
            for one in body:
                if one.keyword.text == "DEVICE" and len(one.words) > 1:
                    self.devices.setdefault(one.words[1].text, None)
            raise
        self._attributes((), body, ("DEVICE",))
        self._each(
            [one for one in body if one.keyword.text == "DEVICE"],
            partial(self._device, handler),
        )

    def _device(self, handler: Any, statement: Statement) -> None:
        (name,) = _arguments(statement, "a device's name")
        before = len(self.mistakes)
        path = f"devices/{name.text}"
        self.places[path] = name
        rows = device_rows(handler)
        given = self._attributes(rows, statement.body or (), path=path)
        _once(self.devices, name.text, name, "device")
        self.devices[name.text] = None
        _located(name, partial(check_name, name.text))
        if len(self.mistakes) == before:
            values = _located(name, partial(complete, rows, given, "attribute"))
            made = device_of(name.text, handler, values)
            _located(name, partial(check_identities, [made], self.identities))
            self.devices[name.text] = made

    # TARGET_DRIVER and TARGET.

    def _driver(self, statement: Statement) -> None:
        (word,) = _arguments(statement, "a target driver's name")
        driver = _located(word, lambda: find_target_driver(word.text))
        body = _body(statement)
        rows = driver_rows(driver)
        path = f"targets/{driver.name}"
        self.places[path] = word
        given = self._attributes(rows, body, ("TARGET",), path=path)
        values = _located(word, lambda: complete(rows, given))
        targets: dict[str, TargetConfiguration] = {}

        def target(one: Statement) -> None:
            (name,) = _arguments(one, "a target's name")
            made = self._target(name, one.body or (), driver)
            _once(targets, name.text, name, "target")
            _located(name, partial(target_name, driver, name.text))
            _located(name, partial(check_path_name, name.text))
            targets[name.text] = made

        self._each([one for one in body if one.keyword.text == "TARGET"], target)
        _once(self.drivers, driver.name, word, "target driver")
        self.drivers[driver.name] = DriverConfiguration(
            word.text, values, tuple(targets.values())
        )

    def _target(
        self, word: Word, body: Sequence[Statement], driver: ITargetDriver
    ) -> TargetConfiguration:
        rows = target_rows(driver)
        path = f"targets/{driver.name}/{word.text}"
        self.places[path] = word
        given = self._attributes(rows, body, ("LUN", "GROUP"), path=path)
        values = _located(word, lambda: complete(rows, given))
        luns = self._luns(body)
        groups: dict[str, GroupConfiguration] = {}

        def group(one: Statement) -> None:
            (name,) = _arguments(one, "a group's name")
            made = self._group(name, one.body or (), driver)
            _once(groups, name.text, name, "group")
            _located(name, partial(check_path_name, name.text))
            groups[name.text] = made

        self._each([one for one in body if one.keyword.text == "GROUP"], group)
        return TargetConfiguration(word.text, values, luns, tuple(groups.values()))

    def _group(
        self, word: Word, body: Sequence[Statement], driver: ITargetDriver
    ) -> GroupConfiguration:
        rows = group_rows(driver)
        given = self._attributes(rows, body, ("LUN", "INITIATOR"))
        values = complete(rows, given)
        patterns: list[str] = []

        def initiator(one: Statement) -> None:
            (pattern,) = _arguments(one, "an initiator's name or a pattern")
            _once(patterns, pattern.text, pattern, "pattern")
            _located(pattern, partial(check_path_name, pattern.text))
            self._attributes((), one.body or ())
            patterns.append(pattern.text)

        self._each([one for one in body if one.keyword.text == "INITIATOR"], initiator)
        values = {name: value for name, value in values.items() if value is not None}
        return GroupConfiguration(word.text, tuple(patterns), self._luns(body), values)

    def _luns(self, body: Sequence[Statement]) -> tuple[LunConfiguration, ...]:
        luns: dict[int, LunConfiguration] = {}

        def one(statement: Statement) -> None:
            number, name = _arguments(statement, "a LUN", "a device's name")
            given = self._attributes(LUN_ATTRIBUTES, statement.body or ())
            self._each([statement], lambda _one: self._known(name))
            lun = _located(number, partial(Integer(0, MAX_LUN).parse, number.text))
            _once(luns, lun, number, "LUN")
            values = complete(LUN_ATTRIBUTES, given)
            luns[lun] = LunConfiguration(lun, name.text, values[LUN_READ_ONLY.name])

        self._each([one for one in body if one.keyword.text == "LUN"], one)
        return tuple(luns.values())

    def _known(self, name: Word) -> None:
        if name.text not in self.devices:
            raise name.wrong(unknown("device", name.text, self.devices))

    # DEVICE_GROUP and TARGET_GROUP.

    def _device_group(self, statement: Statement) -> None:
        (word,) = _arguments(statement, "a device group's name")
        body = _body(statement)
        rows = DEVICE_GROUP_ATTRIBUTES
        path = f"device_groups/{word.text}"
        self.places[path] = word
        given = self._attributes(rows, body, ("DEVICE", "TARGET_GROUP"), path=path)
        members: dict[str, None] = {}
        groups: dict[str, TargetGroupConfiguration] = {}

        def member(one: Statement) -> None:
            (name,) = _arguments(one, "a device's name")
            self._attributes((), one.body or ())
            _once(members, name.text, name, "device")
            self._known(name)
            members[name.text] = None

        def group(one: Statement) -> None:
            (name,) = _arguments(one, "a target group's name")
            made = self._target_group(name, one.body or ())
            _once(groups, name.text, name, "target group")
            _located(name, partial(check_path_name, name.text))
            groups[name.text] = made

        self._each([one for one in body if one.keyword.text == "DEVICE"], member)
        self._each([one for one in body if one.keyword.text == "TARGET_GROUP"], group)
        values = _located(word, lambda: complete(rows, given))
        _once(self.device_groups, word.text, word, "device group")
        _located(word, partial(check_path_name, word.text))
        self.device_groups[word.text] = DeviceGroupConfiguration(
            word.text, values, tuple(members), tuple(groups.values())
        )
        _located(word, lambda: check(list(self.device_groups.values())))

    def _target_group(
        self, word: Word, body: Sequence[Statement]
    ) -> TargetGroupConfiguration:
        given = self._attributes(TARGET_GROUP_ATTRIBUTES, body, ("TARGET",))
        values = _located(word, lambda: complete(TARGET_GROUP_ATTRIBUTES, given))
        ports: dict[str, int | None] = {}

        def port(one: Statement) -> None:
            (name,) = _arguments(one, "a target's name")
            said = self._attributes(PORT_ATTRIBUTES, one.body or ())
            _once(ports, name.text, name, "target")
            ports[name.text] = complete(PORT_ATTRIBUTES, said)[NUMBER]

        self._each([one for one in body if one.keyword.text == "TARGET"], port)
        return TargetGroupConfiguration(word.text, values, ports)


def _agree(found: Configuration, last: Statement) -> None:
    word = last.words[min(1, len(last.words) - 1)]
    _located(word, lambda: configured(found.rel_tgt_ids(), others(found.device_groups)))


def _numbered(found: Configuration) -> Configuration:
    """
    Return a configuration in which targets have the numbers that target groups give
    them.
    """
    said = dict(others(found.device_groups))

    def target(driver: str, one: TargetConfiguration) -> TargetConfiguration:
        port = qualified_name(driver, one.name)
        if port not in said or one.values.get(NUMBER) is not None:
            return one
        return attrs.evolve(one, values={**one.values, NUMBER: said[port]})

    drivers = tuple(
        attrs.evolve(
            driver, targets=tuple(target(driver.name, one) for one in driver.targets)
        )
        for driver in found.drivers
    )
    return attrs.evolve(found, drivers=drivers)
