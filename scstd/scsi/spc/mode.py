# SPDX-License-Identifier: MIT
"""
Mode parameters: MODE SENSE and MODE SELECT over declared pages (SPC-5 sections 6.12 to
6.15 and 7.5).

A page is its code, its length and its fields; `pages` declares them.  A field is some
bits of the page that hold a parameter of the logical unit; one that is changeable may
be set by MODE SELECT, and saved.  The current, changeable, default and saved values
(page control 0 to 3) are four renderings of the same declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Result
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome, list_out
from scstd.scsi.persistence import keep
from scstd.scsi.sam import Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_SHOWS = Allow.WRITE_EXCLUSIVE | Allow.READY | Allow.STANDBY
_SETS = Allow.NO_MEDIUM | Allow.STANDBY


@attrs.frozen
class Field:
    """
    *width* bits of a page, the highest at bit *bit* of byte *byte*, counted down and
    over the bytes behind.
    """

    byte: int
    bit: int
    width: int
    name: str = ""
    """
    The parameter that it holds: what `LogicalUnit.mode` returns.  One that acts is an
    attribute of the logical unit.
    """
    value: int | Callable[[LogicalUnit], int] = 0
    """Without a name the constant; of a parameter that does not act the default."""
    changeable: bool | Callable[[LogicalUnit], bool] = False
    """Whether MODE SELECT may set it, which may depend on the unit."""
    allowed: tuple[int, ...] = ()
    """The values that it can be set to, where not all of them."""
    of_protocol: bool = False
    """It holds the protocol identifier of the port by which the command came."""

    def can_change(self, unit: LogicalUnit) -> bool:
        """
        Say whether MODE SELECT may set this field of *unit*.
        """
        changeable = self.changeable
        return changeable if isinstance(changeable, bool) else changeable(unit)

    def constant(self, unit: LogicalUnit) -> int:
        """
        Return the value of a field that holds no parameter, or its default.
        """
        return self.value if isinstance(self.value, int) else self.value(unit)

    def takes(self, value: int) -> bool:
        """
        Say whether the field can have this value.
        """
        return 0 <= value < 1 << self.width and (
            not self.allowed or value in self.allowed
        )

    def shift(self, length: int) -> int:
        """
        Return how far the field is shifted in a page of *length* bytes taken as one
        number.
        """
        return 8 * (length - self.byte) - (7 - self.bit) - self.width

    def mask(self, length: int) -> int:
        """
        Return the field's bits in a page of *length* bytes.
        """
        return ((1 << self.width) - 1) << self.shift(length)


@attrs.frozen
class ModePage:
    """
    One row: a page's code, its name, the length after its header, its fields, and for
    which logical units it exists.
    """

    code: int
    name: str
    length: int
    fields: tuple[Field, ...] = ()
    subpage: int = 0
    exists: Callable[[LogicalUnit], bool] = lambda _unit: True

    @property
    def size(self) -> int:
        """Bytes of the page with its header."""
        return self.length + (4 if self.subpage else 2)

    def header(self, unit: LogicalUnit | None = None) -> bytes:
        """
        Return the page's header; PS says that *unit* can save it.
        """
        savable = unit is not None and any(one.can_change(unit) for one in self.fields)
        first = self.code | (0x80 if savable else 0)
        if self.subpage:
            return pack(">BBH", first | 0x40, self.subpage, self.length)
        return bytes((first, self.length))

    def render(self, unit: LogicalUnit, control: int, protocol: int) -> bytes:
        """
        Return the page for a page control: 0 current, 1 changeable, 2 default, 3 saved;
        *protocol* is the protocol identifier of the port.
        """
        size = self.size
        page = 0
        for field in self.fields:
            if control == 1:
                value = (1 << field.width) - 1 if field.can_change(unit) else 0
            elif field.of_protocol:
                value = protocol
            elif not field.name:
                value = field.constant(unit)
            else:
                value = _value(unit, field.name, control)
            page |= value << field.shift(size)
        head = self.header(unit)
        return head + page.to_bytes(size, "big")[len(head) :]


def _value(unit: LogicalUnit, name: str, control: int) -> int:
    if control == 0:
        return unit.mode(name)
    if control == 3 and name in unit.saved_modes:
        return unit.saved_modes[name]
    return unit.default_modes[name]


PAGES: dict[tuple[int, int], ModePage] = {}
"""Every page by its code and subpage, in the order of MODE SENSE's page 3Fh."""


def declare(*pages: ModePage) -> None:
    """
    Add pages to the table.
    """
    PAGES.update(((page.code, page.subpage), page) for page in pages)


def pages_of(unit: LogicalUnit) -> list[ModePage]:
    """
    Return the pages that a unit has, by code and subpage.
    """
    return [page for _code, page in sorted(PAGES.items()) if page.exists(unit)]


def _fields(unit: LogicalUnit) -> list[Field]:
    """
    Return the fields of a unit that MODE SELECT can change.
    """
    return [
        field
        for page in pages_of(unit)
        for field in page.fields
        if field.can_change(unit)
    ]


def changeable(unit: LogicalUnit) -> list[str]:
    """
    Return the parameters of a unit that MODE SELECT can change.
    """
    return [field.name for field in _fields(unit)]


def begin(unit: LogicalUnit, saved: dict[str, int]) -> None:
    """
    Give a unit that is being opened its mode parameters: as it was made they are the
    default ones; *saved* ones take their place, as far as they can be set still.
    """
    acting = {field.name for field in attrs.fields(LogicalUnit)}
    for page in pages_of(unit):
        for field in page.fields:
            if field.name and field.name not in acting:
                unit.modes.setdefault(field.name, field.constant(unit))
            if field.name:
                unit.default_modes[field.name] = unit.mode(field.name)
    known = {one.name: one for one in _fields(unit)}
    kept = {
        name: int(value)
        for name, value in saved.items()
        if name in known and known[name].takes(value)
    }
    unit.save_modes(kept)
    unit.restore_modes()


def sense(unit: LogicalUnit, task: Task, *, long: bool) -> bytes:
    """
    Return what MODE SENSE answers: header, block descriptor, pages.
    """
    cdb = task.cdb
    control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
    pages = _wanted(unit, code, subpage)
    if control == 3 and not changeable(unit):
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.SAVING_PARAMETERS_NOT_SUPPORTED
        )
    protocol = task.itl.nexus.target.transport.protocol_identifier
    body = b"".join(page.render(unit, control, protocol) for page in pages)
    # CD/DVD devices have no block descriptor and no device specific parameter (MMC-6).
    optical = unit.device_type == 0x05
    without_blocks = optical or bool(cdb[1] & 0x08)
    long_lba = long and bool(cdb[1] & 0x10)
    if without_blocks:
        descriptor = b""
    elif long_lba:
        descriptor = pack(">QxxxxI", unit.blocks, unit.block_size)
    else:
        blocks = min(unit.blocks, 0xFFFFFFFF)
        descriptor = pack(">II", blocks, unit.block_size)
    protected = (unit.write_protected or task.itl.read_only) and not optical
    specific = (0x80 if protected else 0) | (0 if unit.device_type else 0x10)
    if long:
        size = 6 + len(descriptor) + len(body)
        flag = 1 if long_lba and descriptor else 0
        head = pack(">HBBBxH", size, 0, specific, flag, len(descriptor))
    else:
        size = 3 + len(descriptor) + len(body)
        head = pack(">BBBB", min(size, 255), 0, specific, len(descriptor))
    return head + descriptor + body


def _wanted(unit: LogicalUnit, code: int, subpage: int) -> list[ModePage]:
    """
    Return the pages asked for: 3Fh is every page, subpage FFh every subpage.
    """
    there = pages_of(unit)
    found = [
        page
        for page in there
        if code in {0x3F, page.code} and subpage in {0xFF, page.subpage}
    ]
    if not found or (code == 0x3F and subpage not in {0, 0xFF}):
        if code == 0x3F or any(page.code == code for page in there):
            raise illegal_field(3, 7)
        raise illegal_field(2, 5)
    return found


def select(unit: LogicalUnit, task: Task, length: int, *, long: bool) -> Result[None]:
    """
    Do what MODE SELECT asks for: all of it, or nothing.

    What MODE SENSE says and MODE SELECT reserves (MODE DATA LENGTH, WP and DPOFUA, PS)
    is not looked at: initiators send back what they got.

    :raises CheckCondition: the parameter list is malformed, or asks for what cannot be
        changed.
    """
    if not task.cdb[1] & 0x10:
        raise illegal_field(1, 4)  # PF=0: vendor specific pages
    if task.cdb[1] & 1 and not changeable(unit):
        raise illegal_field(1, 0)  # SP: there is nothing to be saved
    data = bytes(task.data_out)[:length]
    if not length:
        return None
    head = 8 if long else 4
    if len(data) < head or len(data) < length:
        raise list_length_error()
    described = int.from_bytes(data[6:8], "big") if long else data[3]
    at = head + described
    if at > len(data):
        raise list_length_error()
    if data[2 if long else 1]:
        raise illegal_parameter(2 if long else 1)  # MEDIUM TYPE
    _check_descriptor(unit, data, head, described, long=long)
    protocol = task.itl.nexus.target.transport.protocol_identifier
    wanted: dict[str, int] = {}
    while at < len(data):
        at = _select_page(unit, data, at, wanted, protocol)
    return _apply(unit, task, wanted)


def _apply(unit: LogicalUnit, task: Task, wanted: dict[str, int]) -> Result[None]:
    """
    Set what differs, tell the others, and save it if the initiator asks for that.
    """
    if task.cdb[1] & 1 or (wanted.get("write_cache") == 0 and unit.write_cache):
        return unit.keeping.run(
            lambda: Deferred.fromCoroutine(_apply_durably(unit, task, wanted))
        )
    _set(unit, task, wanted)
    return None


def _set(unit: LogicalUnit, task: Task, wanted: dict[str, int]) -> None:
    changed = {
        name: value for name, value in wanted.items() if value != unit.mode(name)
    }
    for name, value in changed.items():
        unit.set_mode(name, value)
    if changed:
        unit.modes_changed()
        unit.attention(ASC.MODE_PARAMETERS_CHANGED, but=task.itl)


async def _apply_durably(unit: LogicalUnit, task: Task, wanted: dict[str, int]) -> None:
    """
    Do first what may fail: a flush when the cache is turned off, and saving (SP).
    """
    uncached = wanted.get("write_cache") == 0 and bool(unit.write_cache)
    if uncached:
        # What is written from now on is through; what was before is flushed.
        unit.set_mode("write_cache", 0)
    try:
        if uncached:
            await settled(unit.store.flush())
        if task.cdb[1] & 1:
            saved = {
                name: wanted.get(name, unit.mode(name)) for name in changeable(unit)
            }
            await keep(unit, "modes", saved)
            unit.save_modes(saved)
    finally:
        if uncached:
            unit.set_mode("write_cache", 1)
    _set(unit, task, wanted)


def _check_descriptor(
    unit: LogicalUnit, data: bytes, head: int, described: int, *, long: bool
) -> None:
    """
    See that a block descriptor, if there is one, says what is so already: all blocks
    (0 and all ones say so too), of the length they have.
    """
    if long and data[4] & ~1:
        raise illegal_parameter(4, (data[4] & ~1).bit_length() - 1)
    if not described:
        return
    long_lba = long and bool(data[4] & 1)
    if described != (16 if long_lba else 8):
        raise illegal_parameter(6 if long else 3)
    end = head + described
    width = 8 if long_lba else 4
    blocks = int.from_bytes(data[head : head + width], "big")
    everything = (1 << 8 * width) - 1
    if blocks not in {0, everything, min(unit.blocks, everything)}:
        raise illegal_parameter(head)
    at = end - 4 if long_lba else end - 3
    if int.from_bytes(data[at:end], "big") != unit.block_size:
        raise illegal_parameter(at)


def _select_page(
    unit: LogicalUnit, data: bytes, at: int, wanted: dict[str, int], protocol: int
) -> int:
    """
    Check the page at byte *at*, note in *wanted* what it sets, return where it ends.
    """
    sub = bool(data[at] & 0x40)
    if at + (4 if sub else 2) > len(data):
        raise list_length_error()
    page = PAGES.get((data[at] & 0x3F, data[at + 1] if sub else 0))
    if page is None or not page.exists(unit) or sub != bool(page.subpage):
        raise illegal_parameter(at, 5)
    head = page.header()
    if data[at + 1 : at + len(head)] != head[1:]:
        raise illegal_parameter(at + len(head) - (2 if sub else 1))
    end = at + page.size
    if end > len(data):
        raise list_length_error()
    given = int.from_bytes(data[at:end], "big")
    fixed = (1 << 8 * (page.size - len(head))) - 1
    for field in page.fields:
        if field.can_change(unit):
            fixed &= ~field.mask(page.size)
            shift = field.shift(page.size)
            value = (given >> shift) & ((1 << field.width) - 1)
            if not field.takes(value):
                raise illegal_parameter(at + field.byte, field.bit)
            wanted[field.name] = value
    current = int.from_bytes(page.render(unit, 0, protocol), "big")
    wrong = (given ^ current) & fixed
    if wrong:
        highest = wrong.bit_length() - 1
        raise illegal_parameter(end - 1 - highest // 8, highest % 8)
    return end


@COMMANDS.command(0x1A, "MODE SENSE(6)", "1a 08 ff ff ff 00", allow=_SHOWS)
def mode_sense_6(unit: LogicalUnit, task: Task) -> bytes:
    """MODE SENSE(6) (SPC-5 section 6.14)."""
    return sense(unit, task, long=False)[: task.cdb[4]]


@COMMANDS.command(0x5A, "MODE SENSE(10)", "5a 18 ff ff 00 00 00 ff ff 00", allow=_SHOWS)
def mode_sense_10(unit: LogicalUnit, task: Task) -> bytes:
    """MODE SENSE(10) (SPC-5 section 6.15)."""
    return sense(unit, task, long=True)[: int.from_bytes(task.cdb[7:9], "big")]


@COMMANDS.command(
    0x15,
    "MODE SELECT(6)",
    "15 11 00 00 ff 00",
    allow=_SETS,
    data_out=list_out(4, 1),
)
def mode_select_6(unit: LogicalUnit, task: Task) -> Outcome:
    """MODE SELECT(6) (SPC-5 section 6.12)."""
    return select(unit, task, task.cdb[4], long=False)


@COMMANDS.command(
    0x55,
    "MODE SELECT(10)",
    "55 11 00 00 00 00 00 ff ff 00",
    allow=_SETS,
    data_out=list_out(7, 2),
)
def mode_select_10(unit: LogicalUnit, task: Task) -> Outcome:
    """MODE SELECT(10) (SPC-5 section 6.13)."""
    return select(unit, task, int.from_bytes(task.cdb[7:9], "big"), long=True)
