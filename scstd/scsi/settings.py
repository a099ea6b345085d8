# SPDX-License-Identifier: MIT
"""
What a person may configure of a logical unit; without a word each is as here.

Management fills it in: which attribute of a device is which field is in the attribute's
row (`scstd.management.model.device_attributes`).
"""

from __future__ import annotations

import attrs

from scstd.block.settings import VolumeSettings


@attrs.frozen(kw_only=True)
class UnitSettings(VolumeSettings):
    """
    What is configured of a logical unit and of its volume (`LogicalUnit.configure`).
    """

    # What it says of itself; it may have other words while it is in use.
    vendor: str = "SCSTD"
    """T10 VENDOR IDENTIFICATION."""
    product: str = ""
    """PRODUCT IDENTIFICATION; else its name."""
    revision: str = "1"
    """PRODUCT REVISION LEVEL."""
    inquiry_specific: str = ""
    """The vendor specific bytes of standard INQUIRY data, in ASCII."""
    management_url: str = ""
    """The network address of VPD page 85h."""
    removable: bool = False
    """Its medium can be taken out (RMB)."""
    rotational: bool = False
    """Its medium rotates, or is to look like that."""

    # Who it is (`scstd.scsi.identity`); what is empty is made of its UUID, or left out.
    serial: str = ""
    """The unit serial number."""
    naa: str = ""
    """The NAA designator, in hex digits."""
    eui64: str = ""
    """The EUI-64 designator, in hex digits."""
    t10: str = ""
    """The T10 vendor ID based designator."""
    vendor_specific: str = ""
    """The vendor specific designator."""
    device_name: str = ""
    """The SCSI name of the target device."""

    # What is settled when it is opened.
    block_size: int = attrs.field(default=512, converter=int)
    """Bytes of a block, of one without its medium."""
    write_through: bool = False
    """It has no write cache."""
    erasable: bool = True
    """Initiators may format and sanitize it."""
    long_cdbs: bool = False
    """It has the 32-byte commands."""
    max_tasks: int = 0
    """Tasks of one nexus at a time; 0: as many as its session lets through."""
    explicit_access: bool = False
    """Initiators may change access states."""
    separate_task_sets: bool = attrs.field(default=True, converter=bool)
    """Each nexus has a task set of its own."""
    registered_by_name: bool = False
    """Persistent registrations are an initiator's, whatever its ISID."""
