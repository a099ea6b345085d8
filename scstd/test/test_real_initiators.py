# SPDX-License-Identifier: MIT
"""
Real initiators that we did not write: QEMU, fio over qemu-nbd, libiscsi's tools.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

import scstd
from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server
from scstd.test.setups import must_pass
from scstd.test.suite import cases, judge, run


def call(*command: str, timeout: float = 120) -> str:
    """
    Run a program that has to succeed; return what it printed.
    """
    program = find(command[0])
    assert program is not None, command[0]
    done = subprocess.run(
        [program, *command[1:]],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise AssertionError(
            f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


class RealTests(TestCase):
    """
    What they all need: a directory, and a source of data.
    """

    timeout = 300

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def filesystem(self) -> Path:
        """Return an ext4 image made of a real tree: our own source."""
        image = self.directory / "source.img"
        call("truncate", "-s", "48M", str(image))
        tree = str(Path(scstd.__file__).parent)
        call("mke2fs", "-q", "-t", "ext4", "-d", tree, str(image))
        return image


class FilesystemTests(RealTests):
    """
    A filesystem goes through the target and comes back.
    """

    def through(
        self,
        *,
        device: str = "",
        listen: str = "127.0.0.1:0",
        options: str | None = None,
    ) -> None:
        """Copy an image to the target, compare it, and check the backing file."""
        need("qemu-img", "mke2fs", "e2fsck")
        source = self.filesystem()
        disk = self.directory / "disk.img"
        with Server(
            "--device",
            f"d=vdisk_fileio:filename=disk.img:size=48M{device}",
            directory=str(self.directory),
            listen=listen,
        ) as server:
            if options is None:
                convert = ["-O", "raw", str(source), server.url]
                compare = ["-f", "raw", "-F", "raw", str(source), server.url]
            else:
                portal, target, lun = server.url.removeprefix("iscsi://").split("/")
                image = (
                    f"driver=iscsi,transport=tcp,portal={portal},target={target},"
                    f"lun={lun},{options}"
                )
                convert = ["--target-image-opts", str(source), image]
                back = self.directory / "back.img"
                call("qemu-img", "convert", "-n", "-f", "raw", *convert)
                call(
                    "qemu-img", "convert", "--image-opts", "-O", "raw", image, str(back)
                )
                compare = ["-f", "raw", "-F", "raw", str(source), str(back)]
            call("qemu-img", "convert", "-n", "-f", "raw", *convert)
            self.assertIn("identical", call("qemu-img", "compare", *compare))
        call("e2fsck", "-f", "-n", str(disk))
        self.assertEqual(disk.read_bytes(), source.read_bytes())

    def test_plain(self) -> None:
        """Blocks of 512 bytes."""
        self.through()

    def test_four_kilobytes(self) -> None:
        """Blocks of 4096 bytes."""
        self.through(device=":blocksize=4096")

    def test_thick_write_through(self) -> None:
        """No thin provisioning, no volatile cache."""
        self.through(device=":thin_provisioned=0:write_through=1")

    def test_header_digest(self) -> None:
        """Header digests (this libiscsi has no data digests; Linux, in test_linux, has)."""
        self.through(options="header-digest=crc32c")

    def test_ipv6(self) -> None:
        """Over IPv6."""
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        self.through(listen="[::1]:0")


class WorkTests(RealTests):
    """
    Random work, and the tools.
    """

    def test_fio(self) -> None:
        """Random writes of 4 to 64 KiB at depth 16, verified with CRC32C."""
        need("fio", "qemu-nbd")
        with (
            # The path of a Unix socket has no room for a long directory.
            tempfile.TemporaryDirectory() as short,
            Server(
                "--device",
                "d=vdisk_fileio:filename=disk.img:size=128M",
                directory=str(self.directory),
            ) as server,
        ):
            nbd = Path(short) / "nbd.sock"
            program = find("qemu-nbd")
            assert program is not None
            export = subprocess.Popen(
                [program, "-f", "raw", "-k", str(nbd), "-t", server.url],
                stderr=subprocess.DEVNULL,
            )
            try:
                while not nbd.exists():
                    self.assertIsNone(export.poll())
                    os.sched_yield()
                call(
                    "fio",
                    "--name=verify",
                    "--ioengine=nbd",
                    f"--uri=nbd+unix:///?socket={nbd}",
                    "--rw=randwrite",
                    "--bsrange=4k-64k",
                    "--size=64m",
                    "--iodepth=16",
                    "--verify=crc32c",
                    "--do_verify=1",
                    "--verify_fatal=1",
                    f"--aux-path={self.directory}",
                )
            finally:
                export.terminate()
                export.wait(PATIENCE)

    def test_qemu_io(self) -> None:
        """Writes, zeros, discards, FUA and flushes of QEMU."""
        need("qemu-io")
        with Server(
            "--device",
            "d=vdisk_fileio:filename=disk.img:size=64M",
            directory=str(self.directory),
        ) as server:
            said = call(
                "qemu-io",
                "-f",
                "raw",
                *("-c", "write -P 0xa5 1M 64k", "-c", "read -P 0xa5 1M 64k"),
                *("-c", "write -z 2M 1M", "-c", "read -P 0 2M 1M"),
                *("-c", "write -P 7 4M 1M", "-c", "discard 4M 1M", "-c", "flush"),
                *("-c", "read -P 0 4M 1M", "-c", "write -f -P 0x77 9M 4k"),
                *("-c", "read -P 0x77 9M 4k"),
                server.url,
            )
            self.assertNotIn("failed", said)
            mapped = call("qemu-img", "map", "-f", "raw", "--output=json", server.url)
            self.assertIn('"data": false', mapped)
            self.assertIn('"data": true', mapped)

    def test_libiscsi_tools(self) -> None:
        """Discovery, INQUIRY and a short load with libiscsi's tools."""
        need("iscsi-ls", "iscsi-inq", "iscsi-perf")
        with Server(
            "--device",
            "d0=memory:size=64M",
            "--device",
            "d1=vdisk_nullio:size=2T",
            directory=str(self.directory),
            luns=2,
        ) as server:
            listed = call(
                "iscsi-ls", "-s", f"iscsi://{server.portal}", timeout=PATIENCE
            )
            self.assertIn("Lun:1", listed)
            self.assertIn("Vendor:SCSTD", call("iscsi-inq", server.url))
            call("iscsi-perf", "-t", "1", "-b", "8", "-m", "32", "-r", server.url)

    def test_kill(self) -> None:
        """What was flushed before kill -9 is in the file."""
        need("qemu-io")
        with Server(
            "--device",
            "d=vdisk_fileio:filename=disk.img:size=16M",
            directory=str(self.directory),
        ) as server:
            call(
                "qemu-io",
                "-f",
                "raw",
                *("-c", "write -P 0x42 1M 1M", "-c", "flush"),
                server.url,
            )
            server.process.kill()
            server.process.wait(PATIENCE)
            server.expect_kill()
        data = (self.directory / "disk.img").read_bytes()
        self.assertEqual(data[1 << 20 : 2 << 20], b"\x42" * (1 << 20))


class SuiteTests(TestCase):
    """
    libiscsi's conformance suite, each case a process of its own.
    """

    timeout = 600

    def suite(self, setup: str) -> None:
        """Run every case on a kind of LUN: what must pass has to pass."""
        need("iscsi-test-cu")
        outcomes = run(setup, cases(), briefly=True)
        self.assertTrue(any(must_pass(one.case, setup) for one in outcomes))
        wrong = [
            f"{one.verdict} {one.case}: {one.why}"
            for one in outcomes
            if one.verdict != "passed" and must_pass(one.case, setup)
        ]
        self.assertEqual(wrong, [])

    def test_plain(self) -> None:
        """A plain LUN, one URL."""
        self.suite("plain")

    def test_thin(self) -> None:
        """A thin LUN, two URLs."""
        self.suite("thin")

    def test_removable(self) -> None:
        """A removable LUN."""
        self.suite("removable")

    def test_four_kilobytes(self) -> None:
        """A LUN of 4096-byte blocks."""
        self.suite("4k")

    def test_logical_blocks_only(self) -> None:
        """A LUN whose physical blocks are its logical ones."""
        self.suite("flat")

    def test_write_through(self) -> None:
        """A LUN without a volatile cache."""
        self.suite("through")

    def test_read_only(self) -> None:
        """A write-protected LUN."""
        self.suite("readonly")

    def test_slow(self) -> None:
        """A LUN whose medium takes its time."""
        self.suite("slow")

    def test_judge(self) -> None:
        """A case is judged by its log, not by the tool's own count."""
        head = "Suite: S\n  Test: One ...\n"
        for text, status, verdict in (
            (head + "    Test it\n    [OK] good\npassed\n", 0, "passed"),
            (head + "    Test it\n    [FAILED] bad\nFAILED\n", 1, "failed"),
            (head + "    [SKIPPED] not implemented.\npassed\n", 0, "skipped"),
            (head + "    SWP is not changeable\npassed\n", 0, "skipped"),
            ("Suite: S\n  Test: One ...passed\n", 0, "skipped"),
            (head + "    Test it\n", None, "timed out"),
            (head + "    Test it\n", -11, "failed"),
            ("Failed to connect\n", 255, "failed"),
            (
                "[SKIPPED] set-up\n" + head + "    Test\npassed    [SKIPPED] after\n",
                0,
                "passed",
            ),
        ):
            self.assertEqual(judge("SCSI.S.One", status, text, 1.0).verdict, verdict)
        # What is a detail of one case may be all of another.
        for case, verdict in (("Readonly", "passed"), ("CryptoErase", "skipped")):
            text = (
                f"Suite: Sanitize\n  Test: {case} ...\n    Test it\n    [SKIPPED]"
                " SANITIZE CRYPTO_ERASE is not implemented\npassed\n"
            )
            self.assertEqual(
                judge(f"SCSI.Sanitize.{case}", 0, text, 1.0).verdict, verdict
            )
