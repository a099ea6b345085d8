# SPDX-License-Identifier: MIT
"""
What a logical unit is: its names, the volume it stands on, and the parameters that mode
pages show and set.

`scstd.scsi.device` fills it in when a device is opened; commands and pages read it.
What happens at a unit is in `scstd.scsi.unit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs

from scstd.block.volume import Volume
from scstd.interfaces import IBackstore
from scstd.scsi.command import Table
from scstd.scsi.identity import Identity
from scstd.scsi.settings import UnitSettings

if TYPE_CHECKING:
    from scstd.scsi.alua import DeviceGroup


_DESCRIBING = frozenset(("removable", "access", "explicit_access"))
"""What may change while a unit is in use, and nobody configures or sets by a page."""


def _no_medium(traits: Any) -> Volume:
    return Volume(traits.name)


@attrs.define(eq=False, slots=False, repr=False)
class Traits:
    """
    The traits of one logical unit.
    """

    name: str
    volume: Volume = attrs.field(default=attrs.Factory(_no_medium, takes_self=True))
    """What it stands on: its store, what that can do, geometry and limits."""
    commands: Table = attrs.field(factory=dict)

    # What it is.
    device_type: int = 0
    """Its peripheral device type."""
    vendor: str = "SCSTD"
    """T10 VENDOR IDENTIFICATION."""
    product: str = ""
    """PRODUCT IDENTIFICATION."""
    revision: str = "1"
    """PRODUCT REVISION LEVEL."""
    inquiry_specific: bytes = b""
    """The vendor specific bytes of standard INQUIRY data."""
    management_url: str = ""
    """The network address of VPD page 85h."""
    identity: Identity = attrs.field(factory=Identity.random)
    """What its designators are made of."""
    removable: bool = False
    """Its medium can be taken out (RMB)."""
    rotational: bool = False
    """Its medium rotates, or is to look like that."""
    erasable: bool = True
    """Initiators may format and sanitize it."""
    long_cdbs: bool = False
    """It has the 32-byte commands."""
    max_tasks: int = 0
    """Tasks of one nexus at a time; 0: as many as its session lets through."""

    # How it is reached (`scstd.scsi.alua`).
    access: DeviceGroup | None = None
    """The group whose access states are its own."""
    explicit_access: bool = False
    """Initiators may change these."""

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

    @property
    def store(self) -> IBackstore:
        """What its volume calls for bytes."""
        return self.volume.store

    @property
    def blocks(self) -> int:
        """How many blocks its volume has now."""
        return self.volume.blocks

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self.volume.block_size

    @property
    def block_shift(self) -> int:
        """The binary logarithm of that."""
        return self.volume.block_shift

    def __repr__(self) -> str:
        """Return its name: it knows half of the system."""
        return f"<{type(self).__name__} {self.name}>"

    def configure(self, settings: UnitSettings) -> None:
        """
        Take over what is configured, and can be changed while it is in use: its names,
        what it says of itself, and what is its volume's (`Volume.configure`).
        """
        self.identity = Identity.of(UUID(bytes=self.identity.uuid), settings)
        self.vendor = settings.vendor
        self.product = settings.product or self.name
        self.revision = settings.revision
        self.inquiry_specific = settings.inquiry_specific.encode()
        self.management_url = settings.management_url
        can = self.volume.can
        self.removable = settings.removable or can.optical or can.drive is not None
        self.rotational = settings.rotational
        self.volume.configure(settings)
        self.modes_changed()

    def describe(self, **fields: Any) -> None:
        """
        Change what it is said to be beside what is configured: how it is reached, and
        that its medium can be taken out.
        """
        for name, value in fields.items():
            assert name in _DESCRIBING, name
            setattr(self, name, value)

    def save_modes(self, saved: Mapping[str, int]) -> None:
        """
        Have these be its saved mode parameters, by name.
        """
        self.saved_modes = dict(saved)

    def modes_changed(self) -> None:
        """
        Act on what a mode page has set.
        """
        self.write_protected = self.volume.read_only or self.software_write_protect
        self.restricted_reordering = not self.queue_algorithm
        self.look_again()

    def look_again(self) -> None:
        """
        Have whoever depends on what it is see it again.
        """

    def set_mode(self, name: str, value: int) -> None:
        """
        Set a mode parameter: one that acts is an attribute, others are kept in `modes`.
        """
        if name in self.modes:
            self.modes[name] = value
        else:
            setattr(self, name, type(getattr(self, name))(value))
            self.look_again()

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
