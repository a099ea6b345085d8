# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.model.device_attributes`: one row is all there is to an
attribute of a device.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

import scstd
from scstd.attributes import Attribute, Effect, Flag, Integer, find
from scstd.management.model.configuration import device
from scstd.management.model.device_attributes import (
    ACTIVE,
    BIND_ALUA_STATE,
    DEVICE_ATTRIBUTES,
    PARAMETERS,
    DeviceAttribute,
    device_rows,
    unit_settings,
)
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.plugin import device_handlers, find_device_handler
from scstd.scsi.sam import ITL
from scstd.scsi.sense import ASC
from scstd.scsi.settings import UnitSettings

ROOT = Path(scstd.__file__).parent

ROW = "management/model/device_attributes.py"

ELSEWHERE: Mapping[str, str] = {
    "handlers/": "a handler's own table, and what it reads from its parameters",
    "filters/": "what a store has, by the name in `IBackstore`",
    "block/checked.py": "what a store has, by the name in `IBackstore`",
    "scsi/traits.py": "fields of the unit, some of which are named alike",
    "plugin.py": "the kind of plugin",
    "management/cli/": "programs of their own, which know the service by its answers",
    "management/converters/": "words of other programs' files, and what they become",
    "management/console/": "columns of tables, and fields of SFTP",
    "management/tree/session_files.py": "of a LUN that a session has",
    "management/model/attribute_tables.py": "the attribute of a LUN, which has one too",
    "management/model/group_configuration.py": "an access state of ALUA",
    "management/grammar/scst_words.py": "what SCST takes 0 for",
}
"""Where a name of one is spelt besides, and why."""

OTHER: Mapping[str, Any] = {
    "naa_id": "5" + "0" * 15,
    "eui64_id": "ab" * 8,
    "scsi_device_name": "iqn.2026-11.org.scstd:d",
}
"""A value for those of which none follows from the kind."""


def _strings(path: Path) -> Iterator[str]:
    """
    Yield the strings of a module but what documents it.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        if isinstance(value, str) and id(node) not in said:
            yield value


def _other(row: DeviceAttribute) -> Any:
    """
    Return another value than the default.
    """
    if row.name in OTHER:
        return OTHER[row.name]
    if isinstance(row.kind, Flag):
        return not row.default
    if isinstance(row.kind, Integer):
        ends = (row.kind.lowest, row.kind.highest)
        return next(one for one in ends if one != row.default)
    return row.kind.parse("1024" if hasattr(row.kind, "lowest") else "X")


class RowTests(SynchronousTestCase):
    """
    The table by itself.
    """

    def test_spelt_once(self) -> None:
        """The name of an attribute is in its row, and in no other string."""
        names = {row.name for row in (*DEVICE_ATTRIBUTES, *PARAMETERS)}
        wrong = []
        for path in sorted(ROOT.rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            own = where == ROW or where.startswith(("test/", "testing/"))
            if own or where.startswith(tuple(ELSEWHERE)):
                continue
            wrong += [(where, one) for one in _strings(path) if one in names]
        self.assertEqual(wrong, [])

    def test_in_its_row_once(self) -> None:
        """In the module of the rows it is there once, but as the name of a field."""
        fields = {one.name for one in attrs.fields(UnitSettings)}
        found = list(_strings(ROOT / ROW))
        for row in (*DEVICE_ATTRIBUTES, *PARAMETERS):
            times = 2 if row.field == row.name else 1
            self.assertEqual(found.count(row.name), times, row.name)
            self.assertTrue(not row.field or row.field in fields, row.field)

    def test_fields(self) -> None:
        """Each setting of a unit is one attribute's."""
        fields = [row.field for row in (*DEVICE_ATTRIBUTES, *PARAMETERS) if row.field]
        every = sorted(one.name for one in attrs.fields(UnitSettings))
        self.assertEqual(sorted(fields), every)

    def test_live_acts(self) -> None:
        """What can be changed at any time is a setting; management has two of its own."""
        for row in DEVICE_ATTRIBUTES:
            if row.effect is Effect.LIVE and row not in (ACTIVE, BIND_ALUA_STATE):
                self.assertTrue(row.field and row.told, row.name)

    def test_defaults(self) -> None:
        """A device of which nothing is said is as the rows say."""
        rows = device_rows(find_device_handler("memory"))
        settings = unit_settings({row.name: row.default for row in rows})
        self.assertEqual(settings, attrs.evolve(UnitSettings(), rotational=True,
            optimal_transfer=524288, max_transfer=8 << 20, max_unmapped=1 << 20,
            max_descriptors=256))  # fmt: skip

    def test_parameters(self) -> None:
        """A handler's parameter keeps its kind and help, and means what it does."""
        for handler in device_handlers():
            own: dict[str, Attribute[Any]] = {
                row.name: row for row in handler.parameters()
            }
            for row in device_rows(handler):
                if row.name in own:
                    said = own[row.name]
                    self.assertEqual((row.kind, row.help), (said.kind, said.help))
        rows = device_rows(find_device_handler("vdisk_fileio"))
        row = find(rows, "read_only", "attribute")
        self.assertEqual(row.told, ASC.MODE_PARAMETERS_CHANGED)


class LiveTests(TestCase):
    """
    Each row that can be changed at any time, changed.
    """

    def setUp(self) -> None:
        """Make a device."""
        from twisted.internet import reactor  # noqa: PLC0415 - trial's

        self.system = System(reactor, StateDirectory(Path(self.mktemp())))
        self.tree = Tree(self.system)
        self.addCleanup(self.tree.close)

    def test_told(self) -> Deferred[None]:
        """The unit takes the value, and every initiator gets the row's attention."""

        async def check() -> None:
            await self.system.devices.add(device("disk", "memory", [("size", "1M")]))
            unit = self.system.devices["disk"].unit
            told: list[ASC] = []
            self.patch(unit, "attention", told.append)
            for row in DEVICE_ATTRIBUTES:
                if not row.changeable(unit):
                    continue
                value = _other(row)
                await self.tree.write(
                    f"devices/disk/{row.name}", row.kind.render(value)
                )
                self.assertEqual(told, [row.told], row.name)
                told.clear()
                values = self.system.devices["disk"].configuration.values
                self.assertEqual(values[row.name], value)
            self.assertEqual(unit.management_url, "X")
            self.assertEqual(unit.identity.naa.hex(), OTHER["naa_id"])
            self.assertEqual(unit.volume.limits.max_blocks, 2)
            self.assertFalse(unit.rotational)
            self.assertTrue(unit.write_protected)

        return Deferred.fromCoroutine(check())

    def test_settled(self) -> Deferred[None]:
        """What is settled when it is opened is refused, and nobody is told."""

        async def check() -> None:
            await self.system.devices.add(device("disk", "memory", [("size", "1M")]))
            told: list[ITL] = []
            self.patch(self.system.devices["disk"].unit, "attention", told.append)
            error = await self.assertFailure(
                self.tree.write("devices/disk/long_cdbs", "1"), Exception
            )
            self.assertIn("is settled when it is opened", str(error))
            self.assertEqual(told, [])

        return Deferred.fromCoroutine(check())
