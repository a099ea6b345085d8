# SPDX-License-Identifier: MIT
"""
What a logical unit remembers over restarts (`scstd.block.persistence`) because a
command asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from scstd.results import settled
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit

_log = Logger()


async def keep(unit: LogicalUnit, key: str, value: Any) -> None:
    """
    Have *unit* remember what a command asks for, durably.

    :raises CheckCondition: it cannot be kept, and so nothing has changed: that is no
        error of the medium.
    """
    try:
        await settled(unit.remember(key, value))
    except OSError as error:
        _log.error(
            "{unit}: what an initiator asks for ({key}) is refused, for it cannot be"
            " kept: {error}",
            unit=unit.name,
            key=key,
            error=error,
        )
        raise CheckCondition(
            SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE
        ) from error
