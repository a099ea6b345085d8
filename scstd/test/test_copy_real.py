# SPDX-License-Identifier: MIT
"""
Copies by a target in a process of its own, and what other people's tools say of it.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.blocking import BlockingSession
from scstd.test.clients import need
from scstd.test.copying import (
    CopyTests,
    cscd,
    list_1,
    offload,
    populate,
    receive_4,
    segment,
    write_using,
    xcopy,
)
from scstd.test.serving import Server
from scstd.test.stores import memory
from scstd.test.test_copy import pattern

SIZE = 24 << 20


class RealCopyTests(SynchronousTestCase):
    """
    Over TCP, between files.
    """

    def copies(self, options: str) -> None:
        """Copy by EXTENDED COPY and by a token, and compare the files."""
        directory = tempfile.mkdtemp()
        self.addCleanup(lambda: subprocess.run(["rm", "-r", directory], check=True))
        one, two = Path(directory) / "one.img", Path(directory) / "two.img"
        one.write_bytes(pattern(SIZE))
        two.write_bytes(bytes(SIZE))
        with Server(
            "--device",
            f"one=vdisk_fileio:filename={one}",
            "--device",
            f"two=vdisk_fileio:filename={two}{options}",
            directory=directory,
            luns=2,
        ) as server:
            sessions = [
                BlockingSession(url, number)
                for number, url in enumerate(server.urls, 1)
            ]
            names = []
            for session in sessions:
                page = session.command(b"\x12\1\x83\4\0\0", read=1024)
                names.append(cscd(page[8 : 8 + page[7]]))
            data = list_1(names, [segment(32768, 0, 16384), segment(16384, 32768, 0)])
            sessions[0].command(xcopy(data), data=data)
            model = pattern(SIZE)
            half = 16384 << 9
            self.assertEqual(two.read_bytes(), model[2 * half :] + model[: 2 * half])
            data = populate((0, 32768))
            sessions[0].command(offload(0x10, data), data=data)
            token = sessions[0].command(receive_4(7, 7), read=1024)[38:550]
            data = write_using(token, (0, 16384), (32768, 16384))
            sessions[1].command(offload(0x11, data), data=data)
            expected = model[:half] + model[:half] + model[half : 2 * half]
            self.assertEqual(two.read_bytes(), expected)
            for session in sessions:
                session.close()

    def test_by_the_kernel(self) -> None:
        """Files, copied by the kernel."""
        self.copies("")

    def test_through_the_target(self) -> None:
        """The same behind a filter, by reads and writes, and durable at once."""
        self.copies(":write_through=1:filter=delay write=0.001")


class DecodedTests(CopyTests):
    """
    sg3_utils reads the page as it was meant.
    """

    def test_third_party_copy_page(self) -> None:
        """Every descriptor of VPD page 8Fh, and no more."""
        need("sg_vpd")
        self.connect(memory())
        page = self.one.do(b"\x12\1\x8f\4\0\0", read=1024).data
        text = self.mktemp()
        Path(text).write_text(
            " ".join(f"{byte:02x}" for byte in page), encoding="ascii"
        )
        out = subprocess.run(
            ["sg_vpd", f"--inhex={text}"], capture_output=True, text=True, check=True
        ).stdout
        lines = [line.strip() for line in out.splitlines()]
        for line in (
            "Maximum range descriptors: 256",
            "Maximum inactivity timeout: 600 seconds",
            "Default inactivity timeout: 30 seconds",
            "Maximum token transfer size: 524288",
            "Extended copy(LID1)",
            "Populate token",
            "Write using token",
            "Copy operation abort",
            "Report all ROD tokens",
            "Maximum CSCD descriptor count: 16",
            "Maximum segment descriptor count: 256",
            "Maximum descriptor list length: 8704",
            "block -> block [0x2]",
            "CSCD: Identification Descriptor [0xe4]",
            "copy src or dst is copy manager LU [0xffff]",
            "Remote tokens: 0",
            "Maximum Bytes in block ROD: 268435456",
            "ROD type: point in time copy - change vulnerable [0x800001]",
            "ROD type: block device zero [0xffff0001]",
            "Total concurrent copies: 64",
            "Data segment granularity: 512",
            "Held data limit: 0",
        ):
            self.assertIn(line, lines)
        self.assertNotIn("Unexpected", out)
        self.assertEqual(len([one for one in lines if one.startswith("ROD type")]), 3)
