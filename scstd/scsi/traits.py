# SPDX-License-Identifier: MIT
"""
What a logical unit is and can do: names, geometry, limits, what its store provides, and
the parameters that mode pages show and set.

`scstd.scsi.device` fills it in when a device is opened; commands and pages read it.
What happens at a unit is in `scstd.scsi.unit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.interfaces import (
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IPrefetch,
    IRemovableMedium,
    IUnmap,
    IWriteZeroes,
)
from scstd.scsi.command import Table
from scstd.scsi.identity import Identity

if TYPE_CHECKING:
    from scstd.scsi.alua import DeviceGroup


@attrs.define(eq=False, slots=False, repr=False)
class Traits:
    """
    The traits of one logical unit.

    Limits are in blocks but for *max_descriptors* (of UNMAP), *unmap_granularity* and
    *unmap_alignment* (bytes), and *max_tasks* (of one nexus at a time; 0: as many as
    its session lets through).
    """

    name: str
    store: IBackstore
    commands: Table = attrs.field(factory=dict)

    # What it is.
    device_type: int = 0
    vendor: str = "SCSTD"
    product: str = ""
    revision: str = "1"
    inquiry_specific: bytes = b""
    management_url: str = ""
    identity: Identity = attrs.field(factory=Identity.random)
    removable: bool = False
    rotational: bool = False
    read_only: bool = False
    always_through: bool = False

    # Its geometry and its limits.
    block_size: int = 512
    block_shift: int = 9
    blocks: int = 0
    physical_exponent: int = 0
    thin: bool = False
    erasable: bool = True
    long_cdbs: bool = False
    unmap_granularity: int = 0
    unmap_alignment: int = 0
    max_blocks: int = 0
    optimal_blocks: int = 0
    max_compared: int = 0
    max_atomic: int = 0
    max_same: int = 0
    max_unmapped: int = 0
    max_descriptors: int = 0
    max_tasks: int = 0

    # How it is reached (`scstd.scsi.alua`).
    access: DeviceGroup | None = None
    explicit_access: bool = False

    # What its store can do besides (`scstd.interfaces`).
    unmaps: IUnmap | None = None
    zeroes: IWriteZeroes | None = None
    compares: ICompareAndWrite | None = None
    block_status: IBlockStatus | None = None
    extents: IExtents | None = None
    prefetches: IPrefetch | None = None
    drive: IRemovableMedium | None = None
    copy_source: ICopySource | None = None
    copy_target: ICopyTarget | None = None

    # What mode pages show and set.
    descriptor_sense: bool = False
    separate_task_sets: bool = True
    software_write_protect: bool = False
    task_aborted_status: bool = False
    tmf_only: bool = False
    write_cache: bool = True
    queue_error: int = 0
    queue_algorithm: int = 1
    restricted_reordering: bool = False
    modes: dict[str, int] = attrs.field(factory=dict)
    default_modes: dict[str, int] = attrs.field(factory=dict)
    saved_modes: dict[str, int] = attrs.field(factory=dict)
    write_protected: bool = False

    def __repr__(self) -> str:
        """Return its name: it knows half of the system."""
        return f"<{type(self).__name__} {self.name}>"

    def modes_changed(self) -> None:
        """
        Act on what a mode page has set.
        """
        self.write_protected = self.read_only or self.software_write_protect
        self.restricted_reordering = not self.queue_algorithm

    def set_mode(self, name: str, value: int) -> None:
        """
        Set a mode parameter: one that acts is an attribute, others are kept in `modes`.
        """
        if name in self.modes:
            self.modes[name] = value
        else:
            setattr(self, name, type(getattr(self, name))(value))

    def mode(self, name: str) -> int:
        """
        Return the current value of a mode parameter.
        """
        found = self.modes.get(name)
        return int(getattr(self, name)) if found is None else found

    def restore_modes(self) -> None:
        """
        Set the saved mode parameters again, the default ones where none are saved.
        """
        for name, value in {**self.default_modes, **self.saved_modes}.items():
            self.set_mode(name, value)
        self.modes_changed()
