# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.express`: it does what the general way does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine import express
from scstd.test.generating import examples
from scstd.test.worlds import BLOCKS, SIZE, Spec, World


def one_of(*every: Any) -> st.SearchStrategy[Any]:
    """Return any of these."""
    return st.sampled_from(every)


USUAL = st.builds(
    Spec,
    opcode=one_of(0x28, 0x2A, 0x28, 0x2A, 0x88, 0x8A),
    lba=one_of(8, 0, 9, BLOCKS - 8),
    blocks=one_of(8, 8, 1, 3),
    lun=one_of(0, 0, 0, 0, 1),
)
ODD: dict[str, tuple[Any, ...]] = {
    "opcode": (0xA8, 0xAA, 0x08, 0x0A, 0x00, 0x2F, 0x25),
    "lba": (BLOCKS - 7, BLOCKS, 1 << 31),
    "blocks": (0, 64, 256),
    "more": (512, -512, -4096, 4096),
    "data_more": (512, -512, -4096),
    "flags": (0x08, 0x10, 0x01),
    "control": (0x04, 0x01),
    "attribute": (0, 2, 3, 4, 5),
    "final": (False,),
    "immediate": (True,),
    "ahead": (1, 2, -1, 9),
    "tag": (1, 2),
    "lun": (5, 300),
    "turned": (1, 50, 60, 4000),
    "way": (0, 0x20, 0x40, 0x60),
}


@st.composite
def odd(draw: Any) -> Spec:
    """Return a command of which one thing is unusual."""
    name = draw(st.sampled_from(sorted(ODD)))
    value = draw(st.sampled_from(ODD[name]))
    usual: Spec = draw(USUAL)
    return attrs.evolve(usual, **{name: value})


WHO, LUN = one_of(0, 0, 0, 1), one_of(0, 0, 0, 1)
HOW = one_of("now", "later", "later", "later", "fired", "raises", "fails", "meanwhile")
POINT = one_of("arrive", "run", "execute", "finish")


def step(name: str, *of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a step of a world."""
    return st.tuples(st.just(name), *of)


COMMANDS = step(
    "send",
    WHO,
    st.lists(st.one_of(USUAL, USUAL, USUAL, odd()), min_size=1, max_size=6),
    st.lists(st.integers(0, 1 << 14), max_size=1),
    st.lists(HOW, max_size=3),
)
INSIDE = st.one_of(
    step("attention", WHO),
    step("condition", LUN),
    step("stage", LUN, POINT, st.booleans()),
    step("tap", WHO),
    step("read_only", LUN, st.booleans()),
    step("unmap", LUN),
    step("resize", LUN, one_of(SIZE, SIZE, SIZE // 2)),
    step("limit", LUN, one_of(0, 4096, 2048)),
    step("lock", LUN),
    step("mode", LUN, one_of("write_cache", "queue_algorithm"), one_of(0, 1, 1)),
    step("mode", LUN, st.just("software_write_protect"), one_of(0, 0, 1)),
    step("reserve", LUN, WHO),
    step("tight", WHO, one_of(0, 1)),
    step("window", one_of(8, 8, 3, 32, 1)),
    step("reset", LUN),
    step("over", st.just(1), one_of("drain", "end", "logout")),
    step("over", one_of(1, 1, 1, 0), one_of("drain", "end")),
    step("manage", st.just(1), one_of(1, 2, 4, 5), LUN, st.integers(0, 4)),
    step("look"),
)
"""
What a store may bring about while it is called: anything but that the very connection
receives.
"""

CHANGES = st.one_of(
    INSIDE,
    INSIDE,
    INSIDE,
    step("over", st.just(0), st.just("logout")),
)
OTHERS = st.one_of(
    step("answer", LUN, st.integers(0, 9), one_of("now", "now", "now", "fails")),
    step("take", WHO),
    step("inside", INSIDE),
    step("manage", WHO, one_of(1, 2, 4, 5), LUN, st.integers(0, 4)),
    CHANGES,
)
CALM = st.one_of(step("calm"), step("calm"), step("calm"), st.just(None))
USUAL_COMMANDS = step(
    "send",
    one_of(0, 0, 1),
    st.lists(USUAL, min_size=2, max_size=8),
    st.just([]),
    st.lists(HOW, max_size=3),
)
STEPS = st.lists(
    st.tuples(st.lists(OTHERS, max_size=2), COMMANDS, CALM, USUAL_COMMANDS),
    min_size=1,
    max_size=6,
).map(
    lambda rounds: [
        one
        for others, first, calm, last in rounds
        for one in (*others, first, calm, last)
        if one is not None
    ]
)

KEYS = st.sampled_from(
    [{"MaxRecvDataSegmentLength": "262144"}] * 20
    + [
        {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"},
        {"HeaderDigest": "CRC32C"},
        {"DataDigest": "CRC32C"},
        {"MaxRecvDataSegmentLength": "2048"},
        {"ImmediateData": "No"},
        {"ErrorRecoveryLevel": "1", "DataDigest": "CRC32C"},
        {"ErrorRecoveryLevel": "2"},
        {"MaxConnections": "2", "TaskReporting": "FastAbort"},
    ]
)
SETTINGS = st.sampled_from(
    [{}] * 9 + [{"max_tgt_dev_commands": 3}, {"tst": 0}, {"tst": 1}]
)


WHILE_CALLED: tuple[tuple[Any, ...], ...] = (
    ("attention", 0),
    ("condition", 0),
    ("stage", 0, "finish", False),
    ("tap", 0),
    ("read_only", 0, True),
    ("unmap", 0),
    ("resize", 0, SIZE // 2),
    ("limit", 0, 2048),
    ("lock", 0),
    ("mode", 0, "write_cache", 0),
    ("mode", 0, "queue_algorithm", 0),
    ("reserve", 0, 1),
    ("tight", 0, 1),
    ("window", 3),
    ("reset", 0),
    ("over", 0, "drain"),
    ("over", 0, "end"),
    ("over", 1, "end"),
    ("manage", 1, 5, 0, 0),
    ("manage", 1, 2, 0, 0),
    ("look",),
    ("long", 0),
    ("send", 1, [Spec()], [], []),
    ("send", 1, [Spec(attribute=2)], [], []),
    ("send", 1, [Spec(0x2A, attribute=2), Spec()], [], []),
)
"""What may happen while the store is called for a command, or is at work on it."""


@contextmanager
def general() -> Iterator[None]:
    """Have every command go the general way."""
    with patch.object(express, "take", lambda _connection: None):
        yield


def run(keys: dict[str, str], settings: dict[str, Any], steps: list[Any]) -> list[Any]:
    """
    Return what there is to be seen of a world after each step.
    """
    world = World(keys, **settings)
    seen = [world.state()]
    for one in steps:
        world.do(one)
        seen.append(world.state())
    for who in (0, 1):
        world.take(who)
    return [*seen, world.state()]


class SameTests(SynchronousTestCase):
    """
    Whatever commands meet, the express way does what the general way does.
    """

    def compare(self, keys: Any, settings: Any, steps: list[Any]) -> None:
        """Do the same in two worlds."""
        found = run(keys, settings, steps)
        with general():
            wanted = run(keys, settings, steps)
        self.flushLoggedErrors()
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            for key, value in one.items():
                if value != other[key]:
                    self.fail(f"{key} after {steps[:number]}:\n{value}\n{other[key]}")

    @examples(300)
    @given(KEYS, SETTINGS, STEPS)
    def test_same(self, keys: Any, settings: Any, steps: list[Any]) -> None:
        """All that can be seen is the same, after each step."""
        self.compare(keys, settings, steps)

    def test_while_called(self) -> None:
        """It is whatever happens in the very call of the store."""
        for keys in ({}, {"HeaderDigest": "CRC32C"}):
            for what in WHILE_CALLED:
                for opcode in (0x28, 0x2A, 0x8A):
                    for how in ("meanwhile", "meanwhile raises", "meanwhile later"):
                        specs = [Spec(opcode), Spec(opcode), Spec(opcode, lun=1)]
                        one: Any = ("send", 0, specs, [], [how])
                        steps = [("inside", what), one, one, ("look",)]
                        self.compare(keys, {"tst": 0}, steps)

    def test_while_at_work(self) -> None:
        """It is whatever happens while the store has not answered."""
        for how in ("now", "fails"):
            for what in WHILE_CALLED:
                for opcode in (0x28, 0x2A):
                    specs = [Spec(opcode), Spec(opcode)]
                    one: Any = ("send", 0, specs, [], ["later"])
                    over = ("answer", 0, 0, how)
                    self.compare({}, {}, [one, what, over, one, over, ("look",)])

    def test_each_way(self) -> None:
        """It is for each way to answer, with each digest, wherever it is cut."""
        for keys in (
            {},
            {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"},
            {"HeaderDigest": "CRC32C"},
            {"DataDigest": "CRC32C"},
        ):
            for how in ("now", "later", "fired", "raises", "fails"):
                for cut in (0, 20, 50, 100, 4150):
                    specs = [Spec(0x2A, 9), Spec(0x28, 9), Spec(0x8A), Spec(0x88)]
                    one: Any = ("send", 0, specs, [cut], [how] * 4)
                    over = ("answer", 0, 1, "now")
                    self.compare(keys, {}, [one, over, over, *([one, ("take", 0)] * 9)])
