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

from scstd.protocols.engine import reinstatement
from scstd.protocols.engine.access_control import AccessControl, host_of
from scstd.protocols.engine.faults import Faults
from scstd.protocols.engine.ordering import Ordering
from scstd.protocols.engine.read_budget import Unsent
from scstd.protocols.engine.session import Session
from scstd.protocols.engine.tap_lists import TapList
from scstd.protocols.engine.tapped import Rank
from scstd.protocols.engine.transport import ISCSI
from scstd.protocols.wire.discovery import TargetRecord, TextExchange
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.login import Admission, Login
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.names import MAX_NAME_LENGTH, folded
from scstd.protocols.wire.serial import CommandWindow
from scstd.protocols.wire.states import SessionEvent, session_after
from scstd.scsi.nexus import Nexus
from scstd.scsi.reporting import Report, nobody
from scstd.scsi.sense import ASC
from scstd.scsi.target import Target
from scstd.scsi.taskset import when_all

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

QUERIES = frozenset((9, 10, 11, 12))
"""The functions of RFC 7144, which iSCSIProtocolLevel 2 brings."""

ISCSI_VERSION = 0x0960
"""
The version descriptor of iSCSI in standard INQUIRY data; the protocol level is added
(RFC 7144 section 4.2).
"""

PORTAL_GROUP_TAG = 1
"""All portals of a node are one portal group."""


@attrs.define(eq=False)
class TargetSettings:
    """
    A target's settings: its side of the negotiation, its timers in seconds, and the
    faults that it has on purpose.
    """

    local: Mapping[str, Any] = attrs.field(factory=lambda: dict(LOCAL))
    queued_commands: int = 32
    response_timeout: float = 90.0
    nop_in_interval: float = 30.0
    nop_in_timeout: float = 30.0
    logout_timeout: int = 3
    aen_disabled: bool = False
    max_sessions: int = 0
    alias: str = ""
    comment: str = ""
    access: AccessControl = attrs.field(factory=AccessControl)
    faults: Faults = attrs.field(factory=Faults)


@attrs.define(eq=False)
class ISCSITarget:
    """
    A SCSI target as iSCSI shows it.
    """

    target: Target
    settings: TargetSettings
    sessions: dict[tuple[str, bytes], Session] = attrs.field(factory=dict)
    taps: TapList = attrs.field(
        default=attrs.Factory(
            lambda self: TapList(Rank.TARGET, self.connections), takes_self=True
        )
    )

    def connections(self) -> list[Connection]:
        """
        Return the connections that its sessions have.
        """
        sessions = list(self.sessions.values())
        return [one for each in sessions for one in each.connections.values()]

    def settings_changed(self) -> None:
        """
        Have the sessions there are act on what has changed in *settings*.
        """
        for session in self.sessions.values():
            session.settings_changed()


@attrs.define(eq=False)
class _Policy:
    """
    Admits the login of one connection.
    """

    node: Node
    connection: Connection

    def admit(self, login: Login) -> Admission:
        admission = self.node.admit(login, self.connection)
        if login.tsih:
            reinstatement.admit(self.node.session(login.tsih), login)
        return admission


@attrs.define(eq=False)
class Node:
    """
    An iSCSI target node.

    *portals* returns the addresses (``host:port``) that are listened on, wildcards left
    out; *enabled* is the driver's switch; while *suspended* nobody new gets in.
    *refused_host* says whether a target is hidden from an initiator's address, *look*
    has it see what that depends on, and calls back,
    *initiator_allowed* whether an initiator may see it (iSNS).  *access*
    is that of discovery; no proof is asked for at the address *internal_portal*.
    *report* is told of events.
    """

    targets: dict[str, ISCSITarget] = attrs.field(factory=dict)
    enabled: bool = True
    portals: Callable[[], list[str]] = list
    login_timeout: float = 30.0
    suspended: bool = False
    access: AccessControl = attrs.field(factory=AccessControl)
    internal_portal: str = ""
    refused_host: Callable[[str, str], bool] = lambda _target, _address: False
    look: Callable[[Callable[[], None]], None] = lambda ready: ready()
    initiator_allowed: Callable[[str, str], bool] = lambda _target, _initiator: True
    failure_delay: float = 1.0
    max_logins: int = 256
    max_connections: int = 4096
    report: Report = nobody
    unsent: Unsent = attrs.field(factory=Unsent)
    connections: dict[Connection, None] = attrs.field(factory=dict)
    taps: TapList = attrs.field(
        default=attrs.Factory(
            lambda self: TapList(Rank.NODE, lambda: self.connections), takes_self=True
        )
    )
    _tsih: int = 0
    _by_tsih: dict[int, Session] = attrs.field(factory=dict)
    _discoveries: dict[tuple[str, bytes, str], Connection] = attrs.field(factory=dict)
    _closing: dict[tuple[str, str, bytes], list[Session]] = attrs.field(factory=dict)

    def add_target(self, target: Target, settings: TargetSettings) -> ISCSITarget:
        """
        Accept logins to *target*.
        """
        added = ISCSITarget(target, settings)
        self.targets[target.name] = added
        target.transport = ISCSI
        return added

    def remove_target(self, name: str) -> list[Session]:
        """
        Refuse logins to a target; return the sessions that it has.
        """
        return list(self.targets.pop(name).sessions.values())

    def sessions(self) -> list[Session]:
        """
        Return every normal session, those too that leave a target that was removed.
        """
        return list(self._by_tsih.values())

    def session(self, tsih: int) -> Session | None:
        """
        Return the normal session with this TSIH.
        """
        return self._by_tsih.get(tsih)

    def opened(self, connection: Connection) -> None:
        """
        Note a connection, its login is to come.
        """
        self.connections[connection] = None

    def ended(self, connection: Connection) -> None:
        """
        Note that a connection is over.
        """
        self.connections.pop(connection, None)

    def tick(self, now: float) -> None:
        """
        Look at what no connection looks after: sessions that wait to be continued.
        """
        sessions = self.sessions()
        for session in sessions:
            session.tick(now)
        if self.unsent.waiting:
            connections = [
                one for each in sessions for one in each.connections.values()
            ]
            discoveries = self._discoveries.values()
            self.unsent.relieve([*connections, *discoveries], now)

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
        if connection.over_login_limit:
            raise LoginError(LoginStatus.OUT_OF_RESOURCES, "too many logins at once")
        certificate_names = connection.certificate_names()
        if (
            certificate_names is not None
            and login.initiator_name not in certificate_names
        ):
            raise LoginError(
                LoginStatus.AUTHORIZATION_FAILURE,
                f"the certificate is not for {login.initiator_name}",
            )
        if login.target_name is None:
            return Admission(
                None,
                portal_group_tag=PORTAL_GROUP_TAG,
                authenticator=self.access.authenticator(login, internal=internal),
            )
        found = self._visible(login.target_name, connection)
        if found is None:
            raise LoginError(
                LoginStatus.NOT_FOUND,
                f"no target {login.target_name} for {login.initiator_name}",
            )
        settings = found.settings
        if settings.access.redirect is not None:
            raise settings.access.redirect.error()
        key = (login.initiator_name, login.isid)
        if (
            settings.max_sessions
            and key not in found.sessions
            and len(found.sessions) >= settings.max_sessions
        ):
            raise LoginError(LoginStatus.OUT_OF_RESOURCES, "MaxSessions")
        return Admission(
            found.target.name,
            settings.local,
            PORTAL_GROUP_TAG,
            settings.alias,
            settings.access.authenticator(login, internal=internal),
        )

    def _visible(self, name: str, connection: Connection) -> ISCSITarget | None:
        """
        Return a target if the initiator of *connection* may see it, here.
        """
        found = self.targets.get(name)
        if found is None or not found.target.enabled:
            return None
        access, portal = found.settings.access, connection.portal
        if not access.lets_in(portal):
            return None
        if self.refused_host(name, host_of(connection.peer)):
            return None
        initiator = connection.login.initiator_name
        if not self.initiator_allowed(name, initiator):
            return None
        known_as = access.session_name(initiator, portal)
        if found.target.luns_for(known_as):
            return found
        self.report(
            "NEGATIVE_LUNS_INQUIRY", target=name, initiator=initiator, portal=portal
        )
        return None

    def open_session(self, connection: Connection, ready: Callable[[], None]) -> None:
        """
        Call *ready* when the session, or the connection, that this login takes the
        place of is gone.
        """
        login = connection.login
        if login.target_name is None:
            ready()
            return
        if login.tsih:
            joined = self.session(login.tsih)
            if joined is None:
                ready()
            else:
                reinstatement.make_room(joined, connection, ready)
            return
        target = self.targets.get(login.target_name)
        old = (
            None
            if target is None
            else target.sessions.get((login.initiator_name, login.isid))
        )
        if old is not None:
            connection.reinstates = True
            old.end(f"its initiator logged in again, from {connection.peer}")
        # One that ended by itself, just now, may have tasks too.
        key = (login.target_name, login.initiator_name, login.isid)
        ending = self._closing.get(key, ())
        when_all([session.when_gone for session in ending], ready)

    def enter(self, connection: Connection) -> None:
        """
        Put a connection whose login is done into its session, or make that.

        :raises LoginError: the target or the session has gone meanwhile.
        """
        login = connection.login
        if login.target_name is None:
            self._discover(connection)
            return
        found = self._visible(login.target_name, connection)
        if found is None:
            raise LoginError(LoginStatus.TARGET_REMOVED, login.target_name)
        if login.tsih:
            reinstatement.join(self.session(login.tsih), connection)
            return
        named = self._discoveries.get(_discovery(connection, login.target_name))
        if named is not None:
            named.closed_elsewhere("a session took the discovery over")
        isid = login.isid.hex()
        nexus = Nexus(
            found.target,
            found.settings.access.session_name(login.initiator_name, connection.portal),
            f"{login.initiator_name},i,0x{isid}",
            f"{found.target.name},t,0x{PORTAL_GROUP_TAG:04x}",
        )
        level = login.parameters.iscsi_protocol_level
        nexus.transport_version = ISCSI_VERSION + level
        if level >= 2:
            nexus.functions |= QUERIES
        nexus.attach(
            ASC.I_T_NEXUS_LOSS_OCCURRED
            if connection.reinstates
            else ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
        )
        settings = found.settings
        window = CommandWindow(connection.window.exp_cmd_sn, settings.queued_commands)
        session = Session(
            self,
            nexus,
            login.initiator_name,
            login.isid,
            self._new_tsih(),
            Ordering(window),
            settings,
            target_taps=found.taps,
        )
        session.state = session_after(
            connection.login_phase.session_state, SessionEvent.LOGIN_DONE
        )
        found.sessions[login.initiator_name, login.isid] = session
        self._by_tsih[session.tsih] = session
        session.join(connection)
        nexus.notify = session.notify
        nexus.reassigned = session.settings_changed
        self.report(
            "SESSION_OPENED",
            target=found.target.name,
            initiator=login.initiator_name,
            peer=connection.peer,
            portal=connection.portal,
            tsih=session.tsih,
        )

    def _discover(self, connection: Connection) -> None:
        """
        Begin a discovery session, in the place of one that its initiator has already.

        One that names a target never takes a normal session's place, though RFC 7143
        section 7.4.2.2 would have it: who may discover has not proved that it may.
        """
        login = connection.login
        named = login.offers.get("TargetName", "")
        named = folded(named) if len(named) <= MAX_NAME_LENGTH else ""
        key = _discovery(connection, named)
        old = self._discoveries.get(key)
        if old is not None:
            old.closed_elsewhere("another discovery took this one over")
        self._discoveries[key] = connection

        def over() -> None:
            if self._discoveries.get(key) is connection:
                del self._discoveries[key]

        connection.when_cleaned_up(over)

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
            target = self.targets.get(connection.login.target_name or "")
            if target is not None:
                target.settings.access.failures += 1
        self._refused(connection, f"{error.status:04x}", str(error))

    def gave_up(self, connection: Connection) -> None:
        """
        Note a login that has not come to its end.
        """
        self._refused(connection, None, connection.why)

    def _refused(self, connection: Connection, status: str | None, why: str) -> None:
        login = connection.login
        self.report(
            "LOGIN_REFUSED",
            target=login.target_name,
            initiator=login.initiator_name or None,
            peer=connection.peer,
            portal=connection.portal,
            status=status,
            reason=why,
        )

    def forget(self, session: Session) -> None:
        """
        Take a session that ends off the books; until it is gone a login with its names
        waits for it.
        """
        self._by_tsih.pop(session.tsih, None)
        name = session.nexus.target.name
        last = session.connection
        self.report(
            "SESSION_CLOSED",
            target=name,
            initiator=session.initiator,
            peer=last.peer,
            tsih=session.tsih,
            reason=last.why or "logged out",
            commands=session.commands,
            seconds=round(last.now - last.began, 3),
        )
        key = (session.initiator, session.isid)
        found = self.targets.get(name)
        if found is not None and found.sessions.get(key) is session:
            del found.sessions[key]
        whole = (name, *key)
        self._closing.setdefault(whole, []).append(session)

        def gone() -> None:
            left = self._closing[whole]
            left.remove(session)
            if not left:
                del self._closing[whole]

        session.when_gone(gone)

    # The full feature phase.

    def records(self, connection: Connection) -> Iterator[TargetRecord]:
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
                    if found.settings.access.lets_in(address)
                )
                yield TargetRecord(name, tagged)

    def text_exchange(self, connection: Connection, itt: int) -> TextExchange:
        """
        Return the exchange that answers a connection's Text Requests.
        """
        login = connection.login
        local = LOCAL if login.admission is None else login.admission.local
        return TextExchange(
            itt,
            lambda: self.records(connection),
            login.target_name,
            connection.parameters,
            local,
        )

    def cold_reset(self, session: Session) -> None:
        """
        Close every connection of the target (RFC 7143 section 11.5.1).
        """
        found = self.targets.get(session.nexus.target.name)
        for one in list(found.sessions.values()) if found is not None else []:
            one.end("target cold reset")


def _discovery(connection: Connection, target: str) -> tuple[str, bytes, str]:
    """
    Return what a discovery session is known by (RFC 7143 section 7.4.2): the target
    that it names, or else the portal.
    """
    login = connection.login
    return login.initiator_name, login.isid, target or f"@{connection.portal}"
