# SPDX-License-Identifier: MIT
"""
What the tree is made of: directories, attribute files and links (`mgmt` has the rest).

They are made when somebody looks: nothing here holds state, so nothing can be out of
date.  The rules are SCST's: reading any ``mgmt`` says what can be written to it; the
last line of an attribute is ``[key]`` if its value differs from the default, so that
whoever saves knows what to save (`Attribute.marked` has the exceptions); the names of
an attribute that can be given several times end in digits, and a value that is added
and removed has no file in a listing before there is one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from scstd.attributes import Attribute, ConfigurationError, find
from scstd.management.errors import TreeError, absent
from scstd.management.grammar.scst_dialect import cut
from scstd.management.model.warnings import warn

KEY = "[key]"
"""The last line of an attribute that has to be saved."""

DEFAULT = ":default:"
"""What SCST has for an attribute to have its default again."""


@attrs.frozen
class File:
    """
    Something to read, to write, or both.
    """

    reader: Callable[[], str] | None = None
    writer: Callable[[str], Any] | None = None
    patient: bool = False
    """It may take long to be written: other things are changed meanwhile."""
    bare: Callable[[], str] | None = None
    """What it shows of a secret, only to its owner."""
    settled: bool = False
    """Its writer says why it is not to be written."""

    @property
    def readable(self) -> bool:
        """Say whether it can be read."""
        return self.reader is not None

    @property
    def writable(self) -> bool:
        """Say whether it can be written."""
        return self.writer is not None and not self.settled

    @property
    def private(self) -> bool:
        """Say whether it is its owner's alone: there is a secret in it."""
        return self.bare is not None

    def read(self, *, bare: bool = False) -> str:
        """
        Return the text, lines ended with a newline; with its secret if it is to be
        *bare*.
        """
        reader = self.bare if bare and self.bare is not None else self.reader
        if reader is None:
            raise TreeError(errno.EACCES, "this can only be written")
        text = reader()
        return text if text.endswith("\n") else text + "\n"

    def write(self, text: str) -> Any:
        """
        Do what writing *text* means; return a value or something to await.
        """
        if self.writer is None:
            raise TreeError(errno.EACCES, "this can only be read")
        return self.writer(text.removesuffix("\n"))


def text_file(call: Callable[[], object]) -> File:
    """
    Return a file to be read: what *call* returns.
    """
    return File(lambda: str(call()))


@attrs.frozen
class Link:
    """
    Another path, from the root of the tree.
    """

    path: str


@attrs.frozen
class Directory:
    """
    Entries by name: the *fixed* ones, then those of *names*.
    """

    fixed: Mapping[str, Entry] = attrs.field(factory=dict)
    names: Callable[[], Iterable[str]] = tuple
    make: Callable[[str], Entry] | None = None
    """Makes the entry of one of *names*."""
    spelled: Callable[[str], str] = str
    """How a name that is asked for is spelled among them."""
    attributes: Attributes | None = None
    """What the directory has, if it is an object with attributes."""
    missing: Callable[[str], str] = lambda _name: ""
    """Why one is not there, if there is more to say."""

    def listing(self) -> list[str]:
        """
        Return the names there are.
        """
        own = () if self.attributes is None else self.attributes.listed()
        return [*dict.fromkeys((*self.fixed, *own)), *self.names()]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """
        Yield the entries by name: all of what `find` makes one by one.  What is taken
        away meanwhile is left out.
        """
        yield from self.fixed.items()
        if self.attributes is not None:
            own = self.attributes.listed()
            yield from ((name, own[name]) for name in own if name not in self.fixed)
        if self.make is not None:
            for name in list(self.names()):
                try:
                    entry = self.make(name)
                except (LookupError, ConfigurationError):
                    continue
                yield name, entry

    def find(self, name: str) -> Entry:
        """
        Return an entry.

        :raises TreeError: there is none (ENOENT).
        """
        if name in self.fixed:
            return self.fixed[name]
        if self.attributes is not None:
            found = self.attributes.files().get(name)
            if found is not None:
                return found
        spelled = self.spelled(name)
        if self.make is not None and spelled in self.names():
            return self.make(spelled)
        why = self.missing(name)
        if why:
            raise TreeError(errno.ENOENT, why)
        raise absent("entry", name, self.listing())


Entry = File | Link | Directory


@attrs.frozen
class Attributes:
    """
    An object's attributes as files.
    """

    rows: Sequence[Attribute[Any]]
    """What there is."""
    values: Callable[[], Mapping[str, Any]]
    """What it is now."""
    put: Callable[[str, Any], Any] | None = None
    """Gives one another value."""
    settled: Callable[[Attribute[Any]], bool] = lambda _row: False
    """Which ones it refuses to."""

    def files(self) -> dict[str, File]:
        """
        Return a file for each value; an attribute that repeats has one for each, and an
        empty one to add the first.
        """
        found: dict[str, File] = {}
        values = self.values()
        for row in self.rows:
            if row.repeats:
                given = values.get(row.name, ())
                for number in range(max(1, len(given))):
                    name = f"{row.name}{number or ''}"
                    found[name] = self._repeated(row, number)
            else:
                found[row.name] = self._single(row)
        return found

    def listed(self) -> dict[str, File]:
        """
        Return the files that are seen: of what is added and removed those there are.
        """
        values = self.values()
        absent = {
            row.name for row in self.rows if row.dynamic and not values.get(row.name)
        }
        return {name: one for name, one in self.files().items() if name not in absent}

    def _single(self, row: Attribute[Any]) -> File:
        def read(said: Callable[[Any], str]) -> str:
            value = self.values().get(row.name, row.default)
            if value is None:
                return "\n"
            marked = value != row.default if row.marked is None else row.marked
            return f"{said(value)}\n{KEY}" if marked else said(value)

        return self._file(row, read, lambda text: self._put(row, parsed(row, text)))

    def _repeated(self, row: Attribute[Any], number: int) -> File:
        def given() -> list[Any]:
            return list(self.values().get(row.name, ()))

        def read(said: Callable[[Any], str]) -> str:
            values = given()
            return f"{said(values[number])}\n{KEY}" if number < len(values) else "\n"

        def write(text: str) -> Any:
            values = given()
            gone = text in {"", DEFAULT}
            values[number : number + 1] = [] if gone else [parsed(row, text)]
            return self._put(row, tuple(values))

        return self._file(row, read, write)

    def _file(
        self,
        row: Attribute[Any],
        read: Callable[[Callable[[Any], str]], str],
        write: Callable[[str], Any],
    ) -> File:
        """
        Return a file of which *read* makes the text, told how to say a value.
        """
        bare = partial(read, row.kind.render)
        return File(
            partial(read, row.veiled) if row.secret else bare,
            write if self.put is not None else None,
            bare=bare if row.secret else None,
            settled=self.settled(row),
        )

    def _put(self, row: Attribute[Any], value: Any) -> Any:
        if self.put is None:
            raise TreeError(errno.EACCES, f"{row.name} can only be read")
        return self.put(row.name, value)

    def set_value(self, name: str, value: Any) -> Any:
        """
        Give an attribute another value, that of one that repeats all of its values.
        """
        return self._put(find(self.rows, name, "attribute"), value)

    def change(self, name: str, texts: Sequence[str]) -> Any:
        """
        Give an attribute that repeats all its values at once, or another one its value;
        no text at all means the default.
        """
        row = find(self.rows, name, "attribute")
        if row.repeats:
            given = () if tuple(texts) == (DEFAULT,) else texts
            return self._put(row, tuple(parsed(row, text) for text in given))
        return self._put(row, parsed(row, texts[0]) if texts else row.default)

    def _dynamic(self, name: str) -> Attribute[Any]:
        """
        Return the row of something to add to or to remove from: digits behind its name
        say which of its files is meant, and mean nothing here.
        """
        names = {row.name for row in self.rows}
        bare = name if name in names else name.rstrip("0123456789")
        row = find(self.rows, bare if bare in names else name, "attribute")
        if not row.dynamic:
            raise TreeError(errno.EINVAL, f"{name} has one value: write it")
        return row

    def add(self, name: str, text: str) -> Any:
        """
        Add a value to an attribute that repeats; one that does not has it instead of
        what it had, as in SCST.
        """
        row = self._dynamic(name)
        value = parsed(row, text)
        if not row.repeats:
            return self._put(row, value)
        given = self.values().get(row.name, ())
        if value in given:
            raise TreeError(
                errno.EEXIST, f"{name} has the value {row.quoted(text)} already"
            )
        return self._put(row, (*given, value))

    def remove(self, name: str, text: str) -> Any:
        """
        Remove a value from an attribute that was added; of a secret one the name is
        enough.
        """
        row = self._dynamic(name)
        found = self.values().get(row.name)
        given = found or () if row.repeats else () if found is None else (found,)
        if row.secret and len(text.split()) == 1:
            gone = [one for one in given if one[0] == text.strip()]
        else:
            value = parsed(row, text)
            gone = [one for one in given if one == value]
        if not gone:
            raise TreeError(errno.ENOENT, f"{name} has no value {row.quoted(text)}")
        left = tuple(one for one in given if one not in gone)
        return self._put(row, left if row.repeats else row.default)


def parsed(row: Attribute[Any], text: str) -> Any:
    """
    Return the value that *text* spells.  SCST's ``:default:`` is the default, and so is
    nothing, where that is what the default says: "not set".
    """
    if row.repeats and text == DEFAULT:
        raise TreeError(errno.EINVAL, f"{row.name}: {text} is no value to add")
    blank = not text and not row.repeats and row.default is None
    if blank or text == DEFAULT:
        if row.required:
            raise TreeError(errno.EINVAL, f"{row.name}: expected {row.kind.describe()}")
        return row.default
    try:
        text, why = cut(row, text)
        if why:
            warn(f"{row.name} {text}: {why}")
        return row.parse(text)
    except ConfigurationError as error:
        raise TreeError(
            errno.EINVAL, f"{row.name}: {row.quoted(text)}: {error}"
        ) from None
