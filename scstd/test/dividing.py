# SPDX-License-Identifier: MIT
"""
A service with workers, for tests with real processes: its configuration, which worker
has what, and initiators that write and verify while one is killed.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scstd.initiator.blocking import BlockingSession, name_of
from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.discovery import exchange_text, targets_of
from scstd.initiator.login import LoginOptions
from scstd.initiator.session import InitiatorSession
from scstd.test.serving import PATIENCE, Server

FLUSH = b"\x35" + bytes(9)
"""SYNCHRONIZE CACHE(10) of all blocks."""

READY = bytes(6)
_BLOCKS = 8


def name(number: int) -> str:
    """
    Return the name of a target.
    """
    return f"iqn.2026-11.org.scstd:divided{number}"


def configuration(devices: Sequence[str], more: str = "") -> str:
    """
    Return an scst.conf with a target for each device, given by ``HANDLER values``;
    *more* is the driver's.
    """
    text = []
    for number, device in enumerate(devices):
        handler, _space, values = device.partition(" ")
        lines = "\n".join(values.replace("=", " ").split(","))
        text.append(f"HANDLER {handler} {{\nDEVICE d{number} {{\n{lines}\n}}\n}}\n")
    text.append(f"TARGET_DRIVER iscsi {{\nenabled 1\n{more}\n")
    text.extend(
        f"TARGET {name(number)} {{\nenabled 1\nLUN 0 d{number}\n}}\n"
        for number in range(len(devices))
    )
    return "".join([*text, "}\n"])


def files(count: int, size: str = "16M") -> list[str]:
    """
    Return so many devices that are files.
    """
    return [f"vdisk_fileio filename=d{one}.img,size={size}" for one in range(count)]


def children(pid: int) -> list[int]:
    """
    Return the processes that a process has started.
    """
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


def workers(server: Server) -> list[int]:
    """
    Return the processes of a server's workers.
    """
    return [
        pid
        for pid in children(server.process.pid)
        if b"scstd.workers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def has_open(pid: int, path: Path) -> bool:
    """
    Say whether a process has a file open.
    """
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if one.readlink() == path:
                return True
        except OSError:
            continue
    return False


def worker_of(server: Server, path: Path) -> int:
    """
    Return the process that has a device's file open.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = [pid for pid in workers(server) if has_open(pid, path.resolve())]
        if found:
            (pid,) = found
            return pid
        time.sleep(0.05)
    raise AssertionError(f"nobody has {path} open:\n{server.log()}")


def ask_targets(
    session: InitiatorSession,
    link: InitiatorConnection,
    sock: socket.socket,
    which: str,
) -> dict[str, list[str]]:
    """
    Return what a session is told that asks with SendTargets.
    """
    found: list[Any] = []
    exchange_text(session, [("SendTargets", which)], found.append)
    _talk(session, link, sock, found)
    return targets_of(found[0])


def _talk(
    session: InitiatorSession,
    link: InitiatorConnection,
    sock: socket.socket,
    until: list[Any],
) -> None:
    while True:
        sock.sendall(link.take_output())
        if until:
            return
        data = sock.recv(65536)
        assert data, "the target closed the connection"
        session.receive_data(link, data)


def discover(portal: str) -> dict[str, list[str]]:
    """
    Return what discovery at a portal tells.
    """
    host, _colon, port = portal.rpartition(":")
    session = InitiatorSession(name_of(1), b"\x80\0\0\0\0\1", LoginOptions(None))
    link = InitiatorConnection()
    with socket.create_connection((host, int(port)), PATIENCE) as sock:
        ended: list[Any] = []
        session.connect(connection=link, on_login=ended.append)
        _talk(session, link, sock, ended)
        assert ended == [None], ended
        return ask_targets(session, link, sock, "All")


class Load:
    """
    An initiator in a thread that writes, flushes, and reads back what it has written,
    on one LUN: *lost* counts its sessions that were lost, *wrong* says what it has read
    that it has not written, and *longest* is what a command has taken at most.
    """

    def __init__(self, url: str, number: int, size: int) -> None:
        self.url, self.number = url, number
        self.lost = 0
        self.commands = 0
        self.longest = 0.0
        self.refused = 0
        self.wrong: list[str] = []
        self.failure: BaseException | None = None
        self._chance = random.Random(number)
        self._places = size // (512 * _BLOCKS)
        self._kept: dict[int, bytes] = {}
        """What was acknowledged and flushed, by its place."""
        self._fresh: dict[int, bytes] = {}
        """What was acknowledged since, in this session."""
        self._maybe: dict[int, list[bytes]] = {}
        """What was written since, and may be there or not."""
        self._stopped = threading.Event()
        self._count = 0
        self._session: BlockingSession | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._work()
                except (ConnectionError, OSError):
                    self.lost += 1
                    self._fresh.clear()
                    if self._session is not None:
                        self._session.close()
                        self._session = None
            self._verify()
        except BaseException as error:  # noqa: BLE001 - the test is told
            self.failure = error
        finally:
            if self._session is not None:
                self._session.close()

    def _logged_in(self) -> BlockingSession:
        until = time.monotonic() + PATIENCE
        while self._session is None:
            try:
                self._session = BlockingSession(self.url, self.number)
            except (ConnectionError, OSError):
                self.refused += 1
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                self._session.do(READY)
        return self._session

    def _do(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> bytes:
        session = self._logged_in()
        began = time.monotonic()
        done = session.do(cdb, data=data, read=read)
        if done.status:
            raise AssertionError(f"{cdb.hex()}: {done}")
        self.longest = max(self.longest, time.monotonic() - began)
        self.commands += 1
        return bytes(done.data)

    def _work(self) -> None:
        for _each in range(16):
            place = self._chance.randrange(self._places)
            self._count += 1
            data = (b"%d %d " % (self.number, self._count)).ljust(512 * _BLOCKS, b".")
            self._maybe.setdefault(place, []).append(data)
            self._do(write10(place * _BLOCKS, _BLOCKS), data=data)
            self._fresh[place] = data
        self._do(FLUSH)
        for place in self._fresh:
            del self._maybe[place]
        self._kept.update(self._fresh)
        self._fresh.clear()
        for place in self._chance.sample(sorted(self._kept), min(8, len(self._kept))):
            self._see(place)

    def _see(self, place: int) -> None:
        found = self._do(read10(place * _BLOCKS, _BLOCKS), read=512 * _BLOCKS)
        nothing = bytes(512 * _BLOCKS)
        good = [self._kept.get(place, nothing), *self._maybe.get(place, [])]
        if found not in good:
            self.wrong.append(f"place {place}: {found[:20]!r}, not {good[0][:20]!r}")

    def _verify(self) -> None:
        for place in sorted({*self._kept, *self._maybe}):
            self._see(place)

    def wait_for(self, more: int) -> None:
        """
        Wait until it has done so many commands more.
        """
        wanted, until = self.commands + more, time.monotonic() + PATIENCE
        while self.commands < wanted:
            if self.failure is not None:
                raise AssertionError(f"{self.url}: {self.failure}") from self.failure
            assert time.monotonic() < until, f"{self.url}: it does not go on"
            time.sleep(0.01)

    def stop(self) -> None:
        """
        Have it read everything once more, and end.
        """
        self._stopped.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"{self.url}: it does not end"
        if self.failure is not None:
            raise AssertionError(f"{self.url}: {self.failure}") from self.failure
