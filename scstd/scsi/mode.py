# SPDX-License-Identifier: MIT
"""
Mode pages (SPC-5 section 7.5, SBC-4 section 6.5): fields declared, renderings derived.

A page is its length and its fields.  A field is some bits of the page that hold an
attribute of the logical unit; one that is changeable may be set by MODE SELECT, and
saved. The current, changeable, default and saved values (page control 0 to 3) are four
renderings of the same declaration.
"""

from __future__ import annotations

from struct import pack

import attrs

from scstd.interfaces import Result
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


@attrs.frozen
class Field:
    """
    *width* bits of a page, the highest at bit *bit* of byte *byte* counted down.

    *name* is the attribute of the logical unit that the field shows; without one the
    field is the constant *value*.
    """

    byte: int
    bit: int
    width: int
    name: str = ""
    value: int = 0
    changeable: bool = False

    @property
    def shift(self) -> int:
        """How far the field is shifted inside its byte."""
        return self.bit - self.width + 1

    @property
    def mask(self) -> int:
        """The field's bits in its byte."""
        return ((1 << self.width) - 1) << self.shift


@attrs.frozen
class ModePage:
    """
    One row: a page's code, its name, the length after its header, its fields.
    """

    code: int
    name: str
    length: int
    fields: tuple[Field, ...] = ()

    def render(self, unit: LogicalUnit, control: int) -> bytes:
        """
        Return the page for a page control: 0 current, 1 changeable, 2 default, 3 saved.
        """
        page = bytearray(2 + self.length)
        savable = any(field.changeable for field in self.fields)
        page[0] = self.code | (0x80 if savable else 0)
        page[1] = self.length
        for field in self.fields:
            if control == 1:
                value = (1 << field.width) - 1 if field.changeable else 0
            elif not field.name:
                value = field.value
            else:
                value = int(_value(unit, field.name, control))
            page[field.byte] |= value << field.shift
        return bytes(page)


def _value(unit: LogicalUnit, name: str, control: int) -> int:
    if control == 0:
        return int(getattr(unit, name))
    if control == 3 and name in unit.saved_modes:
        return int(unit.saved_modes[name])
    return int(unit.default_modes[name])


PAGES: dict[int, ModePage] = {
    page.code: page
    for page in (
        ModePage(0x01, "Read-Write Error Recovery", 0x0A),
        ModePage(0x02, "Disconnect-Reconnect", 0x0E),
        ModePage(
            0x08,
            "Caching",
            0x12,
            (Field(2, 2, 1, "write_cache", changeable=True),),
        ),
        ModePage(
            0x0A,
            "Control",
            0x0A,
            (
                Field(2, 7, 3, "separate_task_sets"),
                Field(2, 2, 1, "descriptor_sense", changeable=True),
                Field(3, 7, 4, value=1),  # QUEUE ALGORITHM: unrestricted reordering
                Field(4, 3, 1, "software_write_protect", changeable=True),
                Field(5, 6, 1, "task_aborted_status", changeable=True),
            ),
        ),
        ModePage(0x1C, "Informational Exceptions Control", 0x0A),
    )
}
"""Every page by its code, in the order of MODE SENSE's page 3Fh."""

NAMES = tuple(
    field.name for page in PAGES.values() for field in page.fields if field.name
)
"""Attributes that mode pages show."""

CHANGEABLE = tuple(
    field.name for page in PAGES.values() for field in page.fields if field.changeable
)
"""Attributes that MODE SELECT can change."""


def sense(unit: LogicalUnit, task: Task, *, long: bool) -> bytes:
    """
    Return what MODE SENSE answers: header, block descriptor, pages.
    """
    cdb = task.cdb
    control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
    if code == 0x3F and subpage in {0, 0xFF}:
        pages = list(PAGES.values())
    elif code in PAGES and subpage in {0, 0xFF}:
        pages = [PAGES[code]]
    else:
        raise illegal_field(
            2 if code not in PAGES else 3, 5 if code not in PAGES else 7
        )
    body = b"".join(page.render(unit, control) for page in pages)
    without_blocks = bool(cdb[1] & 0x08)
    long_lba = long and bool(cdb[1] & 0x10)
    if without_blocks:
        descriptor = b""
    elif long_lba:
        descriptor = pack(">QxxxxI", unit.blocks, unit.block_size)
    else:
        blocks = min(unit.blocks, 0xFFFFFFFF)
        descriptor = pack(">II", blocks, unit.block_size)
    protected = unit.write_protected or task.itl.read_only
    specific = (0x80 if protected else 0) | 0x10  # WP, DPOFUA
    if long:
        size = 6 + len(descriptor) + len(body)
        flag = 1 if long_lba and descriptor else 0
        head = pack(">HBBBxH", size, 0, specific, flag, len(descriptor))
    else:
        size = 3 + len(descriptor) + len(body)
        head = pack(">BBBB", min(size, 255), 0, specific, len(descriptor))
    return head + descriptor + body


def select(unit: LogicalUnit, task: Task, length: int, *, long: bool) -> Result[None]:
    """
    Do what MODE SELECT asks for: all of it, or nothing.

    :raises CheckCondition: the parameter list is malformed, or asks for what cannot be
        changed.
    """
    if not task.cdb[1] & 0x10:
        raise illegal_field(1, 4)  # PF=0: vendor specific pages
    data = bytes(task.data_out)[:length]
    if not length:
        return None
    head = 8 if long else 4
    if len(data) < max(head, min(length, head)) or len(data) < length:
        raise list_length_error()
    described = int.from_bytes(data[6:8], "big") if long else data[3]
    at = head + described
    if at > len(data):
        raise list_length_error()
    _check_descriptor(unit, data, head, described, long=long)
    wanted: dict[str, int] = {}
    while at < len(data):
        at = _select_page(unit, data, at, wanted)
    changed = {
        name: value
        for name, value in wanted.items()
        if value != int(getattr(unit, name))
    }
    for name, value in changed.items():
        setattr(unit, name, bool(value))
    if changed:
        unit.modes_changed()
        unit.attention(ASC.MODE_PARAMETERS_CHANGED, but=task.itl)
    if task.cdb[1] & 1:
        unit.saved_modes = {name: int(getattr(unit, name)) for name in CHANGEABLE}
        if unit.save is not None:
            return unit.save(unit.saved_modes)
    return None


def _check_descriptor(
    unit: LogicalUnit, data: bytes, head: int, described: int, *, long: bool
) -> None:
    """
    See that a block descriptor, if there is one, says what is so already.
    """
    if not described:
        return
    long_lba = long and bool(data[4] & 1)
    if described != (16 if long_lba else 8):
        raise illegal_parameter(6 if long else 3)
    end = head + described
    size = int.from_bytes(data[end - 4 if long_lba else end - 3 : end], "big")
    if size != unit.block_size:
        raise illegal_parameter(end - 3)


def _select_page(
    unit: LogicalUnit, data: bytes, at: int, wanted: dict[str, int]
) -> int:
    """
    Check the page at byte *at*, note in *wanted* what it sets, return where it ends.
    """
    page = PAGES.get(data[at] & 0x3F)
    if page is None or data[at] & 0x40:
        raise illegal_parameter(at, 5)
    if at + 2 > len(data):
        raise list_length_error()
    if data[at + 1] != page.length:
        raise illegal_parameter(at + 1)
    end = at + 2 + page.length
    if end > len(data):
        raise list_length_error()
    given = data[at:end]
    current = page.render(unit, 0)
    fixed = bytearray(b"\xff" * len(given))
    for field in page.fields:
        if field.changeable:
            fixed[field.byte] &= ~field.mask
            wanted[field.name] = (given[field.byte] & field.mask) >> field.shift
    for offset in range(2, len(given)):
        wrong = (given[offset] ^ current[offset]) & fixed[offset]
        if wrong:
            raise illegal_parameter(at + offset, wrong.bit_length() - 1)
    if wanted.get("write_cache") and unit.always_through:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_PARAMETER_LIST
        )
    return end
