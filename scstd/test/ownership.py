# SPDX-License-Identifier: MIT
"""
Who assigns the fields of objects that are not its own: found in the source.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import scstd

ROOT = Path(scstd.__file__).parent

ANY_FIELD = {
    "setattr": "setattr",
    "__setattr__": "setattr",
    "delattr": "setattr",
    "vars": "vars",
}
"""Functions that get at any field of their first argument."""


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


def other_than_self(node: ast.expr) -> bool:
    """
    Say whether an expression is anything but ``self``.
    """
    return ast.unparse(node) != "self"


def assigned(
    source: str,
    fields: set[str],
    of: Callable[[ast.expr], bool] = other_than_self,
) -> set[str]:
    """
    Return which of these fields a module assigns, as ``connection.phase``, of what *of*
    says it is about.  Where it may assign any of them there is ``setattr`` in place of
    the field (``delattr``, too), or ``vars`` (``__dict__``, too).
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        for one in targets(node):
            if isinstance(one, ast.Attribute) and of(one.value) and one.attr in fields:
                found.add(f"{ast.unparse(one.value)}.{one.attr}")
        if isinstance(node, ast.Call) and node.args and of(node.args[0]):
            word = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if word in ANY_FIELD:
                found.add(f"{ast.unparse(node.args[0])}.{ANY_FIELD[word]}")
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            found |= {f"{ast.unparse(node.value)}.vars"} if of(node.value) else set()
    return found


def assignments(
    room: str, fields: set[str], of: Callable[[ast.expr], bool] = other_than_self
) -> dict[str, set[str]]:
    """
    Return what each module of a room (``protocols``; "": of all) assigns of these
    fields; tests may do so.
    """
    every: dict[str, set[str]] = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT / room).as_posix()
        if path.is_relative_to(ROOT / "test"):
            continue
        found = assigned(path.read_text(encoding="utf-8"), fields, of)
        if found:
            every[name] = found
    return every
