# SPDX-License-Identifier: MIT
"""
The grammar of scst.conf: words, quotes, comments, and blocks in braces.

A file is a list of statements.  A statement is the words up to the end of the line, or
up to a brace; one that a brace follows has a body of statements.  ``#`` begins a
comment, double quotes and backslashes take the meaning of a character away.  Every word
knows where it stands, so that whoever reads the statements can name file, line and
column of a mistake.  What the words mean is `scstd.management.config.reading`'s.
A byte that is no UTF-8 (a lone surrogate) is a mistake in a word, and nothing in a
comment.

A mistake does not end the reading: `parse` goes on behind it and notes it, so that a
person is told of all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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

    def wrong(self, why: str) -> MistakeError:
        """
        Return the error that names this word and its place.
        """
        return MistakeError(self, why)


class MistakeError(ConfigurationError):
    """
    What is wrong with a word; *place* is its file, line and column.  A *garbled* one
    has bytes in it that are no UTF-8.
    """

    def __init__(self, word: Word, why: str) -> None:
        named = f"{word.text!r}: " if word.text or word.quoted else ""
        super().__init__(f"{word.file}:{word.line}:{word.column}: {named}{why}")
        self.place = word.file, word.line, word.column
        self.garbled = any("\udc80" <= one <= "\udcff" for one in word.text)


def _sorted(mistakes: Iterable[ConfigurationError]) -> list[ConfigurationError]:
    """
    Return mistakes in the order of their files, each in the order of its lines.
    """
    files: dict[str, int] = {}

    def place(error: ConfigurationError) -> tuple[int, int, int]:
        if not isinstance(error, MistakeError):
            return (-1, 0, 0)
        file, line, column = error.place
        return files.setdefault(file, len(files)), line, column

    return sorted(mistakes, key=place)


class Mistakes(ConfigurationError):  # noqa: N818 - it is many
    """
    Everything that is wrong with a file, one line each, in the file's order.
    """

    def __init__(self, mistakes: Iterable[ConfigurationError]) -> None:
        # Of a word with bytes that are no UTF-8 that is said, and nothing else.
        clear = [one for one in mistakes if not getattr(one, "garbled", False)]
        self.all = tuple(_sorted(clear))
        super().__init__("\n".join(map(str, self.all)))


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


_DEEPEST = 20
"""Blocks in blocks: more than anything needs, fewer than Python's stack takes."""


def quoted(text: str) -> str:
    """
    Return the word that is read as *text*, here and by SCST where its grammar has a way
    (`expressible`): in quotes if there is a blank in it.

    SCST's tool sees to comments first, also in quotes, then to backslashes, and to
    quotes and blanks last: so each of them has its backslash.
    """
    escaped = re.sub(r'([\\#"])', r"\\\1", text)
    if text and not any(letter.isspace() or letter in "{}" for letter in text):
        return escaped
    return f'"{escaped}"'


def expressible(text: str) -> bool:
    """
    Say whether SCST's grammar has a way to write *text* as a word: none has a brace in
    it; one with blanks has no quote, and no single backslash at its end (but pairs of a
    backslash and something); one without does not begin with a quote that another one
    closes.
    """
    if any(letter in "{}\n" for letter in text):
        return False
    if any(letter.isspace() for letter in text):
        return re.fullmatch(r'(?:[^"\\]|\\.)*', text) is not None
    return not (text.startswith('"') and '"' in text[1:])


def _words(
    text: str, file: str, mistakes: list[ConfigurationError]
) -> list[Word | None]:
    """
    Return the words of a file; None stands for the end of each line.
    """
    found: list[Word | None] = []
    for number, line in enumerate(text.split("\n"), 1):
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
                word, at = _word(line, at, file, number, mistakes)
                found.append(word)
        found.append(None)
    return found


def _word(
    line: str, start: int, file: str, number: int, mistakes: list[ConfigurationError]
) -> tuple[Word, int]:
    """
    Return the word that starts at *start*, and where it ends.
    """
    letters: list[str] = []
    quote = -1
    was_quoted = False
    at = start
    while at < len(line):
        character = line[at]
        if character == "\\" and at + 1 < len(line):
            at += 1
            letters.append(line[at])
        elif character == '"' and quote < 0 and letters and not _closed(line, at):
            # SCST takes it as it is.
            letters.append(character)
        elif character == '"':
            was_quoted = True
            quote = at if quote < 0 else -1
        elif quote < 0 and (character.isspace() or character in "{}#"):
            break
        else:
            letters.append(character)
        at += 1
    if quote >= 0:
        # The rest of the line may be a secret.
        mistakes.append(
            Word('"', file, number, quote + 1).wrong(
                "expected a closing quote before the end of the line"
            )
        )
    text = "".join(letters)
    for letter in letters:
        if "\udc80" <= letter <= "\udcff":
            byte = ord(letter) - 0xDC00
            found = Word("", file, number, start + 1)
            mistakes.append(
                MistakeError(found, f"expected UTF-8, found the byte {byte:#04x}")
            )
            break
    return Word(text, file, number, start + 1, was_quoted), at


def _closed(line: str, opened: int) -> bool:
    """
    Say whether there is a quote behind another one in a line.
    """
    return re.search(r'(?:[^\\"]|\\.)*"', line[opened + 1 :]) is not None


def parse(
    text: str, file: str, mistakes: list[ConfigurationError] | None = None
) -> tuple[Statement, ...]:
    """
    Return the statements of a file's *text*; *file* is its name for messages.

    What is wrong is appended to *mistakes*, if there is a list for it.

    :raises Mistakes: there is no list, and a brace or a quote is missing or too much.
    """
    noted: list[ConfigurationError] = []
    words = _words(text, file, noted)
    statements = _Parser(words, noted).block(None, 0)
    if mistakes is not None:
        mistakes.extend(noted)
    elif noted:
        raise Mistakes(noted)
    return statements


def _brace(word: Word | None, brace: str) -> bool:
    return word is not None and word.text == brace and not word.quoted


@attrs.define
class _Parser:
    """
    What is left of a file's words.
    """

    words: list[Word | None]
    mistakes: list[ConfigurationError]
    at: int = 0

    def block(  # noqa: C901 - words, braces and ends of lines
        self, opened: Word | None, depth: int
    ) -> tuple[Statement, ...]:
        """
        Return the statements up to the end of the block that *opened* began.
        """
        if opened is not None and depth > _DEEPEST:
            self.mistakes.append(opened.wrong("blocks are not nested as deeply"))
            self.at = len(self.words)
            return ()
        found: list[Statement] = []
        current: list[Word] = []
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word is not None and _brace(word, "{"):
                if not current:
                    self.mistakes.append(
                        word.wrong("expected a keyword before the brace")
                    )
                body = self.block(word, depth + 1)
                if current:
                    found.append(Statement(tuple(current), body))
                current = []
                continue
            if word is not None and not _brace(word, "}"):
                current.append(word)
                continue
            if current and not self._opens_later(word):
                found.append(Statement(tuple(current)))
                current = []
            if word is not None and opened is not None:
                return tuple(found)
            if word is not None:
                self.mistakes.append(
                    word.wrong("expected no closing brace here: no block is open")
                )
        if opened is not None:
            self.mistakes.append(
                opened.wrong("expected a closing brace for this one before the end")
            )
        return tuple(found)

    def _opens_later(self, word: Word | None) -> bool:
        """
        Say whether the next thing after the end of this line is an opening brace.
        """
        if word is not None:
            return False
        at = self.at
        while at < len(self.words) and self.words[at] is None:
            at += 1
        return at < len(self.words) and _brace(self.words[at], "{")
