# SPDX-License-Identifier: MIT
"""
Serial numbers and the CmdSN window.

CmdSN, StatSN and their kin are 32-bit serial numbers compared as RFC 1982 says (RFC
7143 section 4.2.2.1): a plain ``<`` is wrong once in four thousand million commands.
"""

from __future__ import annotations

import attrs

MASK = 0xFFFFFFFF


def add(number: int, count: int) -> int:
    """
    Return the serial number *count* after *number* (*count* may be negative).
    """
    return (number + count) & MASK


def less(one: int, other: int) -> bool:
    """
    Say whether serial number *one* comes before *other*.
    """
    return 0 < (other - one) & MASK < 1 << 31


@attrs.define(eq=False)
class CommandWindow:
    """
    The window of CmdSN that a target accepts (RFC 7143 section 4.2.2.1).

    It is *size* commands wide counted from the oldest unfinished one, so that MaxCmdSN
    stands still while commands run and goes up as they finish; it never goes back.
    """

    exp_cmd_sn: int
    size: int
    max_cmd_sn: int = attrs.field(init=False)
    owed: int = attrs.field(init=False, default=0)
    """How many of the next that finish do not open it."""

    def __attrs_post_init__(self) -> None:
        self.max_cmd_sn = add(self.exp_cmd_sn, self.size - 1)

    def accepts(self, cmd_sn: int) -> bool:
        """
        Say whether a non-immediate command with this CmdSN is inside the window.
        """
        return not less(cmd_sn, self.exp_cmd_sn) and not less(self.max_cmd_sn, cmd_sn)

    def take(self, cmd_sn: int) -> bool:
        """
        Count the command as arrived if it is the next one expected.
        """
        if cmd_sn != self.exp_cmd_sn or cmd_sn == (self.max_cmd_sn + 1) & MASK:
            return False
        self.exp_cmd_sn = (cmd_sn + 1) & MASK
        return True

    def give_back(self) -> None:
        """
        Count the command that arrived last as not arrived.
        """
        self.exp_cmd_sn = (self.exp_cmd_sn - 1) & MASK

    def finished(self) -> None:
        """
        Count a non-immediate command as finished: the window opens by one.
        """
        if self.owed:
            self.owed -= 1
        else:
            self.max_cmd_sn = (self.max_cmd_sn + 1) & MASK

    def owe(self) -> None:
        """
        Take `finished` back for a command that is not yet: the next one that finishes
        opens nothing.
        """
        self.owed += 1

    def resize(self, size: int) -> None:
        """
        Change the width; a narrower window takes effect as commands finish.
        """
        change = size - self.size
        self.size = size
        paid = min(self.owed, max(change, 0))
        self.owed += max(-change, 0) - paid
        self.max_cmd_sn = add(self.max_cmd_sn, max(change, 0) - paid)
