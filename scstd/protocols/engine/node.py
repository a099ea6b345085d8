# SPDX-License-Identifier: MIT
"""
The iSCSI node: its targets, who may log in to them, and the sessions there are.

A session is known by its initiator's name, ISID and target (RFC 7143 section 4.4.3); a
login with the same three takes its place, and is let in only when no task of the old
one can touch data any more.  What an initiator may not see it is told does not exist
(status 0203), as SCST does: an address is not a way to learn names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger

from scstd.protocols.engine.access import Gate, host_of
from scstd.protocols.engine.session import Session
from scstd.protocols.wire.discovery import Record, TextExchange
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.login import (
    Admission,
    Login,
    LoginError,
    LoginStatus,
)
from scstd.protocols.wire.serial import CommandWindow
from scstd.scsi.sense import ASC
from scstd.scsi.target import Nexus, Target

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

_log = Logger()

PORTAL_GROUP_TAG = 1
"""All portals of a node are one portal group."""


@attrs.define(eq=False)
class Limits:
    """
    A target's own limits: its side of the negotiation, and its timers in seconds.
    """

    local: Mapping[str, Any] = attrs.field(factory=lambda: dict(LOCAL))
    queued_commands: int = 32
    response_timeout: float = 90.0
    nop_in_interval: float = 30.0
    nop_in_timeout: float = 30.0
    max_sessions: int = 0
    alias: str = ""
    gate: Gate = attrs.field(factory=Gate)

    def impose(self, connection: Connection) -> None:
        """
        Have a session's connection keep to the timers and the width of the window.
        """
        connection.window.resize(self.queued_commands)
        timers = connection.timers
        timers.response = self.response_timeout
        timers.nop_in_interval = self.nop_in_interval
        timers.nop_in_timeout = self.nop_in_timeout


@attrs.define(eq=False)
class ISCSITarget:
    """
    A SCSI target as iSCSI shows it.
    """

    target: Target
    limits: Limits
    sessions: dict[tuple[str, bytes], Session] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Policy:
    """
    Admits the login of one connection.
    """

    node: Node
    connection: Connection

    def admit(self, login: Login) -> Admission:
        return self.node.admit(login, self.connection)


@attrs.define(eq=False)
class Node:
    """
    An iSCSI target node.

    *portals* returns the addresses (``host:port``) that are listened on, wildcards left
    out; *enabled* is the driver's switch; while *suspended* nobody new gets in.
    *refused_host* says whether a target is hidden from an initiator's address,
    *initiator_allowed* whether an initiator may see it (iSNS).  *gate*
    is that of discovery; no proof is asked for at the address *internal_portal*.
    """

    targets: dict[str, ISCSITarget] = attrs.field(factory=dict)
    enabled: bool = True
    portals: Callable[[], list[str]] = list
    login_timeout: float = 30.0
    suspended: bool = False
    gate: Gate = attrs.field(factory=Gate)
    internal_portal: str = ""
    refused_host: Callable[[str, str], bool] = lambda _target, _address: False
    initiator_allowed: Callable[[str, str], bool] = lambda _target, _initiator: True
    failed_logins: int = 0
    failure_delay: float = 1.0
    _tsih: int = 0
    _by_tsih: dict[int, Session] = attrs.field(factory=dict)

    def add_target(self, target: Target, limits: Limits) -> ISCSITarget:
        """
        Accept logins to *target*.
        """
        added = ISCSITarget(target, limits)
        self.targets[target.name] = added
        return added

    def remove_target(self, name: str) -> list[Connection]:
        """
        Refuse logins to a target; return the connections of its sessions.
        """
        removed = self.targets.pop(name)
        return [session.connection for session in removed.sessions.values()]

    def sessions(self) -> list[Session]:
        """
        Return every normal session.
        """
        return [
            session
            for target in self.targets.values()
            for session in target.sessions.values()
        ]

    # Logging in.

    def policy(self, connection: Connection) -> _Policy:
        """
        Return what decides about the login of *connection*.
        """
        connection.timers.login = self.login_timeout
        return _Policy(self, connection)

    def admit(self, login: Login, connection: Connection) -> Admission:
        """
        Let an initiator in, or refuse it (as `login.LoginPolicy.admit`).
        """
        if not self.enabled or self.suspended:
            raise LoginError(LoginStatus.SERVICE_UNAVAILABLE, "not enabled")
        internal = bool(self.internal_portal) and (
            host_of(connection.portal) == self.internal_portal
        )
        certified = connection.certified()
        if certified is not None and login.initiator_name not in certified:
            raise LoginError(
                LoginStatus.AUTHORIZATION_FAILURE,
                f"the certificate is not for {login.initiator_name}",
            )
        if login.target_name is None:
            return Admission(
                None,
                portal_group_tag=None,
                authenticator=self.gate.authenticator(login, internal=internal),
            )
        found = self._visible(login.target_name, connection)
        if found is None:
            raise LoginError(
                LoginStatus.NOT_FOUND,
                f"no target {login.target_name} for {login.initiator_name}",
            )
        if login.tsih:
            # One connection a session: there is nothing to join.
            session = self._by_tsih.get(login.tsih)
            if session is None or session.isid != login.isid:
                raise LoginError(
                    LoginStatus.SESSION_DOES_NOT_EXIST, f"TSIH {login.tsih}"
                )
            if session.connection.cid != login.cid:
                raise LoginError(
                    LoginStatus.TOO_MANY_CONNECTIONS, "one connection a session"
                )
        limits = found.limits
        if limits.gate.redirect is not None:
            raise limits.gate.redirect.error()
        key = (login.initiator_name, login.isid)
        if (
            limits.max_sessions
            and key not in found.sessions
            and len(found.sessions) >= limits.max_sessions
        ):
            raise LoginError(LoginStatus.OUT_OF_RESOURCES, "MaxSessions")
        return Admission(
            found.target.name,
            limits.local,
            PORTAL_GROUP_TAG,
            limits.alias,
            limits.gate.authenticator(login, internal=internal),
        )

    def _visible(self, name: str, connection: Connection) -> ISCSITarget | None:
        """
        Return a target if the initiator of *connection* may see it, here.
        """
        found = self.targets.get(name)
        if found is None or not found.target.enabled:
            return None
        gate, portal = found.limits.gate, connection.portal
        if not gate.lets_in(portal):
            return None
        if self.refused_host(name, host_of(connection.peer)):
            return None
        initiator = connection.login.login.initiator_name
        if not self.initiator_allowed(name, initiator):
            return None
        known_as = gate.session_name(initiator, portal)
        return found if found.target.luns_for(known_as) else None

    def open_session(self, connection: Connection, ready: Callable[[], None]) -> None:
        """
        Call *ready* when the session that this login takes the place of is gone.
        """
        login = connection.login.login
        if login.target_name is None:
            ready()
            return
        target = self.targets.get(login.target_name)
        old = (
            None
            if target is None
            else target.sessions.get((login.initiator_name, login.isid))
        )
        if old is None:
            ready()
            return
        _log.info(
            "{initiator} logs in again: its session on {peer} ends",
            initiator=login.initiator_name,
            peer=old.connection.peer,
        )
        connection.reinstates = True
        predecessor = old.connection
        predecessor.when_clean(ready)
        predecessor.fail("another login took the session over")

    def enter(self, connection: Connection) -> None:
        """
        Make the session of a connection whose login is done.

        :raises LoginError: the target has gone meanwhile.
        """
        login = connection.login.login
        if login.target_name is None:
            return
        found = self._visible(login.target_name, connection)
        if found is None:
            raise LoginError(LoginStatus.TARGET_REMOVED, login.target_name)
        isid = login.isid.hex()
        nexus = Nexus(
            found.target,
            found.limits.gate.session_name(login.initiator_name, connection.portal),
            f"{login.initiator_name},i,0x{isid}",
            f"{found.target.name},t,0x{PORTAL_GROUP_TAG:04x}",
        )
        nexus.takes_parts = (
            connection.sends_files and login.parameters.data_digest == "None"
        )
        nexus.attach(
            ASC.I_T_NEXUS_LOSS_OCCURRED
            if connection.reinstates
            else ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
        )
        session = Session(
            connection, nexus, login.initiator_name, login.isid, self._new_tsih()
        )
        found.sessions[login.initiator_name, login.isid] = session
        self._by_tsih[session.tsih] = session
        connection.session = session
        limits = found.limits
        connection.window = CommandWindow(
            connection.window.exp_cmd_sn, limits.queued_commands
        )
        limits.impose(connection)
        _log.info(
            "{initiator} logged in to {target} from {peer}",
            initiator=login.initiator_name,
            target=found.target.name,
            peer=connection.peer,
        )

    def _new_tsih(self) -> int:
        while True:
            # 0 is no TSIH, and 0xFFFF is for discovery sessions.
            self._tsih = self._tsih % 0xFFFE + 1
            if self._tsih not in self._by_tsih:
                return self._tsih

    def refused(self, connection: Connection, error: LoginError) -> None:
        """
        Note a login that was refused.
        """
        if error.status == LoginStatus.AUTHENTICATION_FAILURE:
            self.failed_logins += 1
            target = self.targets.get(connection.login.login.target_name or "")
            if target is not None:
                target.limits.gate.failures += 1
        _log.warn(
            "{peer}: login refused, status {status}: {error}",
            peer=connection.peer,
            status=f"{error.status:04x}",
            error=error,
        )

    def forget(self, session: Session) -> None:
        """
        Take a session that ends off the books.
        """
        self._by_tsih.pop(session.tsih, None)
        for target in self.targets.values():
            key = (session.initiator, session.isid)
            if target.sessions.get(key) is session:
                del target.sessions[key]

    # The full feature phase.

    def records(self, connection: Connection) -> Iterator[Record]:
        """
        Yield what discovery tells the initiator of *connection*.
        """
        addresses = list(dict.fromkeys([connection.portal, *self.portals()]))
        for name in sorted(self.targets):
            found = self._visible(name, connection)
            if found is not None:
                tagged = tuple(
                    f"{address},{PORTAL_GROUP_TAG}"
                    for address in addresses
                    if found.limits.gate.lets_in(address)
                )
                yield Record(name, tagged)

    def text_exchange(self, connection: Connection) -> TextExchange:
        """
        Return the exchange that answers a connection's Text Requests.
        """
        login = connection.login.login
        local = LOCAL if login.admission is None else login.admission.local
        return TextExchange(
            lambda: self.records(connection),
            login.target_name,
            connection.parameters,
            local,
        )

    def cold_reset(self, connection: Connection) -> None:
        """
        Close every connection of the target (RFC 7143 section 11.5.1), ours last.
        """
        found = self.targets.get(connection.login.login.target_name or "")
        for session in list(found.sessions.values()) if found is not None else ():
            session.connection.fail("target cold reset")
