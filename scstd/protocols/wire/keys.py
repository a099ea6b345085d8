# SPDX-License-Identifier: MIT
"""
The text keys, one row each, and how a value is agreed (RFC 7143 sections 6.2 and 13).

A row says in which stage the key may be sent, and whether by a target alone, what
values there are, how two of them become one (the RFC's result function), the value that
holds when nobody sends it, and the value that we bring to the negotiation.  Offers are
answered from the rows (`scstd.protocols.wire.parameters`); no other module knows a key
by its name but those that need its value.

A key that was not offered has the RFC's default, whatever is configured here: the
initiator did not hear of our wish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, Flag, auto
from typing import Any

import attrs

U24 = (1 << 24) - 1


class KeyStage(Flag):
    """
    Where a key may be sent (RFC 7143 section 13, the Use of each key).
    """

    SECURITY = auto()
    OPERATIONAL = auto()
    FULL_FEATURE = auto()
    LOGIN = SECURITY | OPERATIONAL
    ANY = LOGIN | FULL_FEATURE


class Scope(Enum):
    """
    What the value holds for.
    """

    SESSION = "SW"
    CONNECTION = "CO"


class Rejected(ValueError):  # noqa: N818 - it names the answer
    """
    The value offered is not one of the key's: the answer is Reject.
    """


def number(text: str) -> int:
    """
    Return a numerical value: decimal, or hexadecimal with ``0x`` (section 6.1).
    """
    digits = text[2:] if text[:2] in {"0x", "0X"} else text
    if not digits.isascii() or not digits.isalnum():
        raise Rejected(text)
    try:
        return int(digits, 16 if digits is not text else 10)
    except ValueError:
        raise Rejected(text) from None


@attrs.frozen
class Numeric:
    """
    A number from *lowest* to *highest*; two become one by *result*.
    """

    lowest: int
    highest: int
    result: Callable[[int, int], int]

    def agree(self, offered: str, local: int) -> tuple[int, str]:
        """Return the value agreed on, and our answer."""
        value = number(offered)
        if not self.lowest <= value <= self.highest:
            raise Rejected(offered)
        agreed = self.result(value, local)
        return agreed, str(agreed)


@attrs.frozen
class Declared:
    """
    A number that each side declares for itself: there is no answer.
    """

    lowest: int
    highest: int

    def agree(self, offered: str, local: int) -> tuple[int, str | None]:  # noqa: ARG002
        """Return the value declared."""
        value = number(offered)
        if not self.lowest <= value <= self.highest:
            raise Rejected(offered)
        return value, None


def either(one: bool, other: bool) -> bool:
    """
    Result function OR.
    """
    return one or other


def both(one: bool, other: bool) -> bool:
    """
    Result function AND.
    """
    return one and other


@attrs.frozen
class Boolean:
    """
    Yes or No; two become one by *result*.
    """

    result: Callable[[bool, bool], bool]

    def agree(self, offered: str, local: bool) -> tuple[bool, str]:
        """Return the value agreed on, and our answer."""
        if offered not in {"Yes", "No"}:
            raise Rejected(offered)
        agreed = self.result(offered == "Yes", local)
        return agreed, "Yes" if agreed else "No"


@attrs.frozen
class FirstOf:
    """
    A list in order of preference: the first that both sides have (section 6.2.1).
    """

    words: tuple[str, ...]

    def agree(self, offered: str, local: str) -> tuple[str, str]:
        """Return the value agreed on, and our answer."""
        mine = local.split(",")
        for word in offered.split(","):
            if word in mine:
                return word, word
        raise Rejected(offered)


@attrs.frozen
class Word:
    """
    A text that one side declares.
    """

    def agree(self, offered: str, local: str) -> tuple[str, None]:  # noqa: ARG002
        """Return the text."""
        return offered, None


@attrs.frozen
class FixedAnswer:
    """
    A key that has always the same answer, and no value for us.
    """

    answer: str

    def agree(self, offered: str, local: str) -> tuple[str, str]:  # noqa: ARG002
        """Return the answer."""
        return self.answer, self.answer


Values = Numeric | Declared | Boolean | FirstOf | Word | FixedAnswer


@attrs.frozen
class Key:
    """
    One row.
    """

    name: str
    section: str
    stage: KeyStage
    scope: Scope
    values: Values
    default: Any
    local: Any = None
    field: str | None = None
    """Where `Parameters` keeps the value."""
    irrelevant: Callable[[Mapping[str, str]], bool] = lambda _offers: False
    ours: Callable[[Any, Mapping[str, Any], Mapping[str, str]], Any] = (
        lambda local, _locals, _offers: local
    )
    """
    Makes of the local value the one that we bring, given all local values and what was
    offered: keys depend on each other.
    """
    target: bool = False
    """Whether it is the target's to declare."""


def _discovery(offers: Mapping[str, str]) -> bool:
    """
    Say whether the session is one for discovery, where data keys are Irrelevant.
    """
    return offers.get("SessionType") == "Discovery"


def _offered(offers: Mapping[str, str], name: str, default: int) -> int:
    try:
        return number(offers[name])
    except (KeyError, Rejected):
        return default


def _first_burst(local: int, ours: Mapping[str, Any], offers: Mapping[str, str]) -> int:
    """
    FirstBurstLength must not exceed MaxBurstLength (section 13.14), in answers neither.
    """
    most: int = ours.get("MaxBurstLength", local)
    return min(local, most, _offered(offers, "MaxBurstLength", 262144))


def _outstanding(local: int, ours: Mapping[str, Any], offers: Mapping[str, str]) -> int:
    """
    Above level 0 there may be one R2T at a time, for our data sequences are in order
    (section 13.19): ErrorRecoveryLevel may still come if it was not offered yet.
    """
    level: int = ours.get("ErrorRecoveryLevel", 0)
    return 1 if min(level, _offered(offers, "ErrorRecoveryLevel", level)) else local


_CRC = "CRC32C,None"
_S, _SW, _CO = KeyStage, Scope.SESSION, Scope.CONNECTION
_LO = _S.OPERATIONAL

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key("AuthMethod", "12", _S.SECURITY, _CO, FirstOf(("None",)), "None", "None"),
        Key(
            "HeaderDigest",
            "13.1",
            _LO,
            _CO,
            FirstOf(("CRC32C", "None")),
            "None",
            _CRC,
            "header_digest",
        ),
        Key(
            "DataDigest",
            "13.1",
            _LO,
            _CO,
            FirstOf(("CRC32C", "None")),
            "None",
            _CRC,
            "data_digest",
        ),
        Key(
            "MaxConnections",
            "13.2",
            _LO,
            _SW,
            Numeric(1, 65535, min),
            1,
            1,
            "max_connections",
            _discovery,
        ),
        Key("SendTargets", "13.3", _S.FULL_FEATURE, _SW, Word(), None),
        Key("TargetName", "13.4", _S.LOGIN, _SW, Word(), None),
        Key("InitiatorName", "13.5", _S.LOGIN, _SW, Word(), None),
        Key("TargetAlias", "13.6", _S.ANY, _SW, Word(), None, target=True),
        Key("InitiatorAlias", "13.7", _S.ANY, _SW, Word(), None),
        Key("TargetAddress", "13.8", _S.ANY, _SW, Word(), None, target=True),
        Key("TargetPortalGroupTag", "13.9", _S.LOGIN, _SW, Word(), None, target=True),
        Key(
            "InitialR2T",
            "13.10",
            _LO,
            _SW,
            Boolean(either),
            True,
            False,
            "initial_r2t",
            _discovery,
        ),
        Key(
            "ImmediateData",
            "13.11",
            _LO,
            _SW,
            Boolean(both),
            True,
            True,
            "immediate_data",
            _discovery,
        ),
        Key(
            "MaxRecvDataSegmentLength",
            "13.12",
            _S.ANY,
            _CO,
            Declared(512, U24),
            8192,
            1 << 20,
            "max_xmit_data_segment_length",
        ),
        Key(
            "MaxBurstLength",
            "13.13",
            _LO,
            _SW,
            Numeric(512, U24, min),
            262144,
            1 << 20,
            "max_burst_length",
            _discovery,
        ),
        Key(
            "FirstBurstLength",
            "13.14",
            _LO,
            _SW,
            Numeric(512, U24, min),
            65536,
            65536,
            "first_burst_length",
            _discovery,
            _first_burst,
        ),
        Key(
            "DefaultTime2Wait",
            "13.15",
            _LO,
            _SW,
            Numeric(0, 3600, max),
            2,
            0,
            "default_time2wait",
        ),
        Key(
            "DefaultTime2Retain",
            "13.16",
            _LO,
            _SW,
            Numeric(0, 3600, min),
            20,
            0,
            "default_time2retain",
        ),
        Key(
            "MaxOutstandingR2T",
            "13.17",
            _LO,
            _SW,
            Numeric(1, 65535, min),
            1,
            32,
            "max_outstanding_r2t",
            _discovery,
            _outstanding,
        ),
        Key(
            "DataPDUInOrder",
            "13.18",
            _LO,
            _SW,
            Boolean(either),
            True,
            True,
            "data_pdu_in_order",
            _discovery,
        ),
        Key(
            "DataSequenceInOrder",
            "13.19",
            _LO,
            _SW,
            Boolean(either),
            True,
            True,
            "data_sequence_in_order",
            _discovery,
        ),
        Key(
            "ErrorRecoveryLevel",
            "13.20",
            _LO,
            _SW,
            Numeric(0, 2, min),
            0,
            0,
            "error_recovery_level",
        ),
        Key("SessionType", "13.21", _S.LOGIN, _SW, Word(), "Normal"),
        Key(
            "TaskReporting",
            "13.23",
            _LO,
            _SW,
            FirstOf(("RFC3720", "ResponseFence", "FastAbort")),
            "RFC3720",
            "RFC3720,ResponseFence,FastAbort",
            "task_reporting",
            _discovery,
        ),
        Key(
            "iSCSIProtocolLevel",
            "13.24",
            _LO,
            _SW,
            Numeric(0, 31, min),
            1,
            2,
            "iscsi_protocol_level",
            _discovery,
        ),
        # Said for people to read: nothing may depend on it, and nothing answers it.
        Key("X#NodeArchitecture", "13.26", _LO, _SW, Word(), None),
        # Obsoleted keys (section 13.25): no markers, and so no intervals of them.
        Key("IFMarker", "13.25", _LO, _CO, Boolean(both), False, False),
        Key("OFMarker", "13.25", _LO, _CO, Boolean(both), False, False),
        Key("IFMarkInt", "13.25", _LO, _CO, FixedAnswer("Reject"), None, ""),
        Key("OFMarkInt", "13.25", _LO, _CO, FixedAnswer("Reject"), None, ""),
    )
}
"""Every key of the RFC by its name."""

CONFIGURABLE = (
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "MaxOutstandingR2T",
    "MaxRecvDataSegmentLength",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "ErrorRecoveryLevel",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
)
"""The keys whose local value a target's configuration may set."""

LOCAL: dict[str, Any] = {key.name: key.local for key in KEYS.values()}
"""The local values of a target that nobody configured."""
