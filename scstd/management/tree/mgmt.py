# SPDX-License-Identifier: MIT
"""
``mgmt`` files: what is written to them, and what reading them says.

A line has a verb, words, and pairs ``name=value`` with semicolons between them.
Reading one gives a line of usage and a line of help for each verb; SCST's own tool
looks in it for the names that it may give along (`Mgmt.available`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import Attribute, parse_values
from scstd.management.errors import TreeError
from scstd.management.grammar import scst_dialect
from scstd.management.grammar.scst_words import Left
from scstd.management.model.warnings import warn
from scstd.management.tree.nodes import File

PARAMETERS = "parameters"
OF_DRIVER, OF_TARGET = "target driver attributes", "target attributes"
"""What names are of that a ``mgmt`` file says are available: SCST's words."""


def without_scst(
    which: str,
    words: Mapping[str, Left],
    rows: Sequence[Attribute[Any]],
    given: Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    """
    Return what of *given* is not SCST's alone; warn of the rest.
    """
    kept, warnings = scst_dialect.accepted(words, rows, given)
    for warning in warnings:
        warn(f"{which}: {warning}")
    return kept


@attrs.frozen
class Verb:
    """
    One thing that can be written to a ``mgmt`` file.
    """

    name: str
    arguments: tuple[str, ...]
    """The names of its words."""
    help: str
    call: Callable[..., Any]
    """Takes them, and then the values of *rows* as keywords, or as a list of pairs."""
    rows: Sequence[Attribute[Any]] | None = ()
    """What its pairs may be; None: *call* takes the pairs as they are."""
    optional: int = 0
    rest: bool = False
    raw: bool = False
    """The last word is all that is left of the text."""
    aliases: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """
        Return the words for it: SCST takes some by two.
        """
        return (self.name, *self.aliases)

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

    def take(self, text: str) -> tuple[list[str], list[tuple[str, str]]]:
        """
        Return the words and pairs behind the verb.

        SCST does not know quotes there: what is left for the last word of a *raw* one
        is it as it stands, spaces and semicolons too, unless it is one quoted word.
        """
        if not self.raw:
            words, pairs = split(text)
            return words[1:], pairs
        words = text.split(None, len(self.arguments))[1:]
        if len(words) == len(self.arguments):
            words[-1] = _raw(words[-1].rstrip())
        return words, []

    def run(self, words: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Any:
        """
        Do it; return a value or something to await.

        :raises ConfigurationError: too few or too many words, or an unknown parameter.
        """
        values = self.check(words, pairs)
        if self.rows is None:
            return self.call(*words, pairs)
        return self.call(*words, **values)

    def check(
        self, words: Sequence[str], pairs: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        """
        Return the values of *rows*.

        :raises ConfigurationError: too few or too many words, or an unknown parameter.
        """
        needed = len(self.arguments) - self.optional
        if len(words) < needed or (len(words) > len(self.arguments) and not self.rest):
            raise TreeError(errno.EINVAL, f"expected: {self.usage()}")
        return {} if self.rows is None else parse_values(self.rows, pairs)


@attrs.frozen
class Mgmt(File):
    """
    A ``mgmt`` file: reading it gives help, writing it runs one of the verbs.

    *available* has the names, by what they are names of, that SCST's tool looks for in
    the help: it gives a device, a LUN, ... at once only what stands there.
    """

    verbs: Sequence[Verb] = ()
    available: Mapping[str, Sequence[str]] = attrs.field(factory=dict)

    @property
    def readable(self) -> bool:
        """It can."""
        return True

    @property
    def writable(self) -> bool:
        """It can."""
        return True

    def read(self, *, bare: bool = False) -> str:  # noqa: ARG002 - there is no secret
        """Return what can be written."""
        lines = []
        for verb in self.verbs:
            lines += [verb.usage(), f"    {verb.help}"]
        if self.available:
            lines.append("")
        for what, names in self.available.items():
            lines.append(f"The following {what} available: {', '.join(names)}")
        return "\n".join([*lines, ""])

    def write(self, text: str) -> Any:
        """Run what *text* says."""
        verb, words, pairs = self.taken(text)
        return verb.run(words, pairs)

    def taken(self, text: str) -> tuple[Verb, list[str], list[tuple[str, str]]]:
        """
        Return the verb, words and pairs of a text.

        :raises TreeError: there is no such verb, or a quote is not closed.
        """
        said = text.removesuffix("\n")
        name = next(iter(said.split(None, 1)), "")
        if not name:
            raise TreeError(errno.EINVAL, "expected a verb:\n" + self.read())
        found = self.verb(name)
        return found, *found.take(said)

    def run(
        self, verb: str, words: Sequence[str], pairs: Sequence[tuple[str, str]]
    ) -> Any:
        """
        Run a verb.
        """
        return self.verb(verb).run(words, pairs)

    def verb(self, name: str) -> Verb:
        """
        Return a verb.

        :raises TreeError: there is none of this name.
        """
        for one in self.verbs:
            if name.lower() in one.names():
                return one
        known = ", ".join(one.name for one in self.verbs)
        raise TreeError(errno.EINVAL, f"unknown verb {name!r}; known: {known}")


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


def _raw(text: str) -> str:
    """
    Return what *text* says if it is one quoted word, else *text*.
    """
    if not text.startswith('"'):
        return text
    words = list(_tokens(text))
    return words[0] if len(words) == 1 and words[0] is not None else text


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
