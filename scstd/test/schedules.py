# SPDX-License-Identifier: MIT
"""
Schedules: blocks are written and read back over a bad link, and whatever it did each of
them must be what was written, each command must end, and nothing must be left behind.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import attrs

from scstd.handlers.memory import MemoryStore
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.wire.keys import LOCAL
from scstd.test.badlink import BLOCK, SLOT, Rates, SlowStore
from scstd.test.initiator import serve
from scstd.test.recovering import Recoverer, Work


@attrs.define
class Outcome:
    """
    What a schedule came to.
    """

    written: int
    read: int
    counts: Counter[str]


def run(
    seed: int, level: int, paths: int, blocks: int = 1000, rates: Rates | None = None
) -> Outcome:
    """
    Write and read back so many blocks at an error recovery level over so many
    connections; return what happened.

    :raises AssertionError: a byte is wrong, or a command hangs.
    """
    rng = random.Random(seed)
    if rates is None:
        base = rng.choice((0.002, 0.01, 0.03))
        rates = Rates(base, base, base, base / 4, base / 8)
    slots = 24
    size = slots * SLOT * BLOCK
    store: Any = (
        SlowStore(size, rng) if rng.random() < 0.5 else MemoryStore(size, BLOCK)
    )
    local = {
        **LOCAL,
        "ErrorRecoveryLevel": 2,
        "MaxConnections": 8,
        "DefaultTime2Retain": 3600,
    }
    limits = TargetSettings(
        local=local, queued_commands=16, response_timeout=0, nop_in_interval=0
    )
    node, _target, _units = serve(store, limits=limits)
    session = Recoverer(node, rng, rates, level, paths)
    if isinstance(store, SlowStore):
        session.let_go = lambda: store.some(rng.randint(1, 6))  # type: ignore[method-assign]
    model: dict[int, bytes] = {}
    busy: set[int] = set()
    outcome = Outcome(0, 0, session.counts)

    def ended(work: Work) -> None:
        busy.discard(work.slot)
        if work.writes:
            model[work.slot] = work.data + model.get(work.slot, b"")[len(work.data) :]
            outcome.written += work.blocks
        else:
            expected = model[work.slot][: work.blocks * BLOCK]
            assert work.read == expected, f"seed {seed}: wrong data in {work.slot}"
            outcome.read += work.blocks

    session.ended = ended  # type: ignore[method-assign]
    while outcome.written < blocks or outcome.read < blocks:
        free = [slot for slot in range(slots) if slot not in busy]
        if len(session.works) < 8 and free and session.room:
            slot = rng.choice(free)
            writes = slot not in model or rng.random() < 0.5
            count = rng.randint(1, SLOT)
            if writes:
                data = rng.randbytes(count * BLOCK)
            else:
                count, data = min(count, len(model[slot]) // BLOCK), b""
            busy.add(slot)
            session.begin(slot, count, data, writes=writes)
        else:
            before = len(session.works)
            session.settle(lambda before=before: len(session.works) < before)  # type: ignore[misc]
    session.settle(lambda: not session.works)
    _check_nothing_left(node, session)
    return outcome


def _check_nothing_left(node: Node, session: Recoverer) -> None:
    """
    See that the end of the session leaves nothing behind.
    """
    session.weather.faithful = True
    (there,) = node.sessions()
    for _round in range(2):
        # Statuses that are missing come, and what came last is acknowledged.
        session.stall()
        while session.step():
            pass
    assert not there.tasks, there.tasks
    assert not there.writes.transfers
    assert there.writes.held_bytes == 0
    assert not there.ordering.held
    assert there.ordering.immediate == 0, there.ordering.immediate
    for connection in there.connections.values():
        if connection.recovery is not None:
            assert not connection.recovery.answers
            assert not connection.recovery.retained
    there.end("the test is over")
    for path in session.paths:
        assert path.target_side.connection.over
    assert not node.sessions()


def shape(seed: int) -> tuple[int, int]:
    """
    Return the error recovery level and the number of connections of a schedule.
    """
    level = seed % 3
    return level, (1, 1, 2, 4)[seed // 3 % 4] if level else 1
