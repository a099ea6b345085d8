# SPDX-License-Identifier: MIT
"""
The login phase, as a state machine without PDUs (RFC 7143 sections 6.3 and 11.12).

`Login.receive` takes what one Login Request says and returns what the Login Response
says.  It collects texts that span requests, sees that the stages go forward, asks the
`LoginPolicy` once whether this initiator may come in, and leaves the keys to `keys`.
Whatever is wrong is a `LoginError`, which carries the status that ends the login.

Authentication is a seam: the policy's answer brings an `Authenticator`, which names the
methods it has and answers the security stage's keys; `Nobody` lets everybody in who
accepts AuthMethod=None, `chap.CHAP` asks for a secret.
"""

from __future__ import annotations

import re
import stringprep
import unicodedata
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol

import attrs

from scstd.protocols.wire.keys import KEYS, LOCAL, Stage
from scstd.protocols.wire.parameters import RESERVED, Parameters, negotiate
from scstd.protocols.wire.text import (
    MOST_KEYS,
    Collector,
    Pairs,
    TextError,
    encode,
    split,
)

SECURITY_STAGE = 0
OPERATIONAL_STAGE = 1
FULL_FEATURE_STAGE = 3

_STAGES = {SECURITY_STAGE: Stage.SECURITY, OPERATIONAL_STAGE: Stage.OPERATIONAL}

_RESERVED_FORMAT = 3
"""The T field of an ISID (RFC 7143 section 11.12.5) that there is not."""

MOST_REQUESTS = 256
"""Requests in one login: nothing honest needs more."""

LONGEST_NAME = 223
"""Bytes of the longest iSCSI name (RFC 7143 section 4.2.7.1)."""


class LoginStatus(IntEnum):
    """
    Status class and detail (RFC 7143 section 11.13.5).
    """

    SUCCESS = 0x0000
    TARGET_MOVED_TEMPORARILY = 0x0101
    TARGET_MOVED_PERMANENTLY = 0x0102
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILURE = 0x0201
    AUTHORIZATION_FAILURE = 0x0202
    NOT_FOUND = 0x0203
    TARGET_REMOVED = 0x0204
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    CANT_INCLUDE_IN_SESSION = 0x0208
    SESSION_TYPE_NOT_SUPPORTED = 0x0209
    SESSION_DOES_NOT_EXIST = 0x020A
    INVALID_DURING_LOGIN = 0x020B
    TARGET_ERROR = 0x0300
    SERVICE_UNAVAILABLE = 0x0301
    OUT_OF_RESOURCES = 0x0302


class LoginError(Exception):
    """
    Ends the login with *status*; *pairs* go into the last response (a redirection's
    TargetAddress).
    """

    def __init__(
        self, status: LoginStatus, why: str, pairs: Pairs | None = None
    ) -> None:
        super().__init__(why)
        self.status = status
        self.pairs = pairs or []


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
class Nobody:
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
    authenticator: Authenticator = attrs.field(factory=Nobody)


class LoginPolicy(Protocol):
    """
    Who may log in.
    """

    def admit(self, login: Login) -> Admission:
        """
        Let the initiator whose names *login* knows in.

        :raises LoginError: it may not.
        """


_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c11_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_d1,
)
"""
The tables of RFC 3454 whose characters no iSCSI name has (RFC 3722 sections 5 to 7):
right-to-left ones not, for every name begins from the left.
"""

_FULL_STOP = "\u3002"
"""The ideographic full stop, which RFC 3722 prohibits besides."""


def folded(name: str) -> str:
    """
    Return a name with what makes no difference taken out (RFC 3722 sections 3 and 4).
    """
    mapped = "".join(
        stringprep.map_table_b2(one) for one in name if not stringprep.in_table_b1(one)
    )
    return unicodedata.normalize("NFKC", mapped)


def _prohibited(character: str) -> bool:
    if character.isascii():
        return not (character.isalnum() or character in "-.:")
    return character == _FULL_STOP or any(table(character) for table in _PROHIBITED)


def wanted_name(name: str) -> str:
    """
    Return the name of a target that is asked for in its normal form; it may be one that
    a person has configured though it is none by the standard (``_``, as SCST takes it).

    :raises LoginError: it can be no target's name.
    """
    normal = folded(name) if len(name) <= LONGEST_NAME else ""
    odd = re.fullmatch(r"(iqn\.\d{4}|eui\.|naa\.)[!-~]*", normal)
    if odd is not None and not set(normal) & set("/=;"):
        return normal
    return normal_name(name)


def normal_name(name: str) -> str:
    """
    Return an iSCSI name in its normal form (RFC 7143 section 4.2.7.2, RFC 3722).

    Its length is looked at first: what folding costs grows faster than that.

    :raises LoginError: it is no iSCSI name.
    """
    if len(name) > LONGEST_NAME:
        raise LoginError(
            LoginStatus.INITIATOR_ERROR,
            f"a name of {len(name)} characters: {name[:60]!r}...",
        )
    normal = folded(name)
    form = re.fullmatch(
        r"iqn\.\d{4}-\d{2}\.[^\s:]+(:\S+)?|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}){1,2}",
        normal,
    )
    if (
        form is None
        or len(normal.encode()) > LONGEST_NAME
        or any(map(_prohibited, normal))
    ):
        raise LoginError(
            LoginStatus.INITIATOR_ERROR, f"not an iSCSI name: {name[:60]!r}"
        )
    return normal


@attrs.define(eq=False)
class Login:
    """
    One login.
    """

    policy: LoginPolicy
    authenticator: Authenticator = attrs.field(factory=Nobody)
    parameters: Parameters = attrs.field(factory=Parameters)
    offers: dict[str, str] = attrs.field(factory=dict)
    initiator_name: str = ""
    target_name: str | None = None
    session_type: str = "Normal"
    isid: bytes = bytes(6)
    tsih: int = 0
    cid: int = 0
    admission: Admission | None = None
    stage: int = -1
    method: str = "None"
    _first: Request | None = None
    _collector: Collector = attrs.field(factory=Collector)
    _waiting: list[bytes] = attrs.field(factory=list)
    _then: Reply | None = None
    _requests: int = 0
    _declared: bool = False
    _others: set[str] = attrs.field(factory=set)

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
        if self._waiting:
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
        first = self._first
        if first is None:
            self._first = first = request
            self.isid, self.tsih, self.cid = request.isid, request.tsih, request.cid
            self.stage = request.csg
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
            if request.csg != self.stage or request.csg not in _STAGES
            else "the T and the C bit in one request"
            if request.transit and request.continue_
            else f"from stage {request.csg} to {request.nsg}"
            if request.transit and (request.nsg <= request.csg or request.nsg == 2)
            else "too many requests"
            if self._requests > MOST_REQUESTS
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
        if self.stage == SECURITY_STAGE:
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
        reply.done = transit and request.nsg == FULL_FEATURE_STAGE
        # The other side's limit does not hold before the login is over: 8192 does.
        self._waiting = split(encode(answers), 8192)
        self._then = reply
        return self._next()

    def _next(self) -> Reply:
        """
        Return the next part of the answer, the last one with the transit.
        """
        data = self._waiting.pop(0)
        reply = self._then
        assert reply is not None
        if self._waiting:
            return Reply(self.stage, 0, transit=False, continue_=True, data=data)
        reply.data = data
        if reply.transit:
            self.stage = reply.nsg
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
            if key in self._others:
                raise LoginError(LoginStatus.INITIATOR_ERROR, f"{key!r} was sent twice")
            if key in KEYS:
                self.offers[key] = value
            elif len(self._others) >= MOST_KEYS:
                raise LoginError(
                    LoginStatus.INITIATOR_ERROR, f"more than {MOST_KEYS} keys"
                )
            else:
                self._others.add(key)
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
                self.method = chosen[0]
                answers.append(("AuthMethod", self.method))
            elif key in KEYS:
                # An operational key too early (section 6.3).
                answers.append((key, "Reject"))
            else:
                rest.append((key, value))
        if rest:
            answers += self.authenticator.step(self.method, rest)
        return answers

    def _operational(self, pairs: Pairs, local: Mapping[str, Any]) -> Pairs:
        offered = [pair for pair in pairs if pair[0] not in self._NAMES]
        try:
            answers = negotiate(
                offered,
                Stage.OPERATIONAL,
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
