# SPDX-License-Identifier: MIT
"""
What can be changed of a device while initiators use it, and what they are told then.

A row a kind of change: the attributes, what changes, and the unit attention.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from scstd.scsi.identity import Identity
from scstd.scsi.sense import ASC
from scstd.scsi.unit import LogicalUnit

Change = Callable[[LogicalUnit, Mapping[str, Any]], Any]

_NEW = LogicalUnit("")
"""A unit as it is before anything is configured."""


def _names(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(identity=Identity.of(uuid.UUID(bytes=unit.identity.uuid), values))


def _vendor(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(vendor=values["t10_vend_id"] or _NEW.vendor)


def _product(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(product=values["prod_id"] or unit.name)


def _revision(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(revision=values["prod_rev_lvl"] or _NEW.revision)


def _medium(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(
        removable=bool(values["removable"]), rotational=bool(values["rotational"])
    )


def _inquiry(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.describe(
        inquiry_specific=(values["inq_vend_specific"] or "").encode(),
        management_url=values["management_url"] or "",
    )


def _volume(unit: LogicalUnit, values: Mapping[str, Any]) -> None:
    unit.configure(values)


def _size(unit: LogicalUnit, values: Mapping[str, Any]) -> Any:
    resizing = unit.volume.can.resize
    return None if resizing is None else resizing.resize(values["size"])


_CHANGES: Mapping[str, tuple[Change, ASC | None]] = {
    **dict.fromkeys(
        (
            "usn",
            "naa_id",
            "eui64_id",
            "t10_dev_id",
            "vend_specific_id",
            "scsi_device_name",
        ),
        (_names, ASC.INQUIRY_DATA_HAS_CHANGED),
    ),
    "t10_vend_id": (_vendor, ASC.INQUIRY_DATA_HAS_CHANGED),
    "prod_id": (_product, ASC.INQUIRY_DATA_HAS_CHANGED),
    "prod_rev_lvl": (_revision, ASC.INQUIRY_DATA_HAS_CHANGED),
    "inq_vend_specific": (_inquiry, ASC.INQUIRY_DATA_HAS_CHANGED),
    "management_url": (_inquiry, ASC.INQUIRY_DATA_HAS_CHANGED),
    "removable": (_medium, ASC.INQUIRY_DATA_HAS_CHANGED),
    "rotational": (_medium, ASC.INQUIRY_DATA_HAS_CHANGED),
    **dict.fromkeys(
        (
            "opt_trans_len",
            "max_trans_len",
            "max_write_same_len",
            "atomic_max_len",
            "max_unmap_lba_count",
            "max_unmap_block_desc_count",
        ),
        (_volume, ASC.INQUIRY_DATA_HAS_CHANGED),
    ),
    "lb_per_pb_exp": (_volume, ASC.CAPACITY_DATA_HAS_CHANGED),
    "read_only": (_volume, ASC.MODE_PARAMETERS_CHANGED),
    # The store itself tells of its new size (`IResizeNotice`).
    "size": (_size, None),
}


def changeable(unit: LogicalUnit, attribute: str) -> bool:
    """
    Say whether an attribute of an open device can be given another value.
    """
    if attribute == "read_only":
        return not unit.volume.can.read_only
    if attribute == "filename":
        return unit.volume.can.drive is not None
    if attribute == "size":
        return unit.volume.can.resize is not None
    return attribute in _CHANGES


def change(
    unit: LogicalUnit, attribute: str, values: Mapping[str, Any]
) -> Deferred[Any] | None:
    """
    Have a unit take over an attribute from *values*, and tell its initiators.

    :raises ConfigurationError: the store refuses.
    """
    call, told = _CHANGES[attribute]
    done = call(unit, values)
    if told is not None:
        unit.attention(told)
    return done if isinstance(done, Deferred) else None
