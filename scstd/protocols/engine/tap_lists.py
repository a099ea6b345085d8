# SPDX-License-Identifier: MIT
"""
Taps for several connections: those of a node, of a target or one of its groups, of a
session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine.tapped import Maker, TapRank

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


@attrs.define(eq=False)
class Attachment:
    """
    A tap for several connections.
    """

    make: Maker
    """Makes the tap of each."""
    _list: TapList
    _group: str | None = None
    """Only for sessions of the group of this name."""

    def is_for(self, connection: Connection) -> bool:
        """
        Say whether a connection has it.
        """
        if self._group is None:
            return True
        session = connection.session
        group = None if session is None else session.nexus.group
        return group is not None and group.name == self._group

    def detach(self) -> None:
        """
        Take it off all of them.
        """
        self._list.remove(self)


@attrs.define(eq=False, repr=False)
class TapList:
    """
    The taps for the connections of a node, a target or a session.
    """

    rank: TapRank
    _connections: Callable[[], Iterable[Connection]]
    """Return the connections there are now."""
    attachments: list[Attachment] = attrs.field(factory=list)

    def attach(self, make: Maker, *, group: str | None = None) -> Attachment:
        """
        Attach a tap to each connection there is, and to those that come: *make* makes
        it, or returns None.  With *group* it is for sessions of this group of
        initiators alone, while they are in it.
        """
        made = Attachment(make, self, group)
        self.attachments.append(made)
        self._review()
        return made

    def remove(self, attachment: Attachment) -> None:
        """
        Take an attachment off.
        """
        if attachment in self.attachments:
            self.attachments.remove(attachment)
            self._review()

    def _review(self) -> None:
        for connection in list(self._connections()):
            connection.taps.review()
