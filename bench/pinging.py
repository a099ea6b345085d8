# SPDX-License-Identifier: MIT
"""
A neighbour that pings: a session in a process of its own, which sends TEST UNIT READY
each 10 ms to the LUN that is under load, and remembers the longest that one took.

``python bench/pinging.py URL NUMBER``, of an initiator of its own, reads ``go`` and
``stop`` from its input, and answers a ``stop`` with the milliseconds of the longest.
"""

from __future__ import annotations

import gc
import select
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType

import attrs
from peers import Sample

from scstd.initiator.blocking import BlockingSession

EACH = 0.01
"""Seconds from one ping to the next."""


class Neighbour:
    """
    The process, as who measures has it; a context manager.
    """

    def __init__(self, url: str, number: int = 900) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench: the session that pings has ended")
        return line

    def go(self) -> None:
        """
        Begin to ping.
        """
        self._say("go")

    def stop(self) -> float:
        """
        Stop; return the longest that a ping took, in milliseconds.
        """
        self._say("stop")
        return float(self._hear())

    def beside(self, measure: Callable[[], Sample]) -> Sample:
        """
        Return what a measurement finds, with the longest ping meanwhile.
        """
        self.go()
        found = measure()
        return attrs.evolve(found, ping=self.stop())

    def __enter__(self) -> Neighbour:  # noqa: PYI034
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def _ping(session: BlockingSession) -> float:
    """
    Return how many seconds a TEST UNIT READY takes.
    """
    began = time.monotonic()
    session.do(bytes(6))
    return time.monotonic() - began


def main() -> None:
    """
    Ping when asked to.
    """
    plain = (("HeaderDigest", "None"), ("DataDigest", "None"))
    session = BlockingSession(sys.argv[1], int(sys.argv[2]), *plain)
    _ping(session)
    # What a collection costs is nobody's but ours.
    gc.freeze()
    gc.disable()
    going, longest, following = False, 0.0, 0.0
    print("ready", flush=True)
    while True:
        wait = max(0.0, following - time.monotonic()) if going else None
        if select.select([sys.stdin], [], [], wait)[0]:
            word = sys.stdin.readline().strip()
            if not word:
                break
            if word == "stop":
                print(longest * 1000, flush=True)
            going, longest, following = word == "go", 0.0, time.monotonic()
            continue
        longest = max(longest, _ping(session))
        following = max(following + EACH, time.monotonic())
    session.logout()


if __name__ == "__main__":
    main()
