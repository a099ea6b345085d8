# SPDX-License-Identifier: MIT
"""
A file on a server that does not answer: a real FUSE file system whose server stands.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import unittest
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.protocols.wire.pdu import DataIn, SCSIResponse
from scstd.test.clients import EXTRA, find, need
from scstd.test.serving import Server

_COMMANDS = (
    ("READ, cached", struct.pack(">BBIBH", 0x28, 0, 0, 0, 8), b"", 4096),
    ("READ", struct.pack(">BBIBH", 0x28, 0, 9000, 0, 8), b"", 4096),
    ("READ with FUA", struct.pack(">BBIBH", 0x28, 8, 0, 0, 8), b"", 4096),
    ("WRITE", struct.pack(">BBIBH", 0x2A, 0, 8, 0, 8), b"w" * 4096, 0),
    ("WRITE SAME", struct.pack(">BBIBH", 0x41, 0, 16, 0, 64), b"s" * 512, 0),
    ("SYNCHRONIZE CACHE", b"\x35" + bytes(9), b"", 0),
)


class HungTests(TestCase):
    """
    What a LUN whose server hangs does to others: nothing.
    """

    timeout = 120

    def mount(self) -> tuple[Path, int]:
        """Mount a directory by way of a server; return where, and the server's id."""
        need("sshfs", "fusermount3", "openssh-sftp-server")
        directory = Path(self.mktemp()).absolute()
        for name in ("there", "here"):
            (directory / name).mkdir(parents=True)
        server = directory / "server"
        server.write_text(
            f"#!/bin/sh\necho $$ > {directory}/pid\n"
            f"exec {EXTRA['openssh-sftp-server']}\n"
        )
        server.chmod(0o700)
        here = str(directory / "here")
        program, umount = find("sshfs"), find("fusermount3")
        assert program is not None
        assert umount is not None
        option = f"ssh_command={server}"
        done = subprocess.run(
            [program, "-o", option, f"x:{directory}/there", here],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise unittest.SkipTest(f"no FUSE here: {done.stderr}")
        pid = int((directory / "pid").read_text())
        self.addCleanup(subprocess.run, [umount, "-u", "-z", here], check=True)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        return directory, pid

    def test_hung(self) -> None:
        """Its commands wait, others are carried out; when it goes on all end well."""
        directory, pid = self.mount()
        with Server(
            "--device",
            f"hung=vdisk_fileio:filename={directory}/here/disk.img:size=16M",
            "--device",
            "other=memory:size=1M",
            directory=str(directory),
            luns=2,
        ) as server:
            hung, other = (
                BlockingSession(url, at) for at, url in enumerate(server.urls)
            )
            hung.read(0, 8)
            other.read(0, 8)
            os.kill(pid, signal.SIGSTOP)
            for name, cdb, data, read in _COMMANDS:
                hung.send(cdb, data=data, read=read)
                self.assertEqual(other.read(0, 8), bytes(4096), name)
            late = BlockingSession(server.urls[1], 9)
            self.assertEqual(late.read(0, 8), bytes(4096))
            late.close()
            os.kill(pid, signal.SIGCONT)
            for _command in _COMMANDS:
                answer = hung.receive()
                assert isinstance(answer, (DataIn, SCSIResponse)), answer
                self.assertEqual(answer.status, 0)
            self.assertEqual(hung.read(8, 8), b"w" * 4096)
            hung.close()
            other.close()
        self.assertNotIn("Traceback", server.log())
