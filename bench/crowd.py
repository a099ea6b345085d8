# SPDX-License-Identifier: MIT
"""
A thousand sessions: how many log in a second, how much memory each has, what all of
them cost while they do nothing, and how long a ping of each takes.

``bench/many.py`` prints it.  The initiators are sockets with PDUs that were made
before, so that what is measured is the target: a login is one request and its answer
(operational negotiation in one step, RFC 7143 section 6.3), by initiators of different
names.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence

from peers import cpu_of_all, processes

from scstd.initiator.connection import on_the_wire
from scstd.initiator.requests import Requests
from scstd.initiator.url import TargetURL
from scstd.protocols.wire.pdu import PDU
from scstd.test.serving import Server
from scstd.test.test_neighbours import memory_of

TOGETHER = 32
"""Logins under way at a time, where they are not one after the other."""

IDLE = 10.0
"""Seconds for which nothing is done."""

FIRST = 50
"""Sessions that pay for what all of them use, and are not counted."""

_KEYS = (("SessionType", "Normal"), ("HeaderDigest", "None"), ("DataDigest", "None"))


class _Initiator:
    """
    One socket, and what it says.
    """

    def __init__(self, where: TargetURL, number: int) -> None:
        self.address = where.host, where.port
        name = f"iqn.2026-11.org.scstd:crowd{number}"
        requests = Requests(name, b"\x80\0\0" + number.to_bytes(3, "big"))
        keys = (("InitiatorName", name), ("TargetName", where.target), *_KEYS)
        self.login = _encoded(requests.login_request(keys))
        self.ping = _encoded(requests.ping(b""))
        self.socket: socket.socket | None = None

    def connect(self) -> None:
        """
        Connect, and ask to log in.
        """
        self.socket = socket.create_connection(self.address, 60)
        self.socket.sendall(self.login)

    def say(self, data: bytes) -> None:
        """
        Send bytes.
        """
        assert self.socket is not None
        self.socket.sendall(data)

    def hear(self) -> bytes:
        """
        Take the next answer; return its header.
        """
        assert self.socket is not None
        header = self.socket.recv(48, socket.MSG_WAITALL)
        length = int.from_bytes(header[5:8], "big")
        if length:
            self.socket.recv((length + 3) & ~3, socket.MSG_WAITALL)
        return header

    def hear_login(self) -> None:
        """
        Take the answer to the login.
        """
        header = self.hear()
        assert header[:2] == b"\x23\x87", header.hex()
        assert header[36:38] == b"\0\0", header.hex()


def _encoded(pdu: PDU) -> bytes:
    return on_the_wire(pdu, header_digest=False, data_digest=False)


def _one_by_one(initiators: Sequence[_Initiator]) -> None:
    for one in initiators:
        one.connect()
        one.hear_login()


def _together(initiators: Sequence[_Initiator]) -> None:
    waiting = iter(initiators)
    poll = select.epoll()
    under_way: dict[int, _Initiator] = {}

    def begin() -> None:
        one = next(waiting, None)
        if one is not None:
            one.connect()
            assert one.socket is not None
            under_way[one.socket.fileno()] = one
            poll.register(one.socket.fileno(), select.EPOLLIN)

    for _one in range(TOGETHER):
        begin()
    while under_way:
        for descriptor, _events in poll.poll():
            poll.unregister(descriptor)
            under_way.pop(descriptor).hear_login()
            begin()
    poll.close()


@contextlib.contextmanager
def _served(count: int, options: Sequence[str]) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(
            *("--device", "d=memory:size=1M", *options), directory=directory
        ) as server,
    ):
        yield server


def _memory(pid: int) -> int:
    return sum(map(memory_of, processes(pid)))


def figures(
    count: int, idle: float = IDLE, options: Sequence[str] = ()
) -> Iterator[str]:
    """
    Yield what so many sessions cost, a line each.
    """
    with _served(count, options) as server, contextlib.ExitStack() as closing:
        pid, where = server.process.pid, TargetURL.parse(server.url)
        crowd = [_Initiator(where, number) for number in range(count + FIRST)]
        closing.callback(_close, crowd)
        _one_by_one(crowd[:FIRST])
        before = _memory(pid)
        for how, some, log_in in (
            ("one by one", crowd[FIRST : FIRST + count // 2], _one_by_one),
            (f"{TOGETHER} at a time", crowd[FIRST + count // 2 :], _together),
        ):
            began, used = time.monotonic(), cpu_of_all(pid)
            log_in(some)
            took = time.monotonic() - began
            each = (cpu_of_all(pid) - used) / len(some) * 1e6
            yield (
                f"{len(some)} logins, {how}: {len(some) / took:.0f} a second,"
                f" {each:.0f} µs of CPU each"
            )
        held = (_memory(pid) - before) / count / 1024
        yield f"an idle session takes {held:.1f} KiB of memory ({count} at once)"
        used = cpu_of_all(pid)
        time.sleep(idle)
        part = (cpu_of_all(pid) - used) / idle
        yield f"{count} idle sessions take {part:.2%} of a processor"
        began, used = time.monotonic(), cpu_of_all(pid)
        for one in crowd:
            one.say(one.ping)
        for one in crowd:
            header = one.hear()
            assert header[0] == 0x20, header.hex()
        took = time.monotonic() - began
        yield f"a NOP-Out of each is answered in {took * 1000:.0f} ms"


def _close(crowd: Sequence[_Initiator]) -> None:
    for one in crowd:
        if one.socket is not None:
            one.socket.close()
