# SPDX-License-Identifier: MIT
"""
What does not stop a command: the flags that a row of a command table has, and by which
reservations, conditions and states say what passes them.

They are values: who asks for one need not know what a command is.
"""

from __future__ import annotations

from enum import Flag, auto


class Allow(Flag):
    """
    What does not stop a command.
    """

    NONE = 0
    RESERVED = auto()
    """Another initiator's reservation by RESERVE (SPC-2 section 5.5.1)."""
    WRITE_EXCLUSIVE = auto()
    """Another's persistent Write Exclusive reservation (SPC-5 section 5.14.1)."""
    EXCLUSIVE_ACCESS = auto()
    """Another's persistent Exclusive Access reservation (SPC-5 section 5.14.1)."""
    REGISTERED = auto()
    """Another's persistent reservation of any type, if the nexus is registered."""
    ATTENTION = auto()
    """A pending unit attention, which stays pending (SAM-5 section 5.14.1)."""
    NO_MEDIUM = auto()
    """A stopped or ejected medium."""
    FORMATTING = auto()
    """A format under way (SBC-4 section 4.33)."""
    SANITIZING = auto()
    """A sanitize operation under way, or failed (SBC-4 section 4.11)."""
    STANDBY = auto()
    """The asymmetric access state standby (SPC-5 section 5.18.2)."""
    UNAVAILABLE = auto()
    """The states unavailable, offline and transitioning (SPC-5 section 5.18.2)."""

    PERSISTENT = WRITE_EXCLUSIVE | EXCLUSIVE_ACCESS
    """Any persistent reservation of another's."""
    READY = NO_MEDIUM | FORMATTING | SANITIZING
    """Whatever the state of the medium."""
    ANY = RESERVED | PERSISTENT | ATTENTION | READY | STANDBY | UNAVAILABLE


def starting(cdb: bytes) -> Allow:
    """
    Say that no reservation stops a START STOP UNIT with START=1, POWER CONDITION 0.
    """
    return Allow.RESERVED | Allow.PERSISTENT if cdb[4] & 0xF1 == 1 else Allow.NONE


def allowing(cdb: bytes) -> Allow:
    """
    Say that no reservation stops a PREVENT ALLOW MEDIUM REMOVAL with PREVENT=0.
    """
    return Allow.NONE if cdb[4] & 3 else Allow.RESERVED | Allow.PERSISTENT
