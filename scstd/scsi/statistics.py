# SPDX-License-Identifier: MIT
"""
What a logical unit has done: the counters behind the log pages.

The data path adds to one `Counter`, chosen by the command's row, and asks nothing; what
failed is counted where its sense data is made.  Counters only grow, for as long as the
unit is open: LOG SELECT resets what an initiator sees (`scstd.scsi.spc.log`), not them.
"""

from __future__ import annotations

from enum import IntEnum

import attrs

from scstd.scsi.sense import CheckCondition, SenseKey


class Kind(IntEnum):
    """
    Which of the counters a command adds to.
    """

    OTHER = 0
    READ = 1
    WRITE = 2
    VERIFY = 3


_OPCODES = {
    Kind.READ: {0x08, 0x28, 0xA8, 0x88},
    Kind.WRITE: {0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x89, 0x8B, 0x9C, 0x53},
    Kind.VERIFY: {0x2F, 0xAF, 0x8F},
}
_ACTIONS_7F = {
    Kind.READ: {0x09},
    Kind.WRITE: {0x07, 0x0B, 0x0C, 0x0E, 0x0F},
    Kind.VERIFY: {0x0A},
}


def kind_of(opcode: int, service_action: int | None) -> Kind:
    """
    Return the kind of a command: the data of the sizes of READ, WRITE (with COMPARE AND
    WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC, XDWRITEREAD) and VERIFY is counted.
    """
    found = _ACTIONS_7F if opcode == 0x7F else _OPCODES
    code = service_action if opcode == 0x7F else opcode
    return next((kind for kind, codes in found.items() if code in codes), Kind.OTHER)


@attrs.define(eq=False)
class Counter:
    """
    Commands of one kind that have begun, the blocks they named, and how many of them
    ended with a medium error.
    """

    commands: int = 0
    blocks: int = 0
    errors: int = 0


@attrs.define(eq=False)
class Statistics:
    """
    The counters of one logical unit.

    *starts* is how often its medium became ready; *space* what its store said last
    (`scstd.interfaces.ISpace`): bytes used, bytes in all.  *reset* is what each counter
    was, by page, subpage and parameter code, when an initiator last reset it.
    """

    counters: tuple[Counter, Counter, Counter, Counter] = attrs.field(
        factory=lambda: (Counter(), Counter(), Counter(), Counter())
    )
    non_medium: int = 0
    starts: int = 1
    space: tuple[int, int] = (0, 0)
    reset: dict[tuple[int, int, int], int] = attrs.field(factory=dict)

    @property
    def reads(self) -> Counter:
        """What was read."""
        return self.counters[Kind.READ]

    @property
    def writes(self) -> Counter:
        """What was written."""
        return self.counters[Kind.WRITE]

    @property
    def verifies(self) -> Counter:
        """What was verified."""
        return self.counters[Kind.VERIFY]

    def failed(self, error: CheckCondition, kind: int) -> None:
        """
        Count a command of this kind that ended with *error*, if something is broken.
        """
        if error.key is SenseKey.MEDIUM_ERROR:
            self.counters[kind].errors += 1
        elif error.key in {SenseKey.HARDWARE_ERROR, SenseKey.ABORTED_COMMAND}:
            self.non_medium += 1
