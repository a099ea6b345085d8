# SPDX-License-Identifier: MIT
"""
What can be done to a target's LUN maps and groups while initiators are logged in.

Each operation changes the map and has every session follow it (`Target.reassign`): a
session whose map did not change notices nothing.  What is taken away is drained:
new commands find no logical unit, those under way end as if nothing had happened, and
what takes longer than `PATIENCE` is aborted.  A store that does not end even then is
not waited for: no initiator sees the LUN any more, and its device cannot be closed yet.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import attrs

from scstd.management.errors import TreeError, absent, present
from scstd.management.model.configuration import MAX_LUN
from scstd.management.model.names import check_path_name
from scstd.management.monitor.patience import Patience
from scstd.scsi.luns import Group, Lun
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit

PATIENCE = 10.0
"""Seconds that a LUN which is taken away waits for its commands."""

ABORTED = 5.0
"""Seconds that it waits for them when they are aborted: a store may hang."""


@attrs.define(eq=False)
class Maps:
    """
    The operations; *reactor* is for the patience.
    """

    reactor: Any

    # Groups.

    def group(self, target: Target, name: str) -> Group:
        """
        Return a group.

        :raises TreeError: there is none (ENOENT).
        """
        for group in target.groups:
            if group.name == name:
                return group
        raise absent("group", name, [one.name for one in target.groups])

    def _map(self, target: Target, group: str) -> dict[int, Lun]:
        return self.group(target, group).luns if group else target.luns

    def create_group(self, target: Target, name: str) -> None:
        """
        Add a group without patterns or LUNs, behind the others.
        """
        check_path_name(name)
        if name in {group.name for group in target.groups}:
            raise present("group", name)
        target.add_group(name, ())

    async def remove_group(self, target: Target, name: str) -> None:
        """
        Remove a group; its sessions are given another map.
        """
        target.groups.remove(self.group(target, name))
        await self.follow(target)

    async def order_groups(self, target: Target, names: Sequence[str]) -> None:
        """
        Have the groups asked in this order.
        """
        if sorted(names) != sorted(one.name for one in target.groups):
            raise TreeError(errno.EINVAL, "expected the name of each group, once")
        target.groups.sort(key=lambda one: names.index(one.name))
        await self.follow(target)

    async def add_initiator(self, target: Target, group: str, pattern: str) -> None:
        """
        Add a pattern to a group.
        """
        check_path_name(pattern)
        patterns = self.group(target, group).patterns
        if pattern in patterns:
            raise present("initiator", pattern)
        patterns.append(pattern)
        await self.follow(target)

    async def remove_initiator(self, target: Target, group: str, pattern: str) -> None:
        """
        Remove a pattern from a group.
        """
        patterns = self.group(target, group).patterns
        if pattern not in patterns:
            raise absent("initiator", pattern, patterns)
        patterns.remove(pattern)
        await self.follow(target)

    async def move_initiator(
        self, target: Target, group: str, pattern: str, to: str
    ) -> None:
        """
        Move a pattern to another group; sessions change their map once.
        """
        before, after = self.group(target, group), self.group(target, to)
        if pattern not in before.patterns:
            raise absent("initiator", pattern, before.patterns)
        if pattern in after.patterns:
            raise present("initiator", pattern)
        before.patterns.remove(pattern)
        after.patterns.append(pattern)
        await self.follow(target)

    async def clear_initiators(self, target: Target, group: str) -> None:
        """
        Remove every pattern of a group.
        """
        self.group(target, group).patterns.clear()
        await self.follow(target)

    # LUNs; the group "" is the default map.

    async def add_lun(
        self,
        target: Target,
        group: str,
        lun: int,
        unit: LogicalUnit,
        *,
        read_only: bool,
    ) -> None:
        """
        Add a LUN.
        """
        luns = self._map(target, group)
        if not 0 <= lun <= MAX_LUN:
            raise TreeError(errno.EINVAL, f"expected a LUN from 0 to {MAX_LUN}")
        if lun in luns:
            raise present("LUN", str(lun))
        luns[lun] = Lun(unit, read_only)
        await self.follow(target)

    async def replace_lun(
        self,
        target: Target,
        group: str,
        lun: int,
        unit: LogicalUnit,
        *,
        read_only: bool,
        quiet: bool = False,
    ) -> None:
        """
        Put another device, or none other but *read_only*, at a LUN.
        """
        luns = self._map(target, group)
        if lun not in luns:
            raise absent("LUN", str(lun), sorted(luns))
        luns[lun] = Lun(unit, read_only)
        await self.follow(target, quiet=quiet)

    async def remove_lun(self, target: Target, group: str, lun: int) -> None:
        """
        Take a LUN away.
        """
        luns = self._map(target, group)
        if lun not in luns:
            raise absent("LUN", str(lun), sorted(luns))
        del luns[lun]
        await self.follow(target)

    async def clear_luns(self, target: Target, group: str) -> None:
        """
        Take every LUN away.
        """
        self._map(target, group).clear()
        await self.follow(target)

    # Sessions.

    async def follow(self, target: Target, *, quiet: bool = False) -> None:
        """
        Have the sessions of a target follow its maps; wait for what is taken away.
        """
        over = target.reassign(tell=not quiet)
        if over.called:
            await over
            return
        late = self.reactor.callLater(PATIENCE, _abort, target)
        try:
            await Patience(self.reactor).within(
                PATIENCE + ABORTED,
                over,
                lambda: (
                    f"commands of LUNs that were taken from {target.qualified_name}"
                ),
            )
        finally:
            if late.active():
                late.cancel()


def _abort(target: Target) -> None:
    for nexus in target.nexuses:
        for itl in list(nexus.leaving):
            itl.unit.abort(itl.unit.tasks_of(itl), lambda: None)
