# SPDX-License-Identifier: MIT
"""
What the accounts of a node have to agree on (RFC 7143 section 9.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from scstd.attributes import ConfigurationError
from scstd.protocols.engine.access_control import AccessControl


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
