# SPDX-License-Identifier: MIT
"""
Who assigns the fields of objects that are not its own: found in the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scstd

ROOT = Path(scstd.__file__).parent


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """
    Yield what a statement assigns, or deletes.
    """
    found: list[ast.expr] = []
    if isinstance(node, (ast.Assign, ast.Delete)):
        found += node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For)):
        found.append(node.target)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        found.append(node.optional_vars)
    while found:
        one = found.pop()
        if isinstance(one, (ast.Tuple, ast.List)):
            found += one.elts
        elif isinstance(one, ast.Starred):
            found.append(one.value)
        else:
            yield one


def assigned(source: str, fields: set[str]) -> set[str]:
    """
    Return which of these fields a module assigns of anything but ``self``; ``setattr``
    and ``vars`` are among them if the module has them.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        for one in targets(node):
            if (
                isinstance(one, ast.Attribute)
                and ast.unparse(one.value) != "self"
                and one.attr in fields
            ):
                found.add(f"{ast.unparse(one.value)}.{one.attr}")
    return found


def assignments(room: str, fields: set[str]) -> dict[str, set[str]]:
    """
    Return what each module of a room (``protocols``) assigns of these fields.
    """
    every: dict[str, Any] = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        found = assigned(path.read_text(encoding="utf-8"), fields)
        if found:
            every[path.relative_to(ROOT / room).as_posix()] = found
    return every
