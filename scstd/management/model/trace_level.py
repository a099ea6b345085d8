# SPDX-License-Identifier: MIT
"""
Trace levels as people write them (SCST: trace_level): sets of tokens, a bit each.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from scstd.attributes import ConfigurationError, unknown

TOKENS: Mapping[str, tuple[int, str]] = {
    "debug": (0x0001, ""),
    "function": (0x0002, ""),
    "line": (0x0004, ""),
    "pid": (0x0008, ""),
    "entryexit": (0x0010, ""),
    "buff": (0x0020, ""),
    "mem": (0x0040, ""),
    "sg": (0x0080, ""),
    "out_of_mem": (0x0100, ""),
    "minor": (0x0200, "commands that end with CHECK CONDITION"),
    "mgmt": (0x0400, "task management functions, and how they are answered"),
    "mgmt_dbg": (0x0800, ""),
    "scsi": (0x1000, "every command"),
    "special": (0x2000, "every event"),
    "flow_control": (0x4000, "commands refused with BUSY or TASK SET FULL"),
    "pr": (0x8000, "reservation commands, and who meets a RESERVATION CONFLICT"),
    "retry": (0x20000, "commands that an initiator has to send again"),
}
"""Each token's bit, and what it puts into the log; without that it does nothing."""

ALL = sum(bit for bit, _help in TOKENS.values())

DEFAULT = TOKENS["mgmt"][0]


def _token(word: str) -> int:
    if word.lower() not in TOKENS:
        raise ConfigurationError(unknown("token", word, TOKENS))
    return TOKENS[word.lower()][0]


@attrs.frozen
class TraceLevel:
    """
    A set of tokens, as a number.
    """

    def parse(self, text: str) -> int:
        """Return the number of ``all``, ``none``, ``default``, ``value N``, tokens."""
        words = text.replace("|", " ").replace(",", " ").split()
        if [word.lower() for word in words[:1]] == ["value"] and len(words) == 2:
            words = words[1:]
        if len(words) == 1:
            known = {"all": ALL, "none": 0, "default": DEFAULT}
            if words[0].lower() in known:
                return known[words[0].lower()]
            if words[0][0].isdigit():
                try:
                    return int(words[0], 0) & ALL
                except ValueError:
                    raise ConfigurationError(f"expected {self.describe()}") from None
        if not words:
            raise ConfigurationError(f"expected {self.describe()}")
        level = 0
        for word in words:
            level |= _token(word)
        return level

    def change(self, level: int, text: str) -> int:
        """
        Return the level that a text makes of *level*: ``add TOKEN`` and ``del TOKEN``
        besides what `parse` takes.
        """
        verb, _blank, word = text.strip().partition(" ")
        if verb.lower() == "add":
            return level | _token(word.strip())
        if verb.lower() == "del":
            return level & ~_token(word.strip())
        if text.strip() in {"", ":default:"}:
            return DEFAULT
        return self.parse(text)

    def render(self, value: int) -> str:
        """Return the tokens."""
        if value == ALL:
            return "all"
        names = [name for name, (bit, _help) in TOKENS.items() if value & bit]
        return " | ".join(names) or "none"

    def describe(self) -> str:
        """Say what is expected."""
        return "all, none, default, value N, or tokens: " + ", ".join(TOKENS)
