# SPDX-License-Identifier: MIT
"""
A volume: blocks on a store, below every command set.

It has the store, behind the checks of its contract (`scstd.block.checked`), what that
can do besides, its geometry, and how much one command may do; it tells who stands on it
when the size or the medium changes.  It knows no CDB, no sense data and no initiator.
The SCSI device server stands on it (`scstd.scsi.unit.LogicalUnit.volume`), and another
command set can, also at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.block.capabilities import Capabilities
from scstd.block.checked import checked
from scstd.block.counters import Counters
from scstd.block.limits import Limits
from scstd.block.nothing import Nothing
from scstd.block.range_locks import AtWork, RangeLocks
from scstd.block.settings import VolumeSettings
from scstd.interfaces import IBackstore, Result
from scstd.results import settled

_log = Logger()

_NONE = VolumeSettings()


class Frontend(AtWork, Protocol):
    """
    Whoever stands on a volume, and serves it to others: a logical unit, say.
    """

    def resized(self) -> None:
        """
        Take in that `Volume.blocks` has changed because the store has grown or shrunk.
        """

    def medium_changed(self) -> None:
        """
        Take in another medium: `Volume.blocks` is the new number already (0: there is
        none), and nothing else has been read.
        """


@attrs.define(eq=False, repr=False)
class Volume:
    """
    One store, as blocks.

    It is made by `Volume.on`.  Nobody but it writes to its fields.
    """

    name: str
    """What it is called in the log: the name of the device."""
    store: IBackstore = attrs.field(factory=Nothing)
    """What is called for its bytes: a `scstd.block.checked.Checked`."""
    can: Capabilities = attrs.field(factory=Capabilities)
    """What the store can do besides."""
    block_size: int = 512
    """Bytes of a logical block, a power of two."""
    block_shift: int = 9
    """Its binary logarithm."""
    blocks: int = 0
    """How many blocks there are now; 0 of a drive without a medium."""
    physical_exponent: int = 0
    """The binary logarithm of the logical blocks in a physical one."""
    read_only: bool = False
    """It is not to be written: the store cannot be, or it is configured so."""
    limits: Limits = attrs.field(factory=Limits)
    """How much one command may do."""
    counters: Counters = attrs.field(factory=Counters)
    """What was asked of it."""
    space: tuple[int, int] = (0, 0)
    """The last answer of `ask_space`."""
    locks: RangeLocks = attrs.field(factory=RangeLocks)
    """Who is alone on some of its blocks."""
    _frontends: list[Frontend] = attrs.field(factory=list)
    """Who stands on it."""

    @classmethod
    def on(cls, name: str, store: Any, settings: VolumeSettings = _NONE) -> Volume:
        """
        Return a volume on a store that was opened, as it is configured.

        :raises ValueError: the store does not provide what it says, or its sizes are
            impossible.
        """
        store = checked(store, name)
        made = cls._of(name, store, Capabilities.of(store), settings)
        if made.can.resize_notice is not None:
            made.can.resize_notice.on_resize(lambda _size: made.resized())
        if made.can.drive is not None:
            made.can.drive.on_medium(made.medium_changed)
        return made

    @classmethod
    def without_medium(
        cls,
        name: str,
        block_size: int,
        settings: VolumeSettings = _NONE,
        *,
        optical: bool = False,
    ) -> Volume:
        """
        Return a volume whose store, that of an *optical* drive perhaps, is not there.
        """
        can = Capabilities(optical=optical)
        return cls._of(name, Nothing(block_size), can, settings)

    @classmethod
    def _of(
        cls,
        name: str,
        store: IBackstore,
        can: Capabilities,
        settings: VolumeSettings,
    ) -> Volume:
        if settings.thin is False or can.optical:
            can = attrs.evolve(can, unmaps=None)
        shift = store.block_size.bit_length() - 1
        made = cls(name, store, can, store.block_size, shift, store.size >> shift)
        made.configure(settings)
        return made

    def __repr__(self) -> str:
        """Return its name."""
        return f"<{type(self).__name__} {self.name}>"

    def configure(self, settings: VolumeSettings) -> None:
        """
        Take over what is configured, and can be changed while it is in use: physical
        blocks, limits, whether it is read only.
        """
        # Disks of 512-byte blocks on today's media and page caches are 512e.
        large = settings.large_physical_blocks
        self.physical_exponent = max(12 - self.block_shift, 0) if large else 0
        self.read_only = self.can.read_only or self.can.optical or settings.read_only
        self.limits = Limits.of(settings, self.block_shift, thin=self.thin)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.blocks << self.block_shift

    @property
    def thin(self) -> bool:
        """Whether it is thin provisioned: what it has can be deallocated."""
        return self.can.unmaps is not None

    @property
    def unmap_granularity(self) -> int:
        """The smallest piece that is deallocated, in bytes; 0 of one that is thick."""
        unmap = self.can.unmaps
        return 0 if unmap is None else max(unmap.unmap_granularity, self.block_size)

    @property
    def unmap_alignment(self) -> int:
        """Where the first such piece begins, in bytes."""
        return int(getattr(self.can.unmaps, "unmap_alignment", 0))

    def ask_space(self) -> Result[tuple[int, int]]:
        """
        Ask the store how many bytes are used of what it allocates from, and how many
        there are (`ISpace`); of one that does not know return zeros.
        """
        if self.can.space is None:
            return self.space
        space = self.can.space.space()
        if isinstance(space, Deferred):
            return space.addCallback(self._take_space)
        return self._take_space(space)

    def _take_space(self, space: tuple[int, int]) -> tuple[int, int]:
        self.space = space
        return space

    # Who stands on it.

    def join(self, frontend: Frontend) -> None:
        """
        Have a frontend stand on it: it is told what changes, and waited for by those
        who must be alone.
        """
        self._frontends.append(frontend)
        self.locks.join(frontend)

    def leave(self, frontend: Frontend) -> None:
        """
        Let a frontend go, which makes no request any more.
        """
        if frontend in self._frontends:
            self._frontends.remove(frontend)
            self.locks.leave(frontend)

    def hold(self, owner: object) -> Deferred[None]:
        """
        Have nobody but *owner* start a request until `release`; fire when none is under
        way.  Who holds it already is waited for.
        """
        return self.locks.acquire(owner)

    def release(self, owner: object) -> None:
        """
        Let everybody go on.
        """
        self.locks.release(owner)

    # What changes.

    def resized(self) -> None:
        """
        Take in the store's new size.
        """
        self.blocks = self.store.size >> self.block_shift
        self._tell([one.resized for one in self._frontends])

    def medium_changed(self) -> None:
        """
        Take in that the store has another medium, or none.
        """
        self.blocks = self.store.size >> self.block_shift
        self._tell([one.medium_changed for one in self._frontends])

    def _tell(self, calls: list[Callable[[], object]]) -> None:
        """
        Tell all who stand on it: one that breaks keeps no other from hearing of it.
        """
        for call in calls:
            self._call(call)

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - a defect of one of them
            _log.failure("{volume}: a change was not taken in", volume=self.name)

    # The end.

    async def close(self) -> None:
        """
        Flush and close the store, which nobody is to call any more.
        """
        try:
            if not self.read_only:
                await settled(self.store.flush())
        finally:
            await settled(self.store.close())
