# SPDX-License-Identifier: MIT
"""
The target driver iscsi: its targets and their attributes, its portals, its end.

`attributes.tables` has the rows of the attributes, `scstd.drivers.base` what is the
same in every driver.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from scstd.drivers.addresses import address_name
from scstd.drivers.base import BaseDriver
from scstd.interfaces import IDividedDriver
from scstd.protocols.attributes.accounts import check_accounts, shared_secrets
from scstd.protocols.attributes.tables import (
    ATTRIBUTES,
    DRIVER_ROWS,
    GROUP_ATTRIBUTES,
    TARGET_ATTRIBUTES,
    TARGET_ROWS,
    AttributeRow,
)
from scstd.protocols.engine import async_message, draining
from scstd.protocols.engine.access_control import AccessControl
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import ISCSITarget, Node, TargetSettings
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.report import report
from scstd.protocols.engine.session import Session
from scstd.protocols.engine.transport import ISCSI
from scstd.protocols.hosts import Hosts
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.isns.client import ISNSClient
from scstd.protocols.isns.registration import Registration
from scstd.protocols.target_names import default_target_name, target_name
from scstd.protocols.wire.names import folded
from scstd.scsi.reporting import Report
from scstd.scsi.target import Target
from scstd.scsi.transport import Transport

__all__ = [
    "ATTRIBUTES",
    "GROUP_ATTRIBUTES",
    "TARGET_ATTRIBUTES",
    "ISCSIDriver",
    "default_target_name",
    "open",
    "target_name",
]

_log = Logger()


def open(reactor: Any, settings: Mapping[str, Any]) -> ISCSIDriver:  # noqa: A001
    """
    Return a driver that does not listen yet.
    """
    return ISCSIDriver(reactor, dict(settings))


def _is_tls(port: Any) -> bool:
    return isinstance(getattr(port, "factory", None), TLSMemoryBIOFactory)


@implementer(IDividedDriver)
@attrs.define(eq=False, slots=False)
class ISCSIDriver(BaseDriver):
    """
    The iSCSI node of this process, and the ports it listens on.
    """

    scheme: ClassVar[str] = "iscsi"
    transport: ClassVar[Transport] = ISCSI

    node: Node = attrs.field(init=False)
    isns: ISNSClient | None = attrs.field(default=None, init=False)
    hosts: Hosts = attrs.field(init=False)
    _elsewhere: Sequence[str] = attrs.field(default=(), init=False)
    """The portals of another process, in whose place this one has sessions."""
    _door: Any = attrs.field(default=None, init=False)
    """What gives connections to other processes, if anything does."""

    def __attrs_post_init__(self) -> None:
        self.node = Node(portals=self._portals)
        for name, value in self.settings.items():
            self.set(name, value)
        self._see_hosts()
        self.factory = ISCSITargetFactory(self.node, self.reactor)
        self.targets = self.node.targets

    def report_to(self, report: Report) -> None:
        """Tell of events from now on."""
        super().report_to(report)
        self.node.report = report

    # What is configured.

    def add_target(self, target: Target, settings: Mapping[str, Any]) -> None:
        """Accept logins to *target*."""
        added = self.node.add_target(target, TargetSettings())
        for name, value in settings.items():
            self._set(added, name, value)

    def remove_target(self, name: str) -> Deferred[None]:
        """Forget a target, and have its initiators log out."""
        sessions = self.node.remove_target(name)
        if self.isns is not None:
            self.isns.register_again()
        return _all(sessions, "the target is removed", async_message.dismiss)

    def set(self, name: str, value: Any) -> None:
        """Change one of the driver's attributes."""
        row = DRIVER_ROWS[name]
        if row.field:
            self._put(row, self.node, self.node.access, value)
        self.settings[name] = value
        if name in {"initiators_allow", "initiators_deny"}:
            self._see_hosts()
        if name == "iSNSServer":
            self._leave_isns()
        if name in {"iSNSServer", "isns_entity_name"} and self.ports:
            self._tell_isns()

    def _see_hosts(self) -> None:
        allow, deny = (
            self.settings[f"initiators_{name}"] for name in ("allow", "deny")
        )
        self.hosts = hosts = Hosts.of(self.reactor, allow, deny)
        self.node.refused_host, self.node.look = hosts.refused, hosts.look

    def set_attribute(self, target: str, name: str, value: Any) -> None:
        """
        Give an attribute of a target another value.

        Timers and QueuedCommands act in the sessions there are, too; what is negotiated
        does from the next login on.
        """
        self._set(self.node.targets[target], name, value)
        if name == "alias":
            self.target_changed(target)

    def target_changed(self, target: str) -> None:
        """Tell an iSNS server of a target that is enabled, or not any more."""
        del target  # all of them are registered
        if self.isns is not None:
            self.isns.register_again()

    def group_changed(self, target: str) -> None:
        """Have the sessions of a target act on what has changed in its groups."""
        self.node.targets[target].settings_changed()

    def _put(
        self, row: AttributeRow, holder: Any, access: AccessControl, value: Any
    ) -> None:
        """
        Give an attribute of the node or of a target another value.

        :raises ConfigurationError: the accounts do not go together.
        """
        if row.is_account:
            both = {"incoming": access.incoming, "outgoing": access.outgoing}
            field = row.field.rpartition(".")[2]
            check_accounts(**{**both, field: value})
        row.set(holder, value)
        if row.is_account and value:
            every = [found.settings.access for found in self.node.targets.values()]
            for one, other in shared_secrets((self.node.access, *every)):
                # Refused it cannot be: what is to be changed next may part them.
                _log.warn("{one} and {other} have one secret", one=one, other=other)

    def _set(self, found: ISCSITarget, name: str, value: Any) -> None:
        settings = found.settings
        self._put(TARGET_ROWS[name], settings, settings.access, value)
        found.settings_changed()

    def attributes_of(self, target: str) -> dict[str, Any]:
        """
        Return the attributes of a target by name: secrets too, whoever shows them to
        people hides those (`Attribute.shown`).
        """
        settings = self.node.targets[target].settings
        return {name: row.get(settings) for name, row in TARGET_ROWS.items()}

    # Listening.

    def listens(self, port: IListeningPort) -> None:
        """Look at files of hosts, and tell an iSNS server."""
        self.hosts.refresh()
        self._tell_isns()
        _log.info("iSCSI listens on {address}", address=address_name(port.getHost()))

    def _tell_isns(self) -> None:
        """
        Register with the iSNS server, if there is one; again when something changed.
        """
        server = self.settings["iSNSServer"]
        if self.isns is not None:
            self.isns.register_again()
        elif server is not None:
            host, port, control = server
            self.isns = ISNSClient(
                self.reactor, host, port, self._registration, access_control=control
            )
            self.node.initiator_allowed = self.isns.allows
            starting = Deferred.fromCoroutine(self.isns.start())
            starting.addErrback(
                lambda failure: _log.failure("iSNS failed", failure=failure)
            )

    def _leave_isns(self) -> None:
        """
        Have nothing to do with an iSNS server any more.
        """
        if self.isns is not None:
            leaving, self.isns = self.isns, None
            self.node.initiator_allowed = lambda _target, _initiator: True
            Deferred.fromCoroutine(leaving.stop()).addErrback(
                lambda failure: _log.failure("iSNS failed", failure=failure)
            )

    def _registration(self, host: str) -> Registration:
        """
        Return what an iSNS server is to know; *host* stands for wildcard addresses.
        """
        portals: list[tuple[str, int]] = []
        for one in self.ports:
            here: Any = one.getHost()
            wild = here.host in {"0.0.0.0", "::"}  # noqa: S104 - not bound here
            portals.append((host if wild else here.host, here.port))
        return Registration(
            folded(self.settings["isns_entity_name"] or socket.gethostname()),
            portals,
            [
                (name, found.settings.alias)
                for name, found in self.node.targets.items()
                if found.target.enabled
            ],
        )

    def _portals(self) -> list[str]:
        names = [address_name(port.getHost()) for port in self.ports]
        names = [name for name in names if not name.startswith(("0.0.0.0:", "[::]:"))]
        return [*names, *self._elsewhere]

    # Divided over processes (`IDividedDriver`); what else is needed for that comes when
    # it is.

    def divide(self, give: Callable[[str, Any, int], Deferred[None]]) -> None:
        """Give who logs in to a target to another process."""
        from scstd.protocols.handover import Door  # noqa: PLC0415

        self._door = Door(give)
        self.factory.protocol = self._door.doorman

    def again(self) -> None:
        """Give away who waits for a process."""
        self._door.again()

    def passed_on(self) -> Deferred[None]:
        """Fire when all that TLS is spoken with have got what they were sent."""
        passed_on: Deferred[None] = self._door.passed_on()
        return passed_on

    def adopt(self, target: str, told: Any, descriptor: int) -> None:
        """Go on with a login that another process has begun to read."""
        from scstd.protocols.adoption import adopt  # noqa: PLC0415

        if self.stopping or target not in self.node.targets:
            os.close(descriptor)
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        if not self.factory.numPorts:
            # No port has started it.
            self.factory.doStart()
        adopt(self.factory, told, descriptor)

    def portals(self) -> list[str]:
        """Return what discovery tells of where this one listens."""
        return self._portals()

    def listens_elsewhere(self, portals: Sequence[str]) -> None:
        """Tell initiators of these."""
        self._elsewhere = tuple(portals)

    def first_portal(self) -> str:
        """
        Return the beginning of a URL: of a port without TLS, if there is one, for
        hardly an initiator speaks that.
        """
        ports = sorted(self.ports, key=_is_tls)
        if not ports:
            return super().first_portal()
        scheme = "iscsi+tls" if _is_tls(ports[0]) else ""
        return self.portal_url(ports[0], scheme)

    def unlisten(self, port: IListeningPort) -> Deferred[None]:
        """Stop listening on a port; its connections stay."""
        closed = super().unlisten(port)
        if self.isns is not None:
            self.isns.register_again()
        return closed

    def sessions(self) -> list[Session]:
        """Return the normal sessions."""
        return self.node.sessions()

    def report(self, session: Session) -> dict[str, Any]:
        """Return what there is to say of a session."""
        return report(session)

    def end_session(self, session: Session, why: str) -> Deferred[None]:
        """Have an initiator log out."""
        return _all([session], why, async_message.dismiss)

    async def _stop(self) -> None:
        if self.isns is not None:
            await self.isns.stop()
        await super()._stop()
        if self.factory.numPorts:
            self.factory.doStop()

    def end_all(self) -> Deferred[Any]:
        """Close every connection."""
        # Sessions first: what was negotiated may let them outlive their connections.
        gone = _all(self.node.sessions(), "the target stops", _drop)
        clean = [_end(one, "the target stops") for one in self.factory.connections()]
        return gatherResults([gone, *clean])

    async def drain(self) -> None:
        """Take nothing new (`draining`), and wait for what has begun."""
        logins = [one for one in self.factory.connections() if one.phase & Phase.LOGIN]
        await gatherResults([_end(one, "the target stops") for one in logins])
        sessions = self.node.sessions()
        for one in sessions:
            draining.begin(one)
        await self.drained(lambda: draining.drained(sessions))


def _drop(session: Session, why: str, gone: Callable[[], None]) -> None:
    session.when_gone(gone)
    async_message.drop_session(session, why)


def _all(
    sessions: list[Session],
    why: str,
    call: Callable[[Session, str, Callable[[], None]], None],
) -> Deferred[None]:
    """
    End sessions by *call*; fire when all of them are gone.
    """
    ended: list[Deferred[None]] = []
    for session in sessions:
        ended.append(Deferred())
        call(session, why, partial(ended[-1].callback, None))
    return gatherResults(ended).addCallback(lambda _: None)


def _end(connection: Connection, why: str) -> Deferred[None]:
    ended: Deferred[None] = Deferred()
    connection.when_cleaned_up(lambda: ended.callback(None))
    connection.fail(why)
    return ended
