# SPDX-License-Identifier: MIT
"""
Who may import whom (`scstd.test.house`), and what else holds for every file.
"""

from __future__ import annotations

from itertools import chain

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.circles import circles, graph
from scstd.test.house import (
    ROOMS,
    ROOT,
    imports,
    modules,
    ours,
    room_of,
    within,
)

NO_IO = ("block", "scsi", "protocols.wire", "protocols.engine", "initiator")
"""Rooms that touch no transport, timer, file or reactor."""

FACES = ("initiator.blocking", "initiator.twisted")
"""But for these modules, which do."""

ALLOWED_TWISTED = {
    "twisted.internet.defer",
    "twisted.logger",
    "twisted.python.failure",
}

INTERTWINED = ("scstd.protocols.engine", "scstd.scsi")
"""
Rooms whose parts know each other's types: connection, session and node here, a logical
unit and what serves it there.
"""

LONGEST = 500
"""Lines that no file has; aim at 300."""


class ArchitectureTests(SynchronousTestCase):
    """
    The drawing in doc/architecture.md is true.
    """

    def test_arrows(self) -> None:
        """No module imports what its room may not."""
        wrong = [
            f"{name} imports {imported}"
            for name, path in modules().items()
            for imported in ours(path)
            for room in (room_of(name),)
            if not any(within(imported, one) for one in (room, *ROOMS[room]))
        ]
        self.assertEqual(wrong, [])

    def test_down(self) -> None:
        """A room may import only what stands above it in the table: no circle."""
        before: set[str] = set()
        for room, allowed in ROOMS.items():
            for one in allowed:
                rooms = {each for each in ROOMS if within(each, one)} or {room_of(one)}
                self.assertLessEqual(rooms - {room}, before, f"{room}: {one}")
            before.add(room)

    def test_no_circle(self) -> None:
        """When it runs no module of ours imports itself by way of others."""
        self.assertEqual(circles(graph(types=False)), set())

    def test_types(self) -> None:
        """By their types modules know each other in two rooms only."""
        found = circles(graph(types=True))
        for circle in found:
            rooms = {
                next((room for room in INTERTWINED if within(one, room)), one)
                for one in circle
            }
            self.assertEqual(len(rooms), 1, sorted(circle))
            self.assertLessEqual(rooms, set(INTERTWINED))
        # It does see them.
        self.assertTrue(found)

    def test_circles(self) -> None:
        """A circle is found whole, and what only leads to it or from it is none."""
        found = {"a": ["b"], "b": ["c", "e"], "c": ["d"], "d": ["b"], "e": ["f", "g"]}
        found |= {"f": ["e"], "g": ["h"], "h": []}
        whole = {frozenset("ef"), frozenset("bcd")}
        self.assertEqual(circles(found), whole)

    def test_reservations_are_a_value(self) -> None:
        """Another command set can use persistent reservations: they know no command."""
        light = ["scstd.scsi.allow", "scstd.scsi.it_nexus", "scstd.scsi.sense"]
        found = graph(types=True)
        self.assertEqual(found["scstd.scsi.persistent"], light)
        for one in light:
            self.assertEqual(found[one], [], one)

    def test_filters(self) -> None:
        """A filter knows no other one."""
        for name, path in modules().items():
            if within(name, "filters"):
                known = {one for one in ours(path) if within(one, "filters")}
                self.assertLessEqual(known, {"filters.base"}, name)

    def test_no_io(self) -> None:
        """The SCSI core and the protocol know nothing of transports and files."""
        wrong = []
        for name, path in modules().items():
            if name in FACES or not any(within(name, one) for one in NO_IO):
                continue
            for imported in imports(path):
                root = imported.split(".")[0]
                if root in {
                    "socket",
                    "os",
                    "select",
                    "threading",
                    "asyncio",
                    "time",
                } or (root == "twisted" and imported not in ALLOWED_TWISTED):
                    wrong.append(f"{name} imports {imported}")
        self.assertEqual(wrong, [])

    def test_sizes(self) -> None:
        """No file is longer than 500 lines; one idea a file."""
        long = []
        for path in chain(ROOT.rglob("*.py"), (ROOT.parent / "bench").rglob("*.py")):
            with path.open(encoding="utf-8") as file:
                if sum(1 for _line in file) > LONGEST:
                    long.append(path.relative_to(ROOT.parent).as_posix())
        self.assertEqual(long, [])

    def test_license(self) -> None:
        """Each file says what its license is."""
        for path in ROOT.rglob("*.py"):
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            self.assertEqual(first, "# SPDX-License-Identifier: MIT", path)

    def test_plugin_file_is_light(self) -> None:
        """Every twistd command imports the plugin file: it brings no implementation."""
        path = ROOT.parent / "twisted" / "plugins" / "scstd_plugins.py"
        if not path.exists():
            return
        self.assertEqual(imports(path), {"twisted.application.service", "scstd.plugin"})
        heavy = {"scstd.scsi", "scstd.protocols", "scstd.handlers"}
        files = [ROOT / "attributes.py", ROOT / "plugin.py"]
        for light in (*files, *(ROOT / "interfaces").glob("*.py")):
            for imported in imports(light):
                self.assertFalse(any(within(imported, one) for one in heavy), imported)
