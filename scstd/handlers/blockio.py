# SPDX-License-Identifier: MIT
"""
The device handler vdisk_blockio: a disk on a block device, or in a file that is there.

It is vdisk_fileio (SCST passes the page cache by with it; here what is flushed is as
durable with it), but that it never makes a file: where a disk belongs, a file of its
name is one in the wrong file system, empty, and in the way of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import Attribute
from scstd.handlers import fileio
from scstd.handlers.openfile import check_file
from scstd.interfaces import IBackstore

_SIZE = (
    "Capacity: a file that is smaller grows, a larger one is as it is; none is made."
)

PARAMETERS: Sequence[Attribute[Any]] = tuple(
    attrs.evolve(row, help=_SIZE) if row.name == "size" else row
    for row in fileio.PARAMETERS
)


def check(device: str, parameters: Mapping[str, Any]) -> None:
    """
    See what `open` would find.

    :raises ConfigurationError: it cannot be used as configured.
    """
    del device
    check_file(parameters, make=False)


def open(  # noqa: A001 - the name of the interface
    reactor: Any, device: str, parameters: Mapping[str, Any]
) -> Deferred[IBackstore]:
    """
    Open what is there, in a thread.

    The Deferred fails with `ConfigurationError` if it cannot be used as configured.
    """
    return fileio.opened(reactor, device, parameters, make=False)
