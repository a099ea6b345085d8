# SPDX-License-Identifier: MIT
"""
Live objects of one kind by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, TypeVar

import attrs

from scstd.management.errors import absent

T = TypeVar("T")


@attrs.define(eq=False)
class Registry(Mapping[str, T]):
    """
    A mapping that only its own class changes; *kind* is what errors call one of them.
    """

    kind: ClassVar[str]
    _named: dict[str, T] = attrs.field(factory=dict, init=False)

    def __getitem__(self, name: str) -> T:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def find(self, name: str) -> T:
        """
        Return the one of this name.

        :raises TreeError: there is none (ENOENT); it says which there are.
        """
        if name not in self._named:
            raise absent(self.kind, name, self._named)
        return self._named[name]
