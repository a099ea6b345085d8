# SPDX-License-Identifier: MIT
"""
Attributes: one row for each thing a person may configure.

A row (name, kind, default, help) is all that the rest of the program knows of an
attribute: parsing, the error for a wrong value, the rendering, the SCST rule that
only what differs from the default is saved, and the reference page all follow from
it.  Device handlers and filters declare their parameters with the same rows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import attrs

T = TypeVar("T")
Row = TypeVar("Row", bound="Attribute[Any]")


class ConfigurationError(ValueError):
    """
    Something a person configured cannot be done; the text is for that person.
    """


def check_blocks(size: int, block_size: int) -> None:
    """
    See that a size, in bytes, is a number of whole blocks.

    :raises ConfigurationError: it is not.
    """
    if size % block_size:
        raise ConfigurationError(f"size {size} is not a multiple of {block_size}")


class ValueKind(Protocol[T]):
    """
    A type of value as a person writes it.

    `parse` raises `ConfigurationError` saying what was expected.  The two are inverse:
    what is rendered is parsed to the same value, or else each reload of a file that was
    written from what runs would change it.
    """

    def parse(self, text: str) -> T:
        """Return the value that *text* spells."""

    def render(self, value: T) -> str:
        """Return the text that parses to *value*."""

    def describe(self) -> str:
        """Say what is expected, as a noun phrase."""


@attrs.frozen
class Text:
    """
    A string of at most *longest* characters.
    """

    longest: int = 4096
    what: str = "a string"

    def parse(self, text: str) -> str:
        """Return *text*, if it is short enough."""
        if len(text) > self.longest:
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"{self.what} of at most {self.longest} characters"


@attrs.frozen
class Integer:
    """
    A whole number from *lowest* to *highest*; decimal, or hex with ``0x``.
    """

    lowest: int = 0
    highest: int = 2**63 - 1

    def parse(self, text: str) -> int:
        """Return the number, checked against the range."""
        try:
            value = int(text, 0)
        except ValueError:
            raise ConfigurationError(f"expected {self.describe()}") from None
        if not self.lowest <= value <= self.highest:
            raise ConfigurationError(f"expected {self.describe()}")
        return value

    def render(self, value: int) -> str:
        """Return the decimal form."""
        return str(value)

    def describe(self) -> str:
        """Say what is expected."""
        return f"a whole number from {self.lowest} to {self.highest}"


@attrs.frozen
class IntegerOrNone(Integer):
    """
    A whole number, where 0 says that there is none.
    """

    def parse(self, text: str) -> int | None:  # type: ignore[override]
        """Return the number, or None."""
        return None if re.fullmatch("0+", text) else super().parse(text)

    def render(self, value: int | None) -> str:
        """Return the decimal form, 0 for None."""
        return str(value or 0)

    def describe(self) -> str:
        """Say what is expected."""
        return f"{super().describe()}, or 0 for none"


@attrs.frozen
class Size:
    """
    A number of bytes, with an optional suffix K, M, G or T (powers of 1024).
    """

    lowest: int = 0
    highest: int = 2**63 - 1

    def parse(self, text: str) -> int:
        """Return the number of bytes, checked against the range."""
        match = re.fullmatch(
            r"0*([0-9]{1,20}|0x[0-9a-fA-F]{1,16})([KMGTkmgt]?)(i?[bB])?", text
        )
        if match is None:
            raise ConfigurationError(f"expected {self.describe()}")
        number = int(match[1], 16 if match[1].startswith("0x") else 10)
        value: int = number << (10 * " KMGT".index(match[2].upper() or " "))
        if not self.lowest <= value <= self.highest:
            raise ConfigurationError(f"expected {self.describe()}")
        return value

    def render(self, value: int) -> str:
        """Return a plain number: of a suffix SCST sees nothing."""
        return str(value)

    def describe(self) -> str:
        """Say what is expected."""
        least = f" from {self.lowest}" if self.lowest else ""
        most = f" to {self.highest}" if self.highest < 2**63 - 1 else ""
        return f"a number of bytes{least}{most} (suffixes K, M, G, T)"


@attrs.frozen
class Flag:
    """
    A boolean: ``1`` or ``0`` as SCST writes it; yes, no, true, false, on, off too.
    """

    def parse(self, text: str) -> bool:
        """Return the boolean."""
        word = text.lower()
        if word in {"1", "yes", "true", "on"}:
            return True
        if word in {"0", "no", "false", "off"}:
            return False
        raise ConfigurationError(f"expected {self.describe()}")

    def render(self, value: bool) -> str:
        """Return ``1`` or ``0``."""
        return "1" if value else "0"

    def describe(self) -> str:
        """Say what is expected."""
        return "0 or 1"


@attrs.frozen
class YesOrNo(Flag):
    """
    A boolean that SCST writes, and reads, as ``Yes`` or ``No``.
    """

    def render(self, value: bool) -> str:
        """Return ``Yes`` or ``No``."""
        return "Yes" if value else "No"

    def describe(self) -> str:
        """Say what is expected."""
        return "Yes or No"


@attrs.frozen
class Seconds:
    """
    A duration in seconds, fractions allowed.
    """

    lowest: float = 0.0
    highest: float = 86400.0

    def parse(self, text: str) -> float:
        """Return the duration, checked against the range."""
        try:
            value = float(text.removesuffix("s"))
        except ValueError:
            raise ConfigurationError(f"expected {self.describe()}") from None
        if not self.lowest <= value <= self.highest:
            raise ConfigurationError(f"expected {self.describe()}")
        return value

    def render(self, value: float) -> str:
        """Return the shortest decimal form of this number, and of no other."""
        short = f"{value:g}"
        return short if float(short) == value else repr(value)

    def describe(self) -> str:
        """Say what is expected."""
        return f"a number of seconds from {self.lowest:g} to {self.highest:g}"


@attrs.frozen
class Choice:
    """
    One of a few words.
    """

    words: tuple[str, ...]

    def parse(self, text: str) -> str:
        """Return the word as declared, whatever the case it was written in."""
        for word in self.words:
            if word.lower() == text.lower():
                return word
        raise ConfigurationError(f"expected {self.describe()}")

    def render(self, value: str) -> str:
        """Return the word."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return "one of " + ", ".join(self.words)


@attrs.frozen
class Numbers:
    """
    One of a few whole numbers.
    """

    numbers: tuple[int, ...]

    def parse(self, text: str) -> int:
        """Return the number; it is written without anything in front of it."""
        for number in self.numbers:
            if text == str(number):
                return number
        raise ConfigurationError(f"expected {self.describe()}")

    def render(self, value: int) -> str:
        """Return the decimal form."""
        return str(value)

    def describe(self) -> str:
        """Say what is expected."""
        return "one of " + ", ".join(map(str, self.numbers))


class Effect(Enum):
    """
    When a changed attribute acts.
    """

    LIVE = "at once"
    LOGIN = "at the next login"
    OPEN = "when the object is created"
    START = "at the next start of the service"


@attrs.frozen
class Attribute(Generic[T]):
    """
    One row: a name, the kind of its value, its default and a line of help.
    """

    name: str
    kind: ValueKind[T]
    default: T | None
    """None: not set."""
    help: str
    required: bool = False
    """It must be given."""
    repeats: bool = False
    """It may be given several times, and its value is a tuple."""
    effect: Effect = Effect.OPEN
    """When another value acts."""
    secret: bool = False
    """It is shown to nobody (`shown`), but written to files."""
    marked: bool | None = None
    """
    Whether its file in the tree is marked as one to be saved, where that does not
    follow from the default.
    """

    @property
    def dynamic(self) -> bool:
        """
        Say whether its values are added and removed, as SCST has it, so that there is
        none to be seen where none is set.
        """
        return self.repeats or self.secret

    def parse(self, text: str) -> Any:
        """
        Return the value that *text* spells: one that a file can have.

        :raises ConfigurationError: there is none.
        """
        if any(letter in text for letter in "\n\r\0"):
            raise ConfigurationError("expected one line")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ConfigurationError("expected UTF-8")
        return self.kind.parse(text)

    def shown(self, value: Any) -> Any:
        """
        Return what people may see of a value: of a secret one its first word.
        """
        if not self.secret or value is None:
            return value
        if self.repeats:
            return tuple(map(self.veiled, value))
        return self.veiled(value)

    def veiled(self, value: Any) -> str:
        """
        Return the text of one value of a secret one, for everybody: its first word.
        """
        return f"{value[0]} ********"

    def quoted(self, text: str) -> str:
        """
        Return what a message may say of the text of a value: of a secret one nothing.
        """
        return "(not shown)" if self.secret else repr(text)


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """
    Return the message for an unknown *word*: it names the known ones, nearest first.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {what} {word!r}{hint}; known: {', '.join(names) or 'none'}"


def find(rows: Sequence[Row], word: str, what: str) -> Row:
    """
    Return the row named *word*.

    :raises ConfigurationError: there is none; the text names those there are.
    """
    for row in rows:
        if row.name == word:
            return row
    raise ConfigurationError(unknown(what, word, (row.name for row in rows)))


def parse_values(
    rows: Sequence[Attribute[Any]],
    given: Iterable[tuple[str, str]],
    what: str = "parameter",
) -> dict[str, Any]:
    """
    Return a value for every row, from (name, text) pairs and the rows' defaults.

    This is where texts become values, for whoever has all of an object's at once; who
    has read them one by one has values for `complete` instead.  From here on values
    travel: nothing parses a text again.

    :raises ConfigurationError: unknown, repeated, missing or wrong; the text names it.
    """

    def value(name: str, text: str) -> Any:
        row = find(rows, name, what)
        try:
            return row.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{what} {name!r}: {row.quoted(text)}: {error}"
            ) from None

    return complete(rows, ((name, value(name, text)) for name, text in given), what)


def complete(
    rows: Sequence[Attribute[Any]],
    given: Iterable[tuple[str, Any]],
    what: str = "parameter",
) -> dict[str, Any]:
    """
    Return a value for every row, from (name, value) pairs and the rows' defaults; an
    attribute that repeats is there once for each of its values.

    :raises ConfigurationError: unknown, repeated or missing; the text names it.
    """
    values: dict[str, Any] = {}
    for name, value in given:
        row = find(rows, name, what)
        if row.repeats:
            values[name] = (*values.get(name, ()), value)
        elif name in values:
            raise ConfigurationError(f"{what} {name!r} is given twice")
        else:
            values[name] = value
    for row in rows:
        if row.name not in values:
            if row.required:
                raise ConfigurationError(
                    f"{what} {row.name!r} is missing: expected {row.kind.describe()}"
                )
            values[row.name] = () if row.repeats else row.default
    return values


def changed_values(
    rows: Sequence[Attribute[Any]], values: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """
    Return (name, text) of what differs from its default: SCST's rule for saving.
    """
    changed: list[tuple[str, str]] = []
    for row in rows:
        value = values.get(row.name, () if row.repeats else row.default)
        if row.repeats:
            changed.extend((row.name, row.kind.render(one)) for one in value)
        elif value is not None and value != row.default:
            changed.append((row.name, row.kind.render(value)))
    return changed
