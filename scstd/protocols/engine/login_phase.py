# SPDX-License-Identifier: MIT
"""
The login phase of a connection: Login PDUs in and out of `login.Login`.

The last response is held back until the session that this one takes the place of is
gone (RFC 7143 section 6.3.5): an old write must not arrive after a new read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import admission
from scstd.protocols.wire.codes import CONTINUE, TRANSIT
from scstd.protocols.wire.login import Login, Reply, Request
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.pdu import LoginRequest, LoginResponse
from scstd.protocols.wire.states import (
    ConnectionEvent,
    SessionEvent,
    SessionState,
    session_after,
)
from scstd.protocols.wire.text import encode

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.connection_cleanup import Lost
    from scstd.protocols.engine.session import Session


@attrs.define(eq=False)
class LoginPhase:
    """
    The login of one connection.

    What it takes the place of is noted here until it does.
    """

    connection: Connection
    session_state: SessionState = SessionState.FREE
    """The state of the session that it begins: until there is a `Session`, and to the
    end for discovery, which has none."""
    login: Login = attrs.field(init=False)
    """The negotiation."""
    reinstates: bool = False
    """It takes the place of a session (RFC 7143 section 6.3.5)."""
    continues: Session | None = None
    """The session without connections that it is to continue (section 6.3.6)."""
    replaces: list[Lost] = attrs.field(factory=list)
    """The lost connections that it is to log out."""
    _request: LoginRequest | None = None
    _waiting: bool = False
    """A response is held back."""
    _refusal: tuple[float, LoginError] | None = None
    """What is said later, and when."""

    def __attrs_post_init__(self) -> None:
        self.login = Login(admission.Policy(self.connection.node, self.connection))

    def take_place(self) -> None:
        """
        Note that a session ends for this one.
        """
        self.reinstates = True

    def continue_session(self, session: Session) -> None:
        """
        Note which session it is to continue.
        """
        self.continues = session

    def settle_places(self) -> tuple[Session | None, list[Lost]]:
        """
        Return what it was to continue, and what it was to log out: that has happened,
        or is not going to.
        """
        continues, self.continues = self.continues, None
        replaces, self.replaces = self.replaces, []
        return continues, replaces

    def receive(self, pdu: LoginRequest) -> None:
        """
        Take a Login Request.
        """
        connection = self.connection
        connection.happened(ConnectionEvent.LOGIN_REQUEST)
        first = self._request is None
        if first:
            connection.begin_login(pdu)
            if not pdu.tsih:
                self._session(SessionEvent.LOGIN_BEGUN)
        self._request = pdu
        if not first:
            self._take(pdu)
            return
        self._waiting = True
        connection.node.look(lambda: self._begin(pdu))

    def _begin(self, pdu: LoginRequest) -> None:
        """
        Take the first request: who may come in is known as it is now.
        """
        connection = self.connection
        if connection.over:
            return
        self._waiting = False
        self._take(pdu)
        if not connection.receiving:
            connection.wake()

    def _take(self, pdu: LoginRequest) -> None:
        connection = self.connection
        try:
            if self._waiting:
                raise LoginError(  # noqa: TRY301 - refused as the others are
                    LoginStatus.INITIATOR_ERROR, "the login is not over"
                )
            reply = self.login.receive(
                Request(
                    csg=pdu.flags >> 2 & 3,
                    nsg=pdu.flags & 3,
                    transit=bool(pdu.flags & TRANSIT),
                    continue_=bool(pdu.flags & CONTINUE),
                    version_min=pdu.version_min,
                    isid=pdu.isid,
                    tsih=pdu.tsih,
                    cid=pdu.cid,
                    itt=pdu.itt,
                    data=bytes(pdu.data),
                )
            )
            if reply.done:
                self._waiting = True
                admission.open_session(connection, lambda: self._done(reply))
            else:
                self._send(reply)
        except LoginError as error:
            self.refuse(error)

    def _send(self, reply: Reply, tsih: int = 0) -> None:
        assert self._request is not None
        self.connection.send_pdu(
            LoginResponse(
                flags=(TRANSIT if reply.transit else 0)
                | (CONTINUE if reply.continue_ else 0)
                | reply.csg << 2
                | reply.nsg,
                isid=self._request.isid,
                tsih=tsih or self._request.tsih,
                itt=self._request.itt,
                data=reply.data,
            )
        )

    def _session(self, event: SessionEvent) -> None:
        self.session_state = session_after(self.session_state, event)

    def ended(self) -> None:
        """
        Note that the connection is over: the login has failed, or the discovery ended.
        """
        if self.session_state is SessionState.ACTIVE:
            self._session(SessionEvent.LOGIN_FAILED)
        elif self.session_state is SessionState.LOGGED_IN:
            self._session(SessionEvent.CLOSED)

    def _done(self, reply: Reply) -> None:
        """
        Enter the full feature phase: digests hold from the next PDU on.
        """
        connection = self.connection
        if connection.over:
            return
        self._waiting = False
        try:
            admission.enter(connection)
        except LoginError as error:
            self.refuse(error)
            return
        session = connection.session
        if session is None:
            self._session(SessionEvent.LOGIN_DONE)
        else:
            self.session_state = SessionState.FREE
        self._send(reply, session.tsih if session is not None else 0xFFFF)
        connection.happened(ConnectionEvent.LOGIN_DONE)
        connection.logged_in(self.login.parameters)
        if not connection.receiving:
            connection.wake()

    def tick(self, now: float) -> None:
        """
        Say what was held back, if it is time.
        """
        if self._refusal is not None and now >= self._refusal[0]:
            self.refuse(self._refusal[1])

    def refuse(self, error: LoginError) -> None:
        """
        End the login with the error's status: later, if it was a wrong proof, for who
        tries many is to be slow.
        """
        connection = self.connection
        wrong = error.status == LoginStatus.AUTHENTICATION_FAILURE
        if wrong and connection.node.failure_delay and self._refusal is None:
            self._waiting = True
            self._refusal = connection.now + connection.node.failure_delay, error
            return
        request = self._request or LoginRequest()
        why = f"login refused, status {error.status:04x}: {error}"
        connection.give_reason(why)
        connection.send_pdu(
            LoginResponse(
                isid=request.isid,
                tsih=request.tsih,
                itt=request.itt,
                status_class=error.status >> 8,
                status_detail=error.status & 0xFF,
                data=encode(error.pairs),
            )
        )
        connection.node.refused(connection, error)
        connection.end(ConnectionEvent.LOGIN_FAILED)

    @property
    def begun(self) -> bool:
        """Whether a Login Request has come."""
        return self._request is not None

    def give_way(self) -> None:
        """
        End for others, who wait for the place: it is said to who has said something.
        """
        if self.begun:
            self.refuse(
                LoginError(LoginStatus.OUT_OF_RESOURCES, "it gave way to others")
            )
        else:
            self.connection.fail("it gave way to others")

    def intruded(self) -> None:
        """
        Something that is no Login Request came during the login.
        """
        if self._request is None:
            # Not even a first request: this is not iSCSI, or not any more.
            self.connection.fail("the first PDU is not a Login Request")
            return
        self.refuse(LoginError(LoginStatus.INVALID_DURING_LOGIN, "not a Login Request"))
