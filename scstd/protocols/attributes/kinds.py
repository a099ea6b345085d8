# SPDX-License-Identifier: MIT
"""
Kinds of values that the attributes of the driver iscsi have, as SCST spells them.
"""

from __future__ import annotations

import re

import attrs

from scstd.attributes import ConfigurationError
from scstd.protocols.engine.access_control import Redirection
from scstd.protocols.wire.chap import NAMES
from scstd.protocols.wire.isns import MAX_ENTITY_NAME_LENGTH, SERVERS_NAMES
from scstd.protocols.wire.names import folded

SHORTEST_SECRET = 12
"""Bytes that a secret must have at least (RFC 7143 section 9.2.1 asks for 96 bits)."""


@attrs.frozen
class Account:
    """
    A user's name and a secret.
    """

    def parse(self, text: str) -> tuple[str, str]:
        """Return the two."""
        words = text.split()
        if len(words) != 2 or len(words[0]) > 255 or len(words[1]) > 255:
            raise ConfigurationError(f"expected {self.describe()}")
        name, secret = words
        if len(secret.encode()) < SHORTEST_SECRET:
            # Without the name: whoever takes one for the other would read the secret.
            raise ConfigurationError(
                f"the secret, the second word, is shorter than {SHORTEST_SECRET} bytes"
            )
        return name, secret

    def render(self, value: tuple[str, str]) -> str:
        """Return both: for files, not for people (`Attribute.secret`)."""
        return " ".join(value)

    def describe(self) -> str:
        """Say what is expected."""
        return f"a name and a secret of at least {SHORTEST_SECRET} bytes"


@attrs.frozen
class Algorithms:
    """
    CHAP algorithms that are allowed.
    """

    def parse(self, text: str) -> tuple[str, ...]:
        """Return them."""
        upper = {name.upper(): name for name in NAMES}
        words = [word.upper() for word in text.replace(",", " ").split()]
        if not words or any(word not in upper for word in words):
            raise ConfigurationError(f"expected {self.describe()}")
        return tuple(upper[word] for word in words)

    def render(self, value: tuple[str, ...]) -> str:
        """Return them with commas."""
        return ",".join(value)

    def describe(self) -> str:
        """Say what is expected."""
        return "some of " + ", ".join(NAMES)


@attrs.frozen
class Pattern:
    """
    A pattern of addresses, as ``allowed_portal`` has them: one, for a list of them in
    one would fit nothing.
    """

    def parse(self, text: str) -> str:
        """Return it."""
        if re.fullmatch(r"!?[0-9A-Za-z.:%*?_\[\]-]+", text) is None or len(text) > 255:
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return it."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return (
            "one pattern of an address (*, ?, ! in front negates); for more of them,"
            " a line each"
        )


@attrs.frozen
class Redirect:
    """
    ``ADDRESS[:PORT] temp|perm``; nothing for none.
    """

    def parse(self, text: str) -> Redirection | None:
        """Return where to."""
        if not text.strip():
            return None
        match = re.fullmatch(
            r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?\s+(temp|perm)", text
        )
        if match is None:
            raise ConfigurationError(f"expected {self.describe()}")
        return Redirection(f"{match[1]}:{match[2] or 3260}", match[3] == "perm")

    def render(self, value: Redirection | None) -> str:
        """Return the text."""
        if value is None:
            return ""
        return f"{value.address} {'perm' if value.permanent else 'temp'}"

    def describe(self) -> str:
        """Say what is expected."""
        return "ADDRESS[:PORT] temp or ADDRESS[:PORT] perm, or nothing"


@attrs.frozen
class ISNSServer:
    """
    ``ADDRESS[:PORT] [AccessControl]``; nothing for none.
    """

    def parse(self, text: str) -> tuple[str, int, bool] | None:
        """Return address, port, and whether the server decides who sees what."""
        if not text.strip():
            return None
        match = re.fullmatch(
            r"\[?([0-9A-Za-z.:-]+?)\]?(?::(\d{1,5}))?(\s+AccessControl)?", text.strip()
        )
        if match is None:
            raise ConfigurationError(f"expected {self.describe()}")
        return match[1], int(match[2] or 3205), bool(match[3])

    def render(self, value: tuple[str, int, bool] | None) -> str:
        """Return the text."""
        if value is None:
            return ""
        host, port, control = value
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if where == f"{host}:3205":
            # SCST knows no other port, and takes all of this for a name.
            where = host
        return f"{where} AccessControl" if control else where

    def describe(self) -> str:
        """Say what is expected."""
        return "ADDRESS[:PORT], perhaps AccessControl behind it, or nothing"


@attrs.frozen
class EntityName:
    """
    The name of an iSNS entity (RFC 4171 section 6.2.1).
    """

    def parse(self, text: str) -> str:
        """Return it."""
        name = folded(text)
        if len(name.encode()) > MAX_ENTITY_NAME_LENGTH or name.startswith(
            SERVERS_NAMES
        ):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return it."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"a name of at most 255 bytes that does not begin with {SERVERS_NAMES}"
