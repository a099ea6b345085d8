# SPDX-License-Identifier: MIT
"""
CHAP: who says that he is somebody proves it by a secret (RFC 7143 section 12.1, RFC
1994).

The target sends a random challenge; the response is a digest over an identifier, the
secret and the challenge.  Where the target has a secret of its own the initiator may
challenge it likewise.  A challenge that is ours sent back, or a name or a secret that
is not the right one, ends the login: what was wrong is for the log, the initiator
learns no more than that it failed.  Keys that are missing, or are not what the step
asks for, are no failed proof, and have statuses of their own (section 9.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from scstd.protocols.wire.keys import Rejected, number
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.text import Pairs

LONGEST = 1024
"""Longest binary value taken, in bytes (RFC 7143 section 12.1.3)."""

CHALLENGE = 32
"""Bytes of our challenges."""

ALGORITHMS: dict[int, tuple[str, Callable[[bytes], Any]]] = {
    5: ("MD5", lambda data: hashlib.md5(data, usedforsecurity=False)),
    6: ("SHA1", lambda data: hashlib.sha1(data, usedforsecurity=False)),
    7: ("SHA-256", hashlib.sha256),
    8: ("SHA3-256", hashlib.sha3_256),
}
"""Algorithms by their number in CHAP_A (IANA registry of PPP authentication)."""

NAMES = {name: code for code, (name, _hash) in ALGORITHMS.items()}


def binary(text: str) -> bytes:
    """
    Return a large binary value: hex with ``0x``, base64 with ``0b`` (section 6.1).

    :raises ValueError: it is neither, or too long.
    """
    prefix, digits = text[:2].lower(), text[2:]
    if len(digits) > 2 * LONGEST:
        raise ValueError(f"longer than {LONGEST} bytes")
    if prefix == "0x":
        value = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    elif prefix == "0b":
        value = base64.b64decode(digits, validate=True)
    else:
        raise ValueError("neither hex nor base64")
    if len(value) > LONGEST:
        raise ValueError(f"longer than {LONGEST} bytes")
    return value


def response(algorithm: int, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """
    Return the answer to a challenge (RFC 1994 section 4.1).
    """
    _name, digest = ALGORITHMS[algorithm]
    answer: bytes = digest(bytes((identifier,)) + secret + challenge).digest()
    return answer


def _failed(why: str) -> LoginError:
    return LoginError(LoginStatus.AUTHENTICATION_FAILURE, f"CHAP: {why}")


def _broken(why: str) -> LoginError:
    return LoginError(LoginStatus.INITIATOR_ERROR, f"CHAP: {why}")


def _missing(why: str) -> LoginError:
    return LoginError(LoginStatus.MISSING_PARAMETER, f"CHAP: {why} is missing")


@attrs.define(eq=False)
class CHAP:
    """
    The authentication of one login (`login.Authenticator`).
    """

    incoming: Mapping[str, bytes]
    """The secrets of initiators by name."""
    outgoing: tuple[str, bytes] | None = None
    """The target's own name and secret."""
    algorithms: frozenset[int] = frozenset(ALGORITHMS)
    """Those that are allowed."""
    identifier: int = attrs.field(factory=lambda: secrets.randbelow(256))
    """Different each time."""
    random: Callable[[int], bytes] = secrets.token_bytes
    methods: str = "CHAP"
    user: str = ""
    """The name with which the initiator has shown that it knows the secret."""
    _algorithm: int = 0
    _challenge: bytes = b""
    _done: bool = False

    def finished(self) -> bool:
        """Say whether the initiator has proved who it is."""
        return self._done

    def step(self, method: str, pairs: Pairs) -> Pairs:
        """Answer CHAP_A with a challenge, and check what comes to that."""
        given = dict(pairs)
        if method != "CHAP":
            raise _broken("keys before AuthMethod")
        if len(given) < len(pairs):
            raise _broken("a key was sent twice")
        strange = [key for key in given if key not in _KEYS]
        answers: Pairs = [(key, "NotUnderstood") for key in strange]
        if "CHAP_A" in given:
            answers += self._choose(given["CHAP_A"])
        if given.keys() & {"CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"}:
            answers += self._check(given)
        return answers

    def _choose(self, offered: str) -> Pairs:
        """
        Take the first algorithm of the initiator's list that is allowed here.
        """
        if self._algorithm:
            raise _broken("CHAP_A was sent twice")
        for word in offered.split(","):
            try:
                code = number(word)
            except Rejected:
                continue
            if code in self.algorithms and code in ALGORITHMS:
                self._algorithm = code
                break
        else:
            raise _failed(f"no algorithm in common: {offered[:60]!r}")
        self._challenge = self.random(CHALLENGE)
        return [
            ("CHAP_A", str(self._algorithm)),
            ("CHAP_I", str(self.identifier)),
            ("CHAP_C", "0x" + self._challenge.hex()),
        ]

    def _check(self, given: Mapping[str, str]) -> Pairs:
        if not self._challenge or self._done:
            raise _broken("a response to no challenge")
        name, answer = given.get("CHAP_N"), given.get("CHAP_R")
        if name is None or answer is None:
            raise _missing("CHAP_N or CHAP_R")
        self._verify(name, answer)
        ours = self._prove(given)
        self.user = name
        self._done = True
        return ours

    def _verify(self, name: str, answer: str) -> None:
        """
        See that *answer* is that of the user *name*.
        """
        try:
            said = binary(answer)
        except (ValueError, binascii.Error) as error:
            raise _broken(f"CHAP_R: {error}") from None
        # An unknown name takes as long as a wrong secret.
        secret = self.incoming.get(name, b"nobody's secret")
        right = response(self._algorithm, self.identifier, secret, self._challenge)
        same = hmac.compare_digest(said, right)
        if self.outgoing is not None:
            # Whoever says what we would say has our secret (section 9.2.1).
            _name, mine = self.outgoing
            ours = response(self._algorithm, self.identifier, mine, self._challenge)
            if hmac.compare_digest(said, ours):
                raise _failed("the response is the one that we would have made")
        if not same or name not in self.incoming:
            raise _failed(
                f"wrong secret of {name[:60]!r}"
                if name in self.incoming
                else f"unknown user {name[:60]!r}"
            )

    def _prove(self, given: Mapping[str, str]) -> Pairs:
        """
        Answer the initiator's challenge, if there is one.
        """
        identifier, challenge = given.get("CHAP_I"), given.get("CHAP_C")
        if identifier is None and challenge is None:
            return []
        if identifier is None or challenge is None:
            raise _missing("CHAP_I or CHAP_C")
        if self.outgoing is None:
            raise _failed("the initiator wants a proof, and there is no OutgoingUser")
        try:
            code, asked = number(identifier), binary(challenge)
        except (ValueError, binascii.Error) as error:
            raise _broken(f"CHAP_I or CHAP_C: {error}") from None
        if not 0 <= code <= 255 or not asked:
            raise _broken("CHAP_I is no byte, or CHAP_C is empty")
        if asked == self._challenge:
            raise _failed("our own challenge was sent back")
        name, secret = self.outgoing
        answer = response(self._algorithm, code, secret, asked)
        return [("CHAP_N", name), ("CHAP_R", "0x" + answer.hex())]


_KEYS = frozenset({"CHAP_A", "CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"})
