# SPDX-License-Identifier: MIT
"""
A scst.conf that was written for SCST, or by its tool, taken as it is.

What only SCST has is left out, with a warning that says what takes its place
(`scstd.management.grammar.scst_words`); what it writes otherwise than we do is put as
we do: a name with nothing behind it is not set, a number above a limit is cut, capitals
in iSCSI names become small, ``size_mb`` is a size.  What an installed handler or driver
knows itself is not looked at: a plugin may have what we have not.  A word that neither
SCST nor we know stays a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import Attribute, ConfigurationError, Size
from scstd.interfaces import ITargetDriver
from scstd.management.grammar import scst_words
from scstd.management.grammar.scst_words import DRIVERS, PASSED_THROUGH, Left
from scstd.management.grammar.scstconf import MistakeError, Statement, Word
from scstd.management.model.attribute_tables import (
    ROOT_ATTRIBUTES,
    driver_rows,
    group_rows,
)
from scstd.management.model.device_attributes import FILENAME, SIZE, device_rows
from scstd.management.model.target_attributes import target_rows
from scstd.plugin import (
    device_handlers,
    find_device_handler,
    find_target_driver,
    target_drivers,
    target_name,
)

Rows = Sequence[Attribute[Any]]


@attrs.define
class Translator:
    """
    Takes the statements of one file; `warnings` has what was said of them, *mistakes*
    gets what is wrong.
    """

    mistakes: list[ConfigurationError] = attrs.field(factory=list)
    _said: list[MistakeError] = attrs.field(factory=list)
    _gone: set[str] = attrs.field(factory=set)
    """Devices that are left out."""
    _named: dict[str, str] = attrs.field(factory=dict)
    """Names of targets as they are used, by how they are written."""

    def _warn(self, word: Word, why: str) -> None:
        self._said.append(word.wrong(why))

    @property
    def warnings(self) -> list[str]:
        """What was said of them, in the file's order."""
        return [str(one) for one in sorted(self._said, key=lambda one: one.place)]

    def whole(self, statements: Iterable[Statement]) -> list[Statement]:
        """
        Return the statements that are ours.
        """
        kept = self._attributes(scst_words.ROOT, ROOT_ATTRIBUTES, statements)
        # Devices come first, wherever they stand, and device groups last.
        kept = [self._handler(one) for one in kept if not self._passed_through(one)]
        kept = [
            self._driver(one)
            for one in kept
            if not (self._other_driver(one) or self._access(one))
        ]
        return [self._device_group(one) for one in kept]

    def _attributes(
        self, words: Mapping[str, Left], rows: Rows, statements: Iterable[Statement]
    ) -> list[Statement]:
        """
        Return the statements without attributes that only SCST has, and without those
        that say nothing; numbers are within their limits.
        """
        known = {row.name: row for row in rows}
        kept = []
        for one in statements:
            name, text = one.keyword.text, _text(one)
            row, left = known.get(name), words.get(name)
            if one.body is not None or (row is None and left is None):
                kept.append(one)
            elif row is not None:
                if not self._unset(one, row):
                    kept.append(self._within(one, row))
            elif left is not None and not left.says_nothing(text):
                self._warn(one.keyword, left.warning())
        return kept

    def _unset(self, one: Statement, row: Attribute[Any]) -> bool:
        """
        Say whether an attribute is not set though its name is there.
        """
        text = _text(one)
        if len(one.words) == 2 and text == "0" and row.name in scst_words.ZERO_IS_NONE:
            return True
        if text or row.required or row.secret:
            # Of an account that is not said nobody is asked.
            return False
        if len(one.words) > 1 and _takes(row, ""):
            return False
        if row.default not in (None, "", ()):
            self._warn(one.keyword, "nothing stands behind it: it is not set")
        return True

    def _within(self, one: Statement, row: Attribute[Any]) -> Statement:
        text, why = cut(row, _text(one))
        if not why:
            return one
        self._warn(one.words[1], why)
        return _put(one, text)

    # Devices.

    def _passed_through(self, block: Statement) -> bool:
        name = _argument(block, "HANDLER")
        if name not in PASSED_THROUGH - {one.name for one in device_handlers()}:
            return False
        self._warn(
            block.words[1], "devices are not passed through: its devices are left out"
        )
        self._gone.update(_argument(one, "DEVICE") for one in block.body or ())
        return True

    def _handler(self, block: Statement) -> Statement:
        name = _argument(block, "HANDLER")
        try:
            rows = device_rows(find_device_handler(name))
        except ConfigurationError:
            return block
        if block.body is None:
            return block
        body = self._attributes(scst_words.HANDLER, (), block.body)
        return attrs.evolve(
            block,
            body=tuple(
                self._device(one, rows) for one in body if not self._dummy(one, rows)
            ),
        )

    def _dummy(self, block: Statement, rows: Rows) -> bool:
        """
        Leave out what only keeps a place: the LUN of a device that is not there.
        """
        name = _argument(block, "DEVICE")
        said = [one for one in block.body or () if one.keyword.text == "dummy"]
        if not name or "dummy" in _names(rows) or not said:
            return False
        if _text(said[0]) in {"", "0"}:
            return False
        self._warn(
            block.words[1],
            "LUN 0 may be missing here: the dummy and its LUNs are left out",
        )
        self._gone.add(name)
        return True

    def _device(self, block: Statement, rows: Rows) -> Statement:
        if not _argument(block, "DEVICE") or block.body is None:
            return block
        words = {"dummy": Left("", ("0",)), **scst_words.DEVICE}
        body = self._sized(block.body, rows)
        return attrs.evolve(block, body=tuple(self._attributes(words, rows, body)))

    def _sized(self, body: Sequence[Statement], rows: Rows) -> list[Statement]:
        """
        Return a device's attributes with SCST's size in MiB as a size, or without it.
        """
        known = _names(rows)
        said = [one for one in body if one.keyword.text == "size_mb" and _text(one)]
        if "size_mb" in known or SIZE.name not in known or not said:
            return [one for one in body if one.keyword.text != "size_mb" or _text(one)]
        kept = [one for one in body if one.keyword.text != "size_mb"]
        size = next((_text(one) for one in kept if one.keyword.text == SIZE.name), "")
        try:
            text, why = sized(size, _text(said[0]), rows)
        except ConfigurationError as error:
            self.mistakes.append(said[0].words[1].wrong(str(error)))
            return kept
        if why:
            self._warn(said[0].keyword, why)
        if text and not size:
            name = attrs.evolve(said[0].keyword, text=SIZE.name)
            kept.append(
                attrs.evolve(
                    _put(said[0], text),
                    words=(name, attrs.evolve(said[0].words[1], text=text)),
                )
            )
        return kept

    # Targets.

    def _other_driver(self, block: Statement) -> bool:
        name = _argument(block, "TARGET_DRIVER")
        if name not in DRIVERS or name in {one.name for one in target_drivers()}:
            return False
        self._warn(block.words[1], DRIVERS[name])
        return True

    def _driver(self, block: Statement) -> Statement:
        name = _argument(block, "TARGET_DRIVER")
        try:
            driver = find_target_driver(name)
        except ConfigurationError:
            return block
        if block.body is None:
            return block
        body = self._attributes(scst_words.DRIVER, driver_rows(driver), block.body)
        rows = target_rows(driver)
        return attrs.evolve(
            block,
            body=tuple(self._target(one, "TARGET", rows, driver) for one in body),
        )

    def _target(
        self, block: Statement, keyword: str, rows: Rows, driver: ITargetDriver
    ) -> Statement:
        """
        Return a target, or a group of initiators in one.
        """
        if not _argument(block, keyword):
            return block
        if keyword == "TARGET":
            block = self._known(block, driver)
        if block.body is None:
            return block
        body = self._there(block.body, "LUN", 2) or ()
        body = tuple(self._addresses(one) for one in self._once(body))
        groups = group_rows(driver)
        return attrs.evolve(
            block,
            body=tuple(
                self._target(one, "GROUP", groups, driver)
                for one in self._attributes(scst_words.TARGET, rows, body)
            ),
        )

    def _known(self, block: Statement, driver: ITargetDriver) -> Statement:
        """
        Return a target with the name by which it is known.
        """
        word = block.words[1]
        try:
            name, why = target_name(driver, word.text)
        except ConfigurationError:
            return block
        if why:
            self._warn(word, why)
        self._named[word.text] = name
        return _renamed(block, name)

    def _once(self, body: Iterable[Statement]) -> list[Statement]:
        """
        Return the statements of a body without initiators that are there already.
        """
        seen: set[str] = set()
        kept = []
        for one in body:
            name = _argument(one, "INITIATOR")
            if name in seen:
                self._warn(one.words[1], "it is in this group already")
                continue
            if name:
                seen.add(name)
            kept.append(one)
        return kept

    def _addresses(self, one: Statement) -> Statement:
        if one.keyword.text == "addr_method" and _text(one).upper() == "LUN":
            self._warn(one.words[1], "FLAT is used: both name every LUN")
            return _put(one, "FLAT")
        return one

    # Device groups.

    def _access(self, block: Statement) -> bool:
        """
        Leave out what SCST has of access states as a whole.
        """
        if block.keyword.text != "ALUA" or block.body is None:
            return False
        for one in block.body:
            self._warn(one.keyword, "taken, and left out: it is about a kernel module")
        return True

    def _device_group(self, block: Statement) -> Statement:
        if not _argument(block, "DEVICE_GROUP"):
            return block
        body = self._there(block.body, "DEVICE", 1)
        if body is None:
            return block
        return attrs.evolve(block, body=tuple(map(self._target_group, body)))

    def _target_group(self, block: Statement) -> Statement:
        if not _argument(block, "TARGET_GROUP") or block.body is None:
            return block

        def known(one: Statement) -> Statement:
            name = self._named.get(_argument(one, "TARGET"))
            return one if name is None else _renamed(one, name)

        return attrs.evolve(block, body=tuple(map(known, block.body)))

    def _there(
        self, body: tuple[Statement, ...] | None, keyword: str, at: int
    ) -> tuple[Statement, ...] | None:
        """
        Return the statements of a body but those about devices that are left out.
        """
        kept = []
        for one in body or ():
            if (
                one.keyword.text == keyword
                and len(one.words) > at
                and one.words[at].text in self._gone
            ):
                self._warn(one.words[at], "left out with its device")
            else:
                kept.append(one)
        return None if body is None else tuple(kept)


def _names(rows: Iterable[Attribute[Any]]) -> set[str]:
    return {row.name for row in rows}


def _text(statement: Statement) -> str:
    return " ".join(word.text for word in statement.words[1:])


def _put(one: Statement, text: str) -> Statement:
    """
    Return an attribute with another value.
    """
    value = attrs.evolve(one.words[1], text=text)
    return attrs.evolve(one, words=(one.keyword, value))


def _renamed(block: Statement, name: str) -> Statement:
    first, word, *rest = block.words
    return attrs.evolve(block, words=(first, attrs.evolve(word, text=name), *rest))


def _argument(block: Statement, keyword: str) -> str:
    """
    Return what stands behind a block's keyword, or nothing if it is another block.
    """
    if block.keyword.text != keyword or len(block.words) < 2:
        return ""
    return block.words[1].text


def _takes(row: Attribute[Any], text: str) -> bool:
    try:
        row.parse(text)
    except ConfigurationError:
        return False
    return True


def cut(row: Attribute[Any], text: str) -> tuple[str, str]:
    """
    Return the text of a value, cut to the limit as SCST does where it is above, and
    what is to be said of that ("": nothing).
    """
    highest = getattr(row.kind, "highest", None)
    if row.name not in scst_words.CUT or highest is None:
        return text, ""
    try:
        value: float = Size().parse(text)
    except ConfigurationError:
        return text, ""
    if value <= highest:
        return text, ""
    limit = f"{highest:g}" if isinstance(highest, float) else str(highest)
    return limit, f"more than {limit}, the limit: that is used"


def sized(size: str, size_mb: str, rows: Rows) -> tuple[str, str]:
    """
    Return what SCST's ``size_mb`` means beside a ``size`` ("": none): the size in bytes
    ("" where it means nothing) and what is to be said.

    SCST writes it for information beside files, whose own size counts: so it makes no
    file, and none larger.

    :raises ConfigurationError: it is no number, or the two do not agree.
    """
    if not (size_mb.isascii() and size_mb.isdigit() and len(size_mb) < 14):
        raise ConfigurationError("expected a whole number of MiB")
    wanted = int(size_mb) << 20
    if size:
        row = next(one for one in rows if one.name == SIZE.name)
        if _takes(row, size) and row.parse(size) >> 20 != wanted >> 20:
            raise ConfigurationError(f"size {size} is another one")
        return size, ""
    if FILENAME.name in _names(rows):
        return "", "taken, and left out: the size of the file counts (size makes one)"
    return str(wanted), ""


def accepted(
    words: Mapping[str, Left], rows: Rows, given: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """
    Return the (name, text) pairs of a verb that are ours, and what is to be said of the
    others.

    :raises ConfigurationError: what is said of the size does not agree.
    """
    known = {row.name: row for row in rows}
    size = next((text for name, text in given if name == SIZE.name), "")
    kept: list[tuple[str, str]] = []
    warnings: list[str] = []

    def say(name: str, text: str, why: str) -> None:
        if why:
            warnings.append(f"{name} {text}: {why}")

    for name, text in given:
        row = known.get(name)
        if name == "size_mb" and row is None and SIZE.name in known:
            put, why = sized(size, text, rows)
            say(name, text, why)
            if put and not size:
                kept.append((SIZE.name, put))
        elif row is None and name in words:
            if not words[name].says_nothing(text):
                say(name, text, words[name].warning())
        elif row is None or name not in scst_words.ZERO_IS_NONE or text != "0":
            put, why = (text, "") if row is None else cut(row, text)
            say(name, text, why)
            kept.append((name, put))
    return kept, warnings


_PLACES: tuple[tuple[tuple[str, ...], Mapping[str, Left]], ...] = (
    ((), scst_words.ROOT),
    (("handlers", "*"), scst_words.HANDLER),
    (("devices", "*"), scst_words.DEVICE),
    (("targets", "*"), scst_words.DRIVER),
    (("targets", "*", "*"), scst_words.TARGET),
    (("targets", "*", "*", "ini_groups", "*"), scst_words.TARGET),
)
"""Whose attributes SCST's words are, by the path of the object."""


def at(path: str) -> Left | None:
    """
    Return SCST's word that the file at a path of the tree would be, if it is one.
    """
    *where, name = [part for part in path.split("/") if part] or [""]
    for pattern, words in _PLACES:
        if len(pattern) == len(where) and all(
            one in ("*", part) for one, part in zip(pattern, where, strict=True)
        ):
            left = words.get(name)
            return None if left is scst_words.SEEN else left
    return None
