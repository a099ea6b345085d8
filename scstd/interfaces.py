# SPDX-License-Identifier: MIT
"""
Every zope interface: the whole contract between scstd and other people's packages.

A *device handler* opens a *backstore*: bytes at offsets.  A *filter* wraps a
backstore and overrides what it changes.  A *target driver* listens on some transport
and brings commands to the SCSI core.  Each is a plugin: an object in a module under
``twisted/plugins`` that provides one of the ``…Handler``, ``…Filter`` or ``…Driver``
interfaces below and is named by a word in configuration.

**Value or Deferred.**  Wherever a method is annotated `Result`, it returns the value
itself or a `twisted.internet.defer.Deferred` that fires with it.  Return the value
when you have it: it is an order of magnitude cheaper.  Never block the reactor: what
may wait goes to a thread (see `scstd.blocking`).

**Errors.**  A method that fails raises, or fires its Deferred with, an `OSError` whose
``errno`` says why; the device server turns it into sense data (EIO: MEDIUM ERROR;
ENOSPC: SPACE ALLOCATION FAILED; EROFS: WRITE PROTECTED; ...; `scstd.scsi.sense` has the
table).  A store that knows where it failed raises `MediumError`.  Any other exception
is logged with its traceback and answered HARDWARE ERROR; so is any other answer than
the one that is promised here, in one line of the log.

**Coroutines.**  A method annotated `Result` may be an ``async def``, and so may
`IDeviceHandler.open` and `IFilter.wrap`.  It awaits Deferreds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, Union

import attrs
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from scstd.attributes import Attribute as Row

T = TypeVar("T")

command_priority: ContextVar[int] = ContextVar("command_priority", default=0)
"""
The priority of the command for which a store is called, 1 (the highest) to 15; 0 if it
has none.  A store whose calls wait may let those of a high priority go first
(`scstd.blocking.Lane` does).  It is set while a command makes its first call.
"""

Result = Union[T, "Deferred[T]"]
"""What a backstore's methods return: the value, or a Deferred that fires with it."""

Buffer = bytes | bytearray | memoryview
"""
Bytes as they travel.  Who receives one may read it, never change it, and who hands one
out, not either: it may be sent long after it was returned.
"""


BLOCK_SIZES = tuple(512 << exponent for exponent in range(8))
"""Logical block lengths that a disk may have, in bytes: 512 to 65536."""


class MediumError(OSError):
    """
    An error whose place is known: *offset*, in bytes, is the first byte that is wrong.

    The initiator is told the LBA of that (INFORMATION), not the first of its command.
    """

    def __init__(
        self, offset: int, number: int = errno.EIO, text: str | None = None
    ) -> None:
        super().__init__(number, text or os.strerror(number))
        self.offset = offset


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


class IReadOnly(Interface):
    """
    A marker: a backstore that cannot be written.

    Write commands are then refused (DATA PROTECT) before they reach it, and MODE
    SENSE reports write protection.
    """


class IWriteThrough(Interface):
    """
    A marker: a backstore whose every write survives a power failure once done.

    The caching mode page then reports WCE=0; flush may do nothing.
    """


class IGivenBuffers(Interface):
    """
    A marker: a backstore that gives away what `IBackstore.read` returns: not a byte of
    it changes afterwards, for as long as anybody has it.

    Of other stores what could change is copied: a bytearray, and a memoryview of
    something that can be written.
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


class ISpace(Interface):
    """
    A backstore that allocates from a space that it shares, and may find it full.
    """

    def space() -> Result[tuple[int, int]]:
        """
        Return how many bytes of the space are used, and how many there are in all.
        """


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


class IMediumIdentity(Interface):
    """
    A backstore that can tell its medium from every other.

    What is remembered of a medium (a sanitize operation that was interrupted, an atomic
    write that a crash has cut in two) is gone on with on that medium alone: when
    another one is opened under the device's name it is put aside.  A store without this
    is taken to have the same medium for as long as its handler, its parameters and its
    size stay the same.
    """

    def medium_identity() -> Result[str | None]:
        """
        Return what this medium alone has, and has after every restart: a short text.

        It stays when the medium grows, is renamed or is written to; a copy has another
        one, and so has what was put in its place.  None if that cannot be told: then
        nothing is ever gone on with.
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


class IResizeNotice(Interface):
    """
    A backstore whose size may change while it is open.
    """

    def on_resize(call: Any) -> None:
        """
        Have ``call(new_size)`` called whenever `IBackstore.size` has changed.
        """

    def resync_size() -> Result[None]:
        """
        Look at the medium's size again, and tell if it has changed.
        """


class IResize(Interface):
    """
    A backstore whose size a person can change while it is open.
    """

    def resize(size: int) -> Result[None]:
        """
        Change `IBackstore.size`, and tell (`IResizeNotice`).

        :raises ConfigurationError: it cannot have this size.
        """


class IRemovableMedium(Interface):
    """
    A backstore that is a drive: its medium can be taken out, and another put in, while
    it is open.

    The device is removable then (RMB).  Without a medium `IBackstore.size` is 0 and
    nothing is read or written.  Initiators eject and load with START STOP UNIT, people
    change the medium; whether that may be, and who is told, is the device server's.

    A call that was made before the medium changed belongs to the medium it was made
    for: it ends with that medium's bytes, or fails with OSError(ENOMEDIUM); never with
    bytes of the other one.
    """

    medium: str = Attribute(
        "What belongs into the drive (a path, a volume); empty for nothing.  An"
        " initiator's eject leaves it, and its load brings it back."
    )

    def change(medium: str) -> Result[None]:
        """
        Take the medium out, if one is in, and put the named one in; with an empty name
        none.  When it fails everything is as before.

        :raises ConfigurationError: there is no such medium, or it cannot be read.
        """

    def eject() -> Result[None]:
        """
        Take the medium out.
        """

    def load() -> Result[None]:
        """
        Put `medium` in, if it is not.

        :raises OSError: (ENOMEDIUM) there is nothing to put in.
        """

    def on_medium(call: Callable[[], None]) -> None:
        """
        Have ``call()`` called at each change of the medium, whatever the reason: when
        `IBackstore.size` is the new one already, and before anything else is read.
        """


class IOpticalDrive(Interface):
    """
    A marker: a backstore that is the medium of a CD/DVD drive: read only, blocks of
    2048 bytes.

    The device is a CD/DVD device (MMC-6) then, and not a disk.
    """


class IDeviceHandler(IPlugin):
    """
    A plugin that opens backstores: ``HANDLER <name> { DEVICE ... }`` in scst.conf.

    Plugin modules are imported by every twistd command: they must be light.  Use
    `scstd.plugin.DeviceHandler`, which imports the real code when it is first needed.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-handlers.")

    def parameters() -> Sequence[Row[Any]]:
        """
        Return the table of parameters that `open` understands.
        """

    def open(
        reactor: Any, device: str, parameters: Mapping[str, Any]
    ) -> Result[IBackstore]:
        """
        Open a backstore for the device named *device*.

        *parameters* holds a checked value for every row of `parameters`.

        :raises ConfigurationError: it cannot be done as configured.
        :raises OSError: it cannot be done now.
        """


class ICheckedHandler(Interface):
    """
    Of a device handler (optional): it can say without opening a device what would be
    wrong with that.
    """

    def check(device: str, parameters: Mapping[str, Any]) -> None:
        """
        See what `IDeviceHandler.open` would find, as far as that can be seen without
        changing, writing or locking anything.  It may be called while the device is
        open, and may wait.

        :raises ConfigurationError: it cannot be done as configured.
        :raises OSError: it cannot be done now.
        """


class IVolatile(Interface):
    """
    A marker: what a backstore holds is gone when it is closed.

    Who closes it on the way to something else says so first.
    """


class IFilter(IPlugin):
    """
    A plugin that wraps a backstore: ``filter "<name> param=value ..."`` in a DEVICE.

    The object that `wrap` returns provides IBackstore and every optional interface of
    the inner store, unless it is the filter's purpose to hide one.
    `scstd.filters.base.Filtered` does that: override only what you change.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-filters.")

    def parameters() -> Sequence[Row[Any]]:
        """
        Return the table of parameters that `wrap` understands.
        """

    def wrap(
        reactor: Any, device: str, store: IBackstore, parameters: Mapping[str, Any]
    ) -> Result[IBackstore]:
        """
        Return a store that stands before *store*; closing it closes *store*.

        :raises ConfigurationError: it cannot be done as configured.
        """


class ITargetDriver(IPlugin):
    """
    A plugin that brings commands from some transport to the SCSI core:
    ``TARGET_DRIVER <name> { TARGET ... }`` in scst.conf.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-drivers.")

    def attributes() -> Sequence[Row[Any]]:
        """
        Return the table of the driver's own attributes.
        """

    def target_attributes() -> Sequence[Row[Any]]:
        """
        Return the table of attributes of each of its targets.
        """

    def group_attributes() -> Sequence[Row[Any]]:
        """
        Return the table of what it knows of each group of initiators, besides what the
        core does: none repeats.
        """

    def open(reactor: Any, settings: Mapping[str, Any]) -> ITargetDriverInstance:
        """
        Return a driver ready for targets and listening, not yet listening.
        """


class ITargetDriverInstance(Interface):
    """
    A target driver at work.  The service tree calls it in the order written here.
    """

    def add_target(target: Any, settings: Mapping[str, Any]) -> None:
        """
        Accept initiators for *target* (`scstd.scsi.target.Target`) from now on.
        """

    def remove_target(name: str) -> Result[None]:
        """
        Let nobody in to this target any more and end its sessions; done means that no
        command of theirs can touch data.
        """

    def attributes() -> Mapping[str, Any]:
        """
        Return the driver's own attributes as they are now.
        """

    def set(name: str, value: Any) -> None:
        """
        Give one of the driver's own attributes another value.
        """

    def attributes_of(target: str) -> Mapping[str, Any]:
        """
        Return a target's attributes as they are now.
        """

    def set_attribute(target: str, name: str, value: Any) -> None:
        """
        Give an attribute of a target another value; when it acts is in its row.
        """

    def group_changed(target: str) -> None:
        """
        Act on what has changed in the values (`scstd.scsi.luns.Group.values`) of a
        target's groups.
        """

    def listen(endpoint: str) -> Result[Any]:
        """
        Listen on a Twisted server endpoint string; fire with an IListeningPort.
        """

    def unlisten(port: Any) -> Result[None]:
        """
        Stop listening on what `listen` fired with; sessions stay.
        """

    def urls() -> Sequence[str]:
        """
        Return a URL for each LUN of each enabled target on the first portal, as a local
        initiator is to be given it.
        """

    def sessions() -> Sequence[Any]:
        """
        Return the sessions now logged in.

        Each has the attributes *initiator* (its name) and *nexus*
        (`scstd.scsi.nexus.Nexus`).
        """

    def report(session: Any) -> Mapping[str, Any]:
        """
        Return what there is to say of a session: negotiated values, counters.
        """

    def end_session(session: Any, why: str) -> Result[None]:
        """
        End a session; done means that none of its commands can touch data.
        """

    def stop() -> Result[None]:
        """
        Stop listening, end every session, and fire when no command can touch data.
        """


class IReporting(Interface):
    """
    A target driver at work that tells of events: sessions that open and close, logins
    that are refused, task management.
    """

    def report_to(report: Callable[..., None]) -> None:
        """
        Call ``report(NAME, field=value, ...)`` at each event from now on.  Values are
        strings, numbers or None, and never a secret.
        """
