# SPDX-License-Identifier: MIT
"""
What becomes of figures: the table, the picture, and a line of the history.
"""

from __future__ import annotations

import csv
from pathlib import Path
from xml.sax.saxutils import escape

import attrs
import machine
from peers import Sample
from workloads import MEGABYTES, STALL, Workload, sparse_seconds


@attrs.frozen
class Row:
    """
    What was measured of one workload.
    """

    workload: Workload
    ours: Sample
    theirs: Sample
    ratio: float

    @property
    def good(self) -> bool:
        """Whether it is what is asked for."""
        wanted = self.workload.wanted
        return (wanted is None or self.ratio >= wanted) and self.ours.ping <= STALL


def _wanted(row: Row) -> str:
    return "" if row.workload.wanted is None else f"{row.workload.wanted:.1f}"


def line(row: Row) -> str:
    """
    Return a row for who waits at a terminal.
    """
    wanted = f" (wanted {_wanted(row)})" if row.workload.wanted else ""
    ours, theirs = row.ours, row.theirs
    said = (
        f"{row.workload.name:48} {ours.rate:8.0f} {theirs.rate:8.0f}"
        f"  ratio {row.ratio:.2f}{wanted}"
        f"  CPU {ours.cpu:.0f} / {theirs.cpu:.0f} µs"
        f"  ping {ours.ping:.1f} / {theirs.ping:.1f} ms"
    )
    if row.workload.sessions > 1:
        said += f"  fewest {ours.fewest:.0%} / {theirs.fewest:.0%}"
    return said


_HEAD = (
    "workload",
    "scstd /s",
    "other /s",
    "ratio",
    "wanted",
    "latency µs",
    "other's",
    "p99 µs",
    "other's",
    "CPU µs a command",
    "other's",
    "worst ping ms",
    "other's",
)

_NOTE = """\
The other is tgtd, but for the rows with TLS, which tgtd does not have: beside those is
ours without TLS, through the same relay (socat, for libiscsi has no TLS either). CRC32C
of headers is by libiscsi, which has no digests of data; CRC32C of all, and segments of
512 bytes, are by a socket that checks nothing. The worst ping is the longest that a
TEST UNIT READY took that another session sent to the same LUN each 10 ms meanwhile
(asked for: at most {stall:.0f} ms)."""


def table(rows: list[Row], rounds: int, seconds: float) -> str:
    """
    Return the table of results.md, and what it is of.
    """
    lines = [f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
    for row in rows:
        ours, theirs = row.ours, row.theirs
        cells = [
            row.workload.name,
            f"{ours.rate:.0f}",
            f"{theirs.rate:.0f}",
            f"**{row.ratio:.2f}**",
            _wanted(row),
            *(f"{one.latency:.0f}" for one in (ours, theirs)),
            *(f"{one.late:.0f}" for one in (ours, theirs)),
            *(f"{one.cpu:.0f}" for one in (ours, theirs)),
            *(f"{one.ping:.1f}" for one in (ours, theirs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        _NOTE.format(stall=STALL),
        "",
        f"{rounds} rounds of {seconds:g} s each, in turn, medians, of pings the worst"
        f" of all rounds; a file of {MEGABYTES} MiB in the page cache (of sparse ones"
        f" 1 GiB, {sparse_seconds(seconds):g} s). {machine.sentence()}",
    ]
    return "\n".join(lines)


_STYLE = """\
text { font: 13px sans-serif; fill: #1f2328 }
.bar { fill: #4a7fb5 } .short { fill: #b5654a }
.wanted { stroke: #1f2328; stroke-width: 3 }
.equal { stroke: #6e7781; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.bar { fill: #5b9bd9 } .short { fill: #d9825b }
.wanted { stroke: #e6edf3 }
.equal { stroke: #8b949e }
}"""

_HEIGHT, _LEFT, _SCALE, _TOP, _MOST = 26, 330, 110, 56, 4.0


def picture(rows: list[Row]) -> str:
    """
    Return an SVG: a bar for each ratio, a mark for what is asked of it, and a line
    where the two are equal.

    It has no background of its own, and follows what is around it, light or dark.
    """
    bottom = _TOP + _HEIGHT * len(rows)
    width, height = int(_LEFT + _MOST * _SCALE + 60), bottom + 12
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">',
        f"<style>\n{_STYLE}\n</style>",
        '<text x="10" y="20">Commands a second of scstd as a multiple of tgtd\'s, same'
        " file, same run</text>",
        '<text x="10" y="40">The mark is what is asked for. With TLS, which tgtd does'
        " not have: a multiple of ours without</text>",
    ]
    for number, row in enumerate(rows):
        top = _TOP + number * _HEIGHT
        # One that is far ahead would leave no room for the others.
        end = _LEFT + min(row.ratio, _MOST) * _SCALE
        more = " →" if row.ratio > _MOST else ""
        wanted = row.workload.wanted
        kind = "short" if wanted is not None and row.ratio < wanted else "bar"
        pieces += [
            f'<text x="10" y="{top + 15}">{escape(row.workload.name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{top + 2}" width="{end - _LEFT:.0f}"'
            f' height="{_HEIGHT - 8}"/>',
        ]
        if wanted is not None:
            at = f"{_LEFT + wanted * _SCALE:.0f}"
            pieces.append(
                f'<line class="wanted" x1="{at}" y1="{top}" x2="{at}"'
                f' y2="{top + _HEIGHT - 4}"/>'
            )
        beside = max(end, _LEFT + (wanted or 0) * _SCALE) + 8
        pieces.append(
            f'<text x="{beside:.0f}" y="{top + 15}">{row.ratio:.2f}{more}</text>'
        )
    pieces += [
        f'<line class="equal" x1="{_LEFT + _SCALE}" y1="{_TOP - 4}"'
        f' x2="{_LEFT + _SCALE}" y2="{bottom}"/>',
        "</svg>",
    ]
    return "\n".join(pieces) + "\n"


def remember(path: Path, rows: list[Row]) -> None:
    """
    Append a line to the history: what was measured on what, the ratios, and the worst
    ping of ours in milliseconds.

    A workload that is new gets a column; where one was not measured there is nothing.
    """
    fields: list[str] = []
    before: list[dict[str, str]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            before = list(reader)
            fields = list(reader.fieldnames or ())
    new = machine.description()
    new |= {row.workload.short: f"{row.ratio:.2f}" for row in rows}
    new["worst ping ms"] = f"{max(row.ours.ping for row in rows):.1f}"
    fields += [name for name in new if name not in fields]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*before, new])
