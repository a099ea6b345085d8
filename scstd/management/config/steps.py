# SPDX-License-Identifier: MIT
"""
The steps that plans are made of: what an administrator could write to the tree by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from scstd.attributes import Attribute
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import FILENAME
from scstd.management.tree.mgmt import joined
from scstd.management.tree.tree import Tree

T = TypeVar("T")


@attrs.frozen
class Step:
    """
    A verb for the ``mgmt`` file of a directory; or, without a verb, a text for a file.

    The text is what a person reads.  What is configured has been parsed already: its
    values are in *put* or in *device*, and no text is parsed for them again.
    """

    path: str
    verb: str = ""
    words: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    text: str = ""
    hidden: int = 0
    """The number of the first word that nobody may see, if there is one."""
    loses: str = ""
    """Of which device the contents go with it, and why."""
    tried: bool = False
    """It may fail, and the others are taken all the same."""
    put: tuple[str, str, Any] | None = attrs.field(default=None, eq=False, repr=False)
    """The path of an object, the name of its attribute, and the value."""
    device: DeviceConfiguration | None = attrs.field(default=None, eq=False, repr=False)

    def __str__(self) -> str:
        """Return it as it would be typed, but for a secret, and what is lost by it."""
        typed = self._typed()
        return f"{typed}  ({self.loses})" if self.loses else typed

    def _typed(self) -> str:
        if self.hidden:
            words = self.words[: self.hidden]
            return f"{self.path}/mgmt: {joined(self.verb, words, ())} ********"
        if not self.verb:
            return f"{self.path}: {self.text}"
        return f"{self.path}/mgmt: {joined(self.verb, self.words, self.pairs)}"

    def take(self, tree: Tree) -> Any:
        """
        Take the step; return a value or something to await.
        """
        if self.device is not None:
            return tree.do_add_device(self.device)
        if self.put is not None:
            return tree.do_put(*self.put)
        if not self.verb:
            return tree.do_write(self.path, self.text)
        return tree.do_manage(self.path, self.verb, self.words, self.pairs)


def named(items: Iterable[T]) -> dict[str, T]:
    """
    Return objects by name.
    """
    return {one.name: one for one in items}  # type: ignore[attr-defined]


def differing(
    rows: Sequence[Attribute[Any]], old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[Attribute[Any]]:
    """
    Return the attributes that have not the same value in both.
    """
    return [
        row for row in rows if not _same(row, value_of(row, old), value_of(row, new))
    ]


def _same(row: Attribute[Any], one: Any, other: Any) -> bool:
    if one == other:
        return True
    # What is written has whole paths, for SCST takes no others.
    return (
        row.name == FILENAME.name
        and bool(one and other)
        and Path(one).absolute() == Path(other).absolute()
    )


def value_of(row: Attribute[Any], values: Mapping[str, Any]) -> Any:
    """
    Return the value of an attribute: its default if there is none.
    """
    return values.get(row.name, () if row.repeats else row.default)


def texts(row: Attribute[Any], value: Any) -> tuple[str, ...]:
    """
    Return the texts of an attribute's value: none if it is not set.
    """
    if row.repeats:
        return tuple(row.kind.render(one) for one in value)
    return () if value is None else (row.kind.render(value),)


def writes(
    path: str,
    rows: Sequence[Attribute[Any]],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> Iterator[Step]:
    """
    Yield a step for each attribute of the object at *path* that changes.
    """
    for row in differing(rows, old, new):
        value = value_of(row, new)
        yield written(path, row, value)


def written(path: str, row: Attribute[Any], value: Any, loses: str = "") -> Step:
    """
    Return the step that gives an attribute with one value, of the object at *path*,
    that value.
    """
    (text,) = texts(row, value) or ("",)
    where = f"{path}/{row.name}" if path else row.name
    return Step(where, text=text, loses=loses, put=(path, row.name, value))
