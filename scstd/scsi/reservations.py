# SPDX-License-Identifier: MIT
"""
Reservations: who else may use a logical unit.

RESERVE and RELEASE (SPC-2 section 5.5) hold the whole logical unit for one I_T nexus,
until it releases, ends, or the unit is reset.  Persistent reservations
(`scstd.scsi.persistent`) outlive all of these.  There is never one of each: while there
are registrations, RESERVE and RELEASE are conflicts, but for those that the holder of a
persistent reservation, or one whom it lets through, sends: they are GOOD and do nothing
(SPC-5, Exceptions to SPC-2 RESERVE and RELEASE behavior; CRH=1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.it_nexus import IT
from scstd.scsi.mutex import Mutex
from scstd.scsi.persistent import Change, ReservationState
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ReservationConflict
from scstd.scsi.transport import initiator_of

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit


@attrs.define(eq=False)
class Reservation:
    """
    The reservation of one logical unit; ``unit.restricted`` says that there is one.
    """

    unit: LogicalUnit
    holder: ITL | None = None
    """That of RESERVE."""
    persistent: ReservationState = attrs.field(factory=ReservationState)
    """The state of persistent reservations."""
    changing: Mutex = attrs.field(factory=Mutex)
    """Whose turn it is to change that: one command after the other."""
    by_name: bool = False
    """
    Whether registrations belong to initiators, whichever ISID they come with: not as
    SPC-5 has it, but as those need it that have another one at each login.
    """
    _free: set[ITL] = attrs.field(factory=set)

    @property
    def held(self) -> bool:
        """Whether anybody holds the unit."""
        return self.holder is not None or self.persistent.type is not None

    def check(self, task: Task, allow: Allow) -> None:
        """
        :raises ReservationConflict: another nexus holds the unit.
        """
        itl = task.itl
        if self.holder is not None:
            if self.holder is not itl and Allow.RESERVED not in allow:
                raise ReservationConflict
        elif itl not in self._free:
            # Found out once for each nexus, until something changes.
            needs = self.persistent.needs(self.it(itl))
            if not needs:
                self._free.add(itl)
            elif not needs & allow:
                raise ReservationConflict

    # RESERVE and RELEASE.

    def reserve(self, itl: ITL) -> None:
        """
        Reserve the unit for *itl*, which the gate let through.

        :raises ReservationConflict: there are registrations, or one is being made.
        """
        if not self._excepted():
            self.holder = itl
            self.unit.restrict()

    def release(self, itl: ITL) -> None:
        """
        Release the unit, if *itl* holds it; else nothing happens.

        :raises ReservationConflict: there are registrations, or one is being made.
        """
        if not self._excepted():
            self._release(itl)

    def _excepted(self) -> bool:
        """
        Say whether there is a persistent reservation, which the gate let through.
        """
        if self.persistent.type is not None:
            return True
        if self.persistent.registrations or self.changing.taken:
            raise ReservationConflict
        return False

    def _release(self, itl: ITL) -> None:
        if self.holder is itl:
            self.reset()

    def reset(self) -> None:
        """
        Release what RESERVE holds, whoever holds it.
        """
        self.holder = None
        self.unit.restrict()

    def nexus_lost(self, itl: ITL) -> None:
        """
        Release what a nexus that ends holds by RESERVE.
        """
        self._free.discard(itl)
        self._release(itl)

    # Persistent reservations.

    def it(self, itl: ITL) -> IT:
        """
        Return the names under which a nexus is registered.
        """
        return itl.nexus.it_by_name if self.by_name else itl.nexus.it

    def named(self, initiator_port: str) -> str:
        """
        Return what an initiator port, or an initiator, is known by.
        """
        return initiator_of(initiator_port) if self.by_name else initiator_port

    def restore(self, state: ReservationState) -> None:
        """
        Take the state in that was kept over a restart.
        """
        self.persistent = state.renamed(self.named)
        self._free.clear()
        self.unit.restrict()

    def apply(self, change: Change) -> None:
        """
        Let a change happen, and tell those who have lost something by it.
        """
        unit = self.unit
        self.persistent = change.state
        self._free.clear()
        unit.restrict()
        if change.told:
            for itl in unit.itls:
                asc = change.told.get(self.it(itl))
                if asc is not None:
                    unit.tell(itl, asc)
