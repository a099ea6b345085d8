# SPDX-License-Identifier: MIT
"""
The attributes that every device has, whatever its handler, and those parameters of
handlers that mean something outside of them.

A row is all there is to one: how it is written, which field of the settings of the
logical unit it is (`scstd.scsi.settings.UnitSettings`), and what initiators are told
when it changes.  Whoever needs the name of one for something else has it from the row.
To add one that can be changed at any time takes the row here, the field there, and the
place that acts on it (`LogicalUnit.configure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from scstd.attributes import Attribute, Effect, Flag, Integer, Numbers, Size, Text
from scstd.interfaces import BLOCK_SIZES, IDeviceHandler
from scstd.management.model.filters import FilterLine
from scstd.management.model.value_kinds import NAA, Ascii, Hex, Never, SCSIName
from scstd.scsi.sense import ASC
from scstd.scsi.settings import UnitSettings

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit


@attrs.frozen
class DeviceAttribute(Attribute[Any]):
    """
    The row of an attribute of a device.
    """

    field: str = attrs.field(default="", kw_only=True)
    """The field of `UnitSettings` that it is; none of what only management acts on."""
    told: ASC | None = attrs.field(default=None, kw_only=True)
    """The unit attention that initiators get when it changes."""
    unique: bool = attrs.field(default=False, kw_only=True)
    """Hosts tell devices apart by it: no two may have the same."""
    when: Callable[[LogicalUnit], bool] | None = attrs.field(default=None, kw_only=True)
    """Whether it can be changed of a unit that is open, where this depends on that."""

    def changeable(self, unit: LogicalUnit) -> bool:
        """
        Say whether a unit that is open takes another value.
        """
        if self.when is not None:
            return self.when(unit)
        return bool(self.field) and self.effect is Effect.LIVE


READ_ONLY = DeviceAttribute(
    "read_only",
    Flag(),
    False,
    "Refuse writes.",
    field="read_only",
    told=ASC.MODE_PARAMETERS_CHANGED,
    when=lambda unit: not unit.volume.can.read_only,
)

SOFT_THRESHOLD = DeviceAttribute(
    "tp_soft_threshold",
    Integer(1, 100),
    None,
    "Percent of the file system in use at which initiators are warned (38/07).",
)

MAX_COMMANDS = DeviceAttribute(
    "max_tgt_dev_commands",
    Integer(0, 65535),
    0,
    "Commands that one session may have at it at a time (TASK SET FULL); 0: all"
    " that QueuedCommands lets through.",
    field="max_tasks",
)

ACTIVE = DeviceAttribute(
    "active",
    Flag(),
    True,
    "Have its store open; with 0 it is closed, and its LUNs are not ready.",
    effect=Effect.LIVE,
)

BIND_ALUA_STATE = DeviceAttribute(
    "bind_alua_state",
    Flag(),
    None,
    "Close its store while no target group with a target of ours is active or"
    " nonoptimized; when not set: 1 for vdisk_blockio, 0 for others, as in SCST.",
    effect=Effect.LIVE,
)

STATE_KEY = DeviceAttribute(
    "state_key",
    Ascii(100),
    None,
    "The name under which its identity and saved pages are kept; else its own.",
)

FILTERS = DeviceAttribute(
    "filter",
    FilterLine(),
    None,
    "A filter before the store: NAME param=value ...; the last is the outermost.",
    repeats=True,
)

DEVICE_ATTRIBUTES: Sequence[DeviceAttribute] = (
    READ_ONLY,
    DeviceAttribute(
        "removable",
        Flag(),
        False,
        "The medium can be ejected (RMB).",
        effect=Effect.LIVE,
        field="removable",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "rotational",
        Flag(),
        True,
        "Report a rotating medium.",
        effect=Effect.LIVE,
        field="rotational",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "thin_provisioned",
        Flag(),
        None,
        "Announce UNMAP; when not set, if the store can deallocate.",
        field="thin",
    ),
    SOFT_THRESHOLD,
    DeviceAttribute(
        "lb_per_pb_exp",
        Flag(),
        True,
        "Report physical blocks of 4096 bytes.",
        effect=Effect.LIVE,
        field="large_physical_blocks",
        told=ASC.CAPACITY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "opt_trans_len",
        Size(512),
        524288,
        "Optimal transfer length in bytes.",
        effect=Effect.LIVE,
        field="optimal_transfer",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "max_trans_len",
        Size(512, 32 << 20),
        8 << 20,
        "Most bytes that one READ or WRITE may move.",
        effect=Effect.LIVE,
        field="max_transfer",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "max_write_same_len",
        Integer(1, 0xFFFFFFFF),
        None,
        "Most blocks that one WRITE SAME may fill; not set: 65535, or 256 MiB.",
        effect=Effect.LIVE,
        field="max_same",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "atomic_max_len",
        Integer(1, 65535),
        None,
        "Most blocks that one WRITE ATOMIC may write; not set: 1 MiB.",
        effect=Effect.LIVE,
        field="max_atomic",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "max_unmap_lba_count",
        Integer(1, 0xFFFFFFFF),
        1 << 20,
        "Most blocks that one UNMAP may deallocate, if the device is thin.",
        effect=Effect.LIVE,
        field="max_unmapped",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "max_unmap_block_desc_count",
        Integer(1, 4095),
        256,
        "Most ranges that one UNMAP may have.",
        effect=Effect.LIVE,
        field="max_descriptors",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "tst",
        Integer(0, 1),
        1,
        "0: one task set for all; 1: one a nexus.",
        field="separate_task_sets",
    ),
    MAX_COMMANDS,
    DeviceAttribute(
        "expl_alua",
        Flag(),
        False,
        "Let initiators change access states (explicit ALUA).",
        field="explicit_access",
    ),
    DeviceAttribute(
        "pr_ignore_isid",
        Flag(),
        False,
        "Persistent registrations belong to an initiator's name, whatever its ISID.",
        field="registered_by_name",
    ),
    DeviceAttribute(
        "cluster_mode",
        Never(
            "there is no cluster_mode: reservations are not shared with other nodes,"
            " and hosts that fence by them would lose data"
        ),
        False,
        "Share reservations with other nodes, as SCST can: not here.",
    ),
    ACTIVE,
    BIND_ALUA_STATE,
    DeviceAttribute(
        "erase_commands",
        Flag(),
        True,
        "Have FORMAT UNIT and SANITIZE.",
        field="erasable",
    ),
    DeviceAttribute(
        "long_cdbs",
        Flag(),
        False,
        "Have the block commands of 32 bytes.",
        field="long_cdbs",
    ),
    DeviceAttribute(
        "t10_vend_id",
        Ascii(8),
        None,
        "T10 vendor identification.",
        effect=Effect.LIVE,
        field="vendor",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "prod_id",
        Ascii(16),
        None,
        "Product identification.",
        effect=Effect.LIVE,
        field="product",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "prod_rev_lvl",
        Ascii(4),
        None,
        "Product revision level.",
        effect=Effect.LIVE,
        field="revision",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "usn",
        Ascii(20),
        None,
        "Unit serial number.",
        effect=Effect.LIVE,
        field="serial",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
        unique=True,
    ),
    DeviceAttribute(
        "naa_id",
        NAA(),
        None,
        "NAA designator.",
        effect=Effect.LIVE,
        field="naa",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
        unique=True,
    ),
    DeviceAttribute(
        "eui64_id",
        Hex((8, 12, 16)),
        None,
        "EUI-64 designator.",
        effect=Effect.LIVE,
        field="eui64",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
        unique=True,
    ),
    DeviceAttribute(
        "t10_dev_id",
        Ascii(25),
        None,
        "T10 vendor ID based designator.",
        effect=Effect.LIVE,
        field="t10",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
        unique=True,
    ),
    DeviceAttribute(
        "vend_specific_id",
        Ascii(128),
        None,
        "Vendor specific designator.",
        effect=Effect.LIVE,
        field="vendor_specific",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    STATE_KEY,
    DeviceAttribute(
        "scsi_device_name",
        SCSIName(),
        None,
        "SCSI name of the target device; when not set, the target's name.",
        effect=Effect.LIVE,
        field="device_name",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "inq_vend_specific",
        Ascii(160),
        None,
        "Vendor specific INQUIRY data: at byte 36, or 96 if longer than 20.",
        effect=Effect.LIVE,
        field="inquiry_specific",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    DeviceAttribute(
        "management_url",
        Text(1024, "a URL"),
        None,
        "Where the device is managed, for initiators that ask (VPD page 85h).",
        effect=Effect.LIVE,
        field="management_url",
        told=ASC.INQUIRY_DATA_HAS_CHANGED,
    ),
    FILTERS,
)
"""Attributes that a device has whatever its handler."""

FILENAME = DeviceAttribute(
    "filename",
    Text(),
    None,
    "What it is made of.",
    when=lambda unit: unit.volume.can.drive is not None,
)

SIZE = DeviceAttribute(
    "size",
    Size(),
    None,
    "Its size; the store tells of another one.",
    when=lambda unit: unit.volume.can.resize is not None,
)

PARAMETERS: Sequence[DeviceAttribute] = (
    FILENAME,
    SIZE,
    DeviceAttribute(
        "blocksize",
        Numbers(BLOCK_SIZES),
        512,
        "Bytes of a block.",
        field="block_size",
    ),
    DeviceAttribute(
        "write_through", Flag(), False, "No write cache.", field="write_through"
    ),
)
"""Parameters that mean the same of each handler that has them, in its own words."""

UNIQUE = tuple(row.name for row in DEVICE_ATTRIBUTES if row.unique)
"""The names of those by which hosts tell devices apart."""

_KNOWN = {row.name: row for row in (*DEVICE_ATTRIBUTES, *PARAMETERS)}


_made: dict[str, tuple[Sequence[Attribute[Any]], list[DeviceAttribute]]] = {}
"""What `device_rows` has made of a handler's table, by the handler's name."""


def device_rows(handler: IDeviceHandler) -> list[DeviceAttribute]:
    """
    Return all attributes of a handler's devices: its parameters first, then those of
    `DEVICE_ATTRIBUTES` that it does not define itself.
    """
    table = handler.parameters()
    known = _made.get(handler.name)
    if known is None or known[0] is not table:
        own = [_device_row(row) for row in table]
        names = {row.name for row in own}
        every = [*own, *(row for row in DEVICE_ATTRIBUTES if row.name not in names)]
        known = _made[handler.name] = table, every
    return list(known[1])


def _device_row(row: Attribute[Any]) -> DeviceAttribute:
    """
    Return the row of a handler's parameter: what it means is known here, if anywhere.
    """
    known = _KNOWN.get(row.name)
    said = {one.name: getattr(row, one.name) for one in attrs.fields(Attribute)}
    return DeviceAttribute(**said) if known is None else attrs.evolve(known, **said)


def unit_settings(values: Mapping[str, Any]) -> UnitSettings:
    """
    Return the settings of a logical unit, from the values of a device's attributes: of
    those that are set.
    """
    said = {row.field: values.get(row.name) for row in _KNOWN.values() if row.field}
    return UnitSettings(
        **{field: value for field, value in said.items() if value is not None}
    )
