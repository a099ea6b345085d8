# SPDX-License-Identifier: MIT
"""
Tests for `scstd.test.mutations` and `scstd.test.mutants`, on a file of five lines.
"""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.mutants import Mutant, Tried, choose, dies, relevant
from scstd.test.mutations import Mutation, mutations

SOURCE = '''\
"""A file that says: 1 + 1."""
SEVEN: int = 7


def clip(value: int, most: int = SEVEN) -> int:
    """Return 1, or more."""
    if value > most:
        return most
    return value
'''

TEST = """\
import unittest

from toy import clip


class Tests(unittest.TestCase):
    def test_clip(self):
        self.assertEqual(clip(9), 7)
"""

EVERY = """\
def every(self, a, b):
    if a:
        b = 1
    elif not b:
        raise ValueError(f"{a + 1}")
    while a < b and True:
        self.call(a + b)
        self.a = 2
    return a
"""


class MutationsTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Each kind of fault is found, and all leave a file that can be read."""
        found = mutations(EVERY)
        self.assertEqual(
            {one.kind for one in found},
            {
                "and/or",
                "assignment",
                "call",
                "comparison",
                "condition",
                "constant",
                "early return",
                "flag",
                "operator",
                "raise",
                "return",
            },
        )
        for one in found:
            changed = one.apply(EVERY)
            self.assertNotEqual(
                ast.dump(ast.parse(changed)), ast.dump(ast.parse(EVERY))
            )
            self.assertEqual(one.function, "every")

    def test_not_for_people(self) -> None:
        """What only people read stays as it is."""
        self.assertEqual(mutations('"""1 + 1"""\nx = f"{1 + 1}"\nassert x == 1\n'), [])

    def test_where(self) -> None:
        """A fault knows its line, and what function it is in."""
        found = {(one.kind, one.line, one.function) for one in mutations(SOURCE)}
        self.assertEqual(
            found,
            {
                ("constant", 2, ""),
                ("comparison", 7, "clip"),
                ("early return", 7, "clip"),
                ("return", 8, "clip"),
                ("return", 9, "clip"),
            },
        )

    def test_not_ascii(self) -> None:
        """The place is right behind a letter of several bytes."""
        (one,) = [each for each in mutations('x = ("é", a < b)') if each.kind != "flag"]
        self.assertEqual(one.apply('x = ("é", a < b)'), 'x = ("é", (a <= b))')


class MutantsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have a tree with a file and its test."""
        self.top = Path(self.mktemp()).absolute()
        (self.top / "room").mkdir(parents=True)
        (self.top / "toy.py").write_text(SOURCE)
        (self.top / "room" / "toy.py").write_text(SOURCE)
        (self.top / "test_toy.py").write_text(TEST)

    def mutation(self, kind: str, line: int) -> Mutation:
        """Return one of the file's."""
        return next(
            one for one in mutations(SOURCE) if (one.kind, one.line) == (kind, line)
        )

    def test_killed(self) -> None:
        """A fault that the test sees is told, and the file is whole again."""
        mutant = Mutant("toy.py", self.mutation("constant", 2))
        self.assertEqual(dies(mutant, self.top, ["test_toy"], 60), "killed")
        self.assertEqual((self.top / "toy.py").read_text(), SOURCE)

    def test_survives(self) -> None:
        """One that it does not see survives, and is shown as a difference."""
        mutant = Mutant("toy.py", self.mutation("return", 9))
        self.assertEqual(dies(mutant, self.top, ["test_toy"], 60), "")
        self.assertIn(
            "-    return value\n+    return None\n", mutant.difference(self.top)
        )

    def test_hangs(self) -> None:
        """One with which the test does not end is noticed."""
        (self.top / "test_toy.py").write_text("import time\ntime.sleep(600)\n")
        mutant = Mutant("toy.py", self.mutation("return", 9))
        self.assertEqual(dies(mutant, self.top, ["test_toy"], 0.5), "no end")

    def test_choice(self) -> None:
        """A seed chooses the same each time, another one others, each once."""
        first = choose(self.top, 4, 1, ["room"])
        self.assertEqual(choose(self.top, 4, 1, ["room"]), first)
        self.assertNotEqual(choose(self.top, 4, 2, ["room"]), first)
        every = choose(self.top, 100, 1, ["room"])
        self.assertEqual(len(every), len(set(every)))
        self.assertEqual(len(every), len(mutations(SOURCE)))

    def test_relevant(self) -> None:
        """Modules that import the file come first, then the quick; not all of them."""
        mutant = Mutant("toy.py", self.mutation("return", 9))
        calls = {"toy.py": ["clip"]}
        tests = {
            "slow": Tried(50, calls, []),
            "quick": Tried(1, calls, []),
            "near": Tried(9, calls, ["toy.py"]),
            "other": Tried(1, {"toy.py": ["other"]}, ["toy.py"]),
        }
        self.assertEqual(relevant(mutant, tests, 60), ["near", "quick", "slow"])
        self.assertEqual(relevant(mutant, tests, 12), ["near", "quick"])
        outside = Mutant("toy.py", self.mutation("constant", 2))
        self.assertIn("other", relevant(outside, tests, 60))
