# SPDX-License-Identifier: MIT
"""
Small faults that can be put into a file, as edits of its text (for `mutants`).

A mutation replaces the text of one node of the syntax tree, so that what is shown of a
survivor is a difference of one line.  Nothing is changed that only people read: strings
(docstrings, messages, errors' texts) and annotations stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import attrs

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@attrs.frozen(order=True)
class Mutation:
    """
    One fault: *text* in place of the bytes from *start* to *end* of a file.
    """

    start: int
    end: int
    kind: str
    text: str
    line: int
    """The line it begins in, from 1."""
    function: str
    """The name of the function it is in; empty outside of all."""

    def apply(self, source: str) -> str:
        """
        Return *source* with the fault in it.
        """
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


def _compare(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare):
        other = _COMPARISONS[type(node.ops[0])]()
        changed = ast.Compare(node.left, [other, *node.ops[1:]], node.comparators)
        yield "comparison", f"({ast.unparse(changed)})"


def _operate(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        changed = ast.BinOp(node.left, _OPERATIONS[type(node.op)](), node.right)
        yield "operator", f"({ast.unparse(changed)})"


def _and_or(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", f"({ast.unparse(ast.BoolOp(other, node.values))})"


def _condition(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "condition", f"(not not {ast.unparse(node.operand)})"


def _constant(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "flag", str(not node.value)
        elif isinstance(node.value, int):
            yield "constant", str(node.value + 1)
            yield "constant", f"({node.value - 1})"


def _call(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await)):
        yield "call", "pass"


def _assignment(node: ast.AST) -> Iterator[tuple[str, str]]:
    # A local name that is not assigned to is a NameError: those tell nothing.
    if isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Assign)
        and all(isinstance(one, (ast.Attribute, ast.Subscript)) for one in node.targets)
    ):
        yield "assignment", "pass"


def _leave(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", "return None"
    elif isinstance(node, ast.Raise):
        yield "raise", "pass"
    elif isinstance(node, (ast.If, ast.For, ast.While, ast.With)):
        yield "early return", "return None"


_KINDS: tuple[Callable[[ast.AST], Iterator[tuple[str, str]]], ...] = (
    _compare,
    _operate,
    _and_or,
    _condition,
    _constant,
    _call,
    _assignment,
    _leave,
)


class _Finder:
    """
    Walks a file, and collects what could be wrong in it.
    """

    def __init__(self, source: str) -> None:
        self._source = source.encode()
        self._starts = [0]
        for line in self._source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._function = ""
        self.found: list[Mutation] = []

    def _add(self, node: ast.expr | ast.stmt, kind: str, text: str) -> None:
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        if kind == "early return":
            # Before the statement, which stays; there is nothing before an elif.
            if not self._function or self._source[start:].startswith(b"elif"):
                return
            end, text = start, f"{text}\n{' ' * node.col_offset}"
        self.found.append(Mutation(start, end, kind, text, node.lineno, self._function))

    def _inside(self, node: ast.AST) -> None:
        outer = self._function
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._function = node.name
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)
        self._function = outer

    def visit(self, node: ast.AST) -> None:
        """
        Collect the mutations of a node and of all in it.
        """
        if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, (ast.expr, ast.stmt)):
            for look in _KINDS:
                for kind, text in look(node):
                    self._add(node, kind, text)
        if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(
            node.test, (ast.Compare, ast.UnaryOp)
        ):
            self._add(node.test, "condition", f"(not ({ast.unparse(node.test)}))")
        self._inside(node)


def mutations(source: str) -> list[Mutation]:
    """
    Return every mutation of a file's text, in order; each leaves it valid Python.
    """
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(finder.found)
