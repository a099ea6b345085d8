# SPDX-License-Identifier: MIT
"""
What a logical unit has done: the counters behind the log pages.

The data path adds to one `Counter`, chosen by the command's row, and asks nothing; what
failed is counted where its sense data is made.  Counters only grow, for as long as the
unit is open: LOG SELECT resets what an initiator sees (`scstd.scsi.spc.log`), not them.

Times are measured where they are long: of commands that the store makes wait.  To read
a clock twice for one that is answered at once would cost it a hundredth of what it
takes, so of those one in `SAMPLE` is measured, and stands for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import attrs

from scstd.scsi.sense import CheckCondition, SenseKey

SAMPLE = 16
"""Of so many commands that are answered at once one is measured: a power of two."""


class CommandKind(IntEnum):
    """
    Which of the counters a command adds to.
    """

    OTHER = 0
    READ = 1
    WRITE = 2
    VERIFY = 3


_OPCODES = {
    CommandKind.READ: {0x08, 0x28, 0xA8, 0x88},
    CommandKind.WRITE: {
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
    CommandKind.VERIFY: {0x2F, 0xAF, 0x8F},
}
_ACTIONS_7F = {
    CommandKind.READ: {0x09},
    CommandKind.WRITE: {0x07, 0x0B, 0x0C, 0x0E, 0x0F},
    CommandKind.VERIFY: {0x0A},
}


def kind_of(opcode: int, service_action: int | None) -> CommandKind:
    """
    Return the kind of a command: the data of the sizes of READ, WRITE (with COMPARE AND
    WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC, XDWRITEREAD) and VERIFY is counted.
    """
    found = _ACTIONS_7F if opcode == 0x7F else _OPCODES
    code = service_action if opcode == 0x7F else opcode
    return next(
        (kind for kind, codes in found.items() if code in codes), CommandKind.OTHER
    )


@attrs.define(eq=False)
class Counter:
    """
    Commands of one kind that have begun, the blocks they named, how many of them ended
    with a medium error, and the *seconds* that they took, together.
    """

    commands: int = 0
    blocks: int = 0
    errors: int = 0
    seconds: float = 0.0


@attrs.define(eq=False)
class Statistics:
    """
    The counters of one logical unit.

    *starts* is how often its medium became ready; *space* what its store said last
    (`scstd.interfaces.ISpace`): bytes used, bytes in all.  *reset* is what each counter
    was, by page, subpage and parameter code, when an initiator last reset it.  Without
    a *clock* no time passes.
    """

    counters: tuple[Counter, Counter, Counter, Counter] = attrs.field(
        factory=lambda: (Counter(), Counter(), Counter(), Counter())
    )
    non_medium: int = 0
    starts: int = 1
    space: tuple[int, int] = (0, 0)
    reset: dict[tuple[int, int, int], int] = attrs.field(factory=dict)
    clock: Callable[[], float] = lambda: 0.0
    opened: float = 0.0
    _at_work: int = 0
    _since: float = 0.0
    _worked: float = 0.0
    _idle: float = 0.0

    @property
    def reads(self) -> Counter:
        """What was read."""
        return self.counters[CommandKind.READ]

    @property
    def writes(self) -> Counter:
        """What was written."""
        return self.counters[CommandKind.WRITE]

    def measure(self, clock: Callable[[], float]) -> None:
        """
        Measure times from now on, by a *clock* that nobody sets.
        """
        self.clock = clock
        self.opened = clock()

    def begin(self) -> float:
        """
        Take in that the store is at work for one more command; return when that began.
        """
        now = self.clock()
        if not self._at_work:
            self._since = now
        self._at_work += 1
        return now

    def end(self, kind: int, began: float) -> None:
        """
        Take in that it has finished with one of this kind.
        """
        now = self.clock()
        self.counters[kind].seconds += now - began
        self._at_work -= 1
        if not self._at_work:
            self._worked += now - self._since

    def sampled(self, kind: int, began: float) -> None:
        """
        Take in one of the commands that are answered at once, for those like it.
        """
        took = (self.clock() - began) * SAMPLE
        self.counters[kind].seconds += took
        self._worked += took

    @property
    def idle(self) -> float:
        """The seconds in which nothing was done, since the unit was opened."""
        now = self.clock()
        worked = self._worked + (now - self._since if self._at_work else 0.0)
        # What is estimated may be too much, but no counter goes back.
        self._idle = max(self._idle, now - self.opened - worked)
        return self._idle

    def failed(self, error: CheckCondition, kind: int) -> None:
        """
        Count a command of this kind that ended with *error*, if something is broken.
        """
        if error.key is SenseKey.MEDIUM_ERROR:
            self.counters[kind].errors += 1
        elif error.key in {SenseKey.HARDWARE_ERROR, SenseKey.ABORTED_COMMAND}:
            self.non_medium += 1
