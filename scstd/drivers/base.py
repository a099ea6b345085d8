# SPDX-License-Identifier: MIT
"""
A target driver at work, but for its protocol: attributes, targets by name, ports,
sessions, URLs, and the end in the right order.

Derive from `BaseDriver`, give it a `factory` of protocols, and have these make a
`scstd.drivers.session.DriverSession` when an initiator is let in.  A driver that keeps
its sessions itself overrides `sessions`, `end_session` and `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from scstd.drivers.addresses import address_name
from scstd.installed import quietly
from scstd.interfaces import IReporting, ITargetDriverInstance
from scstd.scsi.reporting import Report, nobody
from scstd.scsi.target import Target
from scstd.scsi.transport import NOTHING, Transport

_log = Logger()

DRAIN_TIME = 15.0
"""
Seconds that commands under way have to end before the target stops; what has not by
then is aborted.
"""

ABORT_TIME = 0.25
"""Seconds that those have to end which were aborted."""

DRAIN_STEP = 0.02
"""Seconds between two looks at what has not ended."""


@attrs.define(eq=False)
class ServedTarget:
    """
    A target of a driver, and its attributes that are the driver's.
    """

    target: Target
    values: dict[str, Any] = attrs.field(factory=dict)


@implementer(ITargetDriverInstance, IReporting)
@attrs.define(eq=False, slots=False)
class BaseDriver:
    """
    A target driver at work; `ITargetDriverInstance` says what its methods promise.
    """

    scheme: ClassVar[str] = "scsi"
    """The beginning of URLs of its LUNs."""

    transport: ClassVar[Transport] = NOTHING
    """What its protocol brings to the device server: each of its targets has it."""

    reactor: Any
    settings: dict[str, Any] = attrs.field(repr=False)
    """Its attributes by name, as they are now."""
    targets: dict[str, Any] = attrs.field(factory=dict, init=False, repr=False)
    """A `ServedTarget`, or the driver's own kind of it, by its name."""
    factory: Any = attrs.field(default=None, init=False, repr=False)
    """Makes the protocols of what is listened on."""
    ports: list[IListeningPort] = attrs.field(factory=list, init=False)
    event: Report = attrs.field(default=nobody, init=False, repr=False)
    """To be called with events (`IReporting`)."""
    stopping: bool = attrs.field(default=False, init=False)
    """Whether it takes no commands any more."""
    opened: dict[Any, None] = attrs.field(factory=dict, init=False, repr=False)
    """The sessions there are, in order: they enter and leave it themselves."""

    def report_to(self, report: Report) -> None:
        """Tell of events from now on."""
        self.event = report

    # What is configured.

    def attributes(self) -> dict[str, Any]:
        """Return the driver's attributes."""
        return dict(self.settings)

    def set(self, name: str, value: Any) -> None:
        """Change one of them."""
        self.settings[name] = value

    def add_target(self, target: Target, settings: Mapping[str, Any]) -> None:
        """Serve a target."""
        target.transport = self.transport
        self.targets[target.name] = ServedTarget(target, dict(settings))

    def remove_target(self, name: str) -> Deferred[None]:
        """Forget a target, and end its sessions."""
        target = self.targets.pop(name).target
        mine = [one for one in self.sessions() if one.nexus.target is target]
        return self._end(mine, "the target is removed")

    def attributes_of(self, target: str) -> dict[str, Any]:
        """Return the driver's attributes of a target."""
        return dict(self.targets[target].values)

    def set_attribute(self, target: str, name: str, value: Any) -> None:
        """Change one of them."""
        self.targets[target].values[name] = value

    def target_changed(self, target: str) -> None:
        """Nothing: `visible` looks at each login."""

    def group_changed(self, target: str) -> None:
        """Nothing: there are no attributes of groups."""

    def visible(self, name: str, initiator: str) -> Target | None:
        """
        Return a target by its name, if this initiator (or initiator port) is to be let
        in: the target and the driver are enabled, it has LUNs for it, and the initiator
        is not there already, nor a command of its last session at work.
        """
        found = self.targets.get(name)
        if found is None or self.stopping or not self.settings.get("enabled", True):
            return None
        target: Target = found.target
        if not target.enabled or not target.luns_for(initiator):
            return None
        return None if _is_there(target, initiator) else target

    # Listening.

    def listen(self, endpoint: str) -> Deferred[Any]:
        """Listen on an endpoint."""
        with quietly():
            where = serverFromString(self.reactor, endpoint)
        listening: Deferred[IListeningPort] = where.listen(self.factory)
        return listening.addCallback(self._listening)

    def _listening(self, port: IListeningPort) -> IListeningPort:
        self.ports.append(port)
        self.listens(port)
        return port

    def listens(self, port: IListeningPort) -> None:
        """
        Say so.
        """
        where = address_name(port.getHost())
        _log.info("{scheme} listens on {where}", scheme=self.scheme, where=where)

    def unlisten(self, port: IListeningPort) -> Deferred[None]:
        """Stop listening on a port; its connections stay."""
        if port in self.ports:
            self.ports.remove(port)
        closed = port.stopListening()
        return succeed(None) if closed is None else closed

    def first_portal(self) -> str:
        """
        Return the beginning of a URL, ``SCHEME://HOST:PORT``, as somebody on this
        machine reaches the first port.
        """
        return self.portal_url(self.ports[0]) if self.ports else f"{self.scheme}://"

    def portal_url(self, port: IListeningPort, scheme: str = "") -> str:
        """
        Return the beginning of a URL of a port: of one on all addresses, that of this
        machine.
        """
        name = address_name(port.getHost())
        for wildcard in ("0.0.0.0:", "[::]:"):
            if name.startswith(wildcard):
                name = "127.0.0.1:" + name.removeprefix(wildcard)
        return f"{scheme or self.scheme}://{name}"

    def urls(self) -> list[str]:
        """Return a URL for each LUN of the default map of each enabled target."""
        portal = self.first_portal()
        return [
            f"{portal}/{name}/{lun}"
            for name, found in self.targets.items()
            if found.target.enabled
            for lun in sorted(found.target.luns)
        ]

    # Sessions.

    def sessions(self) -> list[Any]:
        """Return the sessions."""
        return list(self.opened)

    def report(self, session: Any) -> Mapping[str, Any]:
        """Return what there is to say of a session."""
        found: Mapping[str, Any] = session.report()
        return found

    def end_session(self, session: Any, why: str) -> Deferred[None]:
        """End a session."""
        ended: Deferred[None] = session.end(why)
        return ended

    def _end(self, sessions: list[Any], why: str) -> Deferred[None]:
        ended = [self.end_session(one, why) for one in sessions]
        return gatherResults(ended).addCallback(lambda _: None)

    # The end.

    def stop(self) -> Deferred[None]:
        """
        Stop listening, let commands end, end every session, and wait for the tasks.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # One by one: others may come and go meanwhile.
        while self.ports:
            await self.unlisten(self.ports[0])
        self.stopping = True
        await self.drain()
        await self._over(self.end_all())

    async def drain(self) -> None:
        """
        Wait for the commands that have begun, for `DRAIN_TIME` at most.
        """
        await self.drained(
            lambda: not any(one.nexus.tasks() for one in self.sessions())
        )

    async def drained(self, quiet: Callable[[], bool]) -> None:
        """
        Wait until *quiet* says so, for `DRAIN_TIME` at most.
        """
        until = self.reactor.seconds() + DRAIN_TIME
        while self.reactor.seconds() < until and not quiet():
            await deferLater(self.reactor, DRAIN_STEP)

    def end_all(self) -> Deferred[Any]:
        """
        End every session at once; fire when no task can touch data.
        """
        return self._end(self.sessions(), "the target stops")

    async def _over(self, over: Deferred[Any]) -> None:
        """
        Wait for that, for `ABORT_TIME` at most: a store that does not end what it does
        ends no stop.
        """
        until = self.reactor.seconds() + ABORT_TIME
        while self.reactor.seconds() < until and not over.called:
            await deferLater(self.reactor, DRAIN_STEP)


def _is_there(target: Target, port: str) -> bool:
    """
    Say whether a nexus of this initiator port is there, or leaves with its commands.

    One I_T nexus has one session; and what an old one still writes would come after
    what its initiator does next.
    """
    leaving = [itl.nexus for unit in target.units() for itl in unit.departing]
    return any(
        one.target is target and one.initiator_port.lower() == port.lower()
        for one in (*target.nexuses, *leaving)
    )
