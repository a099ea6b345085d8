# SPDX-License-Identifier: MIT
"""
What a negotiation has to come to, by the words of the RFC alone, and an initiator that
speaks it: for `scstd.test.test_negotiation`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import CONTINUE, TRANSIT
from scstd.protocols.wire.keys import KEYS, LOCAL
from scstd.protocols.wire.pdu import LoginResponse
from scstd.protocols.wire.text import decode, encode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

Pair = tuple[str, str]


Offers = list[Pair]


BOOLEANS = {
    "InitialR2T": "or",
    "ImmediateData": "and",
    "DataPDUInOrder": "or",
    "DataSequenceInOrder": "or",
    "IFMarker": "and",
    "OFMarker": "and",
}


NUMBERS: dict[str, tuple[Any, int, int]] = {
    "MaxConnections": (min, 1, 65535),
    "MaxBurstLength": (min, 512, 16777215),
    "FirstBurstLength": (min, 512, 16777215),
    "DefaultTime2Wait": (max, 0, 3600),
    "DefaultTime2Retain": (min, 0, 3600),
    "MaxOutstandingR2T": (min, 1, 65535),
    "ErrorRecoveryLevel": (min, 0, 2),
    "iSCSIProtocolLevel": (min, 0, 31),
}


LISTS = {
    "HeaderDigest": ("CRC32C", "None", "Y-org.example.sum"),
    "DataDigest": ("CRC32C", "None", "Y#1"),
    "TaskReporting": ("RFC3720", "ResponseFence", "FastAbort", "Other"),
}


IRRELEVANT_TO_DISCOVERY = {
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "TaskReporting",
    "iSCSIProtocolLevel",
}


ARCHITECTURE = "X#NodeArchitecture"


IGNORED = (
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "InitiatorAlias",
    ARCHITECTURE,
)


REJECTED = ("SendTargets",)


MARKERS = ("IFMarkInt", "OFMarkInt")
"""RFC 7143 section 13, its keys: result function and range, and what it says of each."""


DECLARED = "MaxRecvDataSegmentLength"


SETTLED = {
    key.name for key in KEYS.values() if key.scope.name == "SESSION" and key.field
}
"""What a session's first connection settles."""


def _named(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Pair]:
    return values.map(lambda value: (name, value))


def _numbers(lowest: int, highest: int) -> st.SearchStrategy[str]:
    beyond = st.sampled_from((lowest - 1, highest + 1, highest * 3, 1 << 64))
    return (st.integers(lowest, highest) | beyond).flatmap(
        lambda number: st.sampled_from((str(number), hex(number)))
    )


_WORDS = st.sampled_from(("", "Maybe", "yes", "1e3", "0x", " 7", "-1", "٣", "v" * 3000))


_KEYS: list[st.SearchStrategy[Pair]] = [
    *(_named(name, st.sampled_from(("Yes", "No")) | _WORDS) for name in BOOLEANS),
    *(
        _named(name, _numbers(lowest, highest) | _WORDS)
        for name, (_result, lowest, highest) in NUMBERS.items()
    ),
    *(
        _named(name, st.permutations(words).flatmap(_some) | _WORDS)
        for name, words in LISTS.items()
        for _some in (
            lambda found: st.integers(1, len(found)).map(
                lambda count: ",".join(found[:count])
            ),
        )
    ),
    *(_named(name, st.just("2048~8192")) for name in MARKERS),
    *(_named(name, st.sampled_from(("1", "x"))) for name in (*REJECTED, *IGNORED)),
    _named(DECLARED, st.integers(512, 16777215).map(str)),
    st.just(("X-org.example.key", "1")),
    st.just(("X-" + "k" * 61, "v" * 2000)),
    st.just(("ImmediateDataa", "Yes")),
]


OFFERS: st.SearchStrategy[Offers] = st.tuples(
    *(st.none() | key for key in _KEYS)
).flatmap(lambda found: st.permutations([one for one in found if one is not None]))


LOCALS = st.fixed_dictionaries(
    {
        "InitialR2T": st.booleans(),
        "ImmediateData": st.booleans(),
        "MaxConnections": st.integers(1, 8),
        "MaxBurstLength": st.sampled_from((512, 65536, 1 << 20)),
        "FirstBurstLength": st.sampled_from((512, 65536, 1 << 20)),
        "MaxOutstandingR2T": st.sampled_from((1, 32)),
        "DefaultTime2Wait": st.sampled_from((0, 4)),
        "DefaultTime2Retain": st.sampled_from((0, 60)),
        "ErrorRecoveryLevel": st.integers(0, 2),
        "HeaderDigest": st.sampled_from(("CRC32C,None", "None", "CRC32C")),
    }
).map(lambda found: {**LOCAL, **found})


def expected(name: str, offered: str, local: dict[str, Any]) -> str | None:
    """
    Return our answer by the RFC's result functions; None where none is due.
    """
    if name == DECLARED or name in IGNORED:
        return None
    if name in REJECTED or name in MARKERS:
        return "Reject"
    if name in BOOLEANS:
        if offered not in {"Yes", "No"}:
            return "Reject"
        ours, theirs = local[name], offered == "Yes"
        agreed = ours or theirs if BOOLEANS[name] == "or" else ours and theirs
        return "Yes" if agreed else "No"
    if name in NUMBERS:
        result, lowest, highest = NUMBERS[name]
        plain = offered.isascii() and offered.isalnum() and offered != "0x"
        if not plain or offered.strip("0123456789xabcdef"):
            return "Reject"
        try:
            number = int(offered, 0)
        except ValueError:
            return "Reject"
        in_range = lowest <= number <= highest
        return str(result(number, local[name])) if in_range else "Reject"
    if name in LISTS:
        mine = local[name].split(",")
        return next((one for one in offered.split(",") if one in mine), "Reject")
    return "NotUnderstood"


def as_value(name: str, text: str) -> Any:
    """Return the value that an answer is."""
    if name in BOOLEANS:
        return text == "Yes"
    return int(text, 0) if name in NUMBERS else text


def _parts(text: bytes, cuts: list[int]) -> list[tuple[bytes, bool]]:
    """
    Return *text* in parts, and whether more of it follows.
    """
    places = sorted({cut for cut in cuts if 0 < cut < len(text)})
    edges = [0, *places, len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    return [(part, number < len(parts) - 1) for number, part in enumerate(parts)]


class Speaker:
    """
    An initiator that logs in with any text, in any stage, cut anywhere.
    """

    def __init__(self, local: dict[str, Any], cuts: list[int], **login: Any) -> None:
        self.node, _target, _units = serve(
            memory(1 << 16), limits=TargetSettings(local=local)
        )
        self.one = Initiator(self.node)
        self.cuts, self.login = cuts, login
        self.status = 0

    def say(self, pairs: Offers, stage: int, following: int = -1) -> Offers:
        """
        Send one text, and return its answers; *following* is the next stage.
        """
        text, answers = encode(pairs), b""
        cuts = [*self.cuts, *range(8000, len(text), 8000)]
        for part, rest in _parts(text, cuts) or [(b"", False)]:
            flags = stage << 2
            flags |= CONTINUE if rest else TRANSIT | following if following > 0 else 0
            request = self.one.login_request([], flags=flags, **self.login)
            request.data = part
            self.one.send(request)
            response: LoginResponse = self.one.one(LoginResponse)
            self.status = response.status_class << 8 | response.status_detail
            if self.status:
                return []
            assert not rest or (not response.data and not response.flags & 0xC0)
            answers = bytes(response.data)
            while response.flags & CONTINUE:
                assert not response.flags & TRANSIT
                self.one.send(self.one.login_request([], flags=flags, **self.login))
                response = self.one.one(LoginResponse)
                answers += bytes(response.data)
        assert bool(response.flags & TRANSIT) == (following > 0)
        return decode(answers)

    def names(self, *, discovery: bool = False) -> Offers:
        """Return what says who this is."""
        named = [("InitiatorName", INITIATOR)]
        if discovery:
            return [*named, ("SessionType", "Discovery")]
        return [*named, ("TargetName", TARGET)]

    def all_of(
        self, offers: Offers, more: int, *, discovery: bool = False
    ) -> dict[str, str]:
        """
        Log in with *offers* in so many further texts; return every answer, once.
        """
        step = len(offers) // (more + 1) + 1
        groups = [offers[at : at + step] for at in range(0, len(offers), step)] or [[]]
        answers: Offers = []
        for number, group in enumerate(groups):
            names = [] if number else self.names(discovery=discovery)
            last = number == len(groups) - 1
            answers += self.say(names + group, 1, 3 if last else -1)
            if self.status:
                break
        assert len(dict(answers)) == len(answers), answers
        return dict(answers)


CUTS = st.lists(st.integers(0, 4000), max_size=4)
