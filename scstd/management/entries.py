# SPDX-License-Identifier: MIT
"""
What the tree is made of: directories, attribute files, ``mgmt`` files and links.

They are made when somebody looks: nothing here holds state, so nothing can be out of
date.  The rules are SCST's: reading any ``mgmt`` says what can be written to it; the
last line of an attribute is ``[key]`` if its value differs from the default, so that
whoever saves knows what to save; the names of an attribute that can be given several
times end in digits.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import Attribute, ConfigurationError, find, parse_values
from scstd.management.errors import TreeError, absent
from scstd.management.foreign import cut
from scstd.management.saying import warn

KEY = "[key]"
"""The last line of an attribute that has to be saved."""


@attrs.frozen
class File:
    """
    Something to read, to write, or both.

    A *patient* one may take long to be written: other things are changed meanwhile.
    """

    reader: Callable[[], str] | None = None
    writer: Callable[[str], Any] | None = None
    patient: bool = False

    @property
    def readable(self) -> bool:
        """Say whether it can be read."""
        return self.reader is not None

    @property
    def writable(self) -> bool:
        """Say whether it can be written."""
        return self.writer is not None

    def read(self) -> str:
        """
        Return the text, lines ended with a newline.
        """
        if self.reader is None:
            raise TreeError(errno.EACCES, "this can only be written")
        text = self.reader()
        return text if text.endswith("\n") else text + "\n"

    def write(self, text: str) -> Any:
        """
        Do what writing *text* means; return a value or something to await.
        """
        if self.writer is None:
            raise TreeError(errno.EACCES, "this can only be read")
        return self.writer(text.removesuffix("\n"))


@attrs.frozen
class Link:
    """
    Another path, from the root of the tree.
    """

    path: str


@attrs.frozen
class Directory:
    """
    Entries by name: *fixed* ones, then those of *names*, each made by *make*; *spelled*
    is how a name that is asked for is spelled among them.

    *rows* and *values* are there if the directory is an object with attributes.
    """

    fixed: Mapping[str, Entry] = attrs.field(factory=dict)
    names: Callable[[], Iterable[str]] = tuple
    make: Callable[[str], Entry] | None = None
    spelled: Callable[[str], str] = str
    attributes: Attributes | None = None

    def listing(self) -> list[str]:
        """
        Return the names there are.
        """
        own = [] if self.attributes is None else list(self.attributes.files())
        return [*dict.fromkeys((*self.fixed, *own)), *self.names()]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """
        Yield the entries by name: all of what `find` makes one by one.  What is taken
        away meanwhile is left out.
        """
        yield from self.fixed.items()
        if self.attributes is not None:
            own = self.attributes.files()
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
        raise absent("entry", name, self.listing())


Entry = File | Link | Directory


@attrs.frozen
class Attributes:
    """
    An object's attributes as files.

    *rows* say what there is, *values* what it is now, *put* gives one another value.
    """

    rows: Sequence[Attribute[Any]]
    values: Callable[[], Mapping[str, Any]]
    put: Callable[[str, Any], Any] | None = None

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

    def _single(self, row: Attribute[Any]) -> File:
        def read() -> str:
            value = self.values().get(row.name, row.default)
            if value is None:
                return "\n"
            text = row.shown(value) if row.secret else row.kind.render(value)
            return text if value == row.default else f"{text}\n{KEY}"

        def write(text: str) -> Any:
            assert self.put is not None
            return self.put(row.name, parsed(row, text))

        return File(read, write if self.put is not None else None)

    def _repeated(self, row: Attribute[Any], number: int) -> File:
        def given() -> list[Any]:
            return list(self.values().get(row.name, ()))

        def read() -> str:
            values = given()
            if number >= len(values):
                return "\n"
            value = values[number]
            text = row.shown((value,))[0] if row.secret else row.kind.render(value)
            return f"{text}\n{KEY}"

        def write(text: str) -> Any:
            assert self.put is not None
            values = given()
            values[number : number + 1] = [parsed(row, text)] if text else []
            return self.put(row.name, tuple(values))

        return File(read, write if self.put is not None else None)

    def change(self, name: str, texts: Sequence[str]) -> Any:
        """
        Give an attribute that repeats all its values at once, or another one its value;
        no text at all means the default.
        """
        row = find(self.rows, name, "attribute")
        if self.put is None:
            raise TreeError(errno.EACCES, f"{name} can only be read")
        if row.repeats:
            return self.put(name, tuple(parsed(row, text) for text in texts))
        return self.put(name, parsed(row, texts[0]) if texts else row.default)

    def add(self, name: str, text: str) -> Any:
        """
        Add a value to an attribute that repeats.
        """
        row = find(self.rows, name, "attribute")
        if not row.repeats:
            raise TreeError(errno.EINVAL, f"{name} has one value: write it")
        value = parsed(row, text)
        given = self.values().get(name, ())
        if value in given:
            raise TreeError(
                errno.EEXIST, f"{name} has the value {row.quoted(text)} already"
            )
        assert self.put is not None
        return self.put(name, (*given, value))

    def remove(self, name: str, text: str) -> Any:
        """
        Remove a value from an attribute that repeats.
        """
        row = find(self.rows, name, "attribute")
        value = parsed(row, text)
        given = self.values().get(name, ())
        if not row.repeats or value not in given:
            raise TreeError(errno.ENOENT, f"{name} has no value {row.quoted(text)}")
        assert self.put is not None
        return self.put(name, tuple(one for one in given if one != value))


def parsed(row: Attribute[Any], text: str) -> Any:
    """
    Return the value that *text* spells; nothing, and SCST's ``:default:``, are the
    default.
    """
    if text == ":default:" or (not text and not row.repeats):
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


# What is written to mgmt files.


@attrs.frozen
class Verb:
    """
    One thing that can be written to a ``mgmt`` file.

    *arguments* are the names of its words, *call* takes them and then the values of
    *rows* (None: the pairs as they are) as keywords or as a list of pairs.
    """

    name: str
    arguments: tuple[str, ...]
    help: str
    call: Callable[..., Any]
    rows: Sequence[Attribute[Any]] | None = ()
    optional: int = 0
    rest: bool = False

    def usage(self) -> str:
        """
        Return how it is written.
        """
        words = [self.name]
        needed = len(self.arguments) - self.optional
        words += [
            word if at < needed else f"[{word}]"
            for at, word in enumerate(self.arguments)
        ]
        if self.rest:
            words[-1] += " ..."
        if self.rows is None:
            words.append("[attribute=value; ...]")
        words += [f"[{row.name}={row.kind.describe()}]" for row in self.rows or ()]
        return " ".join(words)

    def run(self, words: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Any:
        """
        Do it; return a value or something to await.

        :raises ConfigurationError: too few or too many words, or an unknown parameter.
        """
        needed = len(self.arguments) - self.optional
        if len(words) < needed or (len(words) > len(self.arguments) and not self.rest):
            raise TreeError(errno.EINVAL, f"expected: {self.usage()}")
        if self.rows is None:
            return self.call(*words, pairs)
        return self.call(*words, **parse_values(self.rows, pairs))


@attrs.frozen
class Mgmt(File):
    """
    A ``mgmt`` file: reading it gives help, writing it runs one of the verbs.
    """

    verbs: Sequence[Verb] = ()

    @property
    def readable(self) -> bool:
        """It can."""
        return True

    @property
    def writable(self) -> bool:
        """It can."""
        return True

    def read(self) -> str:
        """Return what can be written."""
        lines = []
        for verb in self.verbs:
            lines += [verb.usage(), f"    {verb.help}"]
        return "\n".join([*lines, ""])

    def write(self, text: str) -> Any:
        """Run what *text* says."""
        words, pairs = split(text.removesuffix("\n"))
        if not words:
            raise TreeError(errno.EINVAL, "expected a verb:\n" + self.read())
        return self.run(words[0], words[1:], pairs)

    def run(
        self, verb: str, words: Sequence[str], pairs: Sequence[tuple[str, str]]
    ) -> Any:
        """
        Run a verb.
        """
        for one in self.verbs:
            if one.name == verb:
                return one.run(words, pairs)
        known = ", ".join(one.name for one in self.verbs)
        raise TreeError(errno.EINVAL, f"unknown verb {verb!r}; known: {known}")


def _tokens(text: str) -> Iterator[str | None]:
    """
    Yield words, and None for semicolons; quotes and backslashes take meanings away.
    """
    word: list[str] = []
    there = quote = False
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            word.append(next(letters, "\\"))
            there = True
        elif letter == '"':
            quote = not quote
            there = True
        elif not quote and (letter.isspace() or letter == ";"):
            if there:
                yield "".join(word)
            word, there = [], False
            if letter == ";":
                yield None
        else:
            word.append(letter)
            there = True
    if quote:
        raise TreeError(errno.EINVAL, "expected a closing quote")
    if there:
        yield "".join(word)


def split(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """
    Return the words and the ``name=value`` pairs of what is written to a mgmt file.

    The first word with an equals sign begins the pairs; semicolons stand between them.
    """
    words: list[str] = []
    pairs: list[tuple[str, str]] = []
    fresh = False
    for said in _tokens(text):
        if said is None:
            fresh = True
            continue
        name, equals, value = said.partition("=")
        if pairs and not (fresh or (equals and name.isidentifier())):
            # A value of several words.
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {said}")
        elif equals or pairs:
            pairs.append((name, value if equals else "1"))
            fresh = False
        else:
            words.append(said)
    return words, pairs


def joined(verb: str, words: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str:
    """
    Return the text that `split` takes apart again.
    """
    said = [_quoted(word) for word in (verb, *words)]
    given = "; ".join(f"{name}={_quoted(value)}" for name, value in pairs)
    return " ".join([*said, given] if given else said)


def _quoted(word: str) -> str:
    if word and not any(letter.isspace() or letter in ';"\\' for letter in word):
        return word
    inside = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inside}"'
