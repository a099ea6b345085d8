# SPDX-License-Identifier: MIT
"""
The commands of the control socket (doc/control.md), for both of its ends.

The tools import no more than this of the service: they start in half the time.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.protocols.amp import (
    AmpBox,
    AmpList,
    Argument,
    Boolean,
    Command,
    Integer,
    ListOf,
    RemoteAmpError,
    Unicode,
)

from scstd.management.errors import number_of

PIECE = 16000
"""Characters in one piece of an answer: at most four bytes each in UTF-8."""


class FailedError(Exception):
    """
    A command was refused: an errno and a text, which travel as ``NAME text``.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        name, _blank, self.text = said.partition(" ")
        found = getattr(errno, name, errno.EINVAL)
        self.errno: int = found if isinstance(found, int) else errno.EINVAL

    @classmethod
    def of(cls, error: BaseException) -> FailedError:
        """
        Return what to send for an error.
        """
        name = errno.errorcode.get(number_of(error), "EINVAL")
        return cls(f"{name} {error}"[:PIECE])


_TEXT: list[tuple[bytes, Argument]] = [(b"text", Unicode()), (b"more", Integer())]

_SAID: list[tuple[bytes, Argument]] = [(b"warnings", Unicode(optional=True))]
"""What is to be said of what was done, a warning a line."""


class _Texts(ListOf):
    """
    A list of strings; Twisted's leaves out what is cut off.
    """

    def __init__(self, *, optional: bool = False) -> None:
        super().__init__(Unicode(), optional=optional)

    def fromString(self, inString: bytes) -> list[Any]:
        """Return the strings."""
        found: list[Any] = super().fromString(inString)
        if self.toString(found) != inString:
            raise ValueError("cut off")
        return found


class _Pairs(AmpList):
    """
    A list of names and values; Twisted's leaves out what is cut off.
    """

    def __init__(self) -> None:
        super().__init__([(b"name", Unicode()), (b"value", Unicode())])

    def fromStringProto(self, inString: bytes, proto: Any) -> list[Any]:
        """Return the pairs."""
        found: list[Any] = super().fromStringProto(inString, proto)
        if len(self.toStringProto(found, proto)) != len(inString):
            raise ValueError("cut off")
        return found


_EXPECTED = {
    Unicode: "a string in UTF-8",
    Integer: "a whole number",
    Boolean: "True or False",
    _Texts: "a list of strings in UTF-8",
    _Pairs: "a list of boxes, each with a name and a value",
}


class _Command(Command):
    errors = {FailedError: b"FAILED"}  # noqa: RUF012 - as AMP has it

    @classmethod
    def parseArguments(cls, box: AmpBox, protocol: Any) -> dict[str, Any]:
        """
        Return the arguments by name.

        :raises RemoteAmpError: one is missing, or is not what it should be: this is
            what the client is told.
        """
        strings = box.copy()
        found: dict[str, Any] = {}
        for name, kind in cls.arguments:
            try:
                kind.fromBox(name, strings, found, protocol)
            except Exception as error:  # noqa: PERF203 - each is named
                raise RemoteAmpError(
                    b"FAILED",
                    f"EINVAL argument {name.decode()!r} of {cls.__name__}:"
                    f" expected {_EXPECTED[type(kind)]}",
                ) from error
        return found


class More(_Command):
    """The next piece of an answer."""

    arguments = [(b"more", Integer())]  # noqa: RUF012
    response = _TEXT


class Read(_Command):
    """What a file of the tree says."""

    arguments = [(b"path", Unicode())]  # noqa: RUF012
    response = _TEXT


class List(_Command):
    """The names in a directory, as a JSON array."""

    arguments = [(b"path", Unicode())]  # noqa: RUF012
    response = _TEXT


class Dump(_Command):
    """
    A directory and what is below it as a JSON object: of files what they say, of links
    where they lead, of directories deeper than *depth* nothing.  With *only* of files
    and links those with these names: of many objects a few attributes.
    """

    arguments = [  # noqa: RUF012
        (b"path", Unicode()),
        (b"depth", Integer()),
        (b"only", _Texts(optional=True)),
    ]
    response = _TEXT


class Write(_Command):
    """Write to a file."""

    arguments = [(b"path", Unicode()), (b"text", Unicode())]  # noqa: RUF012
    response = _SAID


class Manage(_Command):
    """Run a verb of a directory's ``mgmt`` file, with its words and parameters."""

    arguments = [  # noqa: RUF012
        (b"path", Unicode()),
        (b"verb", Unicode()),
        (b"words", _Texts()),
        (b"pairs", _Pairs()),
    ]
    response = _SAID


class Check(_Command):
    """
    See what is wrong with a configuration file: if anything, it fails with all of it.
    The answer is what would be left out of it, a warning a line.
    """

    arguments = [(b"path", Unicode())]  # noqa: RUF012
    response = _TEXT


class Apply(_Command):
    """
    Apply a configuration file, ("" for the service's own); *keep* takes nothing away,
    *dry* only says what would be done; with *keep_going* devices that cannot be opened
    are missing.  The answer is a step a line.
    """

    arguments = [  # noqa: RUF012
        (b"path", Unicode()),
        (b"keep", Boolean()),
        (b"dry", Boolean()),
        (b"keep_going", Boolean(optional=True)),
    ]
    response = [*_TEXT, *_SAID]  # noqa: RUF012


class Save(_Command):
    """Write what is configured to a file ("" for the service's own)."""

    arguments = [(b"path", Unicode())]  # noqa: RUF012
    response = [(b"path", Unicode()), *_SAID]  # noqa: RUF012


class Clear(_Command):
    """Take everything away."""

    response = _TEXT


class Subscribe(_Command):
    """
    Hear of events from now on: those of these names and patterns, or with none all.
    Again, it takes the place of what was asked for before.
    """

    arguments = [(b"names", _Texts())]  # noqa: RUF012


class Events(_Command):
    """
    The events since the last one, as soon as there is one: a JSON object, *events* in
    their order, and *lost*, how many there were after them for which there was no room.
    """

    response = _TEXT
