# SPDX-License-Identifier: MIT
"""
What an offloaded copy saves, in figures: ``python bench/copies.py``.

256 MiB from one file LUN to another of one target, on the loopback: by EXTENDED COPY,
by ROD tokens, both by the kernel and (behind a filter that sees the data) through the
target, and by qemu-img, which reads and writes all of it as an initiator.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scstd.initiator.blocking import BlockingSession
from scstd.test.clients import find
from scstd.test.copying import (
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

MEGABYTES = 256
ROUNDS = 5
SEGMENT = 32768
"""Blocks of one segment: 16 MiB."""


def by_xcopy(one: BlockingSession, two: BlockingSession) -> None:
    """
    Copy with EXTENDED COPY, 16 segments of 16 MiB in one list.
    """
    names = []
    for session in (one, two):
        page = session.command(b"\x12\1\x83\4\0\0", read=1024)
        assert page[5] & 0x3F == 3, page.hex()
        names.append(cscd(page[8 : 8 + page[7]]))
    total = MEGABYTES << 11
    segments = [segment(SEGMENT, at, at) for at in range(0, total, SEGMENT)]
    data = list_1(names, segments)
    one.command(xcopy(data), data=data)


def by_token(one: BlockingSession, two: BlockingSession) -> None:
    """
    Copy with one ROD token.
    """
    blocks = MEGABYTES << 11
    data = populate((0, blocks))
    one.command(offload(0x10, data), data=data)
    token = one.command(receive_4(7, 7), read=1024)[38:550]
    data = write_using(token, (0, blocks))
    two.command(offload(0x11, data), data=data)


def measure(
    copy: Callable[[], object], pid: int, target: Path, source: Path
) -> tuple[float, float]:
    """
    Return the seconds, and the target's seconds of CPU, of the median of some copies.
    """
    tick = os.sysconf("SC_CLK_TCK")

    def cpu() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()
        return (int(fields[13]) + int(fields[14])) / tick

    found = []
    for _round in range(ROUNDS):
        began, before = time.monotonic(), cpu()
        copy()
        found.append((time.monotonic() - began, cpu() - before))
        assert target.read_bytes() == source.read_bytes()
        target.write_bytes(bytes(MEGABYTES << 20))
    seconds, used = zip(*found, strict=True)
    return statistics.median(seconds), statistics.median(used)


def run(filters: str, *, qemu: bool) -> None:
    """
    Measure one target.
    """
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "one.img", Path(directory) / "two.img"
        source.write_bytes(os.urandom(MEGABYTES << 20))
        target.write_bytes(bytes(MEGABYTES << 20))
        with Server(
            "--device",
            f"one=vdisk_fileio:filename={source}",
            "--device",
            f"two=vdisk_fileio:filename={target}{filters}",
            directory=directory,
            luns=2,
        ) as server:
            sessions = [
                BlockingSession(url, number)
                for number, url in enumerate(server.urls, 1)
            ]
            program = find("qemu-img")
            assert program is not None
            whole = [program, "convert", "-n", "-f", "raw", "-O", "raw", *server.urls]
            ways: dict[str, Callable[[], object]] = {
                "EXTENDED COPY": lambda: by_xcopy(*sessions),
                "ROD token": lambda: by_token(*sessions),
            }
            if qemu:
                ways["qemu-img"] = lambda: subprocess.run(whole, check=True)
            how = "through the target" if filters else "by the kernel"
            for name, copy in ways.items():
                seconds, cpu = measure(copy, server.process.pid, target, source)
                rate = MEGABYTES / seconds
                where = "by the initiator" if name == "qemu-img" else how
                print(
                    f"{name:14} {where:19} {seconds:6.3f} s  {rate:6.0f} MiB/s"
                    f"  {cpu:5.2f} s CPU of the target"
                )
            for session in sessions:
                session.close()


def main() -> None:
    """
    Print the table.
    """
    run("", qemu=True)
    run(":filter=delay", qemu=False)


if __name__ == "__main__":
    main()
