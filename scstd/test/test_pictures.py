# SPDX-License-Identifier: MIT
"""
Tests for `scstd.test.pictures`: nothing of the tables is left out of the pictures.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.states import (
    LOGIN_TRANSITIONS,
    SESSION_TRANSITIONS,
    TRANSITIONS,
)
from scstd.test import house
from scstd.test.pictures import Transitions, machines, needed, the_house


class PicturesTests(SynchronousTestCase):
    def test_machines(self) -> None:
        """Each row of the three tables is an arrow with its number and event, once."""
        pictures = re.findall(r"```mermaid\n(.*?)```", machines(), re.DOTALL)
        tables: tuple[Transitions, ...] = (
            TRANSITIONS,
            SESSION_TRANSITIONS,
            LOGIN_TRANSITIONS,
        )
        for picture, table in zip(pictures, tables, strict=True):
            drawn = [
                (state, event, target, number or "")
                for state, target, number, events in re.findall(
                    r"^    (\w+) --> (\w+): (?:([TMN\d.]+) )?([A-Z_ /]+)$",
                    picture,
                    re.MULTILINE,
                )
                for event in events.split(" / ")
            ]
            wanted = [
                (state.name, event.name, target.name, number)
                for (state, event), (target, number) in table.items()
            ]
            self.assertEqual(sorted(drawn), sorted(wanted))

    def test_needed(self) -> None:
        """An arrow that follows from two others is not drawn; every other one is."""
        arrows = {"a": {"b", "c"}, "b": {"c"}, "c": set[str](), "d": {"a", "c"}}
        self.assertEqual(
            needed(arrows), {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}
        )

    def test_rooms(self) -> None:
        """Each room is in the house, with what it imports."""
        page = the_house()
        for room, imported in house.arrows().items():
            (line,) = [
                one for one in page.splitlines() if one.startswith(f"| `{room}`")
            ]
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            self.assertTrue(cells[1], room)
            self.assertEqual(set(filter(None, cells[2].split(", "))), imported)

    def test_a_room_that_is_not_there(self) -> None:
        """A module that is in no room is told by name."""
        error = self.assertRaises(LookupError, house.room_of, "cellar.wine")
        self.assertIn("cellar.wine", str(error))
        self.assertEqual(house.room_of("management.tree.nodes"), "management.tree")
