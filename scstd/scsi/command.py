# SPDX-License-Identifier: MIT
"""
Commands as rows of a table.

One row answers everything that is asked about a command: dispatch, the check of
reserved bits with its field pointer, whether a reservation or a unit attention stops
it, whether it writes, how many bytes of Data-Out it needs, and REPORT SUPPORTED
OPERATION CODES.  A row is declared where its function is::

    @COMMANDS.command(0x00, "TEST UNIT READY", "00 00 00 00 00 00", allow=Allow.NONE)
    def test_unit_ready(unit: LogicalUnit, task: Task) -> None: ...

The usage map has a one in each bit that the device server evaluates (SPC-5 section
6.35.3, CDB USAGE DATA field); byte 0 is the operation code itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Union

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, command_priority
from scstd.scsi.allow import Allow
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.statistics import kind_of

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit

Outcome = Union[Buffer, None, "Deferred[Buffer]", "Deferred[None]"]
"""What a command's function returns: Data-In, or None, or a Deferred of it."""

Run = Callable[["LogicalUnit", Task], Outcome]


_CONTROL_BYTES = (5, 9, 9, 0, 15, 11, 0, 0)
"""
Where the CONTROL byte is in a CDB, by the group of its operation code (SPC-5, Operation
code): the last byte; 0 where the length is not known.
"""

_NACA = 0x04


def control_byte(opcode: int) -> int:
    """
    Return which byte of a CDB with this operation code is the CONTROL byte, or 0.
    """
    return 1 if opcode == VARIABLE else _CONTROL_BYTES[opcode >> 5]


def naca(cdb: bytes) -> bool:
    """
    Return the NACA bit: whether a CHECK CONDITION establishes an auto contingent
    allegiance (SAM-5, CONTROL byte).
    """
    at = control_byte(cdb[0])
    return bool(at and cdb[at] & _NACA)


def _usage(text: str) -> bytes:
    """
    Return a usage map from hex, with the NACA bit that every command has.
    """
    usage = bytearray.fromhex(text)
    at = control_byte(usage[0])
    if at:
        usage[at] |= _NACA
    return bytes(usage)


Extent = Callable[[bytes], tuple[int, int, int]]
"""Decodes a CDB to (flags byte, LBA, blocks)."""

_CDB_10: Extent = Struct(">xBIxH").unpack_from
_CDB_12: Extent = Struct(">xBII").unpack_from
_CDB_16: Extent = Struct(">xBQI").unpack_from


def extent_6(cdb: bytes) -> tuple[int, int, int]:
    """
    Decode READ(6) and WRITE(6): 21 bits of LBA, 0 blocks says 256.
    """
    lba = int.from_bytes(cdb[1:4], "big") & 0x1FFFFF
    return 0, lba, cdb[4] or 256


_EXTENT_32 = Struct(">10xBxQ8xI").unpack_from


def extent_32(cdb: bytes) -> tuple[int, int, int]:
    """
    Decode a 32-byte CDB: its flags are in byte 10 (SBC-4 section 5.18, READ(32)).
    """
    if len(cdb) < 32:
        raise illegal_field(7, 7)
    return _EXTENT_32(cdb)


def flags_byte(cdb: bytes) -> int:
    """
    Return which byte of a CDB has its flags.
    """
    return 10 if cdb[0] == VARIABLE else 1


extent_10 = _CDB_10
extent_12 = _CDB_12
extent_16 = _CDB_16

DataOut = Callable[["LogicalUnit", Task], int]
"""Says how many bytes of Data-Out a decoded command needs."""


def blocks_out(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of a command that writes *blocks* blocks.
    """
    return task.blocks << unit.volume.block_shift


def list_out(at: int, size: int, most: int = 65535) -> DataOut:
    """
    Return the Data-Out of a command with a PARAMETER LIST LENGTH of *size* bytes; of
    more than *most* bytes none is taken in.
    """

    def length(unit: LogicalUnit, task: Task) -> int:  # noqa: ARG001 - as DataOut
        found = int.from_bytes(task.cdb[at : at + size], "big")
        if found > most:
            raise illegal_field(at, 7)
        return found

    return length


@attrs.frozen(eq=False)
class Command:
    """
    One row.
    """

    opcode: int
    service_action: int | None
    name: str
    usage: bytes
    """The CDB usage map (SPC-5, REPORT SUPPORTED OPERATION CODES)."""
    run: Run
    allow: Allow
    """What does not stop it (`Allow`)."""
    writes: bool
    extent: Extent | None
    """Decodes LBA and blocks, which are then checked against the capacity."""
    longest: str | None
    """Which of the volume's limits says how many blocks it takes."""
    data_out: DataOut | None
    """How many bytes of Data-Out it needs, if it has any."""
    exact: bool
    """Whether the initiator has to expect just as much Data-Out as it needs."""
    exists: Callable[[LogicalUnit], bool]
    """For which logical units the command is there at all."""
    timeout: int
    """How many seconds an initiator should wait for it (0: no word)."""
    also: Callable[[bytes], Allow] | None = None
    """What else does not stop a command with this CDB."""
    bidirectional: bool = False
    """Whether it has Data-In and Data-Out: its task is a `BidirectionalTask`."""
    reserved: int = attrs.field(init=False)
    """The bits of a CDB that must be zero."""
    kind: int = attrs.field(init=False)
    """Which counter the command adds to."""

    @reserved.default
    def _reserved(self) -> int:
        """Return the bits of a CDB of 16 bytes (or 32) that must be zero."""
        mask = bytes(~byte & 0xFF for byte in self.usage).ljust(16, b"\0")
        return int.from_bytes(b"\0" + mask[1:], "big")

    @kind.default
    def _kind(self) -> int:
        """Return which counter the command adds to."""
        return int(kind_of(self.opcode, self.service_action))

    @property
    def length(self) -> int:
        """The length of the CDB in bytes."""
        return len(self.usage)

    def check_reserved(self, cdb: bytes) -> CheckCondition | None:
        """
        Return INVALID FIELD IN CDB for the first reserved bit that is set.
        """
        size = max(16, self.length)
        if self.opcode == VARIABLE and (len(cdb) < size or cdb[7] != size - 8):
            return illegal_field(7, 7)
        wrong = int.from_bytes(cdb[:size].ljust(size, b"\0"), "big") & self.reserved
        if not wrong:
            return None
        highest = wrong.bit_length() - 1
        return illegal_field(size - 1 - highest // 8, highest % 8)


def wrong_direction() -> CheckCondition:
    """
    Return what ends a command whose initiator does not have its data go where the
    command has it go.
    """
    return CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.INVALID_MESSAGE_ERROR)


@lru_cache(maxsize=256)
def prioritized(row: Command, priority: int) -> Command:
    """
    Return a row that does the same, but calls the store with a command priority.
    """
    run = row.run

    def urgently(unit: LogicalUnit, task: Task) -> Outcome:
        before = command_priority.set(priority)
        try:
            return run(unit, task)
        finally:
            command_priority.reset(before)

    return attrs.evolve(row, run=urgently)


def answering(cdb: bytes, row: Command | None, run: Run) -> Command:
    """
    Return a row for a command that *run* answers in place of its own, if it has one.
    """
    if row is not None:
        return attrs.evolve(row, run=run)
    return Command(
        opcode=cdb[0],
        service_action=None,
        name=f"opcode {cdb[0]:02x}h",
        usage=b"\xff" * len(cdb),
        run=run,
        allow=Allow.NONE,
        writes=False,
        extent=None,
        longest=None,
        data_out=None,
        exact=False,
        exists=lambda _unit: True,
        timeout=0,
    )


Table = dict[int, "Command | dict[int, Command]"]
"""Rows by operation code; where there are service actions, by these."""

VARIABLE = 0x7F
"""The operation code of variable length CDBs (SPC-5 section 4.2.3)."""


@attrs.define
class CommandSet:
    """
    Rows declared by one module; `scstd.scsi.kinds` says which devices have them.
    """

    rows: list[Command] = attrs.field(factory=list)

    def command(
        self,
        opcode: int,
        name: str,
        usage: str,
        *,
        service_action: int | None = None,
        allow: Allow = Allow.NONE,
        also: Callable[[bytes], Allow] | None = None,
        writes: bool = False,
        extent: Extent | None = None,
        longest: str | None = None,
        data_out: DataOut | None = None,
        exact: bool = False,
        timeout: int = 0,
        bidirectional: bool = False,
        exists: Callable[[LogicalUnit], bool] = lambda _unit: True,
    ) -> Callable[[Run], Run]:
        """
        Declare the decorated function as the command's.  *usage* is the usage map in
        hex, the operation code in byte 0; NACA is added.
        """

        def declare(run: Run) -> Run:
            self.rows.append(
                Command(
                    opcode=opcode,
                    service_action=service_action,
                    name=name,
                    usage=_usage(usage),
                    run=run,
                    allow=allow,
                    writes=writes,
                    extent=extent,
                    longest=longest,
                    data_out=data_out,
                    exact=exact,
                    exists=exists,
                    timeout=timeout,
                    also=also,
                    bidirectional=bidirectional,
                )
            )
            return run

        return declare


def table(sets: Iterable[CommandSet], unit: LogicalUnit) -> Table:
    """
    Return the rows of *sets* that exist for *unit*, by operation code and service
    action.

    Those of 32 bytes have to be asked for (`LogicalUnit.long_cdbs`): SBC-4 has most of
    them only with type 2 protection information, which there is not.
    """
    found: Table = {}
    for one in sets:
        for row in one.rows:
            if not row.exists(unit):
                continue
            if row.opcode == VARIABLE and not unit.long_cdbs:
                continue
            if row.service_action is None:
                found[row.opcode] = row
            else:
                actions = found.setdefault(row.opcode, {})
                assert isinstance(actions, dict)
                actions[row.service_action] = row
    return found


def amend(rows: Table, one: CommandSet, unit: LogicalUnit) -> None:
    """
    Add or remove the rows of a set as they exist for *unit* now.
    """
    for row in one.rows:
        if row.service_action is None:
            rows.pop(row.opcode, None)
            continue
        actions = rows.get(row.opcode, {})
        assert isinstance(actions, dict)
        actions.pop(row.service_action, None)
        if not actions:
            rows.pop(row.opcode, None)
    for opcode, found in table((one,), unit).items():
        if isinstance(found, dict):
            there = rows.setdefault(opcode, {})
            assert isinstance(there, dict)
            there.update(found)
        else:
            rows[opcode] = found


def every(rows: Table) -> Iterator[Command]:
    """
    Yield every row of a table, by operation code and service action.
    """
    for _opcode, row in sorted(rows.items()):
        if isinstance(row, Command):
            yield row
        else:
            yield from (one for _action, one in sorted(row.items()))


def find(rows: Table, cdb: bytes) -> Command:
    """
    Return the row for this CDB.

    :raises CheckCondition: INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB for
        an unknown service action.
    """
    row = rows.get(cdb[0])
    if isinstance(row, dict):
        if cdb[0] == VARIABLE:
            action = row.get(int.from_bytes(cdb[8:10], "big"))
        else:
            action = row.get(cdb[1] & 0x1F)
        if action is None:
            raise illegal_field(8 if cdb[0] == VARIABLE else 1, 4)
        return action
    if row is None:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_COMMAND_OPERATION_CODE
        )
    return row
