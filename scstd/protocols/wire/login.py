# SPDX-License-Identifier: MIT
"""
The login phase, as a state machine without PDUs (RFC 7143 sections 6.3 and 11.12).

`Login.receive` takes what one Login Request says and returns what the Login Response
says.  It collects texts that span requests, takes the stages from the table of
`states`, asks the `LoginPolicy` once whether this initiator may come in, and leaves the
keys to `keys`.
Whatever is wrong is a `LoginError`, which carries the status that ends the login.

Authentication is a seam: the policy's answer brings an `Authenticator`, which names the
methods it has and answers the security stage's keys; `NoAuthentication` lets everybody
in who accepts AuthMethod=None, `chap.CHAP` asks for a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from scstd.protocols.wire.keys import KEYS, LOCAL, KeyStage
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.names import normal_name, wanted_name
from scstd.protocols.wire.parameters import RESERVED, Parameters, negotiate
from scstd.protocols.wire.states import (
    LOGIN_BEGINS,
    LOGIN_LEAVES,
    LOGIN_TRANSITIONS,
    LoginEvent,
    LoginStage,
    login_after,
)
from scstd.protocols.wire.text import (
    MAX_KEYS,
    Collector,
    Pairs,
    TextError,
    encode,
    split,
)

_RESERVED_FORMAT = 3
"""The T field of an ISID (RFC 7143 section 11.12.5) that there is not."""

MAX_LOGIN_REQUESTS = 256
"""Requests in one login: nothing honest needs more."""


@attrs.define
class Request:
    """
    What a Login Request says.
    """

    csg: int
    nsg: int
    transit: bool
    continue_: bool
    version_min: int
    isid: bytes
    tsih: int
    cid: int
    itt: int
    data: bytes


@attrs.define
class Reply:
    """
    What the Login Response says; *done* with the one that ends the login well.
    """

    csg: int
    nsg: int
    transit: bool
    continue_: bool
    data: bytes
    done: bool = False


class Authenticator(Protocol):
    """
    One way in, or several, for one login.
    """

    methods: str
    """The value of AuthMethod that is ours, in order of preference."""

    user: str
    """Who the initiator has proved to be; empty if it had to prove nothing."""

    def step(self, method: str, pairs: Pairs) -> Pairs:
        """Answer the keys of the method; raise LoginError when it failed."""

    def finished(self) -> bool:
        """Say whether the initiator may leave the security stage."""


@attrs.define
class NoAuthentication:
    """
    No authentication.
    """

    methods: str = "None"
    user: str = ""

    def step(self, method: str, pairs: Pairs) -> Pairs:  # noqa: ARG002
        """No method has keys here."""
        return [(key, "NotUnderstood") for key, _value in pairs]

    def finished(self) -> bool:
        """There is nothing to wait for."""
        return True


@attrs.define
class Admission:
    """
    What a policy grants: the target's local values, its portal group tag and alias, and
    how the initiator has to prove who it is.
    """

    target_name: str | None
    local: Mapping[str, Any] = attrs.field(factory=lambda: LOCAL)
    portal_group_tag: int = 1
    alias: str = ""
    authenticator: Authenticator = attrs.field(factory=NoAuthentication)


class LoginPolicy(Protocol):
    """
    Who may log in.
    """

    def admit(self, login: Login) -> Admission:
        """
        Let the initiator whose names *login* knows in.

        :raises LoginError: it may not.
        """


def _asked(said: Request | Reply) -> LoginEvent | None:
    """
    Return what a request asks for, or a response grants; None: there is no such stage.
    """
    return LOGIN_LEAVES.get(said.nsg) if said.transit else LoginEvent.STAY


@attrs.define(eq=False)
class Login:
    """
    One login.
    """

    policy: LoginPolicy
    authenticator: Authenticator = attrs.field(factory=NoAuthentication)
    parameters: Parameters = attrs.field(factory=Parameters)
    offers: dict[str, str] = attrs.field(factory=dict)
    """What the initiator has sent, by key: those that we know."""
    initiator_name: str = ""
    target_name: str | None = None
    """None in a discovery session."""
    session_type: str = "Normal"
    isid: bytes = bytes(6)
    tsih: int = 0
    cid: int = 0
    admission: Admission | None = None
    """What the policy has granted, when the first text was whole."""
    stage: LoginStage = LoginStage.NONE
    auth_method: str = "None"
    """What was agreed on of AuthMethod."""
    _first_request: Request | None = None
    _collector: Collector = attrs.field(factory=Collector)
    _unsent: list[bytes] = attrs.field(factory=list)
    """Parts of the answer that the initiator has still to ask for."""
    _last_reply: Reply | None = None
    """What the last of these parts is sent with."""
    _requests: int = 0
    _declared: bool = False
    """Our MaxRecvDataSegmentLength was sent."""
    _unknown_keys: set[str] = attrs.field(factory=set)

    @property
    def identity(self) -> tuple[str, str]:
        """
        How the initiator has proved who it is: the method, and the user's name.
        """
        return self.authenticator.methods, self.authenticator.user

    def receive(self, request: Request) -> Reply:
        """
        Take one request, return its reply.

        :raises LoginError: the login is over; the response carries the error's status.
        """
        self._check(request)
        if self._unsent:
            if request.data or request.continue_:
                raise LoginError(
                    LoginStatus.INITIATOR_ERROR, "text sent before all was received"
                )
            return self._next()
        if request.continue_:
            self._add(request.data)
            return Reply(request.csg, 0, transit=False, continue_=False, data=b"")
        self._add(request.data)
        try:
            return self._answer(request, self._collector.take())
        except TextError as error:
            raise LoginError(LoginStatus.INITIATOR_ERROR, str(error)) from None

    def _add(self, data: bytes) -> None:
        try:
            self._collector.add(data)
        except TextError as error:
            raise LoginError(LoginStatus.INITIATOR_ERROR, str(error)) from None

    def _check(self, request: Request) -> None:
        """
        See that the request fits the login so far (RFC 7143 section 6.3.1).
        """
        self._requests += 1
        first = self._first_request
        if first is None:
            self._first_request = first = request
            self.isid, self.tsih, self.cid = request.isid, request.tsih, request.cid
            begin = LOGIN_BEGINS.get(request.csg)
            if begin is not None:
                self.stage = login_after(self.stage, begin)
            if request.isid[0] >> 6 == _RESERVED_FORMAT:
                raise LoginError(
                    LoginStatus.INITIATOR_ERROR, "the ISID's format is reserved"
                )
            if request.version_min > 0:
                raise LoginError(
                    LoginStatus.UNSUPPORTED_VERSION, f"version {request.version_min}"
                )
        same = (
            request.isid == first.isid
            and request.tsih == first.tsih
            and request.cid == first.cid
            and request.itt == first.itt
        )
        wrong = (
            "the requests of one login differ in ISID, TSIH, CID or ITT"
            if not same
            else f"CSG {request.csg} in stage {self.stage}"
            if request.csg != self.stage
            else "the T and the C bit in one request"
            if request.transit and request.continue_
            else f"from stage {request.csg} to {request.nsg}"
            if (self.stage, _asked(request)) not in LOGIN_TRANSITIONS
            else "too many requests"
            if self._requests > MAX_LOGIN_REQUESTS
            else None
        )
        if wrong is not None:
            raise LoginError(LoginStatus.INITIATOR_ERROR, wrong)

    def _answer(self, request: Request, pairs: Pairs) -> Reply:
        first = self.admission is None
        pairs = self._once(pairs)
        if first:
            self._identify()
        admission = self.admission
        assert admission is not None
        answers: Pairs = []
        if first and "TargetName" in self.offers:
            # In a discovery session too, if it names a target (section 6.3.1).
            answers.append(("TargetPortalGroupTag", str(admission.portal_group_tag)))
            if admission.alias:
                answers.append(("TargetAlias", admission.alias))
        transit = request.transit
        if self.stage is LoginStage.SECURITY:
            answers += self._security(pairs)
            transit = transit and self.authenticator.finished()
        else:
            if not self.authenticator.finished():
                raise LoginError(
                    LoginStatus.AUTHENTICATION_FAILURE, "authentication was skipped"
                )
            answers += self._operational(pairs, admission.local)
        reply = Reply(
            self.stage,
            request.nsg if transit else 0,
            transit,
            continue_=False,
            data=b"",
        )
        reply.done = transit and request.nsg == LoginStage.FULL_FEATURE
        # The other side's limit does not hold before the login is over: 8192 does.
        self._unsent = split(encode(answers), 8192)
        self._last_reply = reply
        return self._next()

    def _next(self) -> Reply:
        """
        Return the next part of the answer, the last one with the transit.
        """
        data = self._unsent.pop(0)
        reply = self._last_reply
        assert reply is not None
        if self._unsent:
            return Reply(self.stage, 0, transit=False, continue_=True, data=data)
        reply.data = data
        event = _asked(reply)
        assert event is not None
        self.stage = login_after(self.stage, event)
        return reply

    def _once(self, pairs: Pairs) -> Pairs:
        """
        Return the pairs that are new.

        A key must not be negotiated twice (RFC 7143 section 6.3).  Initiators are known
        to repeat what says who they are, which does no harm while it stays the same.
        """
        fresh: Pairs = []
        for key, value in pairs:
            if key in self.offers:
                if self.offers[key] != value or key not in self._NAMES:
                    raise LoginError(
                        LoginStatus.INITIATOR_ERROR, f"{key!r} was sent twice"
                    )
                continue
            if key in self._unknown_keys:
                raise LoginError(LoginStatus.INITIATOR_ERROR, f"{key!r} was sent twice")
            if key in KEYS:
                self.offers[key] = value
            elif len(self._unknown_keys) >= MAX_KEYS:
                raise LoginError(
                    LoginStatus.INITIATOR_ERROR, f"more than {MAX_KEYS} keys"
                )
            else:
                self._unknown_keys.add(key)
            fresh.append((key, value))
        return fresh

    def _identify(self) -> None:
        """
        Learn who wants what, from the first text, and ask the policy.
        """
        offers = self.offers
        name = offers.get("InitiatorName")
        if not name:
            raise LoginError(LoginStatus.MISSING_PARAMETER, "no InitiatorName")
        self.initiator_name = normal_name(name)
        self.session_type = offers.get("SessionType", "Normal")
        if self.session_type not in {"Normal", "Discovery"}:
            raise LoginError(
                LoginStatus.SESSION_TYPE_NOT_SUPPORTED,
                f"SessionType {self.session_type[:60]!r}",
            )
        if self.session_type == "Normal":
            target = offers.get("TargetName")
            if not target:
                raise LoginError(LoginStatus.MISSING_PARAMETER, "no TargetName")
            self.target_name = wanted_name(target)
        self.admission = self.policy.admit(self)
        self.authenticator = self.admission.authenticator

    _NAMES = frozenset({"InitiatorName", "TargetName", "SessionType", "InitiatorAlias"})

    def _security(self, pairs: Pairs) -> Pairs:
        answers: Pairs = []
        rest: Pairs = []
        for key, value in pairs:
            if key in KEYS and KEYS[key].target and value in RESERVED:
                raise LoginError(LoginStatus.INITIATOR_ERROR, f"{key}={value}")
            if key in self._NAMES or (key in KEYS and KEYS[key].target):
                continue
            if key == "AuthMethod":
                chosen = [
                    word
                    for word in value.split(",")
                    if word in self.authenticator.methods.split(",")
                ]
                if not chosen:
                    raise LoginError(
                        LoginStatus.AUTHENTICATION_FAILURE,
                        f"AuthMethod {value[:60]!r}",
                        [("AuthMethod", "Reject")],
                    )
                self.auth_method = chosen[0]
                answers.append(("AuthMethod", self.auth_method))
            elif key in KEYS:
                # An operational key too early (section 6.3).
                answers.append((key, "Reject"))
            else:
                rest.append((key, value))
        if rest:
            answers += self.authenticator.step(self.auth_method, rest)
        return answers

    def _operational(self, pairs: Pairs, local: Mapping[str, Any]) -> Pairs:
        offered = [pair for pair in pairs if pair[0] not in self._NAMES]
        try:
            answers = negotiate(
                offered,
                KeyStage.OPERATIONAL,
                local,
                self.parameters,
                self.offers,
                leading=not self.tsih,
            )
        except TextError as error:
            raise LoginError(LoginStatus.INITIATOR_ERROR, str(error)) from None
        if not self._declared:
            # Declared in the first operational response, asked or not.
            self._declared = True
            longest = local["MaxRecvDataSegmentLength"]
            self.parameters.max_recv_data_segment_length = longest
            answers.append(("MaxRecvDataSegmentLength", str(longest)))
        return answers
