# SPDX-License-Identifier: MIT
"""
ROD tokens: 512 bytes that stand for data (SPC-5 section 5.17.6).

Our stores make no snapshots, so a token is a *point in time copy - change vulnerable*
(type 00800001h): it stands for the data that was there when it was made, and for
nothing any more as soon as one block of that may have been written.  It is cancelled
then (INVALID TOKEN OPERATION, TOKEN CANCELLED): what it gives is right or an error,
never something in between.  A `TokenWatch` among the conditions of its unit sees every
command that writes; units without tokens have no such thing, and pay nothing.

A token is kept by its identifier and compared as a whole; half of it is random, so that
it can neither be guessed nor made up.  There are no timers here: that one has expired
is found out when somebody comes with it.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import accumulate
from struct import iter_unpack, pack

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.copy.limits import MOST_LIFETIME, MOST_OF_INITIATOR, MOST_TOKENS
from scstd.scsi.designators import target_device
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

POINT_IN_TIME = 0x00800000
CHANGE_VULNERABLE = 0x00800001
ANY_POINT_IN_TIME = 0x0080FFFF
ZERO = 0xFFFF0001
"""ROD types (SPC-5 table 110, SBC-4 table 30)."""

TOKEN_LENGTH = 512
_REST = TOKEN_LENGTH - 8
_MANAGEMENT_LENGTH = 96
_TARGET_DEVICE_LENGTH = 128

Blocks = tuple[int, int]
"""First LBA and number of blocks."""

_COPY_OUT, _UNMAP = 0x83, 0x42


class TokenState(Enum):
    """
    Whether a token can be used, and if not with what its use ends.
    """

    VALID = 0
    EXPIRED = ASC.INVALID_TOKEN_EXPIRED
    CANCELLED = ASC.INVALID_TOKEN_CANCELLED
    DELETED = ASC.INVALID_TOKEN_DELETED


def invalid(asc: int) -> CheckCondition:
    """
    Return INVALID TOKEN OPERATION, for this reason.
    """
    return CheckCondition(SenseKey.ILLEGAL_REQUEST, asc)


@attrs.define(eq=False)
class Token:
    """
    One token: the blocks it stands for, and how long it does.

    *users* counts the operations that use it; the inactivity timeout runs from when the
    last of them has ended.
    """

    identifier: int
    data: bytes
    unit: LogicalUnit
    initiator: str
    blocks: Sequence[Blocks]
    inactivity: int
    expires: float
    ends: float
    state: TokenState = TokenState.VALID
    users: int = 0

    def check(self) -> None:
        """
        :raises CheckCondition: it can be used no more.
        """
        if self.state is not TokenState.VALID:
            raise invalid(self.state.value)

    def touched_by(self, first: int, end: int) -> bool:
        """
        Say whether a write of the blocks from *first* to before *end* changes it.
        """
        return any(lba < end and first < lba + count for lba, count in self.blocks)


def written(task: Task) -> Iterator[tuple[int, int]]:
    """
    Yield the blocks that a task may write: first, and behind the last.
    """
    row = task.row
    if row is None or not row.writes:
        return
    if row.extent is not None and task.blocks:
        yield task.lba, task.lba + task.blocks
    elif row.opcode == _UNMAP:
        data = memoryview(task.data_out)[8:]
        for lba, count in iter_unpack(">QI4x", data[: len(data) // 16 * 16]):
            yield lba, lba + count
    elif row.name not in {"WRITE(10)", "WRITE(12)", "WRITE(16)", "WRITE(32)"}:
        # A format, WRITE SAME to the end, and what nobody here knows.
        yield 0 if row.extent is None else task.lba, 1 << 64


@attrs.define(eq=False)
class TokenWatch:
    """
    The tokens of one logical unit, among its conditions: it stops nothing, and cancels
    what is written to.

    Writes are many and hits are few, so all ranges are kept sorted by their first
    block, each with how far those up to it reach: two look-ups tell whether a write
    hits any.
    """

    tokens: dict[Token, None] = attrs.field(factory=dict)
    _firsts: list[int] | None = None
    _reach: list[int] = attrs.field(factory=list)

    def add(self, token: Token) -> None:
        """Watch the blocks of one more."""
        self.tokens[token] = None
        self._firsts = None

    def remove(self, token: Token) -> None:
        """Watch them no more."""
        if self.tokens.pop(token, token) is None:
            self._firsts = None

    def check(self, task: Task, allow: Allow) -> None:
        """Cancel the tokens whose blocks this task may write."""
        del allow
        for first, end in written(task):
            if self._hit(first, end):
                for token in list(self.tokens):
                    if token.touched_by(first, end):
                        token.state = TokenState.CANCELLED
                        self.remove(token)

    def _hit(self, first: int, end: int) -> bool:
        if self._firsts is None:
            ranges = sorted(one for token in self.tokens for one in token.blocks)
            self._firsts = [lba for lba, _count in ranges]
            self._reach = list(accumulate((sum(one) for one in ranges), max))
        before = bisect_left(self._firsts, end)
        return before > 0 and self._reach[before - 1] > first

    def sense(self, itl: ITL) -> None:
        """Nothing keeps the unit from being ready."""
        del itl


@attrs.define(eq=False)
class TokenTable:
    """
    Every token of a system, dead ones too for as long as there is room.
    """

    clock: Callable[[], float]
    _tokens: dict[int, Token] = attrs.field(factory=dict)
    _watches: dict[LogicalUnit, TokenWatch] = attrs.field(factory=dict)
    _next: int = attrs.field(factory=lambda: secrets.randbits(48))

    def create(
        self, itl: ITL, rod_type: int, blocks: Sequence[Blocks], inactivity: int
    ) -> Token:
        """
        Return a new token for these blocks of the unit.

        :raises CheckCondition: there are too many.
        """
        self._expire()
        self._make_room(itl.nexus.initiator)
        identifier = self._next
        self._next += 1
        now = self.clock()
        token = Token(
            identifier=identifier,
            data=_encode(itl, rod_type, identifier, blocks),
            unit=itl.unit,
            initiator=itl.nexus.initiator,
            blocks=blocks,
            inactivity=inactivity,
            expires=now + inactivity,
            ends=now + MOST_LIFETIME,
        )
        self._tokens[identifier] = token
        watch = self._watches.get(itl.unit)
        if watch is None:
            watch = self._watches[itl.unit] = TokenWatch()
        if not watch.tokens:
            itl.unit.impose(watch)
        watch.add(token)
        return token

    def find(self, data: bytes) -> Token:
        """
        Return the token that these 512 bytes are.

        :raises CheckCondition: they are none, or one that can be used no more; in the
            order of SPC-5 section 5.17.6.5.2.3.
        """
        if int.from_bytes(data[6:8], "big") != _REST:
            raise invalid(ASC.INVALID_TOKEN_LENGTH)
        if int.from_bytes(data[:4], "big") not in {POINT_IN_TIME, CHANGE_VULNERABLE}:
            raise invalid(ASC.INVALID_TOKEN_UNSUPPORTED_TYPE)
        self._expire()
        token = self._tokens.get(int.from_bytes(data[8:16], "big"))
        if token is None:
            raise invalid(ASC.INVALID_TOKEN_UNKNOWN)
        if not secrets.compare_digest(token.data, data):
            raise invalid(ASC.INVALID_TOKEN_CORRUPT)
        token.check()
        return token

    def use(self, token: Token) -> None:
        """
        Keep a token from expiring while an operation uses it.
        """
        token.users += 1

    def used(self, token: Token, *, delete: bool) -> None:
        """
        Note that an operation uses a token no more, and *delete* it if that was asked.
        """
        token.users -= 1
        token.expires = min(self.clock() + token.inactivity, token.ends)
        if delete and token.state is TokenState.VALID:
            self._end(token, TokenState.DELETED)

    def management_tokens(self, unit: LogicalUnit) -> list[bytes]:
        """
        Return the ROD management token of each token of a unit (SPC-5 section 6.31).
        """
        self._expire()
        watch = self._watches.get(unit)
        return [one.data[:_MANAGEMENT_LENGTH] for one in watch.tokens] if watch else []

    def cancel(self, unit: LogicalUnit) -> None:
        """
        Cancel every token of a unit: its medium, or its size, is another.
        """
        watch = self._watches.pop(unit, None)
        if watch is not None:
            unit.lift(watch)
            for token in watch.tokens:
                token.state = TokenState.CANCELLED

    def forget(self, unit: LogicalUnit) -> None:
        """
        Forget every token of a unit that goes away.
        """
        self.cancel(unit)
        for token in [one for one in self._tokens.values() if one.unit is unit]:
            del self._tokens[token.identifier]

    def _end(self, token: Token, state: TokenState) -> None:
        token.state = state
        watch = self._watches.get(token.unit)
        if watch is not None:
            watch.remove(token)

    def _expire(self) -> None:
        now = self.clock()
        for unit, watch in list(self._watches.items()):
            for token in list(watch.tokens):
                if not token.users and now >= token.expires:
                    self._end(token, TokenState.EXPIRED)
            if not watch.tokens:
                unit.lift(watch)
                del self._watches[unit]

    def _make_room(self, initiator: str) -> None:
        own = [one for one in self._tokens.values() if one.initiator == initiator]
        if len(own) >= MOST_OF_INITIATOR:
            self._drop(own)
        elif len(self._tokens) >= MOST_TOKENS:
            dead = [
                one
                for one in self._tokens.values()
                if one.state is not TokenState.VALID
            ]
            if not dead:
                raise CheckCondition(
                    SenseKey.ILLEGAL_REQUEST,
                    ASC.INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN,
                )
            self._drop(dead)

    def _drop(self, tokens: Sequence[Token]) -> None:
        """
        Forget one of these tokens: the oldest, a dead one if there is any.
        """
        oldest = min(
            tokens, key=lambda one: (one.state is TokenState.VALID, one.identifier)
        )
        if oldest.state is TokenState.VALID:
            self._end(oldest, TokenState.CANCELLED)
        del self._tokens[oldest.identifier]


def _encode(
    itl: ITL, rod_type: int, identifier: int, blocks: Sequence[Blocks]
) -> bytes:
    """
    Return a generic ROD token (SPC-5 table 112, SBC-4 section 4.28.5).
    """
    unit = itl.unit
    total = sum(count for _lba, count in blocks) << unit.block_shift
    naa = unit.identity.naa
    creator = pack(
        ">BBxxBBxB20sB3s",
        0xE4,
        unit.device_type,
        0x01,  # binary
        0x03,  # logical unit, NAA
        len(naa),
        naa,
        0,
        unit.block_size.to_bytes(3, "big"),
    )
    capacity = pack(
        ">QIBBH16x",
        unit.blocks - 1,
        unit.block_size,
        0,
        unit.volume.physical_exponent,
        0xC000 if unit.volume.thin else 0,
    )
    device = target_device(itl.nexus)
    if len(device) > _TARGET_DEVICE_LENGTH:
        device = b""
    head = pack(">IxxHQ", rod_type, _REST, identifier) + creator
    head += pack(">QQ", 0, total)
    head = head.ljust(_MANAGEMENT_LENGTH, b"\0") + capacity
    head += device.ljust(_TARGET_DEVICE_LENGTH, b"\0")
    return head + secrets.token_bytes(TOKEN_LENGTH - len(head))
