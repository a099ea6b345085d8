# SPDX-License-Identifier: MIT
"""
What is measured: the rows of the table, and the ratio that is asked of each.
"""

from __future__ import annotations

import attrs

MEGABYTES = 256
"""How much of the LUN is used: as much as it has."""

KIB, MIB = 1 << 10, 1 << 20

STALL = 50.0
"""Milliseconds that no load may have a neighbour wait."""


@attrs.frozen
class Workload:
    """
    One row: a load, and the ratio to the other's commands a second that is asked for.
    """

    short: str
    """Its name in the history, and for ``--only``."""
    name: str
    wanted: float | None = None
    """The ratio that is asked for; None: nothing is."""
    reads: int = 100
    """How many of a hundred commands read; the others write."""
    order: str = "random"
    """``random`` or ``sequential``."""
    size: int = 4 * KIB
    """Bytes of a command."""
    depth: int = 1
    """Commands under way at a time, in each session."""
    sessions: int = 1
    digests: str = "none"
    """``none``, ``crc32c`` (of headers), or ``both`` (of data, too)."""
    segment: int = 256 * KIB
    """The longest data segment that the initiator takes, where it can be said."""
    program: str = "load"
    """``load`` is by libiscsi; ``reading`` is by a socket, and only reads."""
    tls: bool = False
    """Whether it is through TLS; what is beside it is the same without."""
    once: bool = False
    """Whether each command is sent once, however long that takes."""

    def arguments(self, seconds: float) -> tuple[str, ...]:
        """
        Return the load's arguments after the URL.
        """
        if self.program == "reading":
            return (
                *(self.order, str(self.size), str(self.depth)),
                str(0 if self.once else seconds),
                *(str(MEGABYTES), str(self.segment), self.digests),
            )
        return (
            *(str(self.reads), self.order, str(self.size), str(self.depth)),
            *(str(seconds), str(MEGABYTES), str(self.sessions), self.digests),
        )


_SMALL: tuple[tuple[str, str, float, int, int, int], ...] = (
    # short, what, wanted, reads of a hundred, depth, sessions
    ("4k-r-d1", "random read 4 KiB, depth 1", 1.5, 100, 1, 1),
    ("4k-r-d32", "random read 4 KiB, depth 32", 2.0, 100, 32, 1),
    ("4k-w-d32", "random write 4 KiB, depth 32", 1.5, 0, 32, 1),
    ("4k-70-8x8", "random 70/30 4 KiB, 8 sessions, depth 8", 1.8, 70, 8, 8),
    ("4k-70-64x4", "random 70/30 4 KiB, 64 sessions, depth 4", 1.5, 70, 4, 64),
    ("4k-r-8x2", "random read 4 KiB, 8 sessions, depth 2", 1.3, 100, 2, 8),
)

_LARGE: tuple[tuple[str, str, float, int, int, int], ...] = (
    # short, what, wanted, reads of a hundred, bytes, depth
    ("64k-r-d16", "sequential read 64 KiB, depth 16", 1.2, 100, 64 * KIB, 16),
    ("64k-w-d16", "sequential write 64 KiB, depth 16", 1.5, 0, 64 * KIB, 16),
    ("1m-r-d8", "sequential read 1 MiB, depth 8", 1.2, 100, MIB, 8),
    ("1m-w-d8", "sequential write 1 MiB, depth 8", 1.2, 0, MIB, 8),
)

WORKLOADS: tuple[Workload, ...] = (
    *(
        Workload(short, name, wanted, reads, depth=depth, sessions=sessions)
        for short, name, wanted, reads, depth, sessions in _SMALL
    ),
    *(
        Workload(short, name, wanted, reads, "sequential", size, depth)
        for short, name, wanted, reads, size, depth in _LARGE
    ),
    Workload(
        "4k-r-crc",
        "random read 4 KiB, depth 32, CRC32C of headers",
        depth=32,
        digests="crc32c",
    ),
    Workload(
        "64k-r-crc",
        "sequential read 64 KiB, depth 16, CRC32C of all",
        order="sequential",
        size=64 * KIB,
        depth=16,
        digests="both",
        program="reading",
    ),
    Workload(
        "8m-r-512",
        "64 reads of 8 MiB, segments of 512 bytes",
        order="sequential",
        size=8 * MIB,
        depth=64,
        segment=512,
        program="reading",
        once=True,
    ),
)
"""On one file, beside tgtd, in the order of the table."""

SPARSE = Workload("sparse", "random 50/50 4 KiB, sparse, by QEMU", 2.0, 50, depth=16)
"""On a new file each time (`sparse`), beside tgtd."""


def sparse_seconds(seconds: float) -> float:
    """
    Return for how long a sparse file is used, where others are for so many seconds: it
    is to come to have pieces.
    """
    return max(2.5 * seconds, 1.0)


TLS: tuple[Workload, ...] = (
    Workload("4k-r-tls", "random read 4 KiB, depth 32, TLS", depth=32, tls=True),
    Workload(
        "64k-r-tls",
        "sequential read 64 KiB, depth 16, TLS",
        order="sequential",
        size=64 * KIB,
        depth=16,
        tls=True,
    ),
)
"""Through TLS (`tunnels`), beside ours without: tgtd has no TLS."""

BY_SHORT = {one.short: one for one in (*WORKLOADS, SPARSE, *TLS)}


def chosen(only: str) -> list[Workload]:
    """
    Return the rows whose name has one of the parts in *only*, or whose short name
    begins with one; all of them when it is empty.
    """
    parts = [part.strip().lower() for part in only.split(",")]
    return [
        one
        for one in BY_SHORT.values()
        if any(part in one.name.lower() or one.short.startswith(part) for part in parts)
    ]
