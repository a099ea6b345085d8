# SPDX-License-Identifier: MIT
"""
scstd beside tgtd, on one file, in one run: ``make bench``.  (The sparse file of
`sparse` is a new one each time; what stands beside TLS says `tunnels`.)

For each workload the two are measured in turn, several times; the medians and their
ratio (scstd / tgtd: more is better) are printed and kept in bench/results.md, drawn in
doc/bench.svg, and a line with the ratios is added to bench/history.csv.  Everything
runs on the loopback of one machine, the load too, so the ratio is what carries over to
another machine, not the numbers.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import neighbours
import report
import sparse
import tunnels
from peers import HERE, Peer, Sample, build_load, make_image, tgtd
from pinging import Neighbour
from report import Row
from workloads import SPARSE, WORKLOADS, Workload, chosen, sparse_seconds

from scstd.test.serving import Server

ROUNDS_ONCE = 3
"""Rounds of what takes as long as it takes."""


def _median(samples: list[Sample]) -> Sample:
    """
    Return the median of each figure; of pings and shares the worst.
    """
    return Sample(
        statistics.median(one.rate for one in samples),
        statistics.median(one.latency for one in samples),
        statistics.median(one.late for one in samples),
        statistics.median(one.cpu for one in samples),
        min(one.fewest for one in samples),
        max(one.ping for one in samples),
    )


def in_turn(
    workload: Workload,
    rounds: int,
    ours: Callable[[], Sample],
    theirs: Callable[[], Sample],
) -> Row:
    """
    Measure one workload, in turn.

    The ratio is the median of the rounds' ratios: a machine that is slow for a while is
    so for both.
    """
    pairs: list[tuple[Sample, Sample]] = []
    for number in range(rounds):
        if number % 2:
            pairs.append((ours(), theirs()))
        else:
            other = theirs()
            pairs.append((ours(), other))
    return Row(
        workload,
        _median([one for one, _other in pairs]),
        _median([other for _one, other in pairs]),
        statistics.median(one.rate / other.rate for one, other in pairs),
    )


def compare(
    ours: Peer, theirs: Peer, workload: Workload, rounds: int, seconds: float
) -> Row:
    """
    Measure one workload of a load of ours, with a neighbour that pings.
    """
    if workload.once:
        rounds = min(rounds, ROUNDS_ONCE)
    # Of two initiators: the two may be one target, by two portals.
    with Neighbour(ours.url, 900) as one, Neighbour(theirs.url, 901) as other:
        return in_turn(
            workload,
            rounds,
            lambda: one.beside(lambda: ours.measure(workload, seconds)),
            lambda: other.beside(lambda: theirs.measure(workload, seconds)),
        )


def sparse_row(rounds: int, seconds: float) -> Row:
    """
    Measure a fresh sparse file under QEMU.
    """
    return in_turn(
        SPARSE,
        rounds,
        lambda: sparse.measure("scstd", seconds),
        lambda: sparse.measure("tgtd", seconds),
    )


def tls_row(
    plain: Peer, secret: Peer, workload: Workload, rounds: int, seconds: float
) -> Row:
    """
    Measure a workload through TLS, beside the same without.
    """
    with tunnels.through(secret) as ours, tunnels.through(plain) as theirs:
        return compare(ours, theirs, workload, rounds, seconds)


def measure(
    directory: Path, workloads: list[Workload], rounds: int, seconds: float
) -> list[Row]:
    """
    Measure these workloads, and print each row when it is there.
    """
    device = f"disk=vdisk_fileio:filename={make_image(directory / 'disk.img')}"
    options = ("--listen", tunnels.listen(directory), "--device", device)
    rows = []
    build_load()
    with (
        Server(*options, directory=str(directory)) as server,
        tgtd(directory / "disk.img") as theirs,
    ):
        ours = Peer("scstd", server.url, server.process.pid)
        secret = attrs.evolve(ours, url=tunnels.secret_url(server))
        for workload in workloads:
            if workload in WORKLOADS:
                row = compare(ours, theirs, workload, rounds, seconds)
            elif workload.tls:
                row = tls_row(ours, secret, workload, rounds, seconds)
            else:
                row = sparse_row(rounds, sparse_seconds(seconds))
            rows.append(row)
            print(report.line(row), flush=True)
    return rows


def keep(where: Path, table: str, rows: list[Row]) -> None:
    """
    Write the results into a checkout.
    """
    for name in ("bench", "doc"):
        (where / name).mkdir(parents=True, exist_ok=True)
    (where / "bench" / "results.md").write_text(
        "# scstd beside tgtd\n\n"
        "Written by `make bench`; a ratio of 2 is twice tgtd's rate. Earlier runs are"
        " in [history.csv](history.csv).\n\n"
        f"{table}\n",
        encoding="utf-8",
    )
    (where / "doc" / "bench.svg").write_text(report.picture(rows), encoding="utf-8")
    report.remember(where / "bench" / "history.csv", rows)


def main() -> int:
    """
    Measure everything; return 1 if something is not as is asked for.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--only", default="", help="rows with one of these parts (a,b) in their names"
    )
    parser.add_argument(
        "--keep",
        nargs="?",
        type=Path,
        const=HERE.parent,
        metavar="WHERE",
        help="write the results, below this directory or in the checkout",
    )
    asked = parser.parse_args()
    workloads = chosen(asked.only)
    if not workloads:
        parser.error(f"no row has {asked.only!r} in its name")
    if asked.only and asked.keep == HERE.parent:
        parser.error("--keep is for all rows, else the others would be lost")
    directory = Path(tempfile.mkdtemp())
    try:
        rows = measure(directory, workloads, asked.rounds, asked.seconds)
    finally:
        shutil.rmtree(directory)
    table = report.table(rows, asked.rounds, asked.seconds)
    if not asked.only:
        sentences = neighbours.figures(asked.rounds, asked.seconds)
        table += "\n\n" + "\n\n".join(sentences)
    print(table)
    if asked.keep:
        keep(asked.keep, table, rows)
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
