# SPDX-License-Identifier: MIT
"""
PREEMPT AND ABORT while there is auto contingent allegiance: the one command of another
nexus that is let through, and what it clears.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult
from scstd.initiator.reservations import (
    ABORT,
    APTPL,
    IGNORE,
    PREEMPT,
    REGISTER,
    RESERVE,
    out_cdb,
    parameters,
)
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.test_allegiance import (
    ACA,
    ACA_ACTIVE,
    BUSY,
    CONFLICT,
    GOOD,
    ORDERED,
    SIMPLE,
    TUR,
    AllegianceBench,
    either,
)


@attrs.frozen
class Preempting:
    """
    A row: a PREEMPT AND ABORT while *one*'s nexus is faulted.  *by* has sent it,
    *whom* it preempts (``any``: key 0); *kind* is the type of the reservation that
    *one* holds.
    """

    by: str
    attribute: int
    whom: str
    status: int
    clears: bool
    kind: int = 5
    naca: bool = False
    tst: int = 0


_WE, _ALL = 5, 7
"""Types: Write Exclusive, Registrants Only; and All Registrants."""

PREEMPTING = (
    # Not an all registrants type.
    Preempting("one", ACA, "one", GOOD, clears=True),
    Preempting("one", ACA, "other", GOOD, clears=False),
    Preempting("one", SIMPLE, "one", ACA_ACTIVE, clears=False),
    Preempting("one", SIMPLE, "other", ACA_ACTIVE, clears=False),
    Preempting("other", ACA, "one", ACA_ACTIVE, clears=False),
    Preempting("other", ACA, "other", ACA_ACTIVE, clears=False),
    Preempting("other", SIMPLE, "one", GOOD, clears=True),
    Preempting("other", SIMPLE, "one", GOOD, clears=True, naca=True),
    Preempting("other", ORDERED, "one", GOOD, clears=True),
    Preempting("other", SIMPLE, "third", BUSY, clears=False),
    Preempting("other", SIMPLE, "third", ACA_ACTIVE, clears=False, naca=True),
    # An all registrants type.
    Preempting("one", ACA, "any", GOOD, clears=True, kind=_ALL),
    Preempting("one", ACA, "one", GOOD, clears=True, kind=_ALL),
    Preempting("one", ACA, "third", GOOD, clears=False, kind=_ALL),
    Preempting("one", SIMPLE, "any", ACA_ACTIVE, clears=False, kind=_ALL),
    Preempting("other", ACA, "any", ACA_ACTIVE, clears=False, kind=_ALL),
    Preempting("other", SIMPLE, "any", GOOD, clears=True, kind=_ALL),
    Preempting("other", SIMPLE, "one", GOOD, clears=True, kind=_ALL),
    Preempting("other", SIMPLE, "third", GOOD, clears=False, kind=_ALL),
    Preempting("other", SIMPLE, "nobody", CONFLICT, clears=False, kind=_ALL),
    # A task set each.
    Preempting("other", SIMPLE, "one", GOOD, clears=True, tst=1),
    Preempting("other", SIMPLE, "third", GOOD, clears=False, tst=1),
    Preempting("one", ACA, "one", GOOD, clears=True, tst=1),
    Preempting("other", SIMPLE, "any", GOOD, clears=True, kind=_ALL, tst=1),
)
"""SPC-5, Preempting and aborting, and SAM-5, Clearing an ACA condition."""

KEYS = {"any": 0, "one": 1, "other": 2, "third": 3, "nobody": 9}


class PreemptingTests(AllegianceBench):
    """
    PREEMPT AND ABORT while there is a condition.
    """

    def bring(self, kind: int = _WE, tst: int = 0) -> int:  # type: ignore[override]
        """Register three, reserve, and have a read of *one* in the store."""
        self.begin(tst=tst)
        third = Initiator(self.node, name=INITIATOR + "3").ready()
        self.who = {"one": self.one, "other": self.other, "third": third}
        for name, who in self.who.items():
            done = who.do(out_cdb(REGISTER), data=parameters(0, KEYS[name]))
            self.assertEqual(done.status, GOOD)
        done = self.one.do(out_cdb(RESERVE, kind), data=parameters(1, 0))
        self.assertEqual(done.status, GOOD)
        return self.read(self.one)

    def preempt(self, row: Preempting, action: int = ABORT) -> CommandResult:
        """Carry out what a row says; the read of *one* is let end."""
        who = self.who[row.by]
        data = parameters(KEYS[row.by], KEYS[row.whom])
        pdu = who.command(
            either(out_cdb(action, row.kind), naca=row.naca),
            write=24,
            data=data,
            attribute=row.attribute,
        )
        who.send(pdu)
        self.finish_store()
        return who.finish(pdu)

    def check(self, row: Preempting) -> None:
        """Check one row."""
        tag = self.bring(row.kind, row.tst)
        self.establish()
        self.assertEqual(self.preempt(row).status, row.status)
        self.assertEqual(self.faulted(), not row.clears)
        # The command of who was preempted is gone; else it is held still.
        self.assertEqual(self.answers(self.one), {})
        if not row.clears:
            self.clear()
            self.assertEqual(self.answers(self.one), {tag: GOOD})
        self.assertEqual(self.unit.tasks(), [])

    def test_table(self) -> None:
        """Each row."""
        for row in PREEMPTING:
            with self.subTest(row=row):
                self.check(row)

    def test_preempt_alone(self) -> None:
        """PREEMPT, which aborts nothing, is let through no more than others."""
        self.bring()
        self.establish()
        row = Preempting("other", SIMPLE, "one", BUSY, clears=False)
        self.assertEqual(self.preempt(row, PREEMPT).status, BUSY)
        self.assertTrue(self.faulted())

    def test_fails(self) -> None:
        """One that fails leaves the condition as it is, whatever its NACA."""
        for naca in (False, True):
            self.bring()
            self.establish()
            row = Preempting("other", SIMPLE, "any", 2, clears=False, naca=naca)
            self.assertEqual(self.preempt(row).asc, 0x2600)
            self.assertTrue(self.faulted())
            self.assertEqual(self.one.do(TUR).status, ACA_ACTIVE)

    def test_unregistered(self) -> None:
        """With key 0 and all registrants that of a nexus without a key goes too."""
        for whom, cleared in (("third", False), ("any", True)):
            self.bring(_ALL)
            guest = Initiator(self.node, name=INITIATOR + "4").ready()
            self.one = guest
            self.establish()
            row = Preempting("other", SIMPLE, whom, GOOD, clears=cleared, kind=_ALL)
            self.assertEqual(self.preempt(row).status, GOOD)
            self.assertEqual(self.faulted(), not cleared)

    def test_before(self) -> None:
        """One that had begun before is blocked, but not refused."""
        self.bring()
        kept: list[Deferred[None]] = []

        class Slow(Volatile):
            """A memory that waits."""

            def update(  # type: ignore[override]
                self, key: str, value: Any
            ) -> Deferred[None]:
                """Keep it, later."""
                del key, value
                kept.append(Deferred())
                return kept[-1]

        self.unit.memory = Slow(durable=True)
        third = self.who["third"]
        data = parameters(3, 3, flags=APTPL)
        third.send(third.command(out_cdb(IGNORE), write=24, data=data))
        pdu = self.other.command(out_cdb(ABORT, _WE), write=24, data=parameters(2, 3))
        self.other.send(pdu)
        self.establish()
        while kept:
            kept.pop(0).callback(None)
        self.assertEqual(self.other.receive(), [])
        self.assertEqual(len(self.unit.faults[0].held), 1)
        self.clear()
        self.assertEqual(self.answers(self.other), {pdu.itt: GOOD})
