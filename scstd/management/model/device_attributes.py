# SPDX-License-Identifier: MIT
"""
The attributes that every device has, whatever its handler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scstd.attributes import Attribute, Effect, Flag, Integer, Size, Text
from scstd.interfaces import IDeviceHandler
from scstd.management.model.filters import FilterLine
from scstd.management.model.value_kinds import NAA, Ascii, Hex, Never, SCSIName

DEVICE_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute("read_only", Flag(), False, "Refuse writes."),
    Attribute(
        "removable",
        Flag(),
        False,
        "The medium can be ejected (RMB).",
        effect=Effect.LIVE,
    ),
    Attribute(
        "rotational", Flag(), True, "Report a rotating medium.", effect=Effect.LIVE
    ),
    Attribute(
        "thin_provisioned",
        Flag(),
        None,
        "Announce UNMAP; when not set, if the store can deallocate.",
    ),
    Attribute(
        "tp_soft_threshold",
        Integer(1, 100),
        None,
        "Percent of the file system in use at which initiators are warned (38/07).",
    ),
    Attribute(
        "lb_per_pb_exp",
        Flag(),
        True,
        "Report physical blocks of 4096 bytes.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "opt_trans_len",
        Size(512),
        524288,
        "Optimal transfer length in bytes.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "max_trans_len",
        Size(512, 32 << 20),
        8 << 20,
        "Most bytes that one READ or WRITE may move.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "max_write_same_len",
        Integer(1, 0xFFFFFFFF),
        None,
        "Most blocks that one WRITE SAME may fill; not set: 65535, or 256 MiB.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "atomic_max_len",
        Integer(1, 65535),
        None,
        "Most blocks that one WRITE ATOMIC may write; not set: 1 MiB.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "max_unmap_lba_count",
        Integer(1, 0xFFFFFFFF),
        1 << 20,
        "Most blocks that one UNMAP may deallocate, if the device is thin.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "max_unmap_block_desc_count",
        Integer(1, 4095),
        256,
        "Most ranges that one UNMAP may have.",
        effect=Effect.LIVE,
    ),
    Attribute("tst", Integer(0, 1), 1, "0: one task set for all; 1: one a nexus."),
    Attribute(
        "max_tgt_dev_commands",
        Integer(0, 65535),
        0,
        "Commands that one session may have at it at a time (TASK SET FULL); 0: all"
        " that QueuedCommands lets through.",
    ),
    Attribute(
        "expl_alua",
        Flag(),
        False,
        "Let initiators change access states (explicit ALUA).",
    ),
    Attribute(
        "pr_ignore_isid",
        Flag(),
        False,
        "Persistent registrations belong to an initiator's name, whatever its ISID.",
    ),
    Attribute(
        "cluster_mode",
        Never(
            "there is no cluster_mode: reservations are not shared with other nodes,"
            " and hosts that fence by them would lose data"
        ),
        False,
        "Share reservations with other nodes, as SCST can: not here.",
    ),
    Attribute(
        "active",
        Flag(),
        True,
        "Have its store open; with 0 it is closed, and its LUNs are not ready.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "bind_alua_state",
        Flag(),
        None,
        "Close its store while no target group with a target of ours is active or"
        " nonoptimized; when not set: 1 for vdisk_blockio, 0 for others, as in SCST.",
        effect=Effect.LIVE,
    ),
    Attribute("erase_commands", Flag(), True, "Have FORMAT UNIT and SANITIZE."),
    Attribute("long_cdbs", Flag(), False, "Have the block commands of 32 bytes."),
    Attribute(
        "t10_vend_id", Ascii(8), None, "T10 vendor identification.", effect=Effect.LIVE
    ),
    Attribute(
        "prod_id", Ascii(16), None, "Product identification.", effect=Effect.LIVE
    ),
    Attribute(
        "prod_rev_lvl", Ascii(4), None, "Product revision level.", effect=Effect.LIVE
    ),
    Attribute("usn", Ascii(20), None, "Unit serial number.", effect=Effect.LIVE),
    Attribute("naa_id", NAA(), None, "NAA designator.", effect=Effect.LIVE),
    Attribute(
        "eui64_id", Hex((8, 12, 16)), None, "EUI-64 designator.", effect=Effect.LIVE
    ),
    Attribute(
        "t10_dev_id",
        Ascii(25),
        None,
        "T10 vendor ID based designator.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "vend_specific_id",
        Ascii(128),
        None,
        "Vendor specific designator.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "state_key",
        Ascii(100),
        None,
        "The name under which its identity and saved pages are kept; else its own.",
    ),
    Attribute(
        "scsi_device_name",
        SCSIName(),
        None,
        "SCSI name of the target device; when not set, the target's name.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "inq_vend_specific",
        Ascii(160),
        None,
        "Vendor specific INQUIRY data: at byte 36, or 96 if longer than 20.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "management_url",
        Text(1024, "a URL"),
        None,
        "Where the device is managed, for initiators that ask (VPD page 85h).",
        effect=Effect.LIVE,
    ),
    Attribute(
        "filter",
        FilterLine(),
        None,
        "A filter before the store: NAME param=value ...; the last is the outermost.",
        repeats=True,
    ),
)
"""Attributes that a device has whatever its handler."""


def device_rows(handler: IDeviceHandler) -> list[Attribute[Any]]:
    """
    Return all attributes of a handler's devices: its parameters first, then those of
    `DEVICE_ATTRIBUTES` that it does not define itself.
    """
    own = list(handler.parameters())
    names = {row.name for row in own}
    return own + [row for row in DEVICE_ATTRIBUTES if row.name not in names]
