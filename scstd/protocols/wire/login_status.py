# SPDX-License-Identifier: MIT
"""
How a login ends badly: the status of its last response (RFC 7143 section 11.13.5).

Whatever is wrong with a login, who finds it raises `LoginError`; it becomes bytes in
one place, the login phase of the engine.
"""

from __future__ import annotations

from enum import IntEnum

from scstd.protocols.wire.text import Pairs


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
