# SPDX-License-Identifier: MIT
"""
scstd beside tgtd, on one file, in one run: ``make bench``.  (The sparse file of
`sparse` is a new one each time.)

For each workload the two are measured in turn, several times; the medians and their
ratio (scstd / tgtd: more is better) are printed and kept in bench/results.md, and drawn
in doc/bench.svg.  Everything runs on the loopback of one machine, the load too, so the
ratio is what carries over to another machine, not the numbers.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import neighbours
import sparse
from peers import HERE, MEGABYTES, WORKLOADS, Peer, Sample, Workload, build_load, tgtd

from scstd.test.serving import Server


@attrs.frozen
class Row:
    """
    The medians of one workload.
    """

    workload: Workload
    ours: Sample
    theirs: Sample
    ratio: float


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        statistics.median(one.rate for one in samples),
        statistics.median(one.latency for one in samples),
        statistics.median(one.cpu for one in samples),
    )


def compare(
    ours: Peer, theirs: Peer, workload: Workload, rounds: int, seconds: float
) -> Row:
    """
    Measure one workload, in turn.

    The ratio is the median of the rounds' ratios: a machine that is slow for a while is
    so for both.
    """
    load = build_load()
    return _in_turn(
        workload,
        rounds,
        lambda: ours.measure(load, workload, seconds),
        lambda: theirs.measure(load, workload, seconds),
    )


def _in_turn(
    workload: Workload,
    rounds: int,
    ours: Callable[[], Sample],
    theirs: Callable[[], Sample],
) -> Row:
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


def sparse_row(rounds: int, seconds: float) -> Row:
    """
    Measure a fresh sparse file under QEMU, for so long that it comes to have pieces.
    """
    seconds = max(seconds, 5.0)
    return _in_turn(
        sparse.WORKLOAD,
        rounds,
        lambda: sparse.measure("scstd", seconds),
        lambda: sparse.measure("tgtd", seconds),
    )


def _print(row: Row) -> None:
    print(
        f"{row.workload.name:36} {row.ours.rate:8.0f} {row.theirs.rate:8.0f}"
        f"  ratio {row.ratio:.2f} (wanted {row.workload.wanted:.1f})"
        f"  CPU {row.ours.cpu:.0f} / {row.theirs.cpu:.0f} µs",
        flush=True,
    )


def _table(rows: list[Row], rounds: int, seconds: float) -> str:
    lines = [
        "| workload | scstd /s | tgtd /s | ratio | wanted"
        " | latency µs | tgtd's | CPU µs a command | tgtd's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.workload.name} | {row.ours.rate:.0f} | {row.theirs.rate:.0f}"
        f" | **{row.ratio:.2f}** | {row.workload.wanted:.1f}"
        f" | {row.ours.latency:.0f} | {row.theirs.latency:.0f}"
        f" | {row.ours.cpu:.0f} | {row.theirs.cpu:.0f} |"
        for row in rows
    ]
    lines += [
        "",
        f"{rounds} rounds of {seconds:g} s each, in turn, medians; a file of"
        f" {MEGABYTES} MiB in the page cache (of sparse ones 1 GiB, 5 s);"
        f" CPython {platform.python_version()},"
        f" Linux {platform.release().split('-')[0]}, {os.cpu_count()} processors.",
    ]
    return "\n".join(lines)


def _picture(rows: list[Row]) -> str:
    """
    Return an SVG: a bar for each ratio, a line where the two are equal.
    """
    height, left, scale = 26, 270, 110
    most = max(3.0, *(row.ratio for row in rows))
    width = int(left + most * scale + 60)
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}"'
        f' height="{height * len(rows) + 50}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="20">IOPS of scstd as a multiple of tgtd\'s, same file,'
        " same run</text>",
    ]
    for number, row in enumerate(rows):
        top = 34 + number * height
        pieces += [
            f'<text x="10" y="{top + 15}">{row.workload.name}</text>',
            f'<rect x="{left}" y="{top + 2}" width="{row.ratio * scale:.0f}"'
            f' height="{height - 8}" fill="#4a7fb5"/>',
            f'<text x="{left + row.ratio * scale + 6:.0f}" y="{top + 15}">'
            f"{row.ratio:.2f}</text>",
        ]
    bottom = 34 + height * len(rows)
    pieces += [
        f'<line x1="{left + scale}" y1="30" x2="{left + scale}" y2="{bottom}"'
        ' stroke="black" stroke-dasharray="4 3"/>',
        "</svg>",
    ]
    return "\n".join(pieces) + "\n"


def main() -> int:
    """
    Measure everything; return 1 if a ratio is below what is asked for.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--keep", action="store_true", help="write the results")
    chosen = parser.parse_args()
    directory = Path(tempfile.mkdtemp())
    try:
        image = directory / "disk.img"
        with image.open("wb") as file:
            # In pieces as file systems write: written in larger ones, the page cache
            # keeps large folios, and each small write to one costs ext4 more than all
            # that a target does.
            for _piece in range(MEGABYTES << 4):
                os.write(file.fileno(), os.urandom(1 << 16))
        device = f"disk=vdisk_fileio:filename={image}"
        with (
            Server("--device", device, directory=str(directory)) as server,
            tgtd(image) as theirs,
        ):
            ours = Peer("scstd", server.url, server.process.pid)
            rows = []
            for workload in WORKLOADS:
                if chosen.only not in workload.name:
                    continue
                row = compare(ours, theirs, workload, chosen.rounds, chosen.seconds)
                rows.append(row)
                _print(row)
            if chosen.only in sparse.WORKLOAD.name:
                rows.append(sparse_row(chosen.rounds, chosen.seconds))
                _print(rows[-1])
    finally:
        shutil.rmtree(directory)
    table = _table(rows, chosen.rounds, chosen.seconds)
    if not chosen.only:
        sentences = neighbours.figures(chosen.rounds, chosen.seconds)
        table += "\n\n" + "\n\n".join(sentences)
    print(table)
    if chosen.keep:
        (HERE / "results.md").write_text(
            "# scstd beside tgtd\n\n"
            "Written by `make bench`; a ratio of 2 is twice tgtd's rate.\n\n"
            f"{table}\n",
            encoding="utf-8",
        )
        (HERE.parent / "doc" / "bench.svg").write_text(_picture(rows), encoding="utf-8")
    return 0 if all(row.ratio >= row.workload.wanted for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
