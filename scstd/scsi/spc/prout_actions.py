# SPDX-License-Identifier: MIT
"""
The service actions of PERSISTENT RESERVE OUT: rules without commands or parameter lists
(SPC-5 section 5.14, Reservations).

Each is a function of the state and a request that returns a `Change`: the state after
it, who is told what, and whose commands are aborted; or it raises what the command ends
with, and nothing has happened.  So a change can be made durable before anybody sees it,
and a failure leaves the state before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from scstd.scsi.it_nexus import IT
from scstd.scsi.persistent import RULES, Change, ReservationState, Type
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    ReservationConflict,
    SenseKey,
    illegal_field,
    illegal_parameter,
)

MOST_REGISTRATIONS = 4096
"""Registrations that one logical unit keeps: whoever asks can make up initiators."""


@attrs.frozen
class PersistentReserveOut:
    """
    A PERSISTENT RESERVE OUT: on which nexus it came, its keys, and the fields of its
    CDB and parameter list that the service action looks at.
    """

    it: IT
    key: int
    action_key: int
    scope: int = 0
    type: int = 0
    aptpl: bool = False
    specified: frozenset[IT] = frozenset()
    others: tuple[IT, ...] = ()
    """The nexuses to register besides (SPEC_I_PT, ALL_TG_PT)."""
    specifies: bool = False
    destination: IT = ("", "")
    """Where REGISTER AND MOVE moves it."""
    unregister: bool = False
    """Whether that unregisters this nexus (UNREG)."""


Action = Callable[[ReservationState, PersistentReserveOut], Change]
"""
A service action.

It raises ReservationConflict or CheckCondition where it does not happen.
"""


def register(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    REGISTER (SPC-5, table "Register behaviors for a REGISTER service action").
    """
    if request.key != state.registrations.get(request.it, 0):
        raise ReservationConflict
    return _register(state, request, checks=True)


def register_and_ignore(
    state: ReservationState, request: PersistentReserveOut
) -> Change:
    """
    REGISTER AND IGNORE EXISTING KEY (SPC-5, table of that name).
    """
    return _register(state, request, checks=False)


def _register(
    state: ReservationState, request: PersistentReserveOut, *, checks: bool
) -> Change:
    """
    Register nexuses, change their keys, or unregister them (a key of zero).

    ALL_TG_PT is as if the request had come through each target port: one that is
    registered there with another key is a conflict, unless keys are ignored.
    """
    registrations = state.registrations
    registered = request.it in registrations
    if not registered and not request.action_key:
        return Change(state)
    if request.specifies and registered:
        raise illegal_parameter(20, 3)
    if any(it in registrations for it in request.specified):
        raise illegal_parameter(24)
    if checks and any(
        registrations.get(it, request.key) != request.key for it in request.others
    ):
        raise ReservationConflict
    named = (request.it, *request.others)
    after = attrs.evolve(_counted(state), aptpl=request.aptpl)
    if not request.action_key:
        return _unregister(after, named, request.it)
    keys = {**registrations, **dict.fromkeys(named, request.action_key)}
    return Change(attrs.evolve(after, registrations=_limited(keys)))


def _unregister(state: ReservationState, lost: Iterable[IT], it: IT) -> Change:
    """
    Remove registrations; if that releases a registrants only reservation, the others
    are told (SPC-5, Unregistering).
    """
    after = state.without(lost)
    rule = state.rule
    if rule is None or not rule.registrants or after.type is not None:
        return Change(after)
    return Change(after, _tell(after, ASC.RESERVATIONS_RELEASED, it))


def reserve(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    RESERVE (SPC-5, Reserving).
    """
    _verify(state, request)
    kind = _type(request)
    if state.type is None:
        return Change(state.reserved(kind, request.it))
    if not state.holds(request.it) or kind is not state.type:
        raise ReservationConflict
    return Change(state)


def release(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    RELEASE (SPC-5, Releasing): by one who is no holder it is GOOD, and does nothing.
    """
    _verify(state, request)
    rule = state.rule
    if rule is None or not state.holds(request.it):
        return Change(state)
    if request.scope or request.type != state.type:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_RELEASE_OF_PERSISTENT_RESERVATION
        )
    after = attrs.evolve(state, type=None, holder=None)
    if not rule.registrants:
        return Change(after)
    return Change(after, _tell(after, ASC.RESERVATIONS_RELEASED, request.it))


def clear(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    CLEAR (SPC-5, Clearing).
    """
    _verify(state, request)
    after = attrs.evolve(_counted(state), registrations={}, type=None, holder=None)
    return Change(after, _tell(state, ASC.RESERVATIONS_PREEMPTED, request.it))


def preempt(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    PREEMPT, and PREEMPT AND ABORT (SPC-5, Preempting, table "Preempting actions").
    """
    _verify(state, request)
    rule, it, key = state.rule, request.it, request.action_key
    all_hold = rule is not None and rule.all_hold
    if not key and not all_hold:
        raise illegal_parameter(8)
    named = frozenset(
        one for one, its in state.registrations.items() if key in {0, its}
    )
    if not named:
        raise ReservationConflict
    if (all_hold and key) or (not all_hold and state.holder not in named):
        # The reservation stays: only registrations go, our own among them.
        after = _counted(state).without(named)
        lost = {one: ASC.REGISTRATIONS_PREEMPTED for one in named if one != it}
        return Change(after, lost, named)
    kind = _type(request)
    after = _counted(state).without(named - {it}).reserved(kind, it)
    told: dict[IT, ASC] = {}
    if kind is not state.type:
        told.update(_tell(after, ASC.RESERVATIONS_RELEASED, it))
    told.update((one, ASC.REGISTRATIONS_PREEMPTED) for one in named if one != it)
    return Change(after, told, named)


def register_and_move(state: ReservationState, request: PersistentReserveOut) -> Change:
    """
    REGISTER AND MOVE (SPC-5, Registering and moving the reservation).
    """
    _verify(state, request)
    rule, to = state.rule, request.destination
    if rule is None:
        raise illegal_field(1, 4)
    if rule.all_hold or not state.holds(request.it):
        raise ReservationConflict
    if not request.action_key:
        raise illegal_parameter(8)
    if to[0] == request.it[0]:
        raise illegal_parameter(24)
    keys = {**state.registrations, to: request.action_key}
    if request.unregister:
        del keys[request.it]
    after = attrs.evolve(_counted(state), registrations=_limited(keys), holder=to)
    return Change(attrs.evolve(after, aptpl=request.aptpl))


def _verify(state: ReservationState, request: PersistentReserveOut) -> None:
    """
    :raises ReservationConflict: the nexus is not registered with this key.
    """
    if request.key != state.registrations.get(request.it):
        raise ReservationConflict


def _type(request: PersistentReserveOut) -> Type:
    """
    Return the type a request asks for, if it can be had.
    """
    if request.scope:
        raise illegal_field(2, 7)
    if request.type not in RULES:
        raise illegal_field(2, 3)
    return Type(request.type)


def _counted(state: ReservationState) -> ReservationState:
    return attrs.evolve(state, generation=(state.generation + 1) & 0xFFFFFFFF)


def _limited(registrations: dict[IT, int]) -> dict[IT, int]:
    if len(registrations) > MOST_REGISTRATIONS:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INSUFFICIENT_REGISTRATION_RESOURCES
        )
    return registrations


def _tell(state: ReservationState, asc: ASC, but: IT) -> dict[IT, ASC]:
    """
    Return a unit attention for every registered nexus, *but* for the one who asked.
    """
    return {it: asc for it in state.registrations if it != but}
