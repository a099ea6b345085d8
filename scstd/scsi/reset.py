# SPDX-License-Identifier: MIT
"""
The logical unit reset (SAM-5 section 6.3.3), and what it has in common with the reset
of an I_T nexus.
"""

from __future__ import annotations

from collections.abc import Callable

from scstd.scsi import aca
from scstd.scsi.sam import ITL
from scstd.scsi.selftest import STOPPED
from scstd.scsi.sense import ASC
from scstd.scsi.unit import LogicalUnit


def reset(
    unit: LogicalUnit, gone: Callable[[], None], *, by: ITL | None = None
) -> None:
    """
    Reset a logical unit; call *gone* when no task that was there can touch data.

    Tasks are aborted, an SPC-2 reservation is released, mode parameters are the saved
    ones again, and every I_T nexus is told.
    """
    unit.reservation.reset()
    unit.self_tests.abort(STOPPED)
    for itl in unit.itls:
        forget(itl)
    unit.attention(ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED)
    background = unit.background
    if background is not None:
        unit.abort(unit.tasks(), lambda: background.reset(gone), by=by)
    else:
        unit.abort(unit.tasks(), gone, by=by)
    aca.end_all(unit)
    # Not before: TAS, as it was, has decided what the tasks' initiators are told.
    unit.restore_modes()


def forget(itl: ITL) -> None:
    """
    Let go what a nexus has asked of a unit, and a reset ends.
    """
    itl.prevents_removal = itl.prevents_persistently = False
    itl.copies = {}
