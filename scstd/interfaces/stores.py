# SPDX-License-Identifier: MIT
"""
A backstore, and what it can do with its bytes besides reading and writing them.

Each but `IBackstore` is optional: providing it is what makes the device announce it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import Attribute, Interface

from scstd.interfaces.values import Buffer, Result


class IBackstore(Interface):
    """
    An open store of bytes: all that a disk needs.

    Offsets and lengths are bytes, multiples of `block_size`, inside `size`, and never
    of zero length: the device server has checked them.  Calls may overlap: a call may
    come before the Deferred of an earlier one has fired, in any number; the store
    need not order them.  After `close` is called no other call follows.
    """

    size: int = Attribute(
        "Capacity in bytes, a multiple of block_size; 0 only of an IRemovableMedium."
    )
    block_size: int = Attribute("Logical block length in bytes: 512 to 65536, 2^n.")

    def read(offset: int, length: int) -> Result[Buffer]:
        """
        Return exactly *length* bytes from *offset*: bytes, a bytearray or a memoryview.

        Bytes that were returned never change: bytes and read-only memoryviews are taken
        as they are, others are copied (but see `IGivenBuffers`).

        A store that finds fewer (its file was truncated) raises `MediumError`; it
        never makes up zeros for data that is gone.
        """

    def write(offset: int, data: Buffer, fua: bool) -> Result[None]:
        """
        Store *data* at *offset*.

        Done means that every later read sees it.  With *fua* (force unit access) done
        means that it survives a power failure too.  *data* stays unchanged until the
        result is there.
        """

    def flush() -> Result[None]:
        """
        Make every write that was done before this call survive a power failure.

        Once that has failed data may be lost, even if the next attempt succeeds: a
        store that cannot tell must fail every flush from then on.
        """

    def close() -> Result[None]:
        """
        Let go of what the store holds.  Everything written is kept.
        """


class IUnmap(Interface):
    """
    A backstore that can deallocate: thin provisioning.

    Providing it makes the device announce logical block provisioning (LBPME, VPD B2)
    and the UNMAP command exist.  Where the first piece that can be freed does not begin
    at offset 0, an attribute ``unmap_alignment`` says where, in bytes.
    """

    unmap_granularity: int = Attribute("Smallest piece that is really freed, bytes.")

    def unmap(offset: int, length: int) -> Result[None]:
        """
        Forget the bytes of this range; they read as zeros afterwards.

        What cannot be deallocated (unaligned edges) is overwritten with zeros.
        """


class IWriteZeroes(Interface):
    """
    A backstore that can write zeros faster than by being handed them.
    """

    def write_zeroes(offset: int, length: int, fua: bool) -> Result[None]:
        """
        Make this range read as zeros, allocated or not.
        """


@attrs.frozen
class Extent:
    """
    One run of bytes with the same provisioning state.
    """

    offset: int
    length: int
    mapped: bool


class IBlockStatus(Interface):
    """
    A backstore that knows which of its ranges are mapped.
    """

    def block_status(offset: int, length: int) -> Result[Sequence[Extent]]:
        """
        Return the extents of this range in order, without gaps, at least one.

        It may stop early: the extents returned need not cover the whole range.
        """


class IExtents(Interface):
    """
    A backstore that knows which of its ranges are mapped (`IBlockStatus`), and need not
    find out more of it than is asked for.

    Some initiators ask for one extent before each of their reads: a store that has to
    search had better provide this.  Of one that does not `IBlockStatus.block_status` is
    called, and what is too much of it is dropped.
    """

    def extents(offset: int, length: int, most: int) -> Result[Sequence[Extent]]:
        """
        Return the first extents of this range as `IBlockStatus.block_status` does: at
        least one, *most* of them at most.
        """


class ICompareAndWrite(Interface):
    """
    A backstore with an atomic compare-and-write of its own (a shared store).

    Without it the device server locks the range among its own commands.
    """

    def compare_and_write(
        offset: int, expected: Buffer, data: Buffer, fua: bool
    ) -> Result[int]:
        """
        Write *data* if the store holds *expected*; both have the same length.

        Return -1 when it did, else the offset of the first differing byte in the
        comparison.
        """


class ISpace(Interface):
    """
    A backstore that allocates from a space that it shares, and may find it full.
    """

    def space() -> Result[tuple[int, int]]:
        """
        Return how many bytes of the space are used, and how many there are in all.
        """


class IPrefetch(Interface):
    """
    A backstore with a cache that can be filled before its bytes are read.
    """

    prefetch_limit: int = Attribute("Bytes that can be expected to fit, at most.")

    def prefetch(offset: int, length: int) -> Result[None]:
        """
        Read this range into the cache; *length* is at most `prefetch_limit`.

        A hint: what cannot be read is found out when it is read.
        """


class ICopySource(Interface):
    """
    A backstore whose bytes are in an open file, from which an `ICopyTarget` can copy.
    """

    def place(offset: int, length: int) -> tuple[int, int] | None:
        """
        Return the file descriptor, and the offset there, of these bytes; None if they
        are not in one piece of one file.

        They stay there for as long as a read of them would take.
        """


class ICopyTarget(Interface):
    """
    A backstore that can take bytes from a file without being handed them: a copy in the
    kernel, or a clone.

    A filter that has to see what is read provides no `ICopySource`, and one that has to
    see what is written no `ICopyTarget`; `scstd.filters.base.Filtered` sees to both.
    """

    def copy_from(
        fd: int, source_offset: int, offset: int, length: int, fua: bool
    ) -> Result[bool]:
        """
        Copy *length* bytes from *source_offset* of the open file *fd* to *offset*, as
        `IBackstore.write` would.

        Return False if that cannot be done (another file system, ranges of one file
        that overlap): the bytes are then read and written.

        :raises OSError: it can be done, and failed.
        """
