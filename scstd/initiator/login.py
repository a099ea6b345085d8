# SPDX-License-Identifier: MIT
"""
The login of an initiator (RFC 7143 sections 6.3 and 11.12), with CHAP both ways.

`InitiatorLogin.begin` and `InitiatorLogin.receive` return the Login Requests to send.
Who has no account goes straight to the operational stage; who has one proves in the
security stage who he is, and may want the target to do so too.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from scstd.initiator.requests import Requests
from scstd.protocols.wire import chap
from scstd.protocols.wire.codes import CONTINUE, TRANSIT
from scstd.protocols.wire.keys import (
    KEYS,
    LOCAL,
    Boolean,
    Declared,
    KeyStage,
    Numeric,
    Scope,
    number,
)
from scstd.protocols.wire.login_status import LoginStatus
from scstd.protocols.wire.parameters import RESERVED, Parameters, negotiate
from scstd.protocols.wire.pdu import LoginRequest, LoginResponse
from scstd.protocols.wire.states import LoginStage
from scstd.protocols.wire.text import Collector, Pairs, encode, split

LONGEST_REQUEST = 8192
"""Bytes of text in one Login Request: the default of MaxRecvDataSegmentLength."""

MOST_RESPONSES = 64
"""Responses to one login: a target that has more to say never ends."""


class LoginRefused(Exception):  # noqa: N818 - it is what the target said
    """
    A login did not succeed.

    *status* is a `LoginStatus`, or another number that the target has sent; *keys* are
    what it said with it.
    """

    def __init__(self, status: int, why: str, keys: Mapping[str, str]) -> None:
        super().__init__(f"{why} (status {status:04x})")
        self.status = status
        self.keys = keys

    @property
    def moved_to(self) -> str:
        """
        Where the target says that it is now, ``host:port,tag``; empty if it does not.
        """
        return self.keys.get("TargetAddress", "") if self.status >> 8 == 1 else ""


@attrs.frozen
class LoginOptions:
    """
    What a login is for, and what it offers.
    """

    target: str | None
    """The target's name; None for a discovery session."""
    keys: Sequence[tuple[str, str]] = ()
    """Operational keys that are offered, and their values."""
    account: tuple[str, bytes] | None = attrs.field(default=None, repr=False)
    """The name and the secret by which we prove who we are; None to do without."""
    target_account: tuple[str, bytes] | None = attrs.field(default=None, repr=False)
    """Those by which the target has to prove who it is; None if it need not."""
    algorithms: tuple[int, ...] = (8, 7, 6, 5)
    """CHAP algorithms, the best first (`chap.ALGORITHMS`)."""


def _value(name: str, text: str) -> Any:
    """
    Return the value that an answer agrees on.

    :raises ValueError: it cannot be one of the key's.
    """
    values = KEYS[name].values
    if isinstance(values, Boolean):
        if text not in {"Yes", "No"}:
            raise ValueError(f"{name}={text}")
        return text == "Yes"
    if isinstance(values, (Numeric, Declared)):
        found = number(text)
        if not values.lowest <= found <= values.highest:
            raise ValueError(f"{name}={text}")
        return found
    return text


class InitiatorLogin:
    """
    One login; *tsih* says which session it adds a connection to, and *settled* what
    holds there.
    """

    def __init__(
        self,
        requests: Requests,
        options: LoginOptions,
        *,
        cid: int = 0,
        tsih: int = 0,
        settled: Parameters | None = None,
    ) -> None:
        self.requests, self.options = requests, options
        self.cid, self.tsih = cid, tsih
        self.itt = requests.next_itt()
        self.parameters = Parameters()
        if settled is not None:
            self.parameters.join(settled)
        self.keys: dict[str, str] = {}
        """All that the target has said."""
        self.done = False
        self._stage = (
            LoginStage.OPERATIONAL if options.account is None else LoginStage.SECURITY
        )
        self._offers: dict[str, str] = {}
        self._parts: list[bytes] = []
        """What is still to be sent of a text that is longer than one request."""
        self._transit = True
        self._collector = Collector()
        self._responses = 0
        self._challenge = b""
        """Ours, that the target has to answer."""
        self._identifier = 0
        self._algorithm = 0
        self._proven = options.target_account is None

    # Out.

    def begin(self) -> list[LoginRequest]:
        """
        Return the first request.
        """
        options = self.options
        pairs = [("InitiatorName", self.requests.name)]
        kind = "Discovery" if options.target is None else "Normal"
        pairs.append(("SessionType", kind))
        if options.target is not None:
            pairs.append(("TargetName", options.target))
        if self._stage == LoginStage.SECURITY:
            return self._send([*pairs, ("AuthMethod", "CHAP")], transit=False)
        return self._send([*pairs, *self._operational_keys()], transit=True)

    def _operational_keys(self) -> Pairs:
        """
        Return what is offered: by a connection that is added, only what is its own.
        """
        return [
            (name, value)
            for name, value in self.options.keys
            if not self.tsih or name not in KEYS or KEYS[name].scope is Scope.CONNECTION
        ]

    def _send(self, pairs: Pairs, *, transit: bool) -> list[LoginRequest]:
        """
        Say *pairs*, and that we are ready for the next stage.
        """
        self._offers.update(pairs)
        self._parts = split(encode(pairs), LONGEST_REQUEST)
        self._transit = transit
        return self._next()

    def _next(self) -> list[LoginRequest]:
        part = self._parts.pop(0)
        flags = self._stage << 2
        if self._parts:
            flags |= CONTINUE
        elif self._transit:
            security = self._stage == LoginStage.SECURITY
            following = LoginStage.OPERATIONAL if security else LoginStage.FULL_FEATURE
            flags |= TRANSIT | following
        request = self.requests.login_request(
            (), flags=flags, itt=self.itt, cid=self.cid, tsih=self.tsih
        )
        request.data = part
        return [request]

    # In.

    def receive(self, response: LoginResponse) -> list[LoginRequest]:
        """
        Take a response; return what to send next, nothing when it is done.

        :raises LoginRefused: the login is over.
        """
        status = response.status_class << 8 | response.status_detail
        self._responses += 1
        if self._responses > MOST_RESPONSES:
            raise self._refused(LoginStatus.TARGET_ERROR, "the login does not end")
        try:
            self._collector.add(bytes(response.data))
            if self._parts and not status:
                return self._next()
            if response.flags & CONTINUE and not status:
                return self._say_go_on()
            pairs = self._collector.take()
            self.keys.update(pairs)
            if status:
                raise self._refused(status, "login refused")
            return self._answer(response, pairs)
        except ValueError as error:
            why = f"the target said {error}"
            raise self._refused(LoginStatus.TARGET_ERROR, why) from None

    def _refused(self, status: int, why: str) -> LoginRefused:
        return LoginRefused(status, why, self.keys)

    def _say_go_on(self) -> list[LoginRequest]:
        """
        Ask for the rest of a text.
        """
        request = self.requests.login_request(
            (), flags=self._stage << 2, itt=self.itt, cid=self.cid, tsih=self.tsih
        )
        return [request]

    def _answer(self, response: LoginResponse, pairs: Pairs) -> list[LoginRequest]:
        if self._stage == LoginStage.SECURITY:
            said = self._security(pairs)
            if not response.flags & TRANSIT:
                proof = any(key == "CHAP_R" for key, _value in said)
                return self._send(said, transit=proof)
            if not self._proven:
                raise self._refused(
                    LoginStatus.AUTHENTICATION_FAILURE,
                    "the target has not proved who it is",
                )
            self._stage = LoginStage(response.flags & 3)
            if self._stage == LoginStage.OPERATIONAL:
                return self._send(self._operational_keys(), transit=True)
        else:
            said = self._operational(pairs)
            if not response.flags & TRANSIT:
                return self._send(said, transit=True)
        self.parameters.settle()
        self.tsih = response.tsih
        self.done = True
        return []

    def _operational(self, pairs: Pairs) -> Pairs:
        """
        Take over what the target has answered, and answer what it has offered.
        """
        offered: Pairs = []
        for name, text in pairs:
            key = KEYS.get(name)
            if key is not None and key.target:
                continue
            if name not in self._offers:
                offered.append((name, text))
            elif key is not None and key.field is not None and text not in RESERVED:
                setattr(self.parameters, key.field, _value(name, text))
        ours = self._offers.get("MaxRecvDataSegmentLength")
        if ours is not None:
            self.parameters.max_recv_data_segment_length = number(ours)
        context = {**dict(offered), **self._offers}
        return negotiate(offered, KeyStage.OPERATIONAL, LOCAL, self.parameters, context)

    # CHAP (section 12.1).

    def _security(self, pairs: Pairs) -> Pairs:
        given = dict(pairs)
        if "CHAP_A" in given:
            return self._prove(given)
        if "CHAP_R" in given:
            self._check(given)
            return []
        if given.get("AuthMethod") == "CHAP":
            return [("CHAP_A", ",".join(map(str, self.options.algorithms)))]
        return []

    def _prove(self, given: Mapping[str, str]) -> Pairs:
        """
        Answer the target's challenge, and challenge it if it has to prove itself.
        """
        account = self.options.account
        assert account is not None
        name, secret = account
        self._algorithm = number(given["CHAP_A"])
        if self._algorithm not in self.options.algorithms:
            raise ValueError(f"CHAP_A={given['CHAP_A']}, which was not offered")
        challenge = chap.binary(given.get("CHAP_C", ""))
        identifier = number(given.get("CHAP_I", ""))
        answer = chap.response(self._algorithm, identifier & 0xFF, secret, challenge)
        said = [("CHAP_N", name), ("CHAP_R", f"0x{answer.hex()}")]
        if self.options.target_account is not None:
            self._identifier = secrets.randbelow(256)
            self._challenge = secrets.token_bytes(chap.CHALLENGE)
            said.append(("CHAP_I", str(self._identifier)))
            said.append(("CHAP_C", f"0x{self._challenge.hex()}"))
        return said

    def _check(self, given: Mapping[str, str]) -> None:
        """
        See that the target is who it has to be.
        """
        if self.options.target_account is None or not self._challenge:
            return
        name, secret = self.options.target_account
        right = chap.response(
            self._algorithm, self._identifier, secret, self._challenge
        )
        self._proven = given.get("CHAP_N") == name and hmac.compare_digest(
            chap.binary(given["CHAP_R"]), right
        )
