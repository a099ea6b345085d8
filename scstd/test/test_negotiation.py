# SPDX-License-Identifier: MIT
"""
Negotiation as a whole: whatever an initiator offers, in whatever order, and however the
text is cut and spread over requests, the result is what the RFC's rules give, and both
ends hold the same.

The rules stand here once more, apart from the table of `scstd.protocols.wire.keys`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.codes import CONTINUE
from scstd.protocols.wire.keys import KEYS, LOCAL
from scstd.protocols.wire.parameters import Parameters
from scstd.protocols.wire.pdu import Reject, TextResponse
from scstd.protocols.wire.text import decode, encode
from scstd.test.generating import examples
from scstd.test.initiator import Initiator, serve
from scstd.test.negotiating import (
    ARCHITECTURE,
    BOOLEANS,
    CUTS,
    DECLARED,
    IGNORED,
    IRRELEVANT_TO_DISCOVERY,
    LISTS,
    LOCALS,
    MARKERS,
    NUMBERS,
    OFFERS,
    REJECTED,
    SETTLED,
    Offers,
    Speaker,
    _parts,
    as_value,
    expected,
)
from scstd.test.stores import memory


class NegotiationTests(SynchronousTestCase):
    """
    Logins with any keys.
    """

    @examples(120)
    @given(OFFERS, CUTS, st.integers(0, 3), LOCALS)
    def test_any_order_and_split(
        self, offers: Offers, cuts: list[int], more: int, local: dict[str, Any]
    ) -> None:
        """Any keys and values, in any order, cut anywhere, in one text or several."""
        speaker = Speaker(local, cuts)
        answers = speaker.all_of(offers, more)
        self.assertEqual(speaker.status, 0)
        self.agree(offers, answers, local, speaker)

    def agree(
        self,
        offers: Offers,
        answers: dict[str, str],
        local: dict[str, Any],
        speaker: Speaker,
    ) -> None:
        """See that the answers are the RFC's, and that both ends hold the same."""
        held = speaker.one.connection.parameters
        mine = Parameters()
        for name, value in offers:
            answer = None
            if name not in {DECLARED, *IGNORED}:
                answer = answers.pop(name)
                self.right(name, value, answer, local)
            field = KEYS[name].field if name in KEYS else None
            if name == DECLARED:
                mine.max_xmit_data_segment_length = int(value)
            elif field and answer != "Reject":
                setattr(mine, field, as_value(name, answer or ""))
        # What is left are our declarations.
        self.assertEqual(answers.pop("TargetPortalGroupTag", "1"), "1")
        ours = int(answers.pop(DECLARED, 8192))
        self.assertEqual(answers, {})
        self.assertEqual(held.max_recv_data_segment_length, ours)
        # An initiator sees to it that keys fit together, as we do.
        first = min(mine.first_burst_length, mine.max_burst_length)
        self.assertEqual(held.first_burst_length, first)
        self.assertLessEqual(held.longest_data_in, held.max_burst_length)
        if held.error_recovery_level:
            self.assertEqual(held.max_outstanding_r2t, 1)
        for key in KEYS.values():
            if key.field and key.field != "first_burst_length":
                self.assertEqual(
                    getattr(held, key.field), getattr(mine, key.field), key.name
                )

    def right(self, name: str, value: str, answer: str, local: dict[str, Any]) -> None:
        """See that an answer is the RFC's."""
        wanted = expected(name, value, local)
        assert wanted is not None
        if wanted == "Reject":
            self.assertEqual(answer, wanted, (name, value))
        elif name == "MaxOutstandingR2T" and local["ErrorRecoveryLevel"]:
            # Section 13.19: one at a time, where the level may be above 0.
            self.assertIn(answer, {wanted, "1"})
        elif name == "FirstBurstLength":
            # Section 13.14: no more than MaxBurstLength.
            self.assertLessEqual(int(answer), int(wanted))
        else:
            self.assertEqual(answer, wanted, (name, value))

    @examples(60)
    @given(OFFERS, CUTS, st.integers(0, 2))
    def test_discovery(self, offers: Offers, cuts: list[int], more: int) -> None:
        """In discovery what is about data is Irrelevant, and nothing else is."""
        speaker = Speaker({**LOCAL, "ErrorRecoveryLevel": 2}, cuts)
        answers = speaker.all_of(offers, more, discovery=True)
        self.assertEqual(speaker.status, 0)
        held = speaker.one.connection.parameters
        for name, value in offers:
            if name in IRRELEVANT_TO_DISCOVERY:
                self.assertEqual(answers[name], "Irrelevant")
                field = str(KEYS[name].field)
                self.assertEqual(getattr(held, field), getattr(Parameters(), field))
            elif name not in {DECLARED, *IGNORED}:
                # Level 0, whatever is configured for targets (section 7.4.1).
                self.assertEqual(answers.get(name), expected(name, value, LOCAL))

    @examples(60)
    @given(OFFERS, OFFERS, CUTS)
    def test_security_stage_first(
        self, early: Offers, offers: Offers, cuts: list[int]
    ) -> None:
        """Keys of the next stage are rejected before it, and nothing of them holds."""
        speaker = Speaker(dict(LOCAL), cuts)
        early = [pair for pair in early if pair[0] not in dict(offers)]
        words = [("AuthMethod", "KRB5,None"), *speaker.names()]
        answers = dict(speaker.say(words + early, 0, 1))
        self.assertEqual(speaker.status, 0)
        self.assertEqual(answers.pop("AuthMethod"), "None")
        self.assertEqual(answers.pop("TargetPortalGroupTag"), "1")
        for name, answer in answers.items():
            self.assertEqual(answer, "Reject" if name in KEYS else "NotUnderstood")
        said = {
            name
            for name, _value in early
            if name not in IGNORED or name == ARCHITECTURE
        }
        self.assertEqual(set(answers), said)
        answers = dict(speaker.say(offers, 1, 3))
        self.agree(offers, answers, dict(LOCAL), speaker)

    @examples(60)
    @given(OFFERS, CUTS)
    def test_further_connection(self, offers: Offers, cuts: list[int]) -> None:
        """On a further connection what the session has settled is rejected."""
        speaker = Speaker({**LOCAL, "MaxConnections": 2}, cuts)
        speaker.one.login(MaxConnections="2", MaxBurstLength="4096")
        (session,) = speaker.node.sessions()
        first = session.connection.parameters
        speaker.one = Initiator(speaker.node)
        speaker.login = {"tsih": session.tsih, "cid": 1}
        answers = speaker.all_of(offers, 0)
        self.assertEqual(speaker.status, 0)
        held = speaker.one.connection.parameters
        for name in SETTLED:
            field = str(KEYS[name].field)
            self.assertEqual(getattr(held, field), getattr(first, field))
        for name, value in offers:
            if name in SETTLED:
                self.assertEqual(answers[name], "Reject")
            elif name not in {DECLARED, *IGNORED}:
                self.assertEqual(answers.get(name), expected(name, value, LOCAL))

    @examples(60)
    @given(OFFERS.filter(bool), st.data())
    def test_repeated(self, offers: Offers, data: st.DataObject) -> None:
        """A key that is sent again ends the login, with the same value too."""
        offers = [one for one in offers if one[0] != "InitiatorAlias"]
        if not offers:
            return
        again = data.draw(st.sampled_from(offers))
        speaker = Speaker(dict(LOCAL), [])
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(offers)))
            speaker.say([*speaker.names(), *offers[:place], again, *offers[place:]], 1)
        else:
            speaker.say(speaker.names() + offers, 1)
            self.assertEqual(speaker.status, 0)
            speaker.say([again], 1, 3)
        self.assertEqual(speaker.status, 0x0200)

    def test_answers_as_offers(self) -> None:
        """What may only be an answer ends the login when it is offered."""
        names = {*BOOLEANS, *NUMBERS, *LISTS, *MARKERS, DECLARED}
        for name in sorted(names):
            for word in ("Reject", "Irrelevant", "NotUnderstood"):
                speaker = Speaker(dict(LOCAL), [])
                speaker.say([*speaker.names(), (name, word)], 1, 3)
                self.assertEqual(speaker.status, 0x0200, (name, word))

    def test_our_declarations_are_understood(self) -> None:
        """Who does not understand what the RFC has us declare breaks it (section 6.2)."""
        for stage, following in ((0, 1), (1, 3)):
            for name in IGNORED[:3]:
                for word in ("NotUnderstood", "Reject", "Irrelevant"):
                    speaker = Speaker(dict(LOCAL), [])
                    speaker.say([*speaker.names(), (name, word)], stage, following)
                    self.assertEqual(speaker.status, 0x0200, (stage, name, word))

    def test_impossible_declarations(self) -> None:
        """What cannot be declared ends the login, for it has no answer."""
        for value in ("511", "16777216", "0", "many", "", "1_000"):
            speaker = Speaker(dict(LOCAL), [])
            speaker.say([*speaker.names(), (DECLARED, value)], 1, 3)
            self.assertEqual(speaker.status, 0x0200, value)

    def test_every_key(self) -> None:
        """Every key of the table is one that these tests offer."""
        names = {*BOOLEANS, *NUMBERS, *LISTS, *MARKERS, *REJECTED, *IGNORED, DECLARED}
        said = {"InitiatorName", "TargetName", "SessionType", "AuthMethod"}
        self.assertEqual(set(KEYS), names | said)

    def test_key_too_long(self) -> None:
        """A key of 64 characters is none; one of 63 is not understood."""
        for length, status in ((63, 0), (64, 0x0200)):
            speaker = Speaker(dict(LOCAL), [])
            answers = speaker.say([*speaker.names(), ("K" * length, "v")], 1, 3)
            self.assertEqual(speaker.status, status)
            if not status:
                self.assertIn(("K" * length, "NotUnderstood"), answers)

    def test_text_too_long(self) -> None:
        """A text that never ends is refused when 64 KiB of it are there."""
        speaker = Speaker(dict(LOCAL), [])
        long = [(f"X-{number}", "v" * 900) for number in range(80)]
        speaker.say([*speaker.names(), *long], 1, 3)
        self.assertEqual(speaker.status, 0x0200)


class FullFeatureTests(SynchronousTestCase):
    """
    Keys in Text Requests (RFC 7143 sections 6.4 and 7.12).
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, _units = serve(memory())
        self.one = Initiator(self.node).ready()
        self.held = self.one.connection.parameters

    def ask(self, pairs: Offers, cuts: list[int], itt: int) -> dict[str, str] | None:
        """Send a text in parts; return the answers, None if it was rejected."""
        response, data = None, b""
        parts = _parts(encode(pairs), cuts) or [(b"", False)]
        for part, rest in parts:
            request = self.one.text(itt=itt)
            request.flags = CONTINUE if rest else 0x80
            request.ttt = 0xFFFFFFFF if response is None else response.ttt
            request.data = part
            self.one.send(request)
            (response,) = self.one.receive()
            if isinstance(response, Reject):
                return None
            assert isinstance(response, TextResponse)
            data += bytes(response.data)
            while response.flags & CONTINUE:
                self.one.send(self.one.text(itt=itt, ttt=response.ttt))
                response = self.one.one(TextResponse)
                data += bytes(response.data)
        assert response is not None
        assert response.flags & 0x80
        return dict(decode(data))

    @examples(60)
    @given(OFFERS, CUTS, st.integers(1, 1 << 20))
    def test_all_or_nothing(self, offers: Offers, cuts: list[int], itt: int) -> None:
        """One value that is rejected keeps all of a text from taking effect."""
        before = (self.held.max_xmit_data_segment_length, self.held.max_burst_length)
        offers = [pair for pair in offers if pair[0] != "SendTargets"]
        answers = self.ask(offers, cuts, itt)
        assert answers is not None
        declared = dict(offers).get(DECLARED)
        for name in dict(offers):
            if name in KEYS and name not in {DECLARED, *IGNORED}:
                self.assertEqual(answers[name], "Reject")
        if declared is not None and "Reject" not in answers.values():
            before = (int(declared, 0), before[1])
        now = (self.held.max_xmit_data_segment_length, self.held.max_burst_length)
        self.assertEqual(now, before)

    def test_effect(self) -> None:
        """What was declared holds when the sequence is over, not before."""
        request = self.one.text((DECLARED, "1024"))
        request.flags = 0
        self.one.send(request)
        response = self.one.one(TextResponse)
        self.assertEqual(self.held.max_xmit_data_segment_length, 8192)
        self.one.send(self.one.text(itt=request.itt, ttt=response.ttt))
        self.one.one(TextResponse)
        self.assertEqual(self.held.max_xmit_data_segment_length, 1024)
        self.assertEqual(self.held.longest_data_in, 1024)

    def test_reset(self) -> None:
        """A new sequence forgets one that was not ended."""
        request = self.one.text((DECLARED, "1024"))
        request.flags = 0
        self.one.send(request)
        self.one.one(TextResponse)
        self.assertEqual(self.ask([], [], 77), {})
        self.assertEqual(self.held.max_xmit_data_segment_length, 8192)

    def test_repeated(self) -> None:
        """A key that is sent twice in a sequence is a protocol error."""
        twice = [(DECLARED, "1024"), (DECLARED, "1024")]
        self.assertIsNone(self.ask(twice, [], 7))
        self.assertEqual(self.held.max_xmit_data_segment_length, 8192)

    def test_another_tag(self) -> None:
        """The tag is that of the sequence in each of its requests."""
        request = self.one.text((DECLARED, "1024"))
        request.flags = 0
        self.one.send(request)
        response = self.one.one(TextResponse)
        self.one.send(self.one.text(itt=request.itt + 1, ttt=response.ttt))
        self.one.one(Reject)
        self.assertEqual(self.held.max_xmit_data_segment_length, 8192)
