# SPDX-License-Identifier: MIT
"""
Reservations: who else may use a logical unit.

RESERVE and RELEASE (SPC-2 section 5.5) hold the whole logical unit for one I_T nexus,
until it releases, ends, or the unit is reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.scsi.command import Allow
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ReservationConflict

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit


@attrs.define(eq=False)
class Reservation:
    """
    The reservation of one logical unit; ``unit.restricted`` says that there is one.
    """

    unit: LogicalUnit
    holder: ITL | None = None

    @property
    def held(self) -> bool:
        """Whether anybody holds the unit."""
        return self.holder is not None

    def reserve(self, itl: ITL) -> None:
        """
        Reserve the unit for *itl*, which the gate let through.
        """
        self.holder = itl
        self.unit.restrict()

    def release(self, itl: ITL) -> None:
        """
        Release the unit, if *itl* holds it; else nothing happens.
        """
        if self.holder is itl:
            self.reset()

    def reset(self) -> None:
        """
        Release the unit whoever holds it.
        """
        self.holder = None
        self.unit.restrict()

    def nexus_lost(self, itl: ITL) -> None:
        """
        Release what a nexus that ends holds.
        """
        self.release(itl)

    def check(self, task: Task, allow: Allow) -> None:
        """
        :raises ReservationConflict: another nexus holds the unit.
        """
        if self.holder not in {None, task.itl} and Allow.RESERVED not in allow:
            raise ReservationConflict
