# SPDX-License-Identifier: MIT
"""
LUN maps, groups and sessions that change in any order: what always holds.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.scsi.unit import LogicalUnit
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore

LUNS = st.integers(0, 3)
UNITS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(-1, 1), LUNS, UNITS),
    st.tuples(st.just("remove"), st.integers(-1, 1), LUNS, st.just(0)),
    st.tuples(st.just("patterns"), st.integers(0, 1), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("unit"), st.just(0), st.just(0), UNITS),
    st.tuples(st.just("read"), st.integers(0, 2), LUNS, st.just(0)),
    st.tuples(st.just("go"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("login"), st.integers(0, 2), st.just(0), st.just(0)),
    st.tuples(st.just("logout"), st.integers(0, 2), st.just(0), st.just(0)),
)


class AnyChangeTests(SynchronousTestCase):
    """
    Maps and groups changed in any order, with commands under way.
    """

    def begin(self) -> None:
        """Make a target with two groups, and no initiators yet."""
        self.stores = [ManualStore() for _unit in range(3)]
        self.node, self.target, self.units = serve(*self.stores)
        self.groups = [self.target.add_group(f"g{n}", []) for n in range(2)]
        self.who: dict[int, Initiator] = {}
        self.waiting: list[Deferred[None]] = []

    def step(self, name: str, where: int, what: int, unit: int) -> None:
        """Do one thing."""
        group = None if where < 0 else self.groups[min(where, 1)]
        luns = self.target.luns if group is None else group.luns
        if name == "add":
            self.target.add_lun(what, self.units[unit], group=group)
        elif name == "remove" and what in luns:
            self.waiting.append(self.target.remove_lun(what, group=group))
        elif name == "patterns" and group is not None:
            patterns = [f"{INITIATOR}{n}" for n in range(3) if what >> n & 1]
            self.waiting.append(self.target.set_patterns(group, patterns))
        elif name == "unit":
            self.waiting.append(self.target.remove_unit(self.units[unit]))
        else:
            self.session_step(name, where, what)

    def session_step(self, name: str, where: int, lun: int) -> None:
        """Do what concerns one session, or the stores."""
        if name == "read" and where in self.who:
            one = self.who[where]
            one.send(one.command(read10(0, 1), read=512, lun=lun))
        elif name == "go":
            for store in self.stores:
                store.go(len(store.calls))
        elif name == "login" and where not in self.who:
            one = Initiator(self.node, name=f"{INITIATOR}{where}")
            if self.target.luns_for(one.name):
                one.login()
                self.who[where] = one
        elif name == "logout" and where in self.who:
            self.who.pop(where).connection.disconnected()

    def check(self) -> None:
        """See that every nexus has its map, and every unit its nexuses."""
        attached: dict[LogicalUnit, int] = dict.fromkeys(self.units, 0)
        for one in self.who.values():
            session = one.connection.session
            assert session is not None
            nexus = session.nexus
            wanted = self.target.luns_for(one.name)
            self.assertEqual(
                {lun: itl.unit for lun, itl in nexus.itls.items()},
                {lun: entry.unit for lun, entry in wanted.items()},
            )
            self.assertEqual(len(nexus.luns), 2 * len(wanted) + 1)
            for itl in (*nexus.itls.values(), *nexus.leaving):
                attached[itl.unit] += 1
            for itl in nexus.leaving:
                self.assertTrue(itl.unit.tasks_of(itl))
        self.assertEqual(attached, {unit: len(unit.itls) for unit in self.units})

    @examples(60)
    @given(st.lists(STEPS, max_size=30))
    def test_any_changes(self, steps: list[tuple[str, int, int, int]]) -> None:
        """Nexuses have just what their map has; nothing leaks, nothing waits for ever."""
        self.begin()
        for one in steps:
            self.step(*one)
            self.check()
        self.step("go", 0, 0, 0)
        self.check()
        self.assertTrue(all(one.called for one in self.waiting))
        self.assertEqual([unit.tasks() for unit in self.units], [[]] * 3)
