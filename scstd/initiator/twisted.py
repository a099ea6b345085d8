# SPDX-License-Identifier: MIT
"""
An initiator on Twisted: a session whose requests are Deferreds.

`SessionClient.connect` logs in over an endpoint; `SessionClient.execute` returns a
Deferred of a `CommandResult`.  Each request may take so many seconds by the clock that
is given, and no more: a command is aborted then, and what is not answered even to that
ends the connection.

Above error recovery level 0 a connection that is lost is opened again, when and as long
as the target said at the logout or the login (DefaultTime2Wait, DefaultTime2Retain),
and its tasks go on there; what does not come for a while is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from scstd.initiator.commands import CommandResult
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.discovery import exchange_text, targets_of
from scstd.initiator.login import LoginOptions, LoginRefused
from scstd.initiator.session import InitiatorSession
from scstd.initiator.tasks import CommandFailure, InitiatorTask
from scstd.initiator.url import TargetURL
from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import LogoutReason, TaskManagementCode

NAME = "iqn.2026-11.org.scstd:initiator"
"""What we are called if nobody says otherwise."""

TIMEOUT = 30.0
"""Seconds that a request may take, if nobody says otherwise."""

QUIET = 5.0
"""Seconds without a PDU after which it is asked for what is missing."""

RETRY = 1.0
"""Seconds between two attempts to open a connection again."""


class RequestTimeout(Exception):  # noqa: N818 - it is what became of it
    """
    A request was not answered in time.
    """


class SessionLost(Exception):  # noqa: N818 - it is what became of it
    """
    A request was not answered, for its connection or its session is no more.
    """


class InitiatorProtocol(Protocol):
    """
    The transport of one connection of a session.
    """

    def __init__(self, client: SessionClient, link: InitiatorConnection) -> None:
        self.client, self.link = client, link
        link.wake = self.flush

    def dataReceived(self, data: bytes) -> None:
        """Hand it over, and send what that has led to."""
        self.client.heard = self.client.clock.seconds()
        self.client.session.receive_data(self.link, data)
        self.flush()

    def flush(self) -> None:
        """
        Send what there is, and close if that was the end.
        """
        if self.transport is None or not self.connected:
            return
        data = self.link.take_output()
        if data:
            self.transport.write(data)
        if self.link.over:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Have the session know."""
        self.client.protocols.pop(self.link, None)
        self.client.session.lost(self.link, reason.getErrorMessage())
        self.client.closed()


class SessionClient:
    """
    A session with a target.
    """

    def __init__(
        self,
        clock: Any,
        endpoint: IStreamClientEndpoint,
        options: LoginOptions,
        *,
        name: str = NAME,
        isid: bytes = b"\x80\0\0\0\0\1",
        timeout: float = TIMEOUT,
    ) -> None:
        self.clock, self.endpoint, self.timeout = clock, endpoint, timeout
        self.session = InitiatorSession(name, isid, options)
        """The session itself, for what there is no method for here."""
        self.session.on_lost = self._reopen
        self.protocols: dict[InitiatorConnection, InitiatorProtocol] = {}
        """The transports of its connections."""
        self.heard = clock.seconds()
        """When something has come last."""
        self._watching: Any = None
        self._closing: list[Deferred[None]] = []

    @classmethod
    def for_url(
        cls, reactor: Any, url: str, *keys: tuple[str, str], **more: Any
    ) -> SessionClient:
        """
        Return a client for the target of a URL (`TargetURL`); *keys* are offered at the
        login.
        """
        where = TargetURL.parse(url)
        endpoint = HostnameEndpoint(reactor, where.host, where.port)
        return cls(reactor, endpoint, where.options(*keys), **more)

    # Connections.

    def connect(self, cid: int | None = None) -> Deferred[SessionClient]:
        """
        Open a connection and log in; the first time that opens the session.

        The Deferred fails with `LoginRefused`, or with why there is no connection.
        """
        links = self.session.connections
        if cid is None:
            cid = max((one.cid for one in links), default=-1) + 1
        link = InitiatorConnection(cid)
        done: Deferred[SessionClient] = Deferred()
        begin = partial(self.session.connect, connection=link)
        self._open(link, begin, done)
        return done

    def _open(
        self,
        link: InitiatorConnection,
        begin: Callable[..., object],
        done: Deferred[SessionClient],
    ) -> None:
        """
        Open a transport, and *begin* a login there.
        """
        late = self.clock.callLater(self.timeout, self._too_late, link, done)

        def logged_in(error: LoginRefused | None) -> None:
            if late.active():
                late.cancel()
            if done.called:
                return
            if error is None:
                done.callback(self)
            else:
                done.errback(error)

        def opened(protocol: InitiatorProtocol) -> None:
            if done.called:
                # It has taken too long.
                protocol.transport.abortConnection()  # type: ignore[union-attr]
                return
            self.protocols[link] = protocol
            begin(on_login=logged_in)

        def failed(failure: Failure) -> None:
            if late.active():
                late.cancel()
            if not done.called:
                done.errback(failure)

        made = InitiatorProtocol(self, link)
        connectProtocol(self.endpoint, made).addCallbacks(opened, failed)

    def _too_late(self, link: InitiatorConnection, done: Deferred[Any]) -> None:
        if not done.called:
            done.errback(RequestTimeout("the login takes too long"))
        self._abort(link)

    def _abort(self, link: InitiatorConnection | None) -> None:
        protocol = self.protocols.get(link) if link is not None else None
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abortConnection()  # type: ignore[attr-defined]

    def _reopen(self, lost: InitiatorConnection) -> None:
        """
        Open a connection again that is lost, for its tasks to go on.
        """
        agreed = lost.parameters
        until = self.clock.seconds() + agreed.default_time2wait
        until += agreed.default_time2retain
        delay = max(agreed.default_time2wait, 0.0)
        self.clock.callLater(delay, self._try_again, lost, until)

    def _try_again(self, lost: InitiatorConnection, until: float) -> None:
        session = self.session
        if session.over or session.recovery is None:
            return
        link = InitiatorConnection(lost.cid)
        link.parameters = lost.parameters
        done: Deferred[SessionClient] = Deferred()
        begin = partial(session.recovery.replace, lost, connection=link)
        self._open(link, begin, done)

        def failed(failure: Failure) -> None:
            if link in self.protocols or link.why or session.over:
                # The session knows, and does what is to be done.
                return
            if self.clock.seconds() + RETRY > until:
                session.end(f"the connection is lost: {failure.getErrorMessage()}")
            else:
                self.clock.callLater(RETRY, self._try_again, lost, until)

        done.addErrback(failed)

    def _watch(self) -> None:
        """
        See that what is under way goes on, while there is anything.
        """
        recovery = self.session.recovery
        if recovery is None or self._watching is not None or self.session.over:
            return
        self._watching = self.clock.callLater(QUIET, self._look)

    def _look(self) -> None:
        self._watching = None
        session = self.session
        if session.recovery is None or not session.tasks or session.over:
            return
        if self.clock.seconds() - self.heard >= QUIET:
            session.recovery.stalled()
        self._watch()

    # Requests.

    def execute(
        self, cdb: bytes, *, timeout: float | None = None, **fields: Any
    ) -> Deferred[CommandResult]:
        """
        Carry out a command: *fields* are those of `InitiatorSession.execute`.

        The Deferred fails with `RequestTimeout` when it was aborted for it takes too
        long, and with `CommandFailure` when there is no status; when it is cancelled,
        the command is aborted.
        """
        late: list[Any] = []

        def ended(task: InitiatorTask) -> None:
            for one in late:
                if one.active():
                    one.cancel()
            if done.called:
                return
            try:
                done.callback(task.result())
            except CommandFailure:
                done.errback()

        def aborted(_pdu: Any) -> None:
            self.session.tasks.pop(task.itt, None)
            task.end("it was aborted")

        def abort(_cancelled: Any = None) -> None:
            seconds = self.timeout if timeout is None else timeout
            late.append(self.clock.callLater(seconds, self._abort, task.connection))
            function = TaskManagementCode.ABORT_TASK
            self.session.manage(function, task=task, answered=aborted)

        def too_late() -> None:
            done.errback(RequestTimeout(f"no answer to {cdb.hex()}"))
            abort()

        done: Deferred[CommandResult] = Deferred(abort)
        seconds = self.timeout if timeout is None else timeout
        late.append(self.clock.callLater(seconds, too_late))
        task = self.session.execute(cdb, on_end=ended, **fields)
        self._watch()
        return done

    def _answer(self, send: Callable[[Callable[[Any], object]], object]) -> Any:
        """
        Return a Deferred of the answer to what *send* sends.
        """

        def answered(found: Any) -> None:
            if late.active():
                late.cancel()
            if done.called:
                return
            if found is None:
                why = self.session.why or "the target rejected it"
                done.errback(SessionLost(why))
            else:
                done.callback(found)

        def too_late() -> None:
            done.errback(RequestTimeout("no answer"))

        done: Deferred[Any] = Deferred()
        late = self.clock.callLater(self.timeout, too_late)
        send(answered)
        return done

    def manage(self, function: int, *, lun: int = 0) -> Deferred[int]:
        """
        Ask for a task management function (`TaskManagementCode`); the Deferred fires
        with the response (`TaskManagementResponseCode`).
        """
        asked: Deferred[Any] = self._answer(
            lambda answered: self.session.manage(function, lun=lun, answered=answered)
        )
        return asked.addCallback(lambda pdu: pdu.response)

    def ping(self, data: Buffer = b"ping") -> Deferred[bytes]:
        """
        Have the target send some data back.
        """
        request = self.session.ping(data)
        asked: Deferred[Any] = self._answer(partial(self.session.request, request))
        return asked.addCallback(lambda pdu: bytes(pdu.data))

    def text(self, *pairs: tuple[str, str]) -> Deferred[list[tuple[str, str]]]:
        """
        Say some keys; the Deferred fires with what the target says to that.
        """
        found: Deferred[list[tuple[str, str]]] = self._answer(
            partial(exchange_text, self.session, pairs)
        )
        return found

    def send_targets(self, which: str = "All") -> Deferred[dict[str, list[str]]]:
        """
        Ask which targets there are; the Deferred fires with the addresses of each.
        """
        return self.text(("SendTargets", which)).addCallback(targets_of)

    # The end.

    def logout(self) -> Deferred[None]:
        """
        Log out; the Deferred fires when all connections are closed.
        """
        session = self.session
        if not session.over:
            session.logout(reason=LogoutReason.CLOSE_SESSION)
            late = self.clock.callLater(self.timeout, self.abort)
            self._closing.append(Deferred())
            self._closing[-1].addCallback(
                lambda _none: late.cancel() if late.active() else None
            )
        return self._when_closed()

    def abort(self) -> Deferred[None]:
        """
        Close all connections at once; the Deferred fires when they are.
        """
        self.session.end("it was aborted")
        for protocol in list(self.protocols.values()):
            if protocol.transport is not None:
                protocol.transport.abortConnection()  # type: ignore[attr-defined]
        return self._when_closed()

    def _when_closed(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        self.closed()
        return done

    def closed(self) -> None:
        """
        Tell those who wait if the session is over and no connection is left.
        """
        if self.protocols or not self.session.over:
            return
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        waiting, self._closing = self._closing, []
        for one in waiting:
            one.callback(None)
