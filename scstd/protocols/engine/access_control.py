# SPDX-License-Identifier: MIT
"""
Who may come in, and where: accounts, portals, redirection (scst's rules).

A `AccessControl` is what a person has configured for one target, or for discovery.
`Node` asks it at each login; an initiator that may not see a target is told that there
is none.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from scstd.protocols.wire.chap import CHAP, NAMES
from scstd.protocols.wire.login import (
    Authenticator,
    Login,
    NoAuthentication,
)
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.states import LoginStage
from scstd.scsi.luns import matches


def host_of(portal: str) -> str:
    """
    Return the address of ``host:port``, without the brackets of IPv6.
    """
    return portal.rpartition(":")[0].strip("[]")


def portal_allowed(patterns: Collection[str], portal: str) -> bool:
    """
    Say whether a portal's address is allowed: if any positive pattern matches it, or
    there is none, and no negative one (``!``) does (scst's ``allowed_portal``).
    """
    if not patterns:
        return True
    address = host_of(portal)
    positive = [one for one in patterns if not one.startswith("!")]
    negative = [one[1:] for one in patterns if one.startswith("!")]
    if any(matches(one, address) for one in negative):
        return False
    return not positive or any(matches(one, address) for one in positive)


@attrs.frozen
class Redirection:
    """
    Where initiators are sent instead (RFC 7143 section 11.13.5, status class 1).
    """

    address: str
    permanent: bool

    def error(self) -> LoginError:
        """
        Return what ends the login.
        """
        return LoginError(
            LoginStatus.TARGET_MOVED_PERMANENTLY
            if self.permanent
            else LoginStatus.TARGET_MOVED_TEMPORARILY,
            f"redirected to {self.address}",
            [("TargetAddress", self.address)],
        )


@attrs.define(eq=False)
class AccessControl:
    """
    Accounts and portals of one target, or of discovery.

    *incoming* are (name, secret) of those who may log in; with none everybody may.
    *internal_portal* is an address where no proof is asked for.
    """

    incoming: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    outgoing: tuple[str, str] | None = attrs.field(default=None, repr=False)
    algorithms: tuple[str, ...] = tuple(NAMES)
    allowed_portals: tuple[str, ...] = ()
    per_portal_acl: bool = False
    redirect: Redirection | None = None
    failures: int = 0

    def lets_in(self, portal: str) -> bool:
        """
        Say whether the target is there on a portal.
        """
        return portal_allowed(self.allowed_portals, portal)

    def session_name(self, initiator: str, portal: str) -> str:
        """
        Return the name by which groups know the session.
        """
        return f"{initiator}#{host_of(portal)}" if self.per_portal_acl else initiator

    def authenticator(self, login: Login, *, internal: bool = False) -> Authenticator:
        """
        Return how this login has to prove itself; *internal* ones need not, if they do
        not ask for the security stage.
        """
        if not self.incoming or (internal and login.stage is LoginStage.OPERATIONAL):
            return NoAuthentication()
        return CHAP(
            {name: secret.encode() for name, secret in self.incoming},
            None
            if self.outgoing is None
            else (self.outgoing[0], self.outgoing[1].encode()),
            frozenset(NAMES[name] for name in self.algorithms),
        )
