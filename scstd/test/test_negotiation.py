# SPDX-License-Identifier: MIT
"""
Negotiation as a whole: whatever the order of the keys, and however the text is cut and
spread over requests, the result is what the RFC's result functions give.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.node import Limits
from scstd.protocols.wire.keys import KEYS, LOCAL
from scstd.protocols.wire.pdu import CONTINUE, TRANSIT, LoginResponse
from scstd.protocols.wire.text import decode, encode
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

BOOLEANS = {
    "InitialR2T": "or",
    "ImmediateData": "and",
    "DataPDUInOrder": "or",
    "DataSequenceInOrder": "or",
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
"""Written down here once more, from RFC 7143 section 13: result function and range."""


def _numbers(name: str) -> st.SearchStrategy[tuple[str, str]]:
    _function, lowest, highest = NUMBERS[name]
    texts = st.integers(lowest, highest).flatmap(
        lambda number: st.sampled_from((str(number), hex(number)))
    )
    return texts.map(lambda text: (name, text))


OFFERS = st.tuples(
    *(
        st.none()
        | st.sampled_from(("Yes", "No")).map(lambda word, name=name: (name, word))  # type: ignore[misc]
        for name in BOOLEANS
    ),
    *(st.none() | _numbers(name) for name in NUMBERS),
    *(
        st.none()
        | st.sampled_from(("None", "CRC32C", "None,CRC32C", "CRC32C,None")).map(
            lambda word, name=name: (name, word)  # type: ignore[misc]
        )
        for name in ("HeaderDigest", "DataDigest")
    ),
    st.none() | st.just(("X-org.example.key", "1")),
    st.none() | st.just(("ImmediateDataa", "Yes")),
).map(lambda found: [one for one in found if one is not None])


def expected(name: str, offered: str, local: dict[str, Any]) -> tuple[Any, str]:
    """
    Return the value agreed on and our answer, by the RFC's result functions.
    """
    if name in BOOLEANS:
        ours, theirs = local[name], offered == "Yes"
        agreed = ours or theirs if BOOLEANS[name] == "or" else ours and theirs
        return agreed, "Yes" if agreed else "No"
    if name in NUMBERS:
        number = NUMBERS[name][0](int(offered, 0), local[name])
        return number, str(number)
    if name in {"HeaderDigest", "DataDigest"}:
        word = next(one for one in offered.split(",") if one in local[name].split(","))
        return word, word
    return None, "NotUnderstood"


class NegotiationTests(SynchronousTestCase):
    """
    Logins with any keys.
    """

    @examples(150)
    @given(
        OFFERS.flatmap(st.permutations),
        st.lists(st.integers(0, 400), max_size=4),
        st.integers(0, 3),
        st.booleans(),
    )
    def test_any_order_and_split(
        self, offers: list[tuple[str, str]], cuts: list[int], more: int, large: bool
    ) -> None:
        """Any keys, in any order, cut anywhere, in one request or several."""
        local = {**LOCAL}
        if large:
            local.update(
                MaxConnections=8,
                ErrorRecoveryLevel=2,
                DefaultTime2Wait=4,
                DefaultTime2Retain=60,
                InitialR2T=True,
                ImmediateData=False,
            )
        one, answers = self.log_in(offers, cuts, more, local)
        parameters = one.connection.parameters
        offered = dict(offers)
        for name, value in offers:
            agreed, answer = expected(name, value, local)
            self.assertEqual(answers[name], answer, name)
            key = KEYS.get(name)
            if key is None or key.field in {None, "first_burst_length"}:
                continue
            self.assertEqual(getattr(parameters, str(key.field)), agreed, name)
        for key in KEYS.values():
            burst = {"first_burst_length", "max_xmit_data_segment_length"}
            if key.field and key.name not in offered and key.field not in burst:
                self.assertEqual(getattr(parameters, key.field), key.default, key.name)
        first = offered.get("FirstBurstLength")
        wish = 65536 if first is None else min(int(first, 0), 65536)
        self.assertEqual(
            parameters.first_burst_length, min(wish, parameters.max_burst_length)
        )

    def log_in(
        self,
        offers: list[tuple[str, str]],
        cuts: list[int],
        more: int,
        local: dict[str, Any],
    ) -> tuple[Initiator, dict[str, str]]:
        """
        Log in with these offers, cut and spread; return all answers.
        """
        node, _target, _units = serve(memory(1 << 16), limits=Limits(local=local))
        one = Initiator(node)
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        answers: dict[str, str] = {}
        step = len(offers) // (more + 1) + 1
        groups = [offers[at : at + step] for at in range(0, len(offers), step)] or [[]]
        for number, group in enumerate(groups):
            text = encode((names if not number else []) + group)
            last = number == len(groups) - 1
            for part, rest in _parts(text, cuts):
                request = one.login_request([], flags=0x04)
                request.data = part
                if rest:
                    request.flags |= CONTINUE
                elif last:
                    request.flags |= TRANSIT | 3
                one.send(request)
                response: LoginResponse = one.one(LoginResponse)
                self.assertEqual(response.status_class, 0)
                if rest:
                    self.assertEqual(bytes(response.data), b"")
                answers.update(decode(bytes(response.data)))
        self.assertTrue(response.flags & TRANSIT)
        return one, answers


def _parts(text: bytes, cuts: list[int]) -> list[tuple[bytes, bool]]:
    """
    Return *text* in parts, and whether more of it follows.
    """
    places = sorted({cut for cut in cuts if 0 < cut < len(text)})
    edges = [0, *places, len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    return [(part, number < len(parts) - 1) for number, part in enumerate(parts)]
