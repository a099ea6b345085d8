# SPDX-License-Identifier: MIT
"""
The contract of a backstore as tests: for ours, and for those of other packages.

Inherit from `BackstoreContract` and trial's ``TestCase``, say how a store is made, and
run it with trial::

    from twisted.trial.unittest import TestCase
    from scstd.testing.contracts import BackstoreContract

    class MyStoreTests(BackstoreContract, TestCase):
        async def open(self):
            return MyStore(...)

`open` returns a new store of at least 1 MiB that reads as zeros and may be written.
What the store provides besides `IBackstore` is tested too; for a drive there is
`RemovableContract`.

The store is called as the device server calls it, through `scstd.block.checked`: an
answer of the wrong type or length, and a Deferred or coroutine where there may be none,
fails the test with a `StoreFault` that says what came.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from scstd.block.checked import checked
from scstd.interfaces import (
    BLOCK_SIZES,
    Extent,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IMediumIdentity,
    IPrefetch,
    IRemovableMedium,
    ISpace,
    IUnmap,
    IWriteZeroes,
)
from scstd.results import settled


def _provides(store: Any, interface: Any) -> bool:
    return bool(interface.providedBy(store))


def _mapped(extents: Sequence[Extent], start: int = 0, end: int = 1 << 62) -> set[int]:
    """
    Return the numbers of the blocks of 512 bytes that are mapped, from *start* to
    *end*.
    """
    found: set[int] = set()
    for one in extents:
        if one.mapped:
            first, last = max(one.offset, start), min(one.offset + one.length, end)
            found.update(range(first >> 9, last >> 9))
    return found


class BackstoreContract:
    """
    What every backstore promises.
    """

    async def open(self) -> IBackstore:
        """
        Return a new store.
        """
        raise NotImplementedError

    async def _opened(self) -> Any:
        store: Any = checked(await self.open(), "contract")
        case: Any = self

        async def close() -> None:
            await settled(store.close())

        case.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return store

    async def test_provides(self) -> None:
        """It provides the interface, and each optional one that it says it does."""
        store = await self._opened()
        assert IBackstore.providedBy(store)

    async def test_sizes(self) -> None:
        """Its size is a multiple of its block length, which is one of SCSI's."""
        store = await self._opened()
        assert store.block_size in BLOCK_SIZES
        assert store.size >= 1 << 20
        assert not store.size % store.block_size

    async def test_zeros_at_first(self) -> None:
        """What was never written reads as zeros."""
        store = await self._opened()
        assert bytes(await settled(store.read(0, 65536))) == bytes(65536)

    async def test_read_what_was_written(self) -> None:
        """What was written is read, from the first byte to the last."""
        store = await self._opened()
        block = store.block_size
        for offset, data in (
            (0, b"a" * block),
            (store.size - block, b"z" * block),
            (8 * block, bytes(range(256)) * (16 * block // 256)),
        ):
            await settled(store.write(offset, memoryview(data), False))
            assert bytes(await settled(store.read(offset, len(data)))) == data
        await settled(store.write(0, b"b" * block, True))
        await settled(store.flush())
        assert bytes(await settled(store.read(0, block))) == b"b" * block

    async def test_length(self) -> None:
        """A read has exactly the length that was asked for."""
        store = await self._opened()
        for blocks in (1, 3, 64, 200):
            length = blocks * store.block_size
            assert len(await settled(store.read(store.block_size, length))) == length

    async def test_data_is_copied(self) -> None:
        """Once a write is done its buffer may be used again."""
        store = await self._opened()
        data = bytearray(b"x" * store.block_size)
        await settled(store.write(0, data, False))
        data[:] = bytes(len(data))
        found = bytes(await settled(store.read(0, store.block_size)))
        assert found == b"x" * store.block_size

    async def test_buffers_stay(self) -> None:
        """What was read stays what it was, whatever is read and written later."""
        store = await self._opened()
        length = 64 * store.block_size
        kept = []
        for number in range(4):
            await settled(store.write(0, bytes((number,)) * length, False))
            kept.append(await settled(store.read(0, length)))
        for number, data in enumerate(kept):
            assert bytes(data) == bytes((number,)) * length

    async def test_whole_range(self) -> None:
        """The last block can be read and written like the first, and all at once."""
        store = await self._opened()
        block = store.block_size
        length = min(store.size, 8 << 20)
        assert len(await settled(store.read(store.size - length, length))) == length
        await settled(store.write(store.size - block, b"e" * block, True))
        found = await settled(store.read(store.size - length, length))
        assert bytes(found)[-block:] == b"e" * block

    async def test_overlapping_calls(self) -> None:
        """Calls may overlap; each does its own."""
        store = await self._opened()
        block = store.block_size
        writes = [
            Deferred.fromCoroutine(
                settled(store.write(number * block, bytes((number,)) * block, False))
            )
            for number in range(100)
        ]
        await gatherResults(writes)
        reads = [
            Deferred.fromCoroutine(settled(store.read(number * block, block)))
            for number in range(100)
        ]
        found = await gatherResults(reads)
        for number, data in enumerate(found):
            assert bytes(data) == bytes((number,)) * block

    async def test_like_memory(self) -> None:
        """A thousand random calls leave it as they would leave memory."""
        store = await self._opened()
        block = store.block_size
        blocks = (1 << 20) // block
        chance = random.Random(7)
        expected = bytearray(1 << 20)
        kinds = ["write", "write", "read"]
        kinds += ["unmap"] if IUnmap.providedBy(store) else []
        kinds += ["zero"] if IWriteZeroes.providedBy(store) else []
        for _call in range(1000):
            at = chance.randrange(blocks)
            count = min(chance.randrange(1, 40), blocks - at)
            offset, length = at * block, count * block
            kind = chance.choice(kinds)
            if kind == "write":
                data = chance.randbytes(length)
                await settled(store.write(offset, data, False))
                expected[offset : offset + length] = data
            elif kind == "read":
                found = bytes(await settled(store.read(offset, length)))
                assert found == expected[offset : offset + length]
            elif kind == "unmap":
                await settled(store.unmap(offset, length))
                expected[offset : offset + length] = bytes(length)
            else:
                await settled(store.write_zeroes(offset, length, False))
                expected[offset : offset + length] = bytes(length)
        assert bytes(await settled(store.read(0, 1 << 20))) == expected

    async def test_block_status(self) -> None:
        """What is told of mapped blocks has no gaps and starts where it was asked."""
        store = await self._opened()
        if not _provides(store, IBlockStatus):
            return
        await settled(store.write(131072, b"x" * 65536, False))
        await settled(store.flush())
        extents = await settled(store.block_status(4096, 1 << 19))
        assert extents
        at = 4096
        for extent in extents:
            assert extent.offset == at
            assert extent.length > 0
            at += extent.length
        assert at <= 4096 + (1 << 19)
        mapped = [one for one in extents if one.mapped]
        covered = sum(
            min(one.offset + one.length, 196608) - max(one.offset, 131072)
            for one in mapped
            if one.offset < 196608 and one.offset + one.length > 131072
        )
        assert covered == 65536

    async def test_extents(self) -> None:
        """As many as are asked for, and the same as without a limit; always of now."""
        store = await self._opened()
        if not _provides(store, IExtents):
            return
        for offset in (0, 65536, 262144):
            await settled(store.write(offset, b"x" * 32768, False))
        for _again in range(2):
            whole = await settled(store.block_status(0, 1 << 20))
            for offset in (0, 4096, 32768, 65536, 98304, 512 << 10):
                for most in (1, 2, 3):
                    found = await settled(
                        store.extents(offset, (1 << 20) - offset, most)
                    )
                    assert 0 < len(found) <= most
                    assert found[0].offset == offset
                    end = found[-1].offset + found[-1].length
                    assert _mapped(found) == _mapped(whole, offset, end)
        if _provides(store, IUnmap):
            await settled(store.extents(65536, 4096, 1))
            await settled(store.unmap(65536, 32768))
            piece = max(store.unmap_granularity, 4096)
            if piece <= 32768 and not all(one.mapped for one in whole):
                (one,) = await settled(store.extents(65536, piece, 1))
                assert not one.mapped
            await settled(store.write(65536, b"y" * 4096, False))
            (one,) = await settled(store.extents(65536, 4096, 1))
            assert one.mapped

    async def test_compare_and_write(self) -> None:
        """It writes if it finds what is expected, else says where it differs."""
        store = await self._opened()
        if not _provides(store, ICompareAndWrite):
            return
        block = store.block_size
        done = await settled(
            store.compare_and_write(0, bytes(block), b"n" * block, True)
        )
        assert done == -1
        differs = b"n" * 100 + b"x" * (block - 100)
        done = await settled(store.compare_and_write(0, differs, bytes(block), False))
        assert done == 100
        assert bytes(await settled(store.read(0, block))) == b"n" * block

    async def test_copy_from(self) -> None:
        """What it copies by itself is there; what it does not, is untouched."""
        store = await self._opened()
        if not _provides(store, ICopyTarget) or not _provides(store, ICopySource):
            return
        block = store.block_size
        data = random.Random(8).randbytes(64 * block)
        await settled(store.write(8 * block, data, False))
        for offset, fua in ((128 * block, False), (256 * block, True)):
            place = store.place(8 * block, 64 * block)
            if place is None:
                continue
            copied = await settled(store.copy_from(*place, offset, 64 * block, fua))
            expected = data if copied else bytes(64 * block)
            assert bytes(await settled(store.read(offset, 64 * block))) == expected
            before = bytes(await settled(store.read(offset - block, block)))
            after = bytes(await settled(store.read(offset + 64 * block, block)))
            assert before == after == bytes(block)

    async def test_prefetch(self) -> None:
        """Prefetching changes nothing."""
        store = await self._opened()
        if not _provides(store, IPrefetch):
            return
        await settled(store.write(0, b"p" * 65536, False))
        length = min(65536, store.prefetch_limit // store.block_size * store.block_size)
        await settled(store.prefetch(0, length))
        assert bytes(await settled(store.read(0, 65536))) == b"p" * 65536

    async def test_space(self) -> None:
        """Of a space no more is used than there is."""
        store = await self._opened()
        if not _provides(store, ISpace):
            return
        used, total = await settled(store.space())
        assert 0 <= used <= total

    async def test_medium_identity(self) -> None:
        """Writing does not change which medium it is."""
        store = await self._opened()
        if not _provides(store, IMediumIdentity):
            return
        before = await settled(store.medium_identity())
        assert before is None or (isinstance(before, str) and before)
        await settled(store.write(0, b"i" * store.block_size, True))
        assert await settled(store.medium_identity()) == before


class RemovableContract:
    """
    What every store with a removable medium promises.
    """

    async def open(self) -> IBackstore:
        """
        Return a new drive, without a medium.
        """
        raise NotImplementedError

    async def media(self) -> tuple[str, bytes, str, bytes]:
        """
        Return the names of two media, and what is in their first block; the blocks are
        different.
        """
        raise NotImplementedError

    async def _opened(self) -> tuple[Any, list[int]]:
        """
        Return a drive, and the list of sizes at each change.
        """
        store: Any = checked(await self.open(), "contract")
        case: Any = self

        async def close() -> None:
            await settled(store.close())

        case.addCleanup(lambda: Deferred.fromCoroutine(close()))
        told: list[int] = []
        store.on_medium(lambda: told.append(store.size))
        return store, told

    async def test_empty(self) -> None:
        """Without a medium it is open, and has no size."""
        store, told = await self._opened()
        assert IBackstore.providedBy(store)
        assert IRemovableMedium.providedBy(store)
        assert (store.size, store.medium, told) == (0, "", [])

    async def test_change(self) -> None:
        """A change is told when the size is the new one; the bytes are its bytes."""
        store, told = await self._opened()
        one, first, two, second = await self.media()
        for name, data in ((one, first), (two, second), (one, first)):
            await settled(store.change(name))
            assert store.medium == name
            assert told[-1] == store.size > 0
            assert bytes(await settled(store.read(0, store.block_size))) == data
        await settled(store.change(""))
        assert (store.size, store.medium) == (0, "")
        assert (len(told), told[-1]) == (4, 0)

    async def test_no_such_medium(self) -> None:
        """When there is no such medium the one before stays in."""
        store, told = await self._opened()
        one, first, two, _second = await self.media()
        await settled(store.change(one))
        try:
            await settled(store.change(two + "-that-is-not-there"))
        except ValueError as error:
            assert str(error)
        else:
            raise AssertionError("it was changed")
        assert store.medium == one
        assert len(told) == 1
        assert bytes(await settled(store.read(0, store.block_size))) == first

    async def test_eject_and_load(self) -> None:
        """What was ejected can be loaded again; what is not there cannot."""
        store, told = await self._opened()
        one, first, _two, _second = await self.media()
        await settled(store.change(one))
        await settled(store.eject())
        assert (store.size, store.medium) == (0, one)
        await settled(store.load())
        await settled(store.load())
        assert bytes(await settled(store.read(0, store.block_size))) == first
        assert told == [store.size, 0, store.size]
        await settled(store.change(""))
        try:
            await settled(store.load())
        except OSError as error:
            assert error.errno == errno.ENOMEDIUM
        else:
            raise AssertionError("nothing was loaded")

    async def test_reads_under_way(self) -> None:
        """Reads that overlap a change end with the old bytes, or fail; never mix."""
        store, _told = await self._opened()
        one, first, two, second = await self.media()
        await settled(store.change(one))
        length = store.block_size
        before = [store.read(0, length) for _each in range(20)]
        changing = store.change(two)
        for read in before:
            try:
                found = bytes(await settled(read))
            except OSError as error:
                assert error.errno == errno.ENOMEDIUM
            else:
                assert found == first
        await settled(changing)
        assert bytes(await settled(store.read(0, length))) == second
