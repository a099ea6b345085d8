# SPDX-License-Identifier: MIT
"""
``pr_state`` of a device: its persistent reservations as SCST writes them, to be kept by
another program and written again, here or at the other node of a pair.

::

    version 1
    generation NUMBER
    reservation TYPE SCOPE                          (hex; if there is one)
    registrant TARGET KEY HOLDS LENGTH TRANSPORTID  (TARGET is its rel_tgt_id)
    named TARGET KEY HOLDS NAME                     (ours: without a TransportID)
    aptpl 0|1                                       (ours: SCST has no word for it)

All of it is taken, or nothing: what SCST passes over with a warning is a mistake here,
for with a registrant that is missing an initiator would lose its disk, or gain one.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from scstd.management.errors import TreeError
from scstd.management.model.group_configuration import NUMBER
from scstd.results import settled
from scstd.scsi.it_nexus import IT
from scstd.scsi.persistent import ReservationState, Type
from scstd.scsi.sense import CheckCondition
from scstd.scsi.target import Target
from scstd.scsi.transport import registered_id
from scstd.scsi.unit import LogicalUnit

_REGISTRANT = re.compile(
    r"(\d{1,5}) ([0-9a-fA-F]{1,16}) ([01]) (\d{1,4}) ([0-9a-fA-F]*)"
)
_NAMED = re.compile(r"(\d{1,5}) ([0-9a-fA-F]{1,16}) ([01]) (\S.*)")
_RESERVATION = re.compile(r"([0-9a-fA-F]{1,2}) ([0-9a-fA-F]{1,2})")
_NUMBER = re.compile(r"\d{1,10}")


def said(state: ReservationState, targets: Mapping[str, Target]) -> str:
    """
    Return the text of a state; a target that is not there any more has the number 0.
    """
    lines = ["version 1", f"generation {state.generation}"]
    if state.type is not None:
        lines.append(f"reservation {state.type:02x} 00")
    for it, key in state.registrations.items():
        port, name = it
        target = targets.get(name)
        number = 0 if target is None else target.relative_port
        identifier = registered_id(port, name, targets)
        whose = f"{number} {key:016x} {int(state.holds(it))}"
        lines.append(
            f"registrant {whose} {len(identifier)} {identifier.hex()}"
            if identifier
            else f"named {whose} {port}"
        )
    lines.append(f"aptpl {int(state.aptpl)}")
    return "\n".join(lines)


@attrs.define
class _Reader:
    """
    Takes the lines of a text; *targets* has them by their numbers.
    """

    targets: Mapping[int, Target]
    generation: int = 0
    aptpl: bool | None = None
    type: Type | None = None
    registrations: dict[IT, int] = attrs.field(factory=dict)
    holders: list[IT] = attrs.field(factory=list)

    def take(self, word: str, rest: str) -> None:
        """
        Take a line.

        :raises ValueError: it is not one of ours, or says what cannot be.
        """
        readers: Mapping[str, Callable[[str], None]] = {
            "generation": self._generation,
            "reservation": self._reservation,
            "registrant": self._registrant,
            "named": self._registered_name,
            "aptpl": self._aptpl,
        }
        if word not in readers:
            raise ValueError(f"expected one of {', '.join(readers)}")
        readers[word](rest)

    def _generation(self, rest: str) -> None:
        if not _NUMBER.fullmatch(rest) or int(rest) >= 1 << 32:
            raise ValueError("expected a number of 32 bits")
        self.generation = int(rest)

    def _aptpl(self, rest: str) -> None:
        if rest not in {"0", "1"}:
            raise ValueError("expected 0 or 1")
        self.aptpl = rest == "1"

    def _reservation(self, rest: str) -> None:
        match = _RESERVATION.fullmatch(rest)
        if match is None or int(match[2], 16):
            raise ValueError("expected a type, and the scope 00, in hex")
        self.type = Type(int(match[1], 16))

    def _registrant(self, rest: str) -> None:
        match = _REGISTRANT.fullmatch(rest)
        if match is None or len(match[5]) != 2 * int(match[4]):
            raise ValueError("expected TARGET KEY HOLDS LENGTH TRANSPORTID")
        target = self._target(match[1])
        identifier = bytes.fromhex(match[5])
        try:
            port, behind = target.transport.parse_transport_id(
                identifier, 0, len(identifier)
            )
        except CheckCondition:
            raise ValueError(
                "expected the TransportID of an initiator of this target"
            ) from None
        if behind != len(identifier):
            raise ValueError("expected one TransportID that is not there already")
        self._add(target, port, match)

    def _registered_name(self, rest: str) -> None:
        match = _NAMED.fullmatch(rest)
        if match is None:
            raise ValueError("expected TARGET KEY HOLDS NAME")
        target = self._target(match[1])
        if target.transport.has_transport_ids:
            raise ValueError("expected registrant: its initiators have TransportIDs")
        self._add(target, match[4], match)

    def _target(self, number: str) -> Target:
        found = self.targets.get(int(number))
        if found is None:
            raise ValueError(f"no target has the {NUMBER} {int(number)}")
        return found

    def _add(self, target: Target, port: str, match: re.Match[str]) -> None:
        it = (port, target.qualified_name)
        if it in self.registrations:
            raise ValueError("expected one TransportID that is not there already")
        self.registrations[it] = int(match[2], 16)
        if match[3] == "1":
            self.holders.append(it)

    def read(self, text: str) -> None:
        """
        Take all lines.

        :raises TreeError: one is wrong (EINVAL); the message has its number.
        """
        at = 1
        lines = [line.strip() for line in text.splitlines()]
        try:
            if not lines or lines[0] != "version 1":
                raise ValueError("expected version 1")  # noqa: TRY301
            for at, line in enumerate(lines[1:], start=2):  # noqa: B007 - it is told
                if line:
                    word, _, rest = line.partition(" ")
                    self.take(word, rest)
        except ValueError as error:
            raise TreeError(errno.EINVAL, f"pr_state: line {at}: {error}") from None

    def state(self, aptpl: bool) -> ReservationState:
        """
        Return the state that the lines say; *aptpl* is for where none says it.

        :raises TreeError: they contradict each other (EINVAL).
        """
        kept = aptpl if self.aptpl is None else self.aptpl
        state = ReservationState(
            self.registrations, self.type, None, kept, self.generation
        )
        if state.rule is not None and not state.rule.all_hold and self.holders:
            state = attrs.evolve(state, holder=self.holders[0])
        holding = [it for it in self.registrations if state.holds(it)]
        if not state.consistent or holding != self.holders:
            raise TreeError(
                errno.EINVAL,
                "pr_state: expected keys that are not 0, and the holders that the type"
                " of the reservation wants",
            )
        return state


async def write(unit: LogicalUnit, text: str, targets: Mapping[str, Target]) -> None:
    """
    Have a device begin with the state that a text says: durably, if that is to survive
    a loss of power.

    :raises TreeError: it says none (EINVAL), or initiators use the device (EBUSY).
    :raises OSError: it cannot be kept; nothing has changed.
    """
    reader = _Reader({one.relative_port: one for one in targets.values()})
    reader.read(text)
    reservation = unit.reservation
    await reservation.changing.acquire()
    try:
        before = reservation.persistent
        state = reader.state(before.aptpl)
        if unit.itls or unit.departing:
            raise TreeError(
                errno.EBUSY, f"pr_state: device {unit.name} is used by initiators"
            )
        kept: Any = state.remembered()
        if kept != before.remembered():
            await settled(unit.remember("persistent", kept))
        reservation.restore(state)
    finally:
        reservation.changing.release()
