# SPDX-License-Identifier: MIT
"""
What is measured against what: the targets, and the loads that run against them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from workloads import MEGABYTES, Workload

from scstd.test.clients import find

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Sample:
    """
    One measurement.
    """

    rate: float
    """Commands a second."""
    latency: float
    """Of a command, the median, in microseconds."""
    late: float
    """The 99th percentile of the same."""
    cpu: float
    """CPU time of the target for a command, in microseconds."""
    fewest: float = 1.0
    """What the session with the fewest commands has done, as a part of its share."""
    ping: float = 0.0
    """The longest that a ping of another session took meanwhile, in milliseconds."""


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
        return cpu_of(self.pid)

    def measure(self, workload: Workload, seconds: float) -> Sample:
        """
        Run the load once.
        """
        before = self.cpu()
        done = subprocess.run(
            load_command(self.url, workload, seconds),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"bench: {workload.name}, {self.name}: {done.stderr}")
        count, took, median, late, fewest = map(float, done.stdout.split())
        cpu = (self.cpu() - before) / count * 1e6
        return Sample(count / took, median, late, cpu, fewest)


def cpu_of(pid: int) -> float:
    """
    Return the seconds of CPU that a process has used, in all its threads.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def processes(pid: int) -> Iterator[int]:
    """
    Yield a process and those that it has started, and they.
    """
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from processes(int(child))


def cpu_of_all(pid: int) -> float:
    """
    Return the seconds of CPU of a process and those that it has started; none of them
    may end meanwhile.
    """
    return sum(map(cpu_of, processes(pid)))


def load_command(url: str, workload: Workload, seconds: float) -> Sequence[str]:
    """
    Return the command of a load; it prints five numbers, as load.c says.
    """
    if workload.program == "load":
        program = [build_load()]
    else:
        program = [sys.executable, str(HERE / f"{workload.program}.py")]
    return [*program, url, *workload.arguments(seconds)]


def build_load() -> str:
    """
    Compile the load of libiscsi; return its path.
    """
    compiler = find("cc")
    if compiler is None:
        sys.exit("bench: no C compiler (cc)")
    made = HERE / ".build" / "load"
    source = HERE / "load.c"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        made.parent.mkdir(exist_ok=True)
        # Two that begin at once must not run what the other is writing.
        fresh = made.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [compiler, "-O2", "-o", str(fresh), str(source), "-liscsi"], check=True
        )
        fresh.replace(made)
    return str(made)


def make_image(path: Path) -> Path:
    """
    Write a file of so many `MEGABYTES` that both may serve; return its path.
    """
    with path.open("wb") as file:
        # In pieces as file systems write: written in larger ones, the page cache
        # keeps large folios, and each small write to one costs ext4 more than all
        # that a target does.
        for _piece in range(MEGABYTES << 4):
            os.write(file.fileno(), os.urandom(1 << 16))
    return path


def free_port() -> int:
    """
    Return a port of the loopback that nobody has just now.
    """
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
    port = free_port()
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
        for digest in ("HeaderDigest", "DataDigest"):
            # Who does not ask for them does without, as by default.
            tell(
                *("--op", "update", "--mode", "target", "--tid", "1"),
                *("--name", digest, "--value", "None,CRC32C"),
            )
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
