# SPDX-License-Identifier: MIT
"""
Attributes of the iscsi driver about who may come in: accounts, portals, redirection.

Names, defaults and spellings are SCST's.  Each row names the field of `access.Gate` (or
of `node.Node`) that it sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from scstd.attributes import Attribute, ConfigurationError, Effect, Flag, Integer, Text
from scstd.protocols.engine.access_control import AccessControl, Redirection
from scstd.protocols.wire.chap import NAMES
from scstd.protocols.wire.isns import (
    MAX_ENTITY_NAME_LENGTH,
    SERVERS_NAMES,
)
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


def _rows(
    *rows: tuple[str, Attribute[Any]],
) -> Mapping[str, tuple[str, Attribute[Any]]]:
    return {row.name: (field, row) for field, row in rows}


ACCOUNTS = _rows(
    (
        "incoming",
        Attribute(
            "IncomingUser",
            Account(),
            None,
            "A user who may log in, and the secret; with none everybody may (CHAP).",
            repeats=True,
            effect=Effect.LOGIN,
            secret=True,
        ),
    ),
    (
        "outgoing",
        Attribute(
            "OutgoingUser",
            Account(),
            None,
            "The name and secret by which we prove ourselves to initiators that ask.",
            effect=Effect.LOGIN,
            secret=True,
        ),
    ),
    (
        "algorithms",
        Attribute(
            "CHAPAlgorithms",
            Algorithms(),
            tuple(NAMES),
            "What initiators may prove themselves with; the first of theirs is taken.",
            effect=Effect.LOGIN,
        ),
    ),
)
"""Accounts: a target's for its sessions, the driver's for discovery."""

GATE = {
    **ACCOUNTS,
    **_rows(
        (
            "allowed_portals",
            Attribute(
                "allowed_portal",
                Pattern(),
                None,
                "Portals on which the target is there; with none on all.",
                repeats=True,
                effect=Effect.LOGIN,
            ),
        ),
        (
            "per_portal_acl",
            Attribute(
                "per_portal_acl",
                Flag(),
                False,
                "Groups know an initiator as NAME#ADDRESS of the portal it is on.",
                effect=Effect.LOGIN,
            ),
        ),
        (
            "redirect",
            Attribute(
                "redirect",
                Redirect(),
                None,
                "Send initiators there instead: ADDRESS[:PORT] temp or perm.",
                effect=Effect.LOGIN,
            ),
        ),
    ),
}
"""Attributes of a target that `AccessControl` holds: its field, and the row."""


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


ISNS: tuple[Attribute[Any], ...] = (
    Attribute(
        "iSNSServer",
        ISNSServer(),
        None,
        "The iSNS server; with AccessControl its domains decide who sees what.",
    ),
    Attribute(
        "isns_entity_name",
        EntityName(),
        "",
        "The entity's name there; when not set, this host's.",
    ),
)
"""Attributes of the driver about iSNS (RFC 4171)."""

NODE = _rows(
    (
        "internal_portal",
        Attribute(
            "internal_portal",
            Text(255, "an address"),
            "",
            "The portal where nobody has to prove who it is.",
            effect=Effect.LOGIN,
        ),
    ),
    (
        "max_logins",
        Attribute(
            "MaxUnfinishedLogins",
            Integer(1, 65535),
            256,
            "Logins under way at once; with more the oldest silent one gives way.",
            effect=Effect.LIVE,
        ),
    ),
    (
        "max_connections",
        Attribute(
            "MaxOpenConnections",
            Integer(1, 65535),
            4096,
            "Connections there may be at once; with more a login gives way.",
            effect=Effect.LIVE,
        ),
    ),
    (
        "suspended",
        Attribute(
            "suspended",
            Flag(),
            False,
            "Refuse new logins for now (status 0301).",
            effect=Effect.LIVE,
        ),
    ),
)
"""Attributes of the driver that `Node` holds: its field, and the row."""


def check_accounts(
    incoming: tuple[tuple[str, str], ...], outgoing: tuple[str, str] | None
) -> None:
    """
    See that no secret serves both directions (RFC 7143 section 9.2.1).

    :raises ConfigurationError: one does, or a user is there twice.
    """
    names = [name for name, _secret in incoming]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"IncomingUser {name!r} is there twice")
    if outgoing is not None and outgoing[1] in {secret for _name, secret in incoming}:
        raise ConfigurationError(
            f"OutgoingUser {outgoing[0]!r} has the secret of an IncomingUser: the two"
            " directions need different ones"
        )


def shared_secrets(gates: Iterable[AccessControl]) -> list[tuple[str, str]]:
    """
    Return pairs of users who have one secret, over all of a node: initiators of
    different names, of whom each can pass for the other, or one and ourselves (RFC 7143
    section 9.2.1).
    """
    owners: dict[str, tuple[str, str]] = {}
    found: dict[tuple[str, str], None] = {}
    for gate in gates:
        users = [("IncomingUser", *one) for one in gate.incoming]
        if gate.outgoing is not None:
            users.append(("OutgoingUser", *gate.outgoing))
        for kind, name, secret in users:
            owner = owners.setdefault(secret, (kind, name))
            if kind != owner[0] or (kind == "IncomingUser" and name != owner[1]):
                found[" ".join(owner), f"{kind} {name}"] = None
    return list(found)
