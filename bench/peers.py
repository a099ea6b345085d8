# SPDX-License-Identifier: MIT
"""
What is measured, and what is measured against: workloads, the load that makes them, and
the targets under it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from scstd.test.clients import find

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
MEGABYTES = 256


@attrs.frozen
class Workload:
    """
    What is measured, and the ratio that is asked for.
    """

    name: str
    arguments: tuple[str, ...]
    wanted: float


def _workload(verb: str, order: str, size: int, depth: int, wanted: float) -> Workload:
    length = f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"
    name = f"{order} {verb} {length}, depth {depth}"
    return Workload(name, (verb, order, str(size), str(depth)), wanted)


WORKLOADS = (
    _workload("read", "random", 4096, 32, 2.0),
    _workload("read", "random", 4096, 1, 1.1),
    _workload("write", "random", 4096, 32, 1.5),
    _workload("read", "sequential", 65536, 16, 1.2),
    _workload("write", "sequential", 65536, 16, 1.2),
    _workload("read", "sequential", 1 << 20, 8, 1.0),
    _workload("write", "sequential", 1 << 20, 8, 1.0),
)


@attrs.frozen
class Sample:
    """
    One measurement: commands a second, median latency and CPU a command in
    microseconds.
    """

    rate: float
    latency: float
    cpu: float


@attrs.frozen
class Peer:
    """
    A target under measurement.
    """

    name: str
    url: str
    pid: int

    def cpu(self) -> float:
        """
        Return the seconds of CPU it has used.
        """
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def measure(self, load: str, workload: Workload, seconds: float) -> Sample:
        """
        Run the load once.
        """
        before = self.cpu()
        done = subprocess.run(
            [
                load,
                self.url,
                *workload.arguments,
                str(seconds),
                str(MEGABYTES),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        count, took, median, _worst = (float(word) for word in done.stdout.split())
        return Sample(count / took, median, (self.cpu() - before) / count * 1e6)


def build_load() -> str:
    """
    Compile the load; return its path.
    """
    compiler = find("cc")
    if compiler is None:
        sys.exit("bench: no C compiler (cc)")
    made = HERE / ".build" / "load"
    source = HERE / "load.c"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        made.parent.mkdir(exist_ok=True)
        subprocess.run(
            [compiler, "-O2", "-o", str(made), str(source), "-liscsi"], check=True
        )
    return str(made)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def tgtd(image: Path, *, thin: bool = False) -> Iterator[Peer]:
    """
    Serve *image* with tgtd, by default as it does by default: thick.
    """
    program, admin = find("tgtd"), find("tgtadm")
    if program is None or admin is None:
        sys.exit("bench: tgtd is not installed (package tgt)")
    port = _free_port()
    control = str(port % 30000 + 10)
    name = "iqn.2026-11.org.scstd:peer"
    process = subprocess.Popen(
        [program, "-f", "-C", control, "--iscsi", f"portal=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def tell(*words: str, check: bool = True) -> int:
        done = subprocess.run(
            [admin, "-C", control, "--lld", "iscsi", *words],
            check=False,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done.returncode

    new = ("--op", "new", "--tid", "1")
    try:
        for _attempt in range(50):
            if not tell("--mode", "target", *new, "-T", name, check=False):
                break
            time.sleep(0.1)
        tell(
            "--mode",
            "logicalunit",
            *new,
            *("--lun", "1", "-b", str(image), "--bstype", "rdwr"),
        )
        if thin:
            tell(
                *("--op", "update", "--mode", "logicalunit", "--tid", "1"),
                *("--lun", "1", "--params", "thin_provisioning=1"),
            )
        tell("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")
        yield Peer("tgtd", f"iscsi://127.0.0.1:{port}/{name}/1", process.pid)
    finally:
        tell("--mode", "target", "--op", "delete", "--force", "--tid", "1", check=False)
        tell("--mode", "system", "--op", "delete", check=False)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
