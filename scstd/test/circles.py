# SPDX-License-Identifier: MIT
"""
Circles of imports: modules each of which imports all the others, by way of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from scstd.test.house import ROOT, imports


@cache
def graph(*, types: bool) -> Mapping[str, list[str]]:
    """
    Return what each module of ours imports of ours, tests too; with *types* also what
    only type checkers see.
    """
    paths = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path
    return {
        name: sorted(one for one in imports(path, types=types) if one in paths)
        for name, path in paths.items()
    }


def reached(found: Mapping[str, Iterable[str]], node: str) -> set[str]:
    """
    Return where a node leads: to itself, too, if it is in a circle.
    """
    there: set[str] = set()
    ahead = [node]
    while ahead:
        new = set(found[ahead.pop()]) - there
        there |= new
        ahead += new
    return there


def circles(found: Mapping[str, Iterable[str]]) -> set[frozenset[str]]:
    """
    Return the circles of a graph, of each node where it leads: as large as they are.
    """
    leads = {node: reached(found, node) for node in found}
    return {
        frozenset(one for one in there if node in leads[one])
        for node, there in leads.items()
        if node in there
    }
