# SPDX-License-Identifier: MIT
"""
Who may assign the fields of a logical unit: it, and who makes it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

import scstd
from scstd.scsi.unit import LogicalUnit

ROOT = Path(scstd.__file__).parent

OWNERS = {
    "scsi/traits.py",
    "scsi/unit_state.py",
    "scsi/unit.py",
    "scsi/pipeline.py",
}
"""The unit's own files; the last puts functions before its methods."""

DELIBERATE: dict[str, str] = {
    "scsi/device.py": "it makes the unit: nobody has it yet",
}
"""Others, and why."""

FIELDS = {field.name for field in attrs.fields(LogicalUnit)}


def is_unit(node: ast.expr) -> bool:
    """Say whether an expression is a logical unit, by its name."""
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name in {"unit", "_unit"}


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """Return what a statement assigns, or deletes."""
    found: list[ast.expr] = []
    if isinstance(node, (ast.Assign, ast.Delete)):
        found += node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For)):
        found.append(node.target)
    while found:
        one = found.pop()
        if isinstance(one, (ast.Tuple, ast.List)):
            found += one.elts
        else:
            yield one


def assigned(source: str) -> set[str]:
    """Return which fields of units a module assigns."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        for one in targets(node):
            if isinstance(one, ast.Attribute) and is_unit(one.value):
                found.add(one.attr)
        if isinstance(node, ast.Call) and node.args and is_unit(node.args[0]):
            if getattr(node.func, "id", "") in {"setattr", "delattr"}:
                found.add("setattr")
            elif getattr(node.func, "id", "") == "vars":
                found.add("vars")
    return found & (FIELDS | {"setattr", "vars"})


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
            self.assertEqual(len(assigned(source)), 1, source)
        self.assertEqual(assigned("setattr(unit, name, 1)"), {"setattr"})
        self.assertEqual(assigned("vars(unit)['execute'] = f"), {"vars"})
        for source in ("unit.faults.append(1)", "task.tag = 1", "unit.no_field = 1"):
            self.assertEqual(assigned(source), set(), source)

    def test_nobody_else(self) -> None:
        """No module but its own assigns a field, but for those that have a reason."""
        found = {}
        for path in sorted(ROOT.rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("test/") or name in OWNERS:
                continue
            fields = assigned(path.read_text())
            if fields:
                found[name] = fields
        self.assertEqual(
            {name: found[name] for name in found if name not in DELIBERATE}, {}
        )
        self.assertEqual(set(DELIBERATE) - set(found), set(), "needed no more")
