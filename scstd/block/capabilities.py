# SPDX-License-Identifier: MIT
"""
What a store can do besides reading and writing: each optional interface of
`scstd.interfaces` is asked for once, here, when a volume is made of a store.

A row an interface.  What is to be called is the store itself, or None where it does not
provide it; what is only a marker is true or false.  Who wants to know what a store can
do looks at its volume's `Capabilities`, and asks no store.
"""

from __future__ import annotations

from typing import Any

import attrs

from scstd.interfaces import (
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IKnowsAsker,
    IMediumIdentity,
    IOpticalDrive,
    IPrefetch,
    IReadOnly,
    IRemovableMedium,
    IResize,
    IResizeNotice,
    ISessions,
    ISpace,
    IUnmap,
    IVolatile,
    IWriteThrough,
    IWriteZeroes,
)

_ASKED = "interface"
"""Under which a capability has the interface that is asked for."""


@attrs.frozen(eq=False, kw_only=True)
class Capabilities:
    """
    What one store can do besides.
    """

    unmaps: IUnmap | None = attrs.field(default=None, metadata={_ASKED: IUnmap})
    """Deallocating.  A volume that is not to be thin has none."""
    zeroes: IWriteZeroes | None = attrs.field(
        default=None, metadata={_ASKED: IWriteZeroes}
    )
    """Zeros without being handed them."""
    compares: ICompareAndWrite | None = attrs.field(
        default=None, metadata={_ASKED: ICompareAndWrite}
    )
    """Its own atomic compare-and-write, for others have the store, too."""
    block_status: IBlockStatus | None = attrs.field(
        default=None, metadata={_ASKED: IBlockStatus}
    )
    """Which ranges are mapped."""
    extents: IExtents | None = attrs.field(default=None, metadata={_ASKED: IExtents})
    """The same, and no more of it than is asked for."""
    prefetches: IPrefetch | None = attrs.field(
        default=None, metadata={_ASKED: IPrefetch}
    )
    """A cache that can be filled."""
    copy_source: ICopySource | None = attrs.field(
        default=None, metadata={_ASKED: ICopySource}
    )
    """A file that can be copied from."""
    copy_target: ICopyTarget | None = attrs.field(
        default=None, metadata={_ASKED: ICopyTarget}
    )
    """Copying from a file."""
    space: ISpace | None = attrs.field(default=None, metadata={_ASKED: ISpace})
    """How full is what it allocates from."""
    resize_notice: IResizeNotice | None = attrs.field(
        default=None, metadata={_ASKED: IResizeNotice}
    )
    """Telling of another size."""
    resize: IResize | None = attrs.field(default=None, metadata={_ASKED: IResize})
    """Being given another size."""
    drive: IRemovableMedium | None = attrs.field(
        default=None, metadata={_ASKED: IRemovableMedium}
    )
    """A drive, whose medium can be taken out."""
    medium_identity: IMediumIdentity | None = attrs.field(
        default=None, metadata={_ASKED: IMediumIdentity}
    )
    """What tells its medium from every other."""
    sessions: ISessions | None = attrs.field(default=None, metadata={_ASKED: ISessions})
    """Being told of the sessions at the volume."""

    read_only: bool = attrs.field(default=False, metadata={_ASKED: IReadOnly})
    """It cannot be written."""
    write_through: bool = attrs.field(default=False, metadata={_ASKED: IWriteThrough})
    """What is written is durable."""
    volatile: bool = attrs.field(default=False, metadata={_ASKED: IVolatile})
    """What it holds is gone when it is closed."""
    optical: bool = attrs.field(default=False, metadata={_ASKED: IOpticalDrive})
    """It is the medium of a CD/DVD drive."""
    asked: bool = attrs.field(default=False, metadata={_ASKED: IKnowsAsker})
    """It wants to know who asks."""

    @classmethod
    def of(cls, store: Any) -> Capabilities:
        """
        Return what a store can do.
        """
        found: dict[str, Any] = {}
        for one in attrs.fields(cls):
            provided = one.metadata[_ASKED].providedBy(store)
            marker = one.default is False
            found[one.name] = provided if marker else (store if provided else None)
        return cls(**found)
