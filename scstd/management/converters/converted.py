# SPDX-License-Identifier: MIT
"""
What files of the first iSCSI-SCST, or of the iSCSI Enterprise Target, say, and today's
scst.conf that is made of it.

Each thing knows the word of the old file that it comes from.  So the file that is made
is read again, and what is wrong with it is told by the old file's lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from scstd.attributes import Attribute, ConfigurationError
from scstd.management.config.reading import read_and_warn
from scstd.management.grammar import scst_dialect
from scstd.management.grammar.scstconf import MistakeError, Mistakes, Word, quoted

DRIVER = "iscsi"
"""The target driver that all of these files are about."""

Pairs = list[tuple[Word, str, str]]
"""Attributes: where each comes from, its name and its value."""


@attrs.define
class Lun:
    """
    An entry of a LUN map.
    """

    word: Word
    device: str
    read_only: bool = False


@attrs.define
class Target:
    """
    A target: its attributes, its LUNs.  A *guarded* one is not to be there for who has
    no account.
    """

    word: Word
    attributes: Pairs = attrs.field(factory=list)
    luns: dict[int, Lun] = attrs.field(factory=dict)
    guarded: bool = False

    @property
    def enabled(self) -> bool:
        """Whether it can let anybody in."""
        users = [name for _word, name, _value in self.attributes]
        return not self.guarded or "IncomingUser" in users


@attrs.define
class Group:
    """
    A group of initiators of the old scst.conf.
    """

    word: Word
    names: list[Word] = attrs.field(factory=list)
    luns: dict[int, Lun] = attrs.field(factory=dict)


@attrs.define
class Device:
    """
    A device and its attributes.
    """

    word: Word
    handler: str
    attributes: Pairs = attrs.field(factory=list)


@attrs.define
class Converted:
    """
    Collects what files say; `warnings` has what was left out or is otherwise now.
    """

    devices: dict[str, Device] = attrs.field(factory=dict)
    driver: Pairs = attrs.field(factory=list)
    targets: dict[str, Target] = attrs.field(factory=dict)
    groups: dict[str, Group] = attrs.field(factory=dict)
    mistakes: list[ConfigurationError] = attrs.field(factory=list)
    _said: list[MistakeError] = attrs.field(factory=list)
    _lines: list[tuple[str, Word | None]] = attrs.field(factory=list)

    def warn(self, word: Word, why: str) -> None:
        """
        Say something of a word.
        """
        self._said.append(word.wrong(why))

    @property
    def warnings(self) -> list[str]:
        """What was said, in the files' order."""
        return [str(one) for one in Mistakes(self._said).all]

    def put(self, where: Pairs, word: Word, row: Attribute[object], text: str) -> None:
        """
        Add an attribute, cut to its limit; leave out what it cannot be.
        """
        value, why = scst_dialect.cut(row, text)
        if why:
            self.warn(word, why)
        try:
            row.parse(value)
        except ConfigurationError as error:
            self.warn(word, f"{row.quoted(text)}: {error}: left out")
            return
        where.append((word, row.name, value))

    # What comes out.

    def text(self) -> str:
        """
        Return today's scst.conf.

        :raises Mistakes: there were some, or what comes out has some.
        """
        if self.mistakes:
            raise Mistakes(self.mistakes)
        self._lines = list(self._written())
        text = "".join(f"{line}\n" for line, _word in self._lines)
        try:
            _found, warnings = read_and_warn(text, "")
        except Mistakes as error:
            raise Mistakes(map(self._from, error.all)) from None
        for one in warnings:
            place = self._from(one)
            told = {said.place for said in self._said}
            if isinstance(place, MistakeError) and place.place not in told:
                self._said.append(place)
        return text

    def _from(self, error: ConfigurationError | str) -> ConfigurationError:
        """
        Return what is wrong with a line of the new file, by that of the old one.
        """
        line, why = 0, str(error)
        _file, number, *rest = why.split(":", 3)
        if number.isdigit():
            line, why = int(number), rest[-1].strip()
        for _text, word in reversed(self._lines[:line]):
            if word is not None:
                return word.wrong(why)
        return ConfigurationError(why)

    def _written(self) -> Iterator[tuple[str, Word | None]]:
        handlers = dict.fromkeys(one.handler for one in self.devices.values())
        for handler in handlers:
            yield f"HANDLER {quoted(handler)} {{", None
            for name, device in self.devices.items():
                if device.handler == handler:
                    yield f"    DEVICE {quoted(name)} {{", device.word
                    yield from _pairs(device.attributes, "        ")
                    yield "    }", None
            yield "}", None
        yield f"TARGET_DRIVER {DRIVER} {{", None
        yield "    enabled 1", None
        yield from _pairs(self.driver, "    ")
        for name, target in self.targets.items():
            yield f"    TARGET {quoted(name)} {{", target.word
            yield f"        enabled {int(target.enabled)}", None
            yield from _pairs(target.attributes, "        ")
            own = self.groups.get(f"Default_{name}") or self.groups.get("Default")
            yield from _luns(target.luns or (own.luns if own else {}), "        ")
            yield from self._groups()
            yield "    }", None
        yield "}", None

    def _groups(self) -> Iterator[tuple[str, Word | None]]:
        for name, group in self.groups.items():
            if name == "Default" or name.startswith("Default_"):
                continue
            yield f"        GROUP {quoted(name)} {{", group.word
            yield from _luns(group.luns, "            ")
            for word in group.names:
                yield f"            INITIATOR {quoted(word.text)}", word
            yield "        }", None


def _pairs(pairs: Pairs, indent: str) -> Iterator[tuple[str, Word | None]]:
    for word, name, value in pairs:
        yield f"{indent}{name} {quoted(value)}", word


def _luns(luns: dict[int, Lun], indent: str) -> Iterator[tuple[str, Word | None]]:
    for number, lun in sorted(luns.items()):
        body = " {" if lun.read_only else ""
        yield f"{indent}LUN {number} {quoted(lun.device)}{body}", lun.word
        if lun.read_only:
            yield f"{indent}    read_only 1", lun.word
            yield f"{indent}}}", None
