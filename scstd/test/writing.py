# SPDX-License-Identifier: MIT
"""
QEMU's initiator (libiscsi) at work, while something happens to the target.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import threading

from scstd.test.linux import refuse, run


class Writer:
    """
    An initiator that writes *count* pieces of `SIZE` bytes to a LUN, eight at a time,
    each with a pattern of its own, and then waits *pause* milliseconds.
    """

    SIZE = 16384
    _made = itertools.count()

    def __init__(self, url: str, count: int, pause: int) -> None:
        self._url = url
        self._count = count
        # What another has written before is no proof.
        self._first = 37 * next(self._made)
        self.done: list[int] = []
        self._others: list[str] = []
        self._failed = False
        commands = []
        for number in range(count):
            commands.append(
                f"aio_write -P {self.pattern(number)} {self._where(number)}"
            )
            if number % 8 == 7:
                commands += ["aio_flush", f"sleep {pause}"]
        program = ["stdbuf", "-oL", "qemu-io", "-f", "raw"]
        self.process = subprocess.Popen(
            [*program, *(word for one in commands for word in ("-c", one)), url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def pattern(self, number: int) -> int:
        """Return the byte that is in a piece."""
        return (self._first + number) % 255 + 1

    def _where(self, number: int) -> str:
        return f"{number * self.SIZE} {self.SIZE}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.match(
                rf"wrote {self.SIZE}/{self.SIZE} bytes at offset (\d+)", line
            )
            with self._news:
                if found:
                    self.done.append(int(found[1]) // self.SIZE)
                elif " ops; " not in line:
                    self._others.append(line)
                    self._failed |= "fail" in line
                self._news.notify_all()

    def wait(self, count: int) -> None:
        """
        Wait until so many pieces are written.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self.done) >= count, 120):
                raise AssertionError(f"{len(self.done)} written; {self._others}")

    def under_way(self) -> None:
        """
        See that it is not at its end.
        """
        if len(self.done) >= self._count:
            raise AssertionError("everything was written meanwhile")

    def end(self) -> None:
        """
        Wait for its end, and `check`.
        """
        self.wait(self._count)
        self.check()

    def check(self) -> None:
        """
        End it; see that the LUN has what was written.
        """
        self.stop()
        reads = [f"read -P {self.pattern(number)} {self._where(number)}"
                 for number in self.done]  # fmt: skip
        qemu_io(self._url, *reads)

    def stop(self) -> None:
        """
        Stop it, at its end or before.
        """
        if len(self.done) < self._count:
            self.process.kill()
        self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self._failed:
            raise AssertionError(self._others)


def qemu_io(url: str, *commands: str) -> None:
    """
    Have QEMU's initiator do something that has to succeed.
    """
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", "-f", "raw", *words, url).decode()
    refuse("fail", said)
    print(f"$ qemu-io {'; '.join(commands)[:150]}", flush=True)
