# SPDX-License-Identifier: MIT
"""
What a service does while the file system of one LUN is frozen, hangs, is slow, full,
read-only or gone: a table of what is right, a row a state and a column a thing to do,
and each row tried on a real one (`scstd.test.filesystems`).

``waits`` says that a command has no answer while the state lasts, and the one behind it
when it is over.  Whatever the state: others are served, initiators log in, the
configuration is read again, and a stop ends.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.initiator.commands import CommandResult
from scstd.initiator.reservations import REGISTER, out_cdb, parameters
from scstd.protocols.wire.codes import STATUS
from scstd.protocols.wire.pdu import DataIn, SCSIResponse
from scstd.test import filesystems
from scstd.test.filesystems import FileSystem
from scstd.test.serving import PATIENCE, Server

_BLOCKS = 8 << 11
"""Blocks of the LUN on the file system: 8 MiB of 24, all of them holes."""

_READ = struct.pack(">BBIBHB", 0x28, 0, 0, 0, 8, 0)
_FAR = struct.pack(">BBIBHB", 0x28, 0, 8192, 0, 8, 0)
_WRITE = struct.pack(">BBIBHB", 0x2A, 0, 4096, 0, 64, 0)
_FLUSH = bytes((0x35,)) + bytes(9)

COMMANDS: Mapping[str, tuple[bytes, bytes, int]] = {
    "READ, cached": (_READ, b"", 4096),
    "READ": (_FAR, b"", 4096),
    "WRITE": (_WRITE, b"w" * 32768, 0),
    "flush": (_FLUSH, b"", 0),
}

GOOD = "GOOD"
WAITS = "waits, GOOD"
NO_ROOM = "7/2707"  # DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT
PROTECTED = "7/2700"  # DATA PROTECT, WRITE PROTECTED
READ_ERROR = "3/1100"  # MEDIUM ERROR, UNRECOVERED READ ERROR
WRITE_ERROR = "3/0c00"  # MEDIUM ERROR, WRITE ERROR
UNKEPT = "4/4400"  # HARDWARE ERROR, INTERNAL TARGET FAILURE

_ALWAYS = {"login": GOOD, "other LUN": GOOD, "reload": GOOD, "stop": "ends"}

MATRIX: Mapping[str, Mapping[str, str | tuple[str, ...]]] = {
    "Frozen": {"READ, cached": GOOD, "READ": GOOD, "WRITE": WAITS, "flush": (GOOD, WAITS)},
    "Hung": {"READ, cached": (GOOD, WAITS), "READ": WAITS, "WRITE": WAITS, "flush": WAITS},
    "Slow": {"READ, cached": GOOD, "READ": GOOD, "WRITE": GOOD, "flush": GOOD},
    "Full": {"READ, cached": GOOD, "READ": GOOD, "WRITE": NO_ROOM, "flush": GOOD},
    "ReadOnly": {
        "READ, cached": GOOD,
        "READ": GOOD,
        "WRITE": (PROTECTED, WRITE_ERROR),
        "flush": (GOOD, PROTECTED, WRITE_ERROR),
    },
    "Unmounted": {"READ, cached": GOOD, "READ": GOOD, "WRITE": GOOD, "flush": GOOD},
    "Deleted": {"READ, cached": GOOD, "READ": GOOD, "WRITE": GOOD, "flush": GOOD},
    "Cut": {
        "READ, cached": GOOD,
        "READ": READ_ERROR,
        "WRITE": WRITE_ERROR,
        "flush": GOOD,
    },
    "Lost": {
        "READ, cached": GOOD,
        "READ": (GOOD, READ_ERROR),
        "WRITE": (GOOD, WRITE_ERROR),
        "flush": (WRITE_ERROR, PROTECTED, NO_ROOM),
    },
}  # fmt: skip
"""By state, how each thing ends; where there are several words the kernel's version
decides.  `_ALWAYS` besides."""

_MEMORY = {**dict.fromkeys(COMMANDS, GOOD), "stop": "ends"}

STATE_MATRIX: Mapping[str, Mapping[str, str | tuple[str, ...]]] = {
    "Frozen": {**_MEMORY, "APTPL": WAITS},
    "Hung": {**_MEMORY, "APTPL": WAITS},
    "Full": {**_MEMORY, "APTPL": UNKEPT},
    "ReadOnly": {**_MEMORY, "APTPL": UNKEPT},
}
"""The same with the state directory there, and a LUN in memory: what is to be kept over
restarts (APTPL) has to wait, or fails."""


def word(answer: CommandResult) -> str:
    """
    Return how a command has ended.
    """
    if not answer.status:
        return GOOD
    if answer.status != 2:
        return f"status {answer.status:02x}h"
    return f"{answer.sense[2] & 15:x}/{answer.sense[12:14].hex()}"


class Matrix(TestCase):
    """
    One service with a LUN on a file system in some state, and one in memory.
    """

    timeout = 600

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def configure(self, state: str, *, more: bool = False) -> None:
        """Write the configuration file; with *more* it has a third LUN."""
        slow = "\nfilter delay read=0.2 write=0.2 flush=0.2" if state == "Slow" else ""
        text = (
            "HANDLER vdisk_fileio {\nDEVICE there {\nfilename mount/disk.img\n"
            f"size {_BLOCKS << 9}{slow}\n}}\n}}\nHANDLER memory {{\nDEVICE other {{\n"
            "size 1M\n}\nDEVICE more {\nsize 1M\n}\n}\nTARGET_DRIVER iscsi {\n"
            "enabled 1\nTARGET iqn.2026-11.org.scstd:matrix {\nenabled 1\n"
            f"LUN 0 there\nLUN 1 other\n{'LUN 2 more' if more else ''}\n}}\n}}\n"
        )
        (self.directory / "scst.conf").write_text(text, encoding="ascii")

    def serve(self, state: str, there: FileSystem) -> Server:
        """Start the service; what ends it is the test's business."""
        self.configure(state)
        options = ("--config", "scst.conf", "--control", "")
        server = Server(*options, directory=str(self.directory), luns=2)
        self.addCleanup(self.kill, server, there)
        return server

    @staticmethod
    def kill(server: Server, there: FileSystem) -> None:
        """Leave no process behind: what the kernel holds ends with the state."""
        there.leave()
        server.process.kill()
        server.process.wait(PATIENCE)

    def file_system(self, state: str) -> FileSystem:
        """Make a file system of some state, or skip the test."""
        kind = FileSystem if state == "Slow" else getattr(filesystems, state)
        found: FileSystem = kind(self.directory)
        self.addCleanup(found.clean)
        return found

    def prepare(self, server: Server) -> None:
        """Have something in the file, and in the page cache."""
        session = BlockingSession(server.urls[0], 99)
        session.read(0, 8)
        session.command(_READ, read=4096)
        session.command(b"\x2a" + _READ[1:], data=b"c" * 4096)
        session.command(_FLUSH)
        session.close()

    def finish(self, session: BlockingSession) -> str:
        """Return how the command of a session ends."""
        while True:
            answer = session.receive()
            if isinstance(answer, DataIn) and answer.flags & STATUS:
                return word(CommandResult(answer.status))
            # Not an Asynchronous Message, which tells of the new LUN.
            if isinstance(answer, SCSIResponse):
                return word(CommandResult(answer.status, sense=bytes(answer.data)[2:]))

    def answered(self, session: BlockingSession) -> bool:
        """Say whether the answer of a command has come by now."""
        peeked = b""
        session.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            peeked = session.socket.recv(65536, socket.MSG_PEEK)
        session.socket.settimeout(PATIENCE)
        # An Asynchronous Message tells of the new LUN.
        # A NOP-In asks whether we are there.
        while peeked[:1] in {b"\x32", b"\x20"}:
            length = int.from_bytes(peeked[5:8], "big")
            peeked = peeked[48 + length + -length % 4 :]
        return bool(peeked)

    def other(self, server: Server) -> str:
        """Use the LUN in memory; return how that ends."""
        session = BlockingSession(server.urls[1], 50)
        session.read(0, 8)
        session.command(struct.pack(">BBIBH", 0x2A, 0, 0, 0, 8), data=b"o" * 4096)
        session.command(_FLUSH)
        right = session.read(0, 8) == b"o" * 4096
        session.close()
        return GOOD if right else "other bytes"

    def reload(self, server: Server, state: str, *, more: bool) -> str:
        """Have the file read again; return whether what it has new is there."""
        before = len(server.lines)
        self.configure(state, more=more)
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for line in server.lines[before:]:
                if "changes" in line:
                    return GOOD
                if "not reloaded" in line:
                    return line
            select.select((), (), (), 0.01)
        return "is not over"

    def stop(self, server: Server, *, twice: bool = False) -> str:
        """
        Stop the service, or tell it *twice*; return whether that ends: what the kernel
        holds in a file system may be left of the process, but no more.
        """
        server.process.terminate()
        while twice and not any("shutting down" in line for line in server.lines):
            select.select((), (), (), 0.01)
        if twice:
            server.process.terminate()
        stat = Path(f"/proc/{server.process.pid}/stat")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            # Its first thread has ended, whatever becomes of others.
            with contextlib.suppress(FileNotFoundError):
                if stat.read_text(encoding="ascii").rpartition(")")[2][1] != "Z":
                    select.select((), (), (), 0.02)
                    continue
            return "ends"
        return "does not end: " + server.log()

    def row(self, state: str) -> None:
        """Try a row of the table."""
        there = self.file_system(state)
        server = self.serve(state, there)
        self.prepare(server)
        sessions = {
            name: BlockingSession(server.urls[0], at)
            for at, name in enumerate(COMMANDS)
        }
        for session in sessions.values():
            session.read(0, 8)
        there.enter()
        found: dict[str, str] = {}
        for name, (cdb, data, read) in COMMANDS.items():
            sessions[name].send(cdb, data=data, read=read)
            if WAITS not in MATRIX[state][name]:
                found[name] = self.finish(sessions[name])
        late = BlockingSession(server.urls[0], 51)
        found["login"] = word(late.do(bytes(6)))
        if found["login"].startswith("6/"):
            found["login"] = word(late.do(bytes(6)))
        found["other LUN"] = self.other(server)
        found["reload"] = self.reload(server, state, more=True)
        waiting = [name for name in COMMANDS if name not in found]
        ended = [name for name in waiting if self.answered(sessions[name])]
        there.leave()
        for name in waiting:
            prefix = "" if name in ended else "waits, "
            found[name] = prefix + self.finish(sessions[name])
        # The LUN that is new is a unit attention.
        sessions["WRITE"].send(bytes(6))
        self.finish(sessions["WRITE"])
        there.enter()
        sessions["WRITE"].send(COMMANDS["WRITE"][0], data=COMMANDS["WRITE"][1])
        # One waits as long as a stop does, for the others that is enough.
        found["stop"] = self.stop(server, twice=state != "Frozen")
        there.leave()
        for session in (late, *sessions.values()):
            session.close()
        server.process.wait(PATIENCE)
        wrong = {
            name: found[name]
            for name, right in {**MATRIX[state], **_ALWAYS}.items()
            if found[name] not in (right if isinstance(right, tuple) else (right,))
        }
        self.assertEqual(wrong, {}, server.log())
        self.assertNotIn("Traceback", server.log())

    # The same for what the service itself keeps.

    def state_row(self, state: str) -> None:
        """Try a row of the table of the state directory."""
        there = self.file_system(state)
        server = Server(
            *("--device", "d=memory:size=1M", "--state-dir", "mount/state"),
            directory=str(self.directory),
        )
        self.addCleanup(self.kill, server, there)
        sessions = {
            name: BlockingSession(server.url, at)
            for at, name in enumerate((*COMMANDS, "APTPL"))
        }
        for session in sessions.values():
            session.read(0, 8)
        there.enter()
        aptpl = out_cdb(REGISTER)
        sessions["APTPL"].send(aptpl, data=parameters(0, 7, 1))
        found: dict[str, str] = {}
        for name, (cdb, data, read) in COMMANDS.items():
            lba = b"\0\0\0\x40" if len(cdb) > 9 and cdb[0] != 0x35 else cdb[2:6]
            sessions[name].send(cdb[:2] + lba + cdb[6:], data=data, read=read)
            found[name] = self.finish(sessions[name])
        late = BlockingSession(server.url, 51)
        late.read(0, 8)
        waits = WAITS in STATE_MATRIX[state]["APTPL"]
        if waits:
            self.assertFalse(self.answered(sessions["APTPL"]), server.log())
            there.leave()
        found["APTPL"] = ("waits, " if waits else "") + self.finish(sessions["APTPL"])
        there.enter()
        sessions["APTPL"].send(aptpl, data=parameters(7 if waits else 0, 8, 1))
        found["stop"] = self.stop(server, twice=True)
        there.leave()
        for session in (late, *sessions.values()):
            session.close()
        server.process.wait(PATIENCE)
        wrong = {
            name: found[name]
            for name, right in STATE_MATRIX[state].items()
            if found[name] not in (right if isinstance(right, tuple) else (right,))
        }
        self.assertEqual(wrong, {}, server.log())


def _generate() -> None:
    """
    Give `Matrix` a test for each row.
    """
    for state in MATRIX:

        def test(self: Matrix, state: str = state) -> None:
            self.row(state)

        kind = FileSystem if state == "Slow" else getattr(filesystems, state)
        said = " ".join((kind.__doc__ or "").split())
        test.__doc__ = f"A file system in the state {state}: {said}"
        setattr(Matrix, f"test_{state.lower()}", test)
    for state in STATE_MATRIX:

        def also(self: Matrix, state: str = state) -> None:
            self.state_row(state)

        also.__doc__ = f"The state directory in a file system in the state {state}."
        setattr(Matrix, f"test_state_{state.lower()}", also)


_generate()
