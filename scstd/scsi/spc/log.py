# SPDX-License-Identifier: MIT
"""
Log parameters: LOG SENSE and LOG SELECT over declared pages (SPC-5 sections 6.8, 6.9
and 7.3).

A page is its code and its parameters; `logs` declares them.  A `Count` is a number that
grows, which an initiator may reset; a `BinaryParameter` is bytes that say what is so.
The lists of pages and subpages (00h, and FFh of each page) follow from the table.

Nothing is saved (DS, TSD and GLTSD say so): SP is refused.  Thresholds are never met:
they read as all ones, and cannot be set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import pack

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, Result
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome, list_out
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, illegal_field, illegal_parameter, list_length_error
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_THRESHOLD, _CUMULATIVE, _DEFAULT_THRESHOLD, _DEFAULT_CUMULATIVE = range(4)
"""The PC field: which values of a page."""

_TSD = 0x20
_BINARY_LIST = 0x03
_EVERY_SUBPAGE = 0xFF

_READS = Allow.ANY & ~Allow.ATTENTION & ~Allow.UNAVAILABLE
_SETS = Allow.READY | Allow.STANDBY


@attrs.frozen
class Count:
    """
    A parameter that counts: a bounded data counter of *size* bytes.
    """

    code: int
    size: int
    value: Callable[[LogicalUnit], int]

    def render(self, unit: LogicalUnit, page: LogPage, control: int) -> bytes:
        """Return the parameter's header and value."""
        most = (1 << 8 * self.size) - 1
        if control in {_THRESHOLD, _DEFAULT_THRESHOLD}:
            value = most
        elif control == _DEFAULT_CUMULATIVE:
            value = 0
        else:
            reset = unit.statistics.reset.get((page.code, page.subpage, self.code), 0)
            value = min(self.value(unit) - reset, most)
        head = pack(">HBB", self.code, _TSD, self.size)
        return head + value.to_bytes(self.size, "big")

    def reset(self, unit: LogicalUnit, page: LogPage) -> None:
        """Count from zero again."""
        unit.statistics.reset[page.code, page.subpage, self.code] = self.value(unit)


@attrs.frozen
class BinaryParameter:
    """
    A parameter that says something: a binary list parameter.
    """

    code: int
    value: Callable[[LogicalUnit], bytes]

    def render(self, unit: LogicalUnit, page: LogPage, control: int) -> bytes:
        """Return the parameter's header and value."""
        del page, control
        value = self.value(unit)
        return pack(">HBB", self.code, _TSD | _BINARY_LIST, len(value)) + value


@attrs.frozen
class LogPage:
    """
    One row: a page's code and subpage, its name, its parameters by ascending code, and
    for which logical units it exists.  *before* is called, and waited for, before the
    parameters are looked at.
    """

    code: int
    name: str
    parameters: tuple[Count | BinaryParameter, ...]
    subpage: int = 0
    exists: Callable[[LogicalUnit], bool] = lambda _unit: True
    before: Callable[[LogicalUnit], Result[None]] | None = None

    @property
    def counts(self) -> list[Count]:
        """The parameters that can be reset."""
        return [one for one in self.parameters if isinstance(one, Count)]


PAGES: dict[tuple[int, int], LogPage] = {}
"""Every page by its code and subpage; the lists of them are not in it."""


def declare(*pages: LogPage) -> None:
    """
    Add pages to the table.
    """
    PAGES.update(((page.code, page.subpage), page) for page in pages)


def pages_of(unit: LogicalUnit) -> list[LogPage]:
    """
    Return the pages that a unit has, by code and subpage.
    """
    return [page for _code, page in sorted(PAGES.items()) if page.exists(unit)]


def supported(unit: LogicalUnit) -> Iterator[tuple[int, int]]:
    """
    Yield code and subpage of everything that LOG SENSE returns, the lists too.
    """
    found = {(page.code, page.subpage) for page in pages_of(unit)} | {(0, 0)}
    yield from sorted(found | {(code, _EVERY_SUBPAGE) for code, _subpage in found})


def _page(code: int, subpage: int, body: bytes, *, saved: bool = True) -> bytes:
    first = code | (0x40 if subpage else 0) | (0 if saved else 0x80)
    return pack(">BBH", first, subpage, len(body)) + body


def _list(unit: LogicalUnit, code: int, subpage: int) -> bytes | None:
    """
    Return the list of pages, or of (a page's) subpages, that has this code; or None.
    """
    found = list(supported(unit))
    if (code, subpage) not in found:
        return None
    if (code, subpage) == (0, 0):
        return bytes(one for one, sub in found if not sub)
    if subpage != _EVERY_SUBPAGE:
        return None
    return bytes(byte for one, sub in found if code in {0, one} for byte in (one, sub))


@COMMANDS.command(0x4D, "LOG SENSE", "4d 00 ff ff 00 ff ff ff ff 00", allow=_READS)
def log_sense(unit: LogicalUnit, task: Task) -> Outcome:
    """LOG SENSE (SPC-5 section 6.9)."""
    cdb = task.cdb
    code, subpage = cdb[2] & 0x3F, cdb[3]
    pointer, length = (int.from_bytes(cdb[at : at + 2], "big") for at in (5, 7))
    listed = _list(unit, code, subpage)
    if listed is not None:
        if pointer:
            raise illegal_field(5, 7)
        return _page(code, subpage, listed)[:length]
    page = _find(unit, code, subpage)

    def render(_: object = None) -> Buffer:
        parameters = [one for one in page.parameters if one.code >= pointer]
        if not parameters:
            raise illegal_field(5, 7)
        body = b"".join(one.render(unit, page, cdb[2] >> 6) for one in parameters)
        return _page(code, subpage, body, saved=False)[:length]

    if page.before is not None:
        known = page.before(unit)
        if isinstance(known, Deferred):
            answer: Deferred[Buffer] = known.addCallback(render)
            return answer
    return render()


def _find(unit: LogicalUnit, code: int, subpage: int) -> LogPage:
    """
    Return a page; of what is wrong the field pointer names page or subpage code.
    """
    page = PAGES.get((code, subpage))
    if page is not None and page.exists(unit):
        return page
    if any(one.code == code for one in pages_of(unit)) or not code:
        raise illegal_field(3, 7)
    raise illegal_field(2, 5)


@COMMANDS.command(
    0x4C,
    "LOG SELECT",
    "4c 02 ff ff 00 00 00 ff ff 00",
    allow=_SETS,
    data_out=list_out(7, 2),
)
def log_select(unit: LogicalUnit, task: Task) -> None:
    """
    LOG SELECT (SPC-5 section 6.8): it resets counters, with PCR or with the page
    control "default cumulative".  Parameters that are sent are checked and refused,
    for there is none that could be set.
    """
    cdb = task.cdb
    control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
    length = int.from_bytes(cdb[7:9], "big")
    reset = bool(cdb[1] & 2)
    if length:
        if reset:
            raise illegal_field(1, 1)
        if code or subpage:
            raise illegal_field(2, 5)
        _check_list(unit, bytes(task.data_out), length)
        return
    pages = _chosen(unit, code, subpage)
    if not (reset or control == _DEFAULT_CUMULATIVE):
        return
    for page in pages:
        for count in page.counts:
            count.reset(unit, page)
    unit.attention(ASC.LOG_PARAMETERS_CHANGED, but=task.itl)


def _chosen(unit: LogicalUnit, code: int, subpage: int) -> list[LogPage]:
    """
    Return the pages that a LOG SELECT without a list is about: one, the subpages of
    one, or all.
    """
    if not code and subpage in {0, _EVERY_SUBPAGE}:
        return pages_of(unit)
    if subpage == _EVERY_SUBPAGE:
        pages = [page for page in pages_of(unit) if page.code == code]
        if pages:
            return pages
    return [_find(unit, code, subpage)]


def _check_list(unit: LogicalUnit, data: bytes, length: int) -> None:
    """
    Refuse a list of log parameters: malformed, of no such page, or not to be set.
    """
    at = 0
    while at < length:
        if len(data) < at + 4:
            raise list_length_error()
        page = PAGES.get((data[at] & 0x3F, data[at + 1]))
        if page is None or not page.exists(unit):
            raise illegal_parameter(at, 5)
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise list_length_error()
        if end > at + 4:
            raise illegal_parameter(at + 4)
        at = end
