# SPDX-License-Identifier: MIT
"""
What one does to the others, in figures: ``python bench/neighbours.py``.

Two of them: what a LUN on a store that takes two seconds a read costs another LUN of
the same process, and how much memory a session takes that does nothing.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import threading

from peers import Peer
from workloads import BY_SHORT

from scstd.initiator.blocking import BlockingSession
from scstd.test.serving import Server
from scstd.test.test_neighbours import memory_of

SESSIONS = 500


def slow_store(rounds: int, seconds: float) -> float:
    """
    Return the rate of a LUN beside a slow one, as a part of its rate alone.
    """
    workload = BY_SHORT["4k-r-d32"]
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(
            "--device",
            "fast=memory:size=256M",
            "--device",
            "slow=memory:size=1M:filter=delay read=2",
            directory=directory,
            luns=2,
        ) as server,
    ):
        fast = Peer("fast", server.urls[0], server.process.pid)
        ratios = []
        for _round in range(rounds):
            alone = fast.measure(workload, seconds).rate
            over = threading.Event()
            session = BlockingSession(server.urls[1], 1)
            session.read(0, 8)
            asking = threading.Thread(target=_keep_asking, args=(session, over))
            asking.start()
            beside = fast.measure(workload, seconds).rate
            over.set()
            asking.join()
            session.close()
            ratios.append(beside / alone)
    return statistics.median(ratios)


def _keep_asking(session: BlockingSession, over: threading.Event) -> None:
    while not over.is_set():
        for _read in range(16):
            session.ask(0, 8)
        for _read in range(16):
            session.receive()


def idle_sessions() -> float:
    """
    Return the bytes of memory that an idle session takes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * SESSIONS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * SESSIONS), hard))
    with (
        tempfile.TemporaryDirectory() as directory,
        Server("--device", "d=memory:size=1M", directory=directory) as server,
    ):
        pid = server.process.pid
        # The first ones pay for what all use.
        first = [BlockingSession(server.url, number) for number in range(20)]
        before = memory_of(pid)
        sessions = [
            BlockingSession(server.url, number) for number in range(20, 20 + SESSIONS)
        ]
        each = (memory_of(pid) - before) / SESSIONS
        for one in (*first, *sessions):
            one.read(0, 8)
            one.close()
    return each


def figures(rounds: int, seconds: float) -> list[str]:
    """
    Return the figures as sentences.
    """
    part = slow_store(rounds, seconds)
    each = idle_sessions()
    return [
        f"Beside a LUN whose every read takes two seconds, another has {part:.0%} of"
        " its random 4 KiB reads a second at depth 32 (wanted: at least 90%).",
        f"An idle session takes {each / 1024:.1f} KiB of memory ({SESSIONS} at once).",
    ]


def main() -> int:
    """
    Print the figures.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    print("\n".join(figures(chosen.rounds, chosen.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
