# SPDX-License-Identifier: MIT
"""
The iSNS client of a node (RFC 4171).

One TCP connection to the server, made again with growing pauses when it is lost; what
we have is registered anew each time (the server may have forgotten it).  On it, or on
one that it makes to us, the server asks whether we are there (ESI) and says that
something has changed (SCN): then the initiators are asked for again, as they are every
`QUERY_INTERVAL` seconds.

With access control an initiator sees a target if one of its discovery domains has both.
While the server has not been heard of nobody does, for that is the safe side.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.protocols.isns.connections import ISNSProtocol, Listener
from scstd.protocols.isns.registration import (
    Registration,
    asking_initiators,
    deregistering,
    initiators_in,
    registering,
    registration_period,
    subscribing,
)
from scstd.protocols.wire.isns import (
    CLIENT,
    REPLACE,
    RESPONSE,
    Function,
    ISNSStatus,
    Message,
    encode,
    status_name,
)

_log = Logger()

PORT = 3205
"""The port of iSNS servers (RFC 4171 section 2.9)."""

QUERY_INTERVAL = 30.0
"""Seconds between two questions for the initiators: they keep us registered too."""

NOTICE_INTERVAL = 1.0
"""Seconds between two questions for the initiators, however many notices come."""

DEREGISTRATION_TIMEOUT = 2.0
"""Seconds in which it has to let us go: at the end nobody wants to wait."""

_NOT_A_SOURCE = frozenset(
    (
        ISNSStatus.SOURCE_UNKNOWN,
        ISNSStatus.SOURCE_ABSENT,
        ISNSStatus.SOURCE_UNAUTHORIZED,
    )
)
"""Statuses that say that a message may not come from this node."""


@attrs.define(eq=False, slots=False)
class ISNSClient:
    """
    The client of one node: *registration* returns what there is to tell, given our
    address as the server sees it; *pause* how many seconds to wait after so many
    failures.  What was registered is under the name of its entity; a target of it is
    the source of our messages.
    """

    reactor: Any
    host: str
    port: int
    registration: Callable[[str], Registration]
    access_control: bool = False
    """Whether only those initiators see a target that share a domain with it."""
    initiators: dict[str, frozenset[str]] = attrs.field(factory=dict)
    """By target: who does, as the server said last."""
    registered: bool = False
    pause: Callable[[int], float] = attrs.field(factory=backoffPolicy)
    listeners: dict[Listener, None] = attrs.field(factory=dict)
    """Connections that the server has made, the oldest first."""
    _failures: int = 0
    """Connections since the last one on which it registered us."""
    _source: str = ""
    _entity: str = ""
    """What it may have of us; empty if nothing."""
    _service: ClientService | None = None
    _protocol: ISNSProtocol | None = None
    _listening: IListeningPort | None = None
    _refresh: LoopingCall | None = None
    _asking: bool = False
    """The initiators are being asked for, or were a moment ago."""
    _ask_again: bool = False
    _next: IDelayedCall | None = None
    """When that moment is over."""

    def allows(self, target: str, initiator: str) -> bool:
        """
        Say whether an initiator may see a target.
        """
        return not self.access_control or initiator in self.initiators.get(target, ())

    def take(self, message: Message, transport: Any) -> None:
        """
        Answer what the server asks: an inquiry with all that it says, a notice with the
        node that it is for (sections 5.7.5.13 and 5.7.5.8).
        """
        inquiry = message.function == Function.ESI
        if not inquiry and message.function != Function.SCN:
            return
        answer = Message(
            message.function | RESPONSE,
            message.transaction,
            message.attributes if inquiry else message.attributes[:1],
            CLIENT,
            status=0,
        )
        transport.write(encode(answer))
        if not inquiry:
            self.changed()

    async def start(self) -> None:
        """
        Listen for the server, and begin to connect to it.
        """
        made = Factory.forProtocol(lambda: Listener(self))
        made.noisy = False
        everywhere = (
            "tcp6:0:interface=\\:\\:" if socket.has_dualstack_ipv6() else "tcp:0"
        )
        self._listening = await serverFromString(self.reactor, everywhere).listen(made)
        factory = Factory.forProtocol(lambda: ISNSProtocol(self))
        factory.noisy = False
        self._service = ClientService(
            HostnameEndpoint(self.reactor, self.host, self.port),
            factory,
            clock=self.reactor,
            retryPolicy=self._pause,
        )
        self._service.startService()
        self._refresh = LoopingCall(self.changed)
        self._refresh.clock = self.reactor
        self._refresh.start(QUERY_INTERVAL, now=False)

    def _pause(self, _attempt: int) -> float:
        # A server that takes connections and does not register us is no better than
        # one that is not there.
        self._failures += 1
        return self.pause(self._failures)

    def connected(self, protocol: ISNSProtocol) -> None:
        """
        Register with the server, to which there is a connection now.
        """
        self._protocol = protocol
        self.register_again()

    def disconnected(self, protocol: ISNSProtocol) -> None:
        """
        Take it that the server may forget us.
        """
        if self._protocol is protocol:
            self._protocol = None
            self.registered = False

    def _what(self, protocol: ISNSProtocol) -> Registration:
        """
        Return what there is to tell.
        """
        here: Any = protocol.transport.getHost()  # type: ignore[union-attr]
        return self.registration(here.host)

    async def _register(self, protocol: ISNSProtocol) -> None:
        """
        Register everything, and for notices; then ask who may see it.  Without a target
        there is nobody who may register anything (section 5.6.1).

        :raises Exception: the server does not want us.
        """
        what = self._what(protocol)
        if self._entity and (not what.targets or self._entity != what.entity):
            await self._withdraw(protocol)
        if not what.targets:
            self.registered = False
            self.initiators = {}
            self._failures = 0
            return
        answer = await self._introduce(protocol, what)
        if answer.status:
            why = status_name(answer.status)
            _log.error("the iSNS server refused us: {why}", why=why)
            raise ConnectionError(why)
        self._source = what.targets[0][0]
        self._look_again(answer)
        for name, _alias in what.targets:
            answer = await protocol.ask(Function.SCN_REG, subscribing(name))
            if answer.status:
                _log.warn(
                    "the iSNS server sends no notices for {name}: {why}",
                    name=name,
                    why=status_name(answer.status),
                )
        await self._ask_initiators(protocol, what)
        self.registered = True
        self._failures = 0
        _log.info(
            "registered {count} targets with the iSNS server {host}",
            count=len(what.targets),
            host=self.host,
        )

    async def _introduce(self, protocol: ISNSProtocol, what: Registration) -> Message:
        """
        Register portals and targets; return the server's answer.

        Who is registered already may change a registration (section 5.6.1): if that is
        a target that goes, it is still the first to be tried.
        """
        assert self._listening is not None
        here: Any = self._listening.getHost()
        names = [name for name, _alias in what.targets]
        sources = [names[0]]
        if self._source and self._source != names[0]:
            sources = [self._source, *sources]
        inquiries = [True, False]
        while True:
            # From now on it may be there.
            self._source, self._entity = sources[0], what.entity
            answer = await protocol.ask(
                Function.DEV_ATTR_REG,
                registering(sources[0], what, here.port, inquiries=inquiries[0]),
                REPLACE,
            )
            if answer.status in _NOT_A_SOURCE and len(sources) > 1:
                del sources[0]
            elif answer.status == ISNSStatus.ESI_NOT_AVAILABLE and len(inquiries) > 1:
                del inquiries[0]
            else:
                return answer

    async def _withdraw(self, protocol: ISNSProtocol) -> None:
        """
        Take off the server's list what is on it.
        """
        entity, self._entity = self._entity, ""
        await protocol.ask(Function.DEV_DEREG, deregistering(self._source, entity))

    def _look_again(self, answer: Message) -> None:
        """
        Ask so often that the registration, as the server says how long it holds, does
        not expire (section 6.2.6).
        """
        period = registration_period(answer)
        interval = min(QUERY_INTERVAL, period / 2) if period else QUERY_INTERVAL
        refresh = self._refresh
        if refresh is not None and refresh.running and refresh.interval != interval:
            refresh.stop()
            refresh.start(interval, now=False)

    async def _ask_initiators(self, protocol: ISNSProtocol, what: Registration) -> None:
        """
        Learn who may see each target.

        :raises ConnectionError: the server does not say, or knows nothing of us.
        """
        found: dict[str, frozenset[str]] = {}
        for name, _alias in what.targets:
            answer = await protocol.ask(Function.DEV_ATTR_QRY, asking_initiators(name))
            if answer.status:
                # That nobody may is no error (section 5.6.5.2).
                raise ConnectionError(
                    f"who may see {name}: {status_name(answer.status)}"
                )
            found[name] = initiators_in(answer) - {name}
        self.initiators = found

    def changed(self) -> None:
        """
        Ask for the initiators again: once at a time, and not all the time.
        """
        protocol = self._protocol
        if protocol is None or not self.registered:
            return
        self._ask_again = self._asking
        if not self._asking:
            self._asking = True
            self._have(protocol, self._ask_once(protocol))

    async def _ask_once(self, protocol: ISNSProtocol) -> None:
        try:
            await self._ask_initiators(protocol, self._what(protocol))
        finally:
            self._next = self.reactor.callLater(NOTICE_INTERVAL, self._asked)

    def _asked(self) -> None:
        self._asking, self._next = False, None
        if self._ask_again:
            self.changed()

    def register_again(self) -> None:
        """
        Tell the server what there is now: targets or portals have changed.
        """
        if self._protocol is not None:
            self._have(self._protocol, self._register(self._protocol))

    @staticmethod
    def _have(protocol: ISNSProtocol, done: Coroutine[Any, Any, None]) -> None:
        """
        Have something done on a connection; give that up if it fails: another is made.
        """

        def failed(failure: Failure) -> None:
            if not failure.check(ConnectionDone, ConnectionAborted):
                _log.warn("the iSNS server: {why}", why=failure.getErrorMessage())
            protocol.abort()

        Deferred.fromCoroutine(done).addErrback(failed)

    async def stop(self) -> None:
        """
        Take ourselves off the server's list, and stop.
        """
        if self._refresh is not None and self._refresh.running:
            self._refresh.stop()
        protocol = self._protocol
        if protocol is not None and self._entity:
            leaving = Deferred.fromCoroutine(self._withdraw(protocol))
            leaving.addTimeout(DEREGISTRATION_TIMEOUT, self.reactor)
            await leaving.addErrback(lambda _: None)
        self.registered = False
        if self._service is not None:
            stopping = self._service.stopService()
            # It waits until what was sent is read.
            late = None if protocol is None else self._abort_later(protocol)
            await stopping
            if late is not None and late.active():
                late.cancel()
        closed = None if self._listening is None else self._listening.stopListening()
        if closed is not None:
            await closed
        for one in list(self.listeners):
            one.abort()
        # The connection's end may have made it.
        if self._next is not None:
            self._next.cancel()

    def _abort_later(self, protocol: ISNSProtocol) -> IDelayedCall:
        late: IDelayedCall = self.reactor.callLater(
            DEREGISTRATION_TIMEOUT, protocol.abort
        )
        return late
