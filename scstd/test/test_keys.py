# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.wire.keys` and `scstd.protocols.wire.text`: what is agreed on.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.keys import KEYS, LOCAL, KeyStage, Rejected
from scstd.protocols.wire.keys import number as parse_number
from scstd.protocols.wire.parameters import Parameters, negotiate
from scstd.protocols.wire.text import Collector, TextError, decode, encode, split
from scstd.test.generating import examples

NORMAL = {"SessionType": "Normal"}
DISCOVERY = {"SessionType": "Discovery"}


def ask(
    *offers: tuple[str, str],
    stage: KeyStage = KeyStage.OPERATIONAL,
    context: dict[str, str] = NORMAL,
    **local: object,
) -> tuple[dict[str, str], Parameters]:
    """Return the answers to offers, and what holds then."""
    parameters = Parameters()
    answers = negotiate(list(offers), stage, {**LOCAL, **local}, parameters, context)
    return dict(answers), parameters


class NegotiationTests(SynchronousTestCase):
    """
    Every key of the table by its result function.
    """

    def test_results(self) -> None:
        """Offer, our value, answer: for each kind of key."""
        for name, offered, local, answer in (
            ("HeaderDigest", "None,CRC32C", "CRC32C,None", "None"),
            ("HeaderDigest", "CRC32C,None", "CRC32C,None", "CRC32C"),
            ("DataDigest", "CRC32C,None", "None", "None"),
            ("DataDigest", "CRC32C", "None", "Reject"),
            ("HeaderDigest", "MD5", "CRC32C,None", "Reject"),
            ("InitialR2T", "No", False, "No"),
            ("InitialR2T", "No", True, "Yes"),
            ("InitialR2T", "Yes", False, "Yes"),
            ("InitialR2T", "yes", False, "Reject"),
            ("ImmediateData", "Yes", True, "Yes"),
            ("ImmediateData", "Yes", False, "No"),
            ("ImmediateData", "No", True, "No"),
            ("MaxBurstLength", "0x40000", 1048576, "262144"),
            ("MaxBurstLength", "16777215", 1048576, "1048576"),
            ("MaxBurstLength", "511", 1048576, "Reject"),
            ("MaxBurstLength", "16777216", 1048576, "Reject"),
            ("FirstBurstLength", "4096", 65536, "4096"),
            ("MaxOutstandingR2T", "65535", 32, "32"),
            ("MaxOutstandingR2T", "0", 32, "Reject"),
            ("MaxConnections", "8", 1, "1"),
            ("DefaultTime2Wait", "0", 2, "2"),
            ("DefaultTime2Wait", "3601", 2, "Reject"),
            ("DefaultTime2Retain", "20", 0, "0"),
            ("DataPDUInOrder", "No", True, "Yes"),
            ("DataSequenceInOrder", "No", True, "Yes"),
            ("ErrorRecoveryLevel", "2", 0, "0"),
            ("ErrorRecoveryLevel", "3", 0, "Reject"),
            ("IFMarker", "Yes", False, "No"),
            ("OFMarkInt", "2048~8192", "", "Reject"),
            ("TaskReporting", "FastAbort,RFC3720", "RFC3720", "RFC3720"),
            ("iSCSIProtocolLevel", "2", 1, "1"),
            ("X-com.example.key", "1", None, "NotUnderstood"),
            ("MaxBurstLength", "1e5", 1048576, "Reject"),
            ("MaxBurstLength", "-512", 1048576, "Reject"),
            ("MaxBurstLength", "", 1048576, "Reject"),
        ):
            ours: dict[str, Any] = {name: local}
            answers, _parameters = ask((name, offered), **ours)
            self.assertEqual(answers, {name: answer}, (name, offered, local))

    def test_declared(self) -> None:
        """MaxRecvDataSegmentLength is declared: no answer, the initiator's own limit."""
        answers, parameters = ask(("MaxRecvDataSegmentLength", "262144"))
        self.assertEqual(answers, {})
        self.assertEqual(parameters.max_xmit_data_segment_length, 262144)
        self.assertEqual(parameters.max_recv_data_segment_length, 8192)

    def test_not_offered(self) -> None:
        """A key that nobody offered has the RFC's default, not our wish."""
        _answers, parameters = ask()
        self.assertEqual(parameters, Parameters())
        for key in KEYS.values():
            if key.field and key.field != "max_xmit_data_segment_length":
                self.assertEqual(getattr(parameters, key.field), key.default, key.name)

    def test_bursts(self) -> None:
        """FirstBurstLength never exceeds MaxBurstLength."""
        _answers, parameters = ask(("MaxBurstLength", "4096"))
        parameters.settle()
        self.assertEqual(parameters.first_burst_length, 4096)

    def test_discovery(self) -> None:
        """Keys about data are irrelevant to a discovery session."""
        answers, _parameters = ask(
            ("InitialR2T", "No"),
            ("MaxConnections", "2"),
            ("HeaderDigest", "None"),
            context=DISCOVERY,
        )
        self.assertEqual(answers["InitialR2T"], "Irrelevant")
        self.assertEqual(answers["MaxConnections"], "Irrelevant")
        self.assertEqual(answers["HeaderDigest"], "None")

    def test_wrong_stage(self) -> None:
        """A key of another stage is rejected."""
        answers, _parameters = ask(("SendTargets", "All"))
        self.assertEqual(answers, {"SendTargets": "Reject"})
        answers, _parameters = ask(("InitialR2T", "No"), stage=KeyStage.FULL_FEATURE)
        self.assertEqual(answers, {"InitialR2T": "Reject"})
        answers, parameters = ask(
            ("MaxRecvDataSegmentLength", "512"), stage=KeyStage.FULL_FEATURE
        )
        self.assertEqual(parameters.max_xmit_data_segment_length, 512)

    def test_every_key_is_there(self) -> None:
        """The table has every key of RFC 7143 section 13 and AuthMethod."""
        self.assertEqual(
            set(KEYS),
            {
                "AuthMethod",
                "X#NodeArchitecture",
                "HeaderDigest",
                "DataDigest",
                "MaxConnections",
                "SendTargets",
                "TargetName",
                "InitiatorName",
                "TargetAlias",
                "InitiatorAlias",
                "TargetAddress",
                "TargetPortalGroupTag",
                "InitialR2T",
                "ImmediateData",
                "MaxRecvDataSegmentLength",
                "MaxBurstLength",
                "FirstBurstLength",
                "DefaultTime2Wait",
                "DefaultTime2Retain",
                "MaxOutstandingR2T",
                "DataPDUInOrder",
                "DataSequenceInOrder",
                "ErrorRecoveryLevel",
                "SessionType",
                "TaskReporting",
                "iSCSIProtocolLevel",
                "IFMarker",
                "OFMarker",
                "IFMarkInt",
                "OFMarkInt",
            },
        )

    def test_numbers(self) -> None:
        """Numbers are decimal or hexadecimal, nothing else."""
        self.assertEqual(parse_number("0X1f"), 31)
        for text in ("", "0x", "1_0", " 1", "+1", "٣"):
            self.assertRaises(Rejected, parse_number, text)


class TextTests(SynchronousTestCase):
    """
    Pairs on the wire.
    """

    @examples()
    @given(
        st.lists(
            st.tuples(
                st.text("abcXYZ-.", min_size=1, max_size=63),
                st.text(st.characters(exclude_characters="\0", codec="utf-8")),
            )
        ),
        st.integers(1, 64),
    )
    def test_round_trip(self, pairs: list[tuple[str, str]], length: int) -> None:
        """What is encoded, split and collected is what it was."""
        collector = Collector(limit=1 << 20)
        for part in split(encode(pairs), length):
            self.assertLessEqual(len(part), length)
            collector.add(part)
        self.assertEqual(collector.take(), pairs)

    def test_padding(self) -> None:
        """NUL bytes too many are forgiven."""
        self.assertEqual(decode(b"a=b\0\0\0c=\0"), [("a", "b"), ("c", "")])

    def test_malformed(self) -> None:
        """What is no text is an error."""
        for data in (b"a=b", b"a\0", b"=b\0", b"\xff=b\0"):
            self.assertRaises(TextError, decode, data)

    def test_limit(self) -> None:
        """A text longer than the limit is refused before it is all there."""
        collector = Collector(limit=10)
        collector.add(bytes(10))
        self.assertRaises(TextError, collector.add, b"x")
