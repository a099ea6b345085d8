# SPDX-License-Identifier: MIT
"""
A fresh sparse file under QEMU: ``python bench/sparse.py``.

What ``make run`` serves, used as a virtual machine's host uses it: through QEMU's NBD
server, which asks the target before each read whether there is anything to be read
(GET LBA STATUS).  tgtd is told to be thin, as we are.  Half of the commands are writes,
so that the file comes to have more and more pieces.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
from peers import Peer, Sample, tgtd
from pinging import Neighbour

from scstd.test.clients import find
from scstd.test.serving import Server

SIZE = 1 << 30


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[Peer]:
    device = f"disk=vdisk_fileio:filename=disk.img:size={SIZE}"
    with Server("--device", device, directory=str(directory)) as server:
        yield Peer("scstd", server.url, server.process.pid)


@contextlib.contextmanager
def _theirs(directory: Path) -> Iterator[Peer]:
    image = directory / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    with tgtd(image, thin=True) as peer:
        yield peer


@contextlib.contextmanager
def _nbd(peer: Peer, directory: Path) -> Iterator[str]:
    """
    Export a LUN with QEMU's NBD server; yield the URI.
    """
    program = find("qemu-nbd")
    if program is None:
        sys.exit("bench: qemu-nbd is not installed (package qemu-utils)")
    path = directory / "nbd"
    process = subprocess.Popen(
        [program, "-f", "raw", "-t", "-k", str(path), peer.url],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        yield f"nbd+unix:///?socket={path}"
    finally:
        process.kill()
        process.wait()


def _fio(uri: str, seconds: float) -> tuple[Sample, int]:
    """
    Return what fio finds, but for the CPU, and how many commands there were.
    """
    program = find("fio")
    if program is None:
        sys.exit("bench: fio is not installed (package fio)")
    done = subprocess.run(
        [
            program,
            "--name=sparse",
            "--ioengine=nbd",
            f"--uri={uri}",
            "--rw=randrw",
            "--bs=4k",
            "--iodepth=16",
            "--time_based",
            f"--runtime={seconds}",
            f"--size={SIZE}",
            "--norandommap",
            "--output-format=json",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    sides = job["read"], job["write"]

    def latency(part: str) -> float:
        return sum(one["clat_ns"]["percentile"][part] for one in sides) / 2000

    rate = sum(one["iops"] for one in sides)
    count = sum(one["total_ios"] for one in sides)
    return Sample(rate, latency("50.000000"), latency("99.000000"), 0.0), count


def measure(name: str, seconds: float) -> Sample:
    """
    Return what one of the two does with a new file.
    """
    with tempfile.TemporaryDirectory() as where:
        directory = Path(where)
        serve = _ours if name == "scstd" else _theirs
        with (
            serve(directory) as peer,
            _nbd(peer, directory) as uri,
            Neighbour(peer.url) as neighbour,
        ):
            before = peer.cpu()
            neighbour.go()
            found, count = _fio(uri, seconds)
            ping = neighbour.stop()
            cpu = (peer.cpu() - before) / count * 1e6
            return attrs.evolve(found, cpu=cpu, ping=ping)


def main() -> int:
    """
    Print both, in turn.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    for _round in range(chosen.rounds):
        for name in ("scstd", "tgtd"):
            found = measure(name, chosen.seconds)
            print(
                f"{name:6} {found.rate:8.0f} /s  latency {found.latency:6.0f} µs"
                f"  CPU {found.cpu:5.0f} µs  ping {found.ping:5.1f} ms",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
