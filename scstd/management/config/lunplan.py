# SPDX-License-Identifier: MIT
"""
The part of a plan (`scstd.management.config.plan`) that is about LUN maps and groups of
initiators.

A LUN whose device is closed goes before it, or has one that is there already put at it;
what is new comes when its device is open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import attrs

from scstd.management.config.steps import Step, named
from scstd.management.model.attribute_tables import LUN_READ_ONLY
from scstd.management.model.configuration import LunConfiguration, TargetConfiguration


@attrs.frozen
class LunPlan:
    """
    Plans the maps of targets, knowing what becomes of devices.
    """

    closing: Collection[str]
    """Devices that are closed."""
    opening: Collection[str]
    """Devices that are opened, perhaps for the second time."""
    early: Collection[str]
    """Those of them that are open before LUNs change."""

    def take_away(
        self, path: str, old: TargetConfiguration, new: TargetConfiguration
    ) -> Iterator[Step]:
        """
        Yield the steps that take LUNs away, or put a device at them that is there.
        """
        after = named(new.groups)
        yield from self._gone(f"{path}/luns", old.luns, new.luns)
        for group in old.groups:
            where = f"{path}/ini_groups/{group.name}/luns"
            if group.name in after:
                yield from self._gone(where, group.luns, after[group.name].luns)
                continue
            # The group goes later, when its sessions have another.
            kept = [one for one in group.luns if one.device not in self.closing]
            yield from self._gone(where, group.luns, kept)

    def add(
        self, path: str, old: TargetConfiguration, new: TargetConfiguration
    ) -> Iterator[Step]:
        """
        Yield the steps that add groups and LUNs.
        """
        before = named(old.groups)
        yield from self._luns(f"{path}/luns", old.luns, new.luns)
        for group in new.groups:
            was = before.get(group.name)
            if was is None:
                yield Step(f"{path}/ini_groups", "create", (group.name,))
            where = f"{path}/ini_groups/{group.name}"
            luns = () if was is None else was.luns
            yield from self._luns(f"{where}/luns", luns, group.luns)

    @staticmethod
    def regroup(
        path: str, old: TargetConfiguration, new: TargetConfiguration
    ) -> Iterator[Step]:
        """
        Yield the steps that give sessions another group: those that add names first, so
        that nobody has another map in between.
        """
        where = f"{path}/ini_groups"
        before, after = named(old.groups), named(new.groups)
        for group in new.groups:
            known = before[group.name].patterns if group.name in before else ()
            for pattern in group.patterns:
                if pattern not in known:
                    yield Step(f"{where}/{group.name}/initiators", "add", (pattern,))
        for group in old.groups:
            if group.name not in after:
                yield Step(where, "del", (group.name,))
                continue
            for pattern in group.patterns:
                if pattern not in after[group.name].patterns:
                    yield Step(f"{where}/{group.name}/initiators", "del", (pattern,))
        wanted = list(after)
        kept = [one for one in before if one in after]
        if [*kept, *(name for name in wanted if name not in before)] != wanted:
            yield Step(where, "order", tuple(wanted))

    def _gone(
        self,
        path: str,
        old: Sequence[LunConfiguration],
        new: Sequence[LunConfiguration],
    ) -> Iterator[Step]:
        after = {one.lun: one for one in new}
        for one in old:
            wanted = after.get(one.lun)
            if wanted is None:
                yield Step(path, "del", (str(one.lun),))
            elif one.device not in self.closing:
                continue
            elif wanted.device not in self.opening or wanted.device in self.early:
                yield self._at(path, "replace", wanted)
            else:
                yield Step(path, "del", (str(one.lun),))

    def _luns(
        self,
        path: str,
        old: Sequence[LunConfiguration],
        new: Sequence[LunConfiguration],
    ) -> Iterator[Step]:
        before = {one.lun: one for one in old}
        for one in new:
            was = before.get(one.lun)
            if was is None:
                yield self._at(path, "add", one)
            elif was.device in self.closing:
                if one.device in self.opening and one.device not in self.early:
                    yield self._at(path, "add", one)
            elif was != one:
                yield self._at(path, "replace", one)

    @staticmethod
    def _at(path: str, verb: str, one: LunConfiguration) -> Step:
        pairs = ((LUN_READ_ONLY.name, "1"),) if one.read_only else ()
        return Step(path, verb, (one.device, str(one.lun)), pairs)
