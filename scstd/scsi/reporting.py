# SPDX-License-Identifier: MIT
"""
Telling whoever manages the target what has happened.

A logical unit, and a target driver, is given something to call with the name of an
event and its fields; what becomes of it is not their affair.  Nothing on the data path
calls it: events are rare, or something is wrong.
"""

from __future__ import annotations

from typing import Any, Protocol


class Report(Protocol):
    """
    Takes an event: its *name*, and fields that are strings, numbers or None.
    """

    def __call__(self, name: str, /, **fields: Any) -> None:
        """Take one."""


def nobody(name: str, /, **fields: Any) -> None:
    """
    Forget an event: the report of what nobody manages.
    """
    del name, fields
