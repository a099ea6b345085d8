# SPDX-License-Identifier: MIT
"""
The device handler vdisk_fileio: a disk in a file or on a block device.

The file is locked (flock) for as long as it is open: two writers of one image destroy
it.  Any number of devices that only read it may share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides

from scstd.attributes import Attribute, Flag, Numbers, Size, Text
from scstd.blocking import Lane
from scstd.handlers.filestore import FileStore
from scstd.handlers.openfile import check_file, open_file
from scstd.interfaces import BLOCK_SIZES, IBackstore, IReadOnly

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("filename", Text(), None, "File or block device.", required=True),
    Attribute(
        "size",
        Size(512),
        None,
        "A file that is not there is made, sparse, of this size; a smaller one grows, a"
        " larger one is as it is.",
    ),
    Attribute(
        "blocksize",
        Numbers(BLOCK_SIZES),
        512,
        "Logical block length in bytes.",
    ),
    Attribute("read_only", Flag(), False, "Refuse writes."),
    Attribute(
        "write_through",
        Flag(),
        False,
        "Make each write durable before it is answered (WCE=0).",
    ),
)


def check(device: str, parameters: Mapping[str, Any]) -> None:
    """
    See what `open` would find.

    :raises ConfigurationError: it cannot be used as configured.
    """
    del device
    check_file(parameters)


def open(  # noqa: A001 - the name of the interface
    reactor: Any, device: str, parameters: Mapping[str, Any]
) -> Deferred[IBackstore]:
    """
    Open the file, or make it, in a thread.

    The Deferred fails with `ConfigurationError` if it cannot be used as configured.
    """
    return opened(reactor, device, parameters, make=True)


def opened(
    reactor: Any, device: str, parameters: Mapping[str, Any], *, make: bool
) -> Deferred[IBackstore]:
    """
    Open the file in a thread; with *make* it is made if it has a size and is not there.
    """
    return Deferred.fromCoroutine(_open(reactor, device, parameters, make))


async def _open(
    reactor: Any, device: str, parameters: Mapping[str, Any], make: bool
) -> IBackstore:
    lane = Lane(reactor, f"{device} open")
    try:
        found = await lane.call(open_file, parameters, make)
    finally:
        await lane.close()
    store = FileStore(reactor, device, found, parameters["blocksize"])
    if parameters["read_only"]:
        alsoProvides(store, IReadOnly)
    elif parameters["write_through"]:
        store.write_through()
    return IBackstore(store)
