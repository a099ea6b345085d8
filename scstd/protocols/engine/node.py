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

from scstd.protocols.engine.access_control import AccessControl, host_of
from scstd.protocols.engine.faults import Faults
from scstd.protocols.engine.read_budget import Unsent
from scstd.protocols.engine.session import Session
from scstd.protocols.engine.tap_lists import TapList
from scstd.protocols.engine.tapped import TapRank
from scstd.protocols.engine.transport import ISCSI
from scstd.protocols.wire.discovery import TargetRecord, TextExchange
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.scsi.reporting import Report, nobody
from scstd.scsi.target import Target

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

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
            lambda self: TapList(TapRank.TARGET, self.connections), takes_self=True
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
class Node:
    """
    An iSCSI target node.
    """

    targets: dict[str, ISCSITarget] = attrs.field(factory=dict)
    enabled: bool = True
    """The driver's switch."""
    portals: Callable[[], list[str]] = list
    """Returns the addresses, ``host:port``, that are listened on, but for wildcards."""
    login_timeout: float = 30.0
    """Seconds in which a login has to come to its end."""
    suspended: bool = False
    """Nobody new gets in."""
    access: AccessControl = attrs.field(factory=AccessControl)
    """That of discovery."""
    internal_portal: str = ""
    """The address where no proof is asked for."""
    refused_host: Callable[[str, str], bool] = lambda _target, _address: False
    """Says whether a target is hidden from an initiator's address."""
    look: Callable[[Callable[[], None]], None] = lambda ready: ready()
    """Looks at what that depends on, and calls back."""
    initiator_allowed: Callable[[str, str], bool] = lambda _target, _initiator: True
    """Says whether an initiator may see a target (iSNS)."""
    failure_delay: float = 1.0
    """Seconds after which a wrong proof is told of."""
    max_logins: int = 256
    max_connections: int = 4096
    report: Report = nobody
    """Is told of events."""
    unsent: Unsent = attrs.field(factory=Unsent)
    connections: dict[Connection, None] = attrs.field(factory=dict)
    """Those there are, in whatever phase."""
    taps: TapList = attrs.field(
        default=attrs.Factory(
            lambda self: TapList(TapRank.NODE, lambda: self.connections),
            takes_self=True,
        )
    )
    _tsih: int = 0
    _by_tsih: dict[int, Session] = attrs.field(factory=dict)
    discoveries: dict[tuple[str, bytes, str], Connection] = attrs.field(factory=dict)
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
            discoveries = self.discoveries.values()
            self.unsent.relieve([*connections, *discoveries], now)

    # Logging in.

    def visible(self, name: str, connection: Connection) -> ISCSITarget | None:
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

    def add_session(self, found: ISCSITarget, session: Session) -> None:
        """
        Put a session that begins on the books.
        """
        found.sessions[session.initiator, session.isid] = session
        self._by_tsih[session.tsih] = session

    def ending(self, whole: tuple[str, str, bytes]) -> list[Session]:
        """
        Return the sessions with these names (target, initiator, ISID) that have ended,
        and whose tasks may still touch data.
        """
        return self._closing.get(whole, [])

    def new_tsih(self) -> int:
        """
        Return a TSIH that no session has.
        """
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
            found = self.visible(name, connection)
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
