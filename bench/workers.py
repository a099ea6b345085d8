# SPDX-License-Identifier: MIT
"""
What a second process is worth: ``python bench/workers.py``.

Two targets, each with a file of its own, each under a load of its own at the same time;
served by one worker, and by two (``--workers``), in turn.  Printed are the commands a
second of both together, and the CPU time a command of all processes: the loads take
processors from the target, so on few of them it is that which carries over to another
machine.  ``--workers 0,1,2`` measures the service without workers, too.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import machine
from peers import build_load, cpu_of_all, load_command, make_image
from workloads import BY_SHORT, Workload

from scstd.test.serving import Server

ROWS = "4k-70-8x8,4k-70-64x4,4k-r-8x2,64k-r-d16,64k-w-d16"
TARGETS = 2


@attrs.frozen
class Together:
    """
    What the loads of all targets have done at the same time.
    """

    rate: float
    """Commands a second, of all."""
    fewest: float
    """What the target with the fewest has done, as a part of an even share."""
    cpu: float
    """CPU time of all processes for a command, in microseconds."""
    late: float
    """The longest of the 99th percentiles of latency, in microseconds."""


def measure(server: Server, workload: Workload, seconds: float) -> Together:
    """
    Run a load on each target, all at once.
    """
    pid = server.process.pid
    before = cpu_of_all(pid)
    loads = [
        subprocess.Popen(
            load_command(url, workload, seconds), stdout=subprocess.PIPE, text=True
        )
        for url in server.urls
    ]
    said = [one.communicate()[0] for one in loads]
    if any(one.returncode for one in loads):
        sys.exit(f"bench: {workload.name}: a load has failed\n{server.log()}")
    cpu = cpu_of_all(pid) - before
    found = [[float(word) for word in one.split()] for one in said]
    rates = [count / took for count, took, *_more in found]
    return Together(
        sum(rates),
        min(rates) * len(rates) / sum(rates),
        cpu / sum(one[0] for one in found) * 1e6,
        max(one[3] for one in found),
    )


def configuration(directory: Path) -> Path:
    """
    Write a configuration of targets that share nothing; return its path.
    """
    lines = ["HANDLER vdisk_fileio {"]
    for number in range(TARGETS):
        image = make_image(directory / f"d{number}.img")
        lines.append(f"DEVICE d{number} {{\nfilename {image}\n}}")
    lines.append("}\nTARGET_DRIVER iscsi {\nenabled 1")
    for number in range(TARGETS):
        name = f"iqn.2026-11.org.scstd:t{number}"
        lines.append(f"TARGET {name} {{\nenabled 1\nLUN 0 d{number}\n}}")
    path = directory / "scst.conf"
    path.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")
    return path


@contextlib.contextmanager
def served(directory: Path, configured: Path, workers: int) -> Iterator[Server]:
    """
    Serve the targets with so many workers; with 0 by one process.
    """
    own = directory / f"with{workers}"
    own.mkdir(exist_ok=True)
    options = ["--config", str(configured)]
    options += ["--workers", str(workers)] if workers else []
    with Server(*options, directory=str(own), luns=TARGETS) as server:
        yield server


def _median(samples: Sequence[Together]) -> Together:
    columns = zip(*map(attrs.astuple, samples), strict=True)
    return Together(*map(statistics.median, columns))


def main() -> int:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2", help="how many, in turn")
    parser.add_argument("--only", default=ROWS, help="rows of `make bench`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    counts = [int(one) for one in chosen.workers.split(",")]
    build_load()
    print(f"{TARGETS} targets, a load each. {machine.sentence()}")
    with tempfile.TemporaryDirectory() as where:
        directory = Path(where)
        # One after the other: a file is of one service.
        configured = configuration(directory)
        for short in chosen.only.split(","):
            workload = BY_SHORT[short]
            found: dict[int, list[Together]] = {count: [] for count in counts}
            for _round in range(chosen.rounds):
                for count in counts:
                    with served(directory, configured, count) as server:
                        found[count].append(measure(server, workload, chosen.seconds))
            first = _median(found[counts[0]])
            for count in counts:
                one = _median(found[count])
                ratio = statistics.median(
                    this.rate / that.rate
                    for this, that in zip(found[count], found[counts[0]], strict=True)
                )
                print(
                    f"{workload.name:40} {count} workers {one.rate:8.0f} /s"
                    f"  ratio {ratio:.2f}  CPU {one.cpu:5.0f} µs"
                    f" ({one.cpu / first.cpu:.2f})  p99 {one.late:6.0f} µs"
                    f"  fewest {one.fewest:.0%}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
