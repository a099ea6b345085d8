# SPDX-License-Identifier: MIT
"""
Logging in to a node: who is let in, what that takes the place of, and the session that
comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import reinstatement
from scstd.protocols.engine.access_control import host_of
from scstd.protocols.engine.node import PORTAL_GROUP_TAG
from scstd.protocols.engine.ordering import Ordering
from scstd.protocols.engine.session import Session
from scstd.protocols.wire.login import Admission, Login
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.names import MAX_NAME_LENGTH, folded
from scstd.protocols.wire.serial import CommandWindow
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import TaskManagementFunction
from scstd.scsi.sense import ASC
from scstd.scsi.taskset import when_all

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.node import Node

QUERIES = frozenset(
    (
        TaskManagementFunction.QUERY_TASK,
        TaskManagementFunction.QUERY_TASK_SET,
        TaskManagementFunction.I_T_NEXUS_RESET,
        TaskManagementFunction.QUERY_ASYNCHRONOUS_EVENT,
    )
)
"""The functions of RFC 7144, which iSCSIProtocolLevel 2 brings."""

ISCSI_VERSION = 0x0960
"""
The version descriptor of iSCSI in standard INQUIRY data; the protocol level is added
(RFC 7144 section 4.2).
"""


@attrs.define(eq=False)
class Policy:
    """
    Admits the login of one connection.
    """

    node: Node
    connection: Connection

    def admit(self, login: Login) -> Admission:
        """Let the login go on, or refuse it."""
        admission = admit(self.node, login, self.connection)
        if login.tsih:
            reinstatement.admit(self.node.session(login.tsih), login)
        return admission


def admit(node: Node, login: Login, connection: Connection) -> Admission:
    """
    Let an initiator in, or refuse it (as `login.LoginPolicy.admit`).
    """
    if not node.enabled or node.suspended:
        raise LoginError(LoginStatus.SERVICE_UNAVAILABLE, "not enabled")
    internal = bool(node.internal_portal) and (
        host_of(connection.portal) == node.internal_portal
    )
    if connection.over_login_limit:
        raise LoginError(LoginStatus.OUT_OF_RESOURCES, "too many logins at once")
    certificate_names = connection.certificate_names()
    if certificate_names is not None and login.initiator_name not in certificate_names:
        raise LoginError(
            LoginStatus.AUTHORIZATION_FAILURE,
            f"the certificate is not for {login.initiator_name}",
        )
    if login.target_name is None:
        return Admission(
            None,
            portal_group_tag=PORTAL_GROUP_TAG,
            authenticator=node.access.authenticator(login, internal=internal),
        )
    found = node.visible(login.target_name, connection)
    if found is None:
        raise LoginError(
            LoginStatus.NOT_FOUND,
            f"no target {login.target_name} for {login.initiator_name}",
        )
    elsewhere = connection.elsewhere()
    if elsewhere is not None:
        raise elsewhere
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


def open_session(connection: Connection, ready: Callable[[], None]) -> None:
    """
    Call *ready* when the session, or the connection, that this login takes the
    place of is gone.
    """
    node, login = connection.node, connection.login
    if login.target_name is None:
        ready()
        return
    if login.tsih:
        joined = node.session(login.tsih)
        if joined is None:
            ready()
        else:
            reinstatement.make_room(joined, connection, ready)
        return
    target = node.targets.get(login.target_name)
    old = (
        None
        if target is None
        else target.sessions.get((login.initiator_name, login.isid))
    )
    if old is not None:
        connection.login_phase.take_place()
        old.end(f"its initiator logged in again, from {connection.peer}")
    # One that ended by itself, just now, may have tasks too.
    key = (login.target_name, login.initiator_name, login.isid)
    ending = node.ending(key)
    when_all([session.when_gone for session in ending], ready)


def enter(connection: Connection) -> None:
    """
    Put a connection whose login is done into its session, or make that.

    :raises LoginError: the target or the session has gone meanwhile.
    """
    node, login = connection.node, connection.login
    if login.target_name is None:
        _discover(connection)
        return
    found = node.visible(login.target_name, connection)
    if found is None:
        raise LoginError(LoginStatus.TARGET_REMOVED, login.target_name)
    if login.tsih:
        reinstatement.join(node.session(login.tsih), connection)
        return
    named = node.discoveries.get(_discovery(connection, login.target_name))
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
        if connection.login_phase.reinstates
        else ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    )
    settings = found.settings
    window = CommandWindow(connection.window.exp_cmd_sn, settings.queued_commands)
    session = Session(
        node,
        nexus,
        login.initiator_name,
        login.isid,
        node.new_tsih(),
        Ordering(window),
        settings,
        target_taps=found.taps,
    )
    session.begin(connection.login_phase.session_state)
    node.add_session(found, session)
    session.join(connection)
    nexus.notify = session.notify
    nexus.reassigned = session.settings_changed
    node.report(
        "SESSION_OPENED",
        target=found.target.name,
        initiator=login.initiator_name,
        peer=connection.peer,
        portal=connection.portal,
        tsih=session.tsih,
    )


def _discover(connection: Connection) -> None:
    """
    Begin a discovery session, in the place of one that its initiator has already.

    One that names a target never takes a normal session's place, though RFC 7143
    section 7.4.2.2 would have it: who may discover has not proved that it may.
    """
    node, login = connection.node, connection.login
    named = login.offers.get("TargetName", "")
    named = folded(named) if len(named) <= MAX_NAME_LENGTH else ""
    key = _discovery(connection, named)
    old = node.discoveries.get(key)
    if old is not None:
        old.closed_elsewhere("another discovery took this one over")
    node.discoveries[key] = connection

    def over() -> None:
        if node.discoveries.get(key) is connection:
            del node.discoveries[key]

    connection.when_cleaned_up(over)


def _discovery(connection: Connection, target: str) -> tuple[str, bytes, str]:
    """
    Return what a discovery session is known by (RFC 7143 section 7.4.2): the target
    that it names, or else the portal.
    """
    login = connection.login
    return login.initiator_name, login.isid, target or f"@{connection.portal}"
