# SPDX-License-Identifier: MIT
"""
The grammar of scst.conf: words, quotes, comments, and blocks in braces.

A file is a list of statements.  A statement is the words up to the end of the line, or
up to a brace; one that a brace follows has a body of statements.  ``#`` begins a
comment, double quotes and backslashes take the meaning of a character away.  Every word
knows where it stands, so that whoever reads the statements can name file, line and
column of a mistake.  What the words mean is `scstd.management.reading`'s.
"""

from __future__ import annotations

import attrs

from scstd.attributes import ConfigurationError


@attrs.frozen
class Word:
    """
    A word and where it stands; lines and columns count from 1.
    """

    text: str
    file: str
    line: int
    column: int
    quoted: bool = False

    def wrong(self, why: str) -> ConfigurationError:
        """
        Return the error that names this word and its place.
        """
        return ConfigurationError(
            f"{self.file}:{self.line}:{self.column}: {self.text!r}: {why}"
        )


@attrs.frozen
class Statement:
    """
    Words, and the body of a block (None for an attribute).
    """

    words: tuple[Word, ...]
    body: tuple[Statement, ...] | None = None

    @property
    def keyword(self) -> Word:
        """The first word."""
        return self.words[0]


_END = "end of line"


def _words(text: str, file: str) -> list[Word | None]:
    """
    Return the words of a file; None stands for the end of each line.

    :raises ConfigurationError: a quote is never closed.
    """
    found: list[Word | None] = []
    for number, line in enumerate(text.splitlines(), 1):
        at = 0
        while at < len(line):
            character = line[at]
            if character.isspace():
                at += 1
            elif character == "#":
                break
            elif character in "{}":
                found.append(Word(character, file, number, at + 1))
                at += 1
            else:
                word, at = _word(line, at, file, number)
                found.append(word)
        found.append(None)
    return found


def _word(line: str, start: int, file: str, number: int) -> tuple[Word, int]:
    """
    Return the word that starts at *start*, and where it ends.
    """
    letters: list[str] = []
    quote = -1
    quoted = False
    at = start
    while at < len(line):
        character = line[at]
        if character == "\\" and at + 1 < len(line):
            at += 1
            letters.append(line[at])
        elif character == '"':
            quoted = True
            quote = at if quote < 0 else -1
        elif quote < 0 and (character.isspace() or character in "{}#"):
            break
        else:
            letters.append(character)
        at += 1
    if quote >= 0:
        raise Word(line[quote:], file, number, quote + 1).wrong(
            "expected a closing quote before the end of the line"
        )
    return Word("".join(letters), file, number, start + 1, quoted), at


def parse(text: str, file: str) -> tuple[Statement, ...]:
    """
    Return the statements of a file's *text*; *file* is its name for messages.

    :raises ConfigurationError: a brace or a quote is missing or too much.
    """
    words = _words(text, file)
    statements, at = _statements(words, 0, None)
    assert at == len(words)
    return statements


def _brace(word: Word | None, brace: str) -> bool:
    return word is not None and word.text == brace and not word.quoted


def _statements(
    words: list[Word | None], at: int, opened: Word | None
) -> tuple[tuple[Statement, ...], int]:
    """
    Return the statements from *at* to the end of the block that *opened* began.
    """
    found: list[Statement] = []
    current: list[Word] = []
    while at < len(words):
        word = words[at]
        at += 1
        if _brace(word, "{"):
            assert word is not None
            if not current:
                raise word.wrong("expected a keyword before the brace")
            body, at = _statements(words, at, word)
            found.append(Statement(tuple(current), body))
            current = []
            continue
        if word is None or _brace(word, "}"):
            if current and not _opens_later(words, at, word):
                found.append(Statement(tuple(current)))
                current = []
            if word is not None:
                if opened is None:
                    raise word.wrong("expected no closing brace here: no block is open")
                return tuple(found), at
        else:
            current.append(word)
    if opened is not None:
        raise opened.wrong("expected a closing brace for this one before the end")
    return tuple(found), at


def _opens_later(words: list[Word | None], at: int, word: Word | None) -> bool:
    """
    Say whether the next thing after the end of this line is an opening brace.
    """
    if word is not None:
        return False
    while at < len(words) and words[at] is None:
        at += 1
    return at < len(words) and _brace(words[at], "{")
