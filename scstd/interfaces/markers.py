# SPDX-License-Identifier: MIT
"""
What a backstore says of itself by providing an interface: it has no method.
"""

from __future__ import annotations

from zope.interface import Interface


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


class IVolatile(Interface):
    """
    A marker: what a backstore holds is gone when it is closed.

    Who closes it on the way to something else says so first.
    """


class IOpticalDrive(Interface):
    """
    A marker: a backstore that is the medium of a CD/DVD drive: read only, blocks of
    2048 bytes.

    The device is a CD/DVD device (MMC-6) then, and not a disk.
    """
