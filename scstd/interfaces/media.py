# SPDX-License-Identifier: MIT
"""
The medium of a backstore: which one it is, how large, and that it may change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

from scstd.interfaces.values import Result


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
