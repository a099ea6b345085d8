# SPDX-License-Identifier: MIT
"""
Kinds of value that only attributes of ours have, beside those of `scstd.attributes`:
names of devices (SPC-5), what SCST allows and we do not, levels of the log, programs.
"""

from __future__ import annotations

import re

import attrs
from twisted.logger import LogLevel

from scstd.attributes import ConfigurationError, Flag

LEVELS = {level.name: level for level in LogLevel.iterconstants()}
"""The levels of the log by name."""


@attrs.frozen
class Hex:
    """
    An identifier in hex digits, of one of these lengths in bytes.
    """

    lengths: tuple[int, ...]

    def parse(self, text: str) -> str:
        """Return the digits."""
        digits = text.lower().removeprefix("0x").replace(":", "")
        if digits and (
            re.fullmatch(r"[0-9a-f]+", digits) is None
            or len(digits) not in {2 * length for length in self.lengths}
        ):
            raise ConfigurationError(f"expected {self.describe()}")
        return digits

    def render(self, value: str) -> str:
        """Return the digits."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"{' or '.join(map(str, self.lengths))} bytes in hex digits"


@attrs.frozen
class NAA(Hex):
    """
    An NAA designator: its first digit says which kind, and so how long it is (SPC-5,
    NAA designator format).
    """

    lengths: tuple[int, ...] = (8, 16)

    def parse(self, text: str) -> str:
        """Return the digits."""
        digits = super().parse(text)
        if digits and digits[0] not in ("235" if len(digits) == 16 else "6"):
            raise ConfigurationError(f"expected {self.describe()}")
        return digits

    def describe(self) -> str:
        """Say what is expected."""
        return (
            "8 bytes in hex digits that begin with 2, 3 or 5, or 16 that begin with 6"
        )


@attrs.frozen
class SCSIName:
    """
    A SCSI name string (SPC-5, SCSI name string designator format).
    """

    def parse(self, text: str) -> str:
        """Return the name."""
        if text and (
            re.fullmatch(r"(eui|naa)\.[0-9A-Fa-f]{16,32}|iqn\.\S+", text) is None
            or len(text.encode()) > 255
        ):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return "a name that begins with iqn., eui. or naa., of at most 255 bytes"


@attrs.frozen
class Ascii:
    """
    Printable ASCII of at most *longest* characters (SPC-5 section 4.3.1).
    """

    longest: int

    def parse(self, text: str) -> str:
        """Return *text*."""
        if len(text) > self.longest or not (text.isascii() and text.isprintable()):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"at most {self.longest} printable ASCII characters"


@attrs.frozen
class Never(Flag):
    """
    A flag of SCST that nobody may set here, for data would be at risk: *why*.
    """

    why: str

    def parse(self, text: str) -> bool:
        """Return False."""
        if super().parse(text):
            raise ConfigurationError(self.why)
        return False

    def describe(self) -> str:
        """Say what is expected."""
        return "0"


@attrs.frozen
class LogLevels:
    """
    ``NAMESPACE=LEVEL,...``; a level alone is that of all the others.
    """

    def parse(self, text: str) -> tuple[tuple[str, str], ...]:
        """Return namespaces ('' for all the others) and levels."""
        found: dict[str, str] = {}
        for word in text.replace(",", " ").split():
            name, equals, level = word.rpartition("=")
            if level.lower() not in LEVELS or (equals and not name):
                raise ConfigurationError(f"{word!r}: expected {self.describe()}")
            found["" if name == "default" else name] = level.lower()
        return tuple(found.items())

    def render(self, value: tuple[tuple[str, str], ...]) -> str:
        """Return the text."""
        return ",".join(f"{name or 'default'}={level}" for name, level in value)

    def describe(self) -> str:
        """Say what is expected."""
        return f"NAMESPACE=LEVEL,... or LEVEL; levels are {', '.join(LEVELS)}"


@attrs.frozen
class ProgramPath:
    """
    The path of a program, or none.
    """

    def parse(self, text: str) -> str:
        """Return the path; it need not be there yet."""
        if text and not text.startswith("/"):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return the path."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return "the whole path of a program, or nothing"
