# SPDX-License-Identifier: MIT
"""
The front's side of a handover: who wants a target goes to the process that has it.

The first text of a login says whether the initiator wants to discover or a target, and
which (RFC 7143 section 6.3).  So a `Doorman` looks at what comes until that is whole,
and feeds nothing of it to the engine; then it has one of two things done with all of
it, to the byte: the socket goes to the target's process and its engine, or it is taken
in by the engine here, which answers discovery, and refuses whatever is wrong as it
always does.  Nobody gets into a normal session here (`Doorman.elsewhere`).

A text may go on in further requests (the C bit), and each of these waits for an answer
to the one before: those are answered by the engine here, and the process to which the
connection goes takes them again, without answering.

While a process is not there, who wants its targets waits for the next one, which comes
soon: who is refused comes again when it likes, seconds later.  As long as a login may
take, that is, and while others have places to log in.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.protocols.adoption import Handed
from scstd.protocols.closing import LONGEST
from scstd.protocols.iscsi import ISCSITargetProtocol
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.relay import Relay, pair
from scstd.protocols.wire.codes import CONTINUE
from scstd.protocols.wire.framing import Framer, FramingError
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.names import normal_name, wanted_name
from scstd.protocols.wire.pdu import PDU, LoginRequest
from scstd.protocols.wire.text import MAX_TEXT_LENGTH, Collector, TextError

_log = Logger()

Give = Callable[[str, Any, int], "Deferred[None]"]
"""`scstd.interfaces.IDividedDriver.divide` says what it does."""


_MOST_ANSWERED = 2 * MAX_TEXT_LENGTH
"""Bytes of requests that are kept to be taken again: no honest text has as many."""

_ABSENT = {errno.EAGAIN, errno.ECONNRESET}
"""
What a process that is not there is told by, and one that has ended meanwhile.  If that
has answered, which it can hardly have, the next one's answer is one too many, and the
initiator comes again; no command is taken twice, for the bytes of each are read once.
"""


class _Stage(Enum):
    LOOKING = auto()
    """Nobody knows yet what it wants."""
    HERE = auto()
    """The engine of this process has it."""
    HELD = auto()
    """It waits for the process that it wants."""
    GIVING = auto()
    """It is on its way to another process."""
    RELAYING = auto()
    """Its bytes are passed on."""
    GONE = auto()
    """It is another process's, or closed."""


@attrs.define(eq=False)
class Door:
    """
    What the doormen of one node share: how they give a connection away, those that wait
    for a process, and those whose bytes are passed on.
    """

    give: Give
    held: dict[Doorman, None] = attrs.field(factory=dict, init=False)
    relaying: dict[Doorman, None] = attrs.field(factory=dict, init=False)
    _waiting: list[Deferred[None]] = attrs.field(factory=list, init=False)

    def doorman(self, factory: ISCSITargetFactory) -> Doorman:
        """
        Return the transport of a new connection.
        """
        return Doorman(self, factory)

    def again(self) -> None:
        """
        Try again with all that wait: a process is there.
        """
        for one in list(self.held):
            one.try_again()

    def passed_on(self) -> Deferred[None]:
        """
        Fire when nobody's bytes are passed on any more.
        """
        if not self.relaying:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def leave(self, one: Doorman) -> None:
        """
        Forget one that is gone.
        """
        self.held.pop(one, None)
        self.relaying.pop(one, None)
        if not self.relaying:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


class Doorman(ISCSITargetProtocol):
    """
    One connection's transport, until it is known who is to have it.
    """

    def __init__(self, door: Door, factory: ISCSITargetFactory) -> None:
        super().__init__(factory)
        self._door = door
        self._began = self._seconds()
        self._target = ""
        """Which it wants."""
        self._stage = _Stage.LOOKING
        self._came = bytearray()
        """What has come, and the engine has not been fed."""
        self._framer = Framer()
        self._text = Collector()
        self._answered: list[bytes] = []
        self._kept = 0
        """The bytes of these."""
        self._why = LoginError(
            LoginStatus.SERVICE_UNAVAILABLE, "the target's process does not answer"
        )
        self._relay: Relay | None = None
        self._ended: float | None = None

    def elsewhere(self) -> LoginError | None:
        """Return why it was not handed over."""
        return self._why

    # What comes.

    def receive(self, now: float) -> Exception | None:  # noqa: ARG002
        """Have all of it come the one way."""
        found: Exception | None = self.transport.doRead()  # type: ignore[union-attr]
        return found

    def dataReceived(self, data: bytes) -> None:
        """Look at it, or pass it on."""
        if self._stage is _Stage.HERE:
            super().dataReceived(data)
        elif self._stage is _Stage.RELAYING:
            assert self._relay is not None
            self._relay.write(data)
        elif not self.connection.over:
            self._came += data
            if self._stage is _Stage.LOOKING:
                self._framer.feed(data)
                self._look()
            elif self._stage is _Stage.HELD:
                self._read_on()

    def _look(self) -> None:
        """
        Look at the requests that are whole, until it is clear who is to have it.
        """
        while self._stage is _Stage.LOOKING and not self.connection.over:
            try:
                pdu = self._framer.next()
                if pdu is None:
                    return
                target = self._wanted(pdu)
            except (FramingError, TextError, LoginError):
                # The engine finds the same, and says so.
                target = ""
            if target is None:
                self._answer()
            elif target:
                self._target = target
                self._give_away()
            else:
                self._keep()

    def _wanted(self, pdu: PDU) -> str | None:
        """
        Return which target a request wants, "" for none of another process's; None if
        its text goes on.

        :raises TextError: the text is malformed or too long.
        :raises LoginError: a name can be nobody's.
        """
        node, connection = self.factory.node, self.connection
        if type(pdu) is not LoginRequest or connection.over_login_limit:
            return ""
        self._text.add(bytes(pdu.data))
        if pdu.flags & CONTINUE:
            return None if self._kept < _MOST_ANSWERED else ""
        offers = dict(self._text.take())
        if offers.get("SessionType", "Normal") != "Normal":
            return ""
        target = wanted_name(offers.get("TargetName", ""))
        initiator = normal_name(offers.get("InitiatorName", ""))
        known = target in node.targets and node.initiator_allowed(target, initiator)
        return target if known and node.enabled and not node.suspended else ""

    def _answer(self) -> None:
        """
        Have the request found last, which is whole, answered here.
        """
        whole = bytes(self._came[: len(self._came) - self._framer.buffered])
        del self._came[: len(whole)]
        self._answered.append(whole)
        self._kept += len(whole)
        super().dataReceived(whole)

    def _keep(self) -> None:
        """
        Leave the connection to the engine of this process.
        """
        self._stage = _Stage.HERE
        came, self._came = bytes(self._came), bytearray()
        super().dataReceived(came)

    # The handover.

    def _give_away(self) -> None:
        """
        Give the connection to the process that has the target.
        """
        self._stage = _Stage.GIVING
        transport: Any = self.transport
        transport.pauseProducing()
        connection = self.connection
        handed = Handed(
            connection.peer,
            connection.portal,
            connection.certificate_names(),
            tuple(self._answered),
            bytes(self._came),
        )
        self._came.clear()
        maybeDeferred(self._given, handed).addCallbacks(
            self._taken, self._not_taken, errbackArgs=(handed.data,)
        ).addErrback(lambda failure: _log.failure("a handover failed", failure=failure))

    def _given(self, handed: Handed) -> Deferred[None]:
        """
        Give what there is to give.

        :raises OSError: there are no descriptors left.
        """
        if self._direct is not None:
            return self._door.give(self._target, handed, self._direct.fileno())
        self._relay, other = pair(
            self.factory.reactor, self.transport, self._other_end_closed
        )
        with other:
            return self._door.give(self._target, handed, other.fileno())

    def _taken(self, _result: Any) -> None:
        """
        The other process has it.
        """
        if self._stage is not _Stage.GIVING:
            if self._relay is not None:
                self._relay.end(clean=False)
        elif self._relay is not None:
            self._stage = _Stage.RELAYING
            self._door.relaying[self] = None
            self.connection.fail("it was handed over")
            self._relay.begin()
            came, self._came = bytes(self._came), bytearray()
            if came:
                self._relay.write(came)
        else:
            self._let_go()

    def _let_go(self) -> None:
        """
        Close our copy of the socket, and nothing but it: the connection goes on.
        """
        self._stage = _Stage.GONE
        self._direct = None
        self.connection.fail("it was handed over")
        transport: Any = self.transport
        # shutdown(2) would end the connection for whoever else has the socket.
        transport._shouldShutdown = False  # noqa: SLF001
        transport.connectionLost(Failure(ConnectionDone()))

    def _not_taken(self, failure: Failure, data: bytes) -> None:
        """
        Nobody has it: the engine here says so.
        """
        if self._relay is not None:
            relay, self._relay = self._relay, None
            relay.drop()
        if self._stage is not _Stage.GIVING:
            return
        _log.debug(
            "{peer} was not handed over: {why}",
            peer=self.connection.peer,
            why=failure.getErrorMessage(),
        )
        self._came[:0] = data
        number = getattr(failure.value, "errno", None)
        if number in _ABSENT and self._may_wait():
            self._stage = _Stage.HELD
            self._door.held[self] = None
            # Who gives up meanwhile is seen to.
            self._read_on()
            return
        if number in {errno.EMFILE, errno.ENFILE}:
            self._why = LoginError(
                LoginStatus.OUT_OF_RESOURCES, "no descriptors are left"
            )
        self._refuse()

    # A process that is not there.

    def _may_wait(self) -> bool:
        """
        Say whether it may wait: half the places for logins are for others.
        """
        node = self.factory.node
        if self.connection.over or len(self._door.held) >= node.max_logins // 2:
            return False
        return self._seconds() - self._began < node.login_timeout

    def _read_on(self) -> None:
        if len(self._came) <= _MOST_ANSWERED:
            self.transport.resumeProducing()  # type: ignore[union-attr]
        else:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def try_again(self) -> None:
        """
        Give it away now, if it waits for that and its target is still there.
        """
        if self._stage is not _Stage.HELD or self.connection.over:
            return
        self._door.held.pop(self, None)
        node = self.factory.node
        if self._target in node.targets and node.enabled and not node.suspended:
            self._give_away()
        else:
            self._refuse()

    def _refuse(self) -> None:
        """
        Have the engine here say why it is not handed over.
        """
        self._door.held.pop(self, None)
        self.transport.resumeProducing()  # type: ignore[union-attr]
        self._keep()

    # The end.

    def _other_end_closed(self, clean: bool) -> None:
        """
        The process that has the session has closed, or is gone.
        """
        self._relay = None
        if self._stage is not _Stage.RELAYING:
            return
        transport: Any = self.transport
        if clean:
            self._ended = self._seconds()
            self.factory.slots.ends(self)
            transport.loseConnection()
        else:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Have the other process see it too."""
        self._stage = _Stage.GONE
        if self._relay is not None:
            self._relay.end(clean=reason.check(ConnectionDone) is not None)
        self._door.leave(self)
        super().connectionLost(reason)

    def flush(self) -> None:
        """Send what answers there are, if they are ours."""
        if self._stage in {_Stage.LOOKING, _Stage.HERE, _Stage.HELD}:
            super().flush()
        elif self._stage is _Stage.GIVING and self.connection.over:
            # It has taken too long: no answer of ours may cross one of the other's.
            self._leave()

    def give_way(self) -> None:
        """Be gone at once."""
        if self._stage is _Stage.HELD and not self.connection.over:
            self._refuse()
            if self.connection.over and not self._producing:
                # It has been told, and that is on its way.
                return
        if self._stage in {_Stage.LOOKING, _Stage.HERE}:
            super().give_way()
        else:
            self._leave()

    def _leave(self) -> None:
        """
        Be gone, whatever the other process has done with it.
        """
        if self._stage is _Stage.GIVING and self._direct is not None:
            self._let_go()
        elif self._stage is not _Stage.GONE:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def tick(self, now: float) -> None:
        """Look at what is to happen by a time."""
        if self._ended is not None:
            if now - self._ended >= LONGEST:
                self.transport.abortConnection()  # type: ignore[union-attr]
        elif self._stage is _Stage.HELD and not self.connection.over:
            if now - self._began < self.factory.node.login_timeout:
                self.try_again()
            else:
                self._refuse()
        else:
            super().tick(now)
