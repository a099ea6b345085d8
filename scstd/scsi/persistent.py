# SPDX-License-Identifier: MIT
"""
Persistent reservations: the state of one logical unit (SPC-5 section 5.14,
Reservations).

The state is a value: `scstd.scsi.spc.prout_actions` has the rules that make one of
another.  I_T nexuses are known by their names (`scstd.scsi.it_nexus`): registrations
and the reservation survive logout, and a session that logs in again with the same ISID
finds its registration.  Nothing here knows a command: another command set can use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.it_nexus import IT
from scstd.scsi.sense import ASC


class Type(IntEnum):
    """
    Types of persistent reservations (SPC-5, PERSISTENT RESERVE IN, TYPE field).
    """

    WRITE_EXCLUSIVE = 0x1
    EXCLUSIVE_ACCESS = 0x3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 0x5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 0x6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 0x7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 0x8


@attrs.frozen
class Rule:
    """
    What a type means: which flag a command needs in its row so that the reservation of
    another does not stop it, whether registration is enough to pass, whether every
    registered nexus holds the reservation.
    """

    passes: Allow
    registrants: bool
    all_hold: bool


_WRITE, _ACCESS = Allow.WRITE_EXCLUSIVE, Allow.EXCLUSIVE_ACCESS

RULES: dict[Type, Rule] = {
    Type.WRITE_EXCLUSIVE: Rule(_WRITE, registrants=False, all_hold=False),
    Type.EXCLUSIVE_ACCESS: Rule(_ACCESS, registrants=False, all_hold=False),
    Type.WRITE_EXCLUSIVE_REGISTRANTS_ONLY: Rule(
        _WRITE, registrants=True, all_hold=False
    ),
    Type.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY: Rule(
        _ACCESS, registrants=True, all_hold=False
    ),
    Type.WRITE_EXCLUSIVE_ALL_REGISTRANTS: Rule(_WRITE, registrants=True, all_hold=True),
    Type.EXCLUSIVE_ACCESS_ALL_REGISTRANTS: Rule(
        _ACCESS, registrants=True, all_hold=True
    ),
}
"""Every type by its code."""


@attrs.frozen
class ReservationState:
    """
    Who is registered, with which key, in the order in which it happened; the type of
    the reservation, if there is one, and its holder (None where all registrants hold
    it); whether it all survives a loss of power (APTPL); PRgeneration.
    """

    registrations: Mapping[IT, int] = attrs.field(factory=dict)
    type: Type | None = None
    holder: IT | None = None
    aptpl: bool = False
    generation: int = 0

    @property
    def rule(self) -> Rule | None:
        """What the reservation means; None where there is none."""
        return None if self.type is None else RULES[self.type]

    def holds(self, it: IT) -> bool:
        """
        Say whether a nexus is a persistent reservation holder.
        """
        rule = self.rule
        if rule is None:
            return False
        return it in self.registrations if rule.all_hold else it == self.holder

    def needs(self, it: IT) -> Allow:
        """
        Return the flags of which a command on this nexus needs one in its row; NONE
        where it may do anything.
        """
        rule = self.rule
        registered = it in self.registrations
        if rule is None or self.holds(it) or (registered and rule.registrants):
            return Allow.NONE
        return rule.passes | Allow.REGISTERED if registered else rule.passes

    def without(self, lost: Iterable[IT]) -> ReservationState:
        """
        Return the state with these registrations removed.  The reservation is released
        with its holder, or with the last of its holders.
        """
        gone = set(lost)
        left = {it: key for it, key in self.registrations.items() if it not in gone}
        rule = self.rule
        released = rule is not None and (
            not left if rule.all_hold else self.holder in gone
        )
        if released:
            return attrs.evolve(self, registrations=left, type=None, holder=None)
        return attrs.evolve(self, registrations=left)

    def reserved(self, kind: Type, it: IT) -> ReservationState:
        """
        Return the state with a reservation of this type that *it* asks for.
        """
        holder = None if RULES[kind].all_hold else it
        return attrs.evolve(self, type=kind, holder=holder)

    # Over restarts.

    def remembered(self) -> dict[str, Any] | None:
        """
        Return what is kept over a loss of power, as JSON: nothing without APTPL.

        PRgeneration is not: it starts at zero again (SPC-5, READ KEYS).
        """
        if not self.aptpl:
            return None
        return {
            "registrations": [
                {"initiator_port": port, "target": target, "key": f"{key:#018x}"}
                for (port, target), key in self.registrations.items()
            ],
            "type": None if self.type is None else int(self.type),
            "holder": None if self.holder is None else list(self.holder),
        }

    @classmethod
    def restored(cls, kept: Any) -> ReservationState:
        """
        Return the state that `remembered` returned.

        :raises ValueError: it cannot be what `remembered` returned.
        """
        if kept is None:
            return cls()
        try:
            registrations = {
                (str(one["initiator_port"]), str(one["target"])): int(one["key"], 16)
                for one in kept["registrations"]
            }
            kind = None if kept["type"] is None else Type(kept["type"])
            port_and_target = kept["holder"]
            holder = None
            if port_and_target is not None:
                port, target = port_and_target
                holder = (str(port), str(target))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'its entry "persistent" is malformed: {error!r}'
            ) from error
        state = cls(registrations, kind, holder, aptpl=True)
        if not state.consistent:
            raise ValueError('its entry "persistent" contradicts itself')
        return state

    def renamed(self, name: Callable[[str], str]) -> ReservationState:
        """
        Return the state with initiator ports known by what *name* makes of them.
        """
        holder = self.holder
        return attrs.evolve(
            self,
            registrations={
                (name(port), target): key
                for (port, target), key in self.registrations.items()
            },
            holder=holder and (name(holder[0]), holder[1]),
        )

    @property
    def consistent(self) -> bool:
        """Whether a reservation has just the holder that its type wants."""
        rule = self.rule
        if not all(0 < key < 1 << 64 for key in self.registrations.values()):
            return False
        if rule is None or rule.all_hold:
            return self.holder is None and (rule is None or bool(self.registrations))
        return self.holder in self.registrations


@attrs.frozen
class Change:
    """
    What a request does: the state after it, the unit attention for each nexus that is
    to be told, and the nexuses whose commands PREEMPT AND ABORT aborts.
    """

    state: ReservationState
    told: Mapping[IT, ASC] = attrs.field(factory=dict)
    preempted: frozenset[IT] = frozenset()
