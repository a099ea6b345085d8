# SPDX-License-Identifier: MIT
"""
What goes over the wire, read by somebody else: Wireshark's dissectors of iSCSI and SCSI
find nothing malformed in a capture of libiscsi's whole suite, nor in what it does not do.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.protocols.wire.ahs import bidirectional
from scstd.protocols.wire.codes import READ
from scstd.test.clients import find, need
from scstd.test.initiator import Initiator, serve
from scstd.test.serving import PATIENCE, Server
from scstd.test.stores import memory
from scstd.test.suite import cases, run_case

DEVICE = "disk=vdisk_fileio:filename=disk.img:size=4M"
"""Small: some cases read or write all of it."""

FIELDS = (
    "frame.number",
    "tcp.srcport",
    "tcp.stream",
    "iscsi.initiatortasktag",
    "iscsi.scsicommand.expecteddatatransferlength",
    "iscsi.datasegmentlength",
    "_ws.malformed",
    "_ws.col.Info",
)
SHOWN = "_ws.malformed || iscsi.scsicommand.expecteddatatransferlength"


class DissectorTests(TestCase):
    """
    tshark on a capture.
    """

    timeout = 300

    def test_suite(self) -> None:
        """Nothing in the suite's whole traffic is malformed."""
        need("tshark", "dumpcap", "iscsi-test-cu")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        found = directory / "found.txt"
        # A machine that is busy may not keep up: what has gaps proves nothing.
        for _try in range(3):
            port, dropped = self.capture(directory, found)
            if not dropped:
                break
        self.assertEqual(dropped, 0, "packets were dropped, each time")
        self.judge(found, port)

    def capture(self, directory: Path, found: Path) -> tuple[str, int]:
        """
        Run the suite; *found* has what tshark says of it.  Return the port of the
        target, and how many packets nobody has seen.
        """
        with Server("--device", DEVICE, directory=str(directory)) as server:
            port = server.portal.rpartition(":")[2]
            dumpcap, tshark = find("dumpcap"), find("tshark")
            assert dumpcap is not None
            assert tshark is not None
            # Some gigabytes: they are read as they come, and never kept.
            capture = subprocess.Popen(
                [dumpcap, "-i", "lo", "-f", f"tcp port {port}", "-B", "256", "-w", "-"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=False,
            )
            command = [tshark, "-r", "-", "-d", f"tcp.port=={port},iscsi", "-Y", SHOWN]
            command += ["-T", "fields", *(f"-e{field}" for field in FIELDS)]
            with found.open("w") as output:
                reader = subprocess.Popen(
                    command,
                    stdin=capture.stdout,
                    stdout=output,
                    stderr=subprocess.DEVNULL,
                )
            assert capture.stderr is not None
            while b"File:" not in capture.stderr.readline():
                self.assertIsNone(capture.poll())
            try:
                for case in cases():
                    run_case(case, [server.url] * 2)
            finally:
                capture.terminate()
                _out, said = capture.communicate(timeout=PATIENCE)
                reader.wait(PATIENCE)
        counts = re.search(rb"dropped on interface '.*': \d+/(\d+)", said)
        assert counts is not None, said
        return port, int(counts[1])

    def judge(self, found: Path, port: str) -> None:
        """See that nothing of ours is malformed."""
        allowed: dict[tuple[str, str], int] = {}
        wrong: list[str] = []
        for line in found.read_text().splitlines():
            number, source, stream, tags, expected, lengths, malformed, info = (
                line.split("\t")
            )
            if source != port:
                # What the initiator says may be wrong on purpose.
                for tag, length in zip(
                    tags.split(","), expected.split(","), strict=False
                ):
                    allowed[stream, tag] = int(length, 0)
            if source != port or not malformed:
                continue
            # What the initiator had cut off is malformed to the dissector.
            tag, length = tags.split(",")[-1], lengths.split(",")[-1]
            if allowed.get((stream, tag)) != int(length, 0):
                wrong.append(f"{number}: {info}")
        self.assertGreater(len(allowed), 9000)
        self.assertEqual(wrong, [])

    def test_bidirectional(self) -> None:
        """What no initiator here can send: a bidirectional command, and its answer."""
        need("tshark", "text2pcap")
        said = self.dissected(*bidirectional_exchange())
        for wanted in (
            "Bidirectional Read Data Length: 1536",
            "BidiReadResidualCount: 512 (0x00000200)",
            "ExpDataSN: 0x00000001",
            "Flags: 0x88, u",
        ):
            self.assertIn(wanted, said)
        self.assertIn("DataSN: 1 (0x00000001)", said.partition("SCSI Data In")[2])
        self.assertNotIn("alformed", said)

    def dissected(self, *chunks: tuple[str, bytes]) -> str:
        """Return what tshark says of chunks: (I or O, for in or out, and the bytes)."""
        lines = []
        for way, data in chunks:
            lines += [way, f"000000 {data.hex(' ')}"]
        capture = self.mktemp()
        text2pcap, tshark = find("text2pcap"), find("tshark")
        assert text2pcap is not None
        assert tshark is not None
        ways = ["-D", "-T", "50000,3260", "-", capture]
        text = "\n".join(lines) + "\n"
        subprocess.run(
            [text2pcap, *ways], input=text, text=True, check=True, capture_output=True
        )
        said = subprocess.run(
            [tshark, "-r", capture, "-d", "tcp.port==3260,iscsi", "-V", "-O", "iscsi"],
            text=True,
            check=True,
            capture_output=True,
        )
        return said.stdout


def bidirectional_exchange() -> list[tuple[str, bytes]]:
    """
    Return an XDWRITEREAD of two blocks on the wire: command, R2T, Data-Out, answer.
    """
    node, _target, _units = serve(memory())
    one = Initiator(node).ready(ImmediateData="No")
    cdb = bytes.fromhex("53 00 00000000 00 0002 00")
    pdu = one.command(cdb, write=1024)
    pdu.flags |= READ
    pdu.ahs = bidirectional(1536)
    chunks = [("I", one.encode(pdu))]
    one.feed(chunks[-1][1])
    chunks.append(("O", one.target_side.take()))
    found: list[Any] = list(one.link.received(chunks[-1][1]))
    chunks.append(("I", one.encode(*one.data_out(found[0], bytes(1024)))))
    one.feed(chunks[-1][1])
    chunks.append(("O", one.target_side.take()))
    return chunks
