# SPDX-License-Identifier: MIT
"""
The long run: ``python -m scstd.test.soak`` (``make soak``).

A million blocks are written and read back over a thousand schedules of a bad link, at
each error recovery level, over one connection and several; then 10,000 logins and
logouts and 100,000 pings, after which memory is what it was and nothing is left.  The
first wrong byte, hung command or leak ends it with status 1.

*--schedules*, *--logins* and *--pings* make it shorter.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node
from scstd.protocols.engine.session import Session
from scstd.scsi.sam import Task
from scstd.test.initiator import Initiator, serve
from scstd.test.schedules import run, shape
from scstd.test.stores import memory

BLOCKS = 1000
"""Blocks that each schedule writes and reads."""

SLACK = 1 << 20
"""Bytes that memory may grow by over the second half of a run."""


def resident() -> int:
    """
    Return how much memory this process has, in bytes.
    """
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def alive() -> dict[str, int]:
    """
    Count the objects that must not be left behind.
    """
    gc.collect()
    kinds = (Session, Connection, Task)
    found = gc.get_objects()
    return {
        kind.__name__: sum(1 for one in found if type(one) is kind) for kind in kinds
    }


def schedules(count: int, first: int = 0, blocks: int = BLOCKS) -> str:
    """
    Carry out so many schedules; return what was done.

    :raises AssertionError: the first that goes wrong, with its seed.
    """
    began = time.monotonic()
    written = read = 0
    totals: dict[str, int] = {}
    for seed in range(first, first + count):
        level, paths = shape(seed)
        try:
            outcome = run(seed, level, paths, blocks)
        except Exception as error:
            raise AssertionError(f"schedule {seed}: {error!r}") from error
        written += outcome.written
        read += outcome.read
        for name, number in outcome.counts.items():
            totals[name] = totals.get(name, 0) + number
    done = ", ".join(f"{number} {name}" for name, number in totals.items())
    return (
        f"{count} schedules: {written} blocks written, {read} read back, not one wrong"
        f" byte, not one hung command ({done}; {time.monotonic() - began:.0f} s)"
    )


def logins(count: int) -> str:
    """
    Log in, write, read and log out so often; return how memory has grown.

    :raises AssertionError: something is left behind, or memory grows.
    """
    node, target, _units = serve(memory(1 << 16))
    before, half = alive(), 0
    for number in range(count):
        if number == count // 2:
            gc.collect()
            half = resident()
        _round(node, number)
    after = alive()
    assert after == before, (before, after)
    assert not node.sessions()
    assert not target.nexuses
    grown = resident() - half
    assert grown < SLACK, f"{grown} bytes more after {count // 2} logins"
    return f"{count} logins and logouts: {grown} bytes more over the second half"


def _round(node: Node, number: int) -> None:
    one = Initiator(node).ready(
        HeaderDigest=("None", "CRC32C")[number % 2],
        DataDigest=("None", "CRC32C")[number // 2 % 2],
    )
    data = bytes((number & 0xFF,)) * 1024
    assert one.do(write10(3, 2), data=data).status == 0
    assert one.do(read10(3, 2), read=1024).data == data
    if number % 3:
        one.logout()
    else:
        one.connection.disconnected()


def pings(count: int) -> str:
    """
    Send so many NOP-Outs; return how memory has grown.

    :raises AssertionError: one was not answered, or memory grows.
    """
    node, _target, _units = serve(memory(1 << 16))
    one = Initiator(node).ready()
    half = 0
    for number in range(count):
        if number == count // 2:
            gc.collect()
            half = resident()
        one.send(one.ping(b"x" * (number % 64)))
        (answer,) = one.receive()
        assert len(answer.data) == number % 64
    gc.collect()
    grown = resident() - half
    assert grown < SLACK, f"{grown} bytes more after {count // 2} pings"
    one.logout()
    assert not node.sessions()
    return f"{count} pings: {grown} bytes more over the second half"


def main() -> int:
    """
    Run all of it, and print each part's result.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--logins", type=int, default=10_000)
    parser.add_argument("--pings", type=int, default=100_000)
    options = parser.parse_args()
    try:
        print(schedules(options.schedules, options.first), flush=True)
        print(logins(options.logins), flush=True)
        print(pings(options.pings), flush=True)
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
