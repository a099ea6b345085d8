# SPDX-License-Identifier: MIT
"""
What a logical unit has done, beside what its volume counts (`scstd.block.counters`),
and which of those counters a command adds to: what is behind the log pages.

Counters only grow, for as long as the unit is open: LOG SELECT resets what an initiator
sees (`scstd.scsi.spc.log`), not them.
"""

from __future__ import annotations

import attrs

from scstd.block.counters import Counter, IOKind
from scstd.scsi.sense import CheckCondition, SenseKey

_OPCODES = {
    IOKind.READ: {0x08, 0x28, 0xA8, 0x88},
    IOKind.WRITE: {
        0x0A,
        0x2A,
        0xAA,
        0x8A,
        0x2E,
        0xAE,
        0x8E,
        0x89,
        0x8B,
        0x9C,
        0x53,
    },
    IOKind.VERIFY: {0x2F, 0xAF, 0x8F},
}
_ACTIONS_7F = {
    IOKind.READ: {0x09},
    IOKind.WRITE: {0x07, 0x0B, 0x0C, 0x0E, 0x0F},
    IOKind.VERIFY: {0x0A},
}


def kind_of(opcode: int, service_action: int | None) -> IOKind:
    """
    Return the kind of a command: the data of the sizes of READ, WRITE (with COMPARE AND
    WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC, XDWRITEREAD) and VERIFY is counted.
    """
    found = _ACTIONS_7F if opcode == 0x7F else _OPCODES
    code = service_action if opcode == 0x7F else opcode
    return next((kind for kind, codes in found.items() if code in codes), IOKind.OTHER)


@attrs.define(eq=False)
class Statistics:
    """
    What a logical unit counts besides.
    """

    non_medium: int = 0
    """Commands that ended with an error that is not the medium's."""
    starts: int = 1
    """How often its medium became ready."""
    reset: dict[tuple[int, int, int], int] = attrs.field(factory=dict)
    """What each counter was, by page, subpage and parameter code, when an initiator
    last reset it."""

    def failed(self, error: CheckCondition, counter: Counter) -> None:
        """
        Count a command that adds to *counter* and ended with *error*, if something is
        broken.
        """
        if error.key is SenseKey.MEDIUM_ERROR:
            counter.errors += 1
        elif error.key in {SenseKey.HARDWARE_ERROR, SenseKey.ABORTED_COMMAND}:
            self.non_medium += 1
