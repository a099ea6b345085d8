# SPDX-License-Identifier: MIT
"""
Who may assign the fields of a logical unit: nobody but itself.
"""

from __future__ import annotations

import ast

import attrs
from twisted.trial.unittest import SynchronousTestCase

from scstd.scsi.unit import LogicalUnit
from scstd.test.ownership import assigned, assignments

OWNERS = {
    "scsi/traits.py",
    "scsi/unit_state.py",
    "scsi/unit.py",
    "scsi/pipeline.py",
}
"""The unit's own files; the last puts functions before its methods."""

FIELDS = {field.name for field in attrs.fields(LogicalUnit)}


def is_unit(node: ast.expr) -> bool:
    """Say whether an expression is a logical unit, by its name."""
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name in {"unit", "_unit"}


class OwnershipTests(SynchronousTestCase):
    """
    A logical unit is changed by its own methods.
    """

    def test_looks(self) -> None:
        """Each way to assign a field is found."""
        for source in (
            "unit.faults = []",
            "self.unit.faults = []",
            "a, unit.faults = b",
            "unit.opened += 1",
            "unit.faults: list = []",
            "del task.itl.unit.faults",
            "for unit.faults in (): pass",
        ):
            self.assertEqual(len(assigned(source, FIELDS, is_unit)), 1, source)
        for source, found in (
            ("setattr(unit, name, 1)", "unit.setattr"),
            ("object.__setattr__(unit, name, 1)", "unit.setattr"),
            ("delattr(task.unit, name)", "task.unit.setattr"),
            ("vars(unit)['execute'] = f", "unit.vars"),
            ("unit.__dict__['execute'] = f", "unit.vars"),
        ):
            self.assertEqual(assigned(source, FIELDS, is_unit), {found})
        for source in ("unit.faults.append(1)", "task.tag = 1", "unit.no_field = 1"):
            self.assertEqual(assigned(source, FIELDS, is_unit), set(), source)

    def test_nobody_else(self) -> None:
        """No module but its own assigns a field."""
        found = assignments("", FIELDS, is_unit)
        for name in OWNERS:
            found.pop(name, None)
        self.assertEqual(found, {})
