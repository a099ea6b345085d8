# SPDX-License-Identifier: MIT
"""
Who may import whom (doc/architecture.md), and what else holds for every file.
"""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import scstd

ROOT = Path(scstd.__file__).parent

_OF_MANAGEMENT = (
    "scstd.attributes",
    "scstd.block",
    "scstd.blocking",
    "scstd.crowd",
    "scstd.installed",
    "scstd.interfaces",
    "scstd.plugin",
    "scstd.printable",
    "scstd.process.log_thread",
    "scstd.results",
    "scstd.scsi",
    "scstd.steady",
    "scstd.textfile",
    "scstd.management.errors",
)
"""What every room of management may import, beside other rooms."""

MANAGEMENT: dict[str, str] = {
    "model": "real_path",
    "state": "model",
    "monitor": "model",
    "devices": "model state monitor real_path",
    "ports": "model state monitor devices",
    "system": "model state monitor devices ports",
    "grammar": "model",
    "tree": "model monitor devices ports system grammar",
    "config": "model state devices ports system grammar tree",
    "converters": "model grammar config",
    "control": "model monitor tree config paths",
    "console": "model state monitor tree system",
    "cli": "config converters control paths",
}
"""
The rooms of management, from below, and the others that each may import: what is below
it.  The control tools (cli) are programs of their own, and know the service by what it
answers.
"""

LAYERS: dict[str, tuple[str, ...]] = {
    "scstd.attributes": (),
    "scstd.interfaces": ("scstd.attributes", "scstd.interfaces"),
    "scstd.blocking": ("scstd.interfaces", "scstd.pool"),
    "scstd.pool": (),
    "scstd.results": ("scstd.interfaces",),
    "scstd.block": ("scstd.interfaces", "scstd.block", "scstd.results"),
    "scstd.pagecache": (),
    "scstd.steady": (),
    "scstd.allocation": (),
    "scstd.filesystems": (),
    "scstd.textfile": (),
    "scstd.printable": (),
    "scstd.crowd": (),
    "scstd.installed": (),
    "scstd.plugin": ("scstd.attributes", "scstd.installed", "scstd.interfaces"),
    "scstd.handlers": (
        "scstd.allocation",
        "scstd.attributes",
        "scstd.interfaces",
        "scstd.blocking",
        "scstd.filesystems",
        "scstd.handlers",
        "scstd.pagecache",
    ),
    "scstd.filters": (
        "scstd.attributes",
        "scstd.block.around",
        "scstd.interfaces",
        "scstd.filters.base",
    ),
    "scstd.scsi": ("scstd.block", "scstd.interfaces", "scstd.results", "scstd.scsi"),
    "scstd.protocols.wire": ("scstd.interfaces", "scstd.protocols.wire"),
    "scstd.protocols.engine": (
        "scstd.interfaces",
        "scstd.protocols.wire",
        "scstd.protocols.engine",
        "scstd.scsi",
    ),
    "scstd.protocols.hosts": (
        "scstd.blocking",
        "scstd.protocols.wire",
        "scstd.textfile",
    ),
    "scstd.protocols.isns": ("scstd.protocols.wire",),
    "scstd.protocols.tls": (),
    "scstd.protocols.target_names": ("scstd.attributes",),
    "scstd.protocols.settings": (
        "scstd.attributes",
        "scstd.protocols.wire",
        "scstd.protocols.engine",
    ),
    "scstd.protocols.limits": (
        "scstd.attributes",
        "scstd.protocols.settings",
        "scstd.protocols.wire",
        "scstd.protocols.engine",
        "scstd.scsi.luns",
    ),
    "scstd.protocols.closing": (),
    "scstd.protocols.connection_slots": ("scstd.crowd", "scstd.protocols.engine"),
    "scstd.protocols.iscsi": (
        "scstd.interfaces",
        "scstd.protocols.closing",
        "scstd.protocols.connection_slots",
        "scstd.protocols.tls",
        "scstd.protocols.wire",
        "scstd.protocols.engine",
    ),
    "scstd.protocols.driver": (
        "scstd.attributes",
        "scstd.installed",
        "scstd.interfaces",
        "scstd.protocols",
        "scstd.scsi",
    ),
    **{
        f"scstd.management.{room}": (
            *_OF_MANAGEMENT,
            f"scstd.management.{room}",
            *(f"scstd.management.{one}" for one in others.split()),
        )
        for room, others in MANAGEMENT.items()
    },
    "scstd.management.errors": ("scstd.attributes",),
    "scstd.management.paths": ("scstd.attributes",),
    "scstd.management.real_path": (),
    "scstd.process.service_manager": (),
    "scstd.secret": (),
    "scstd.process.run_command": (),
    "scstd.service": (
        "scstd.attributes",
        "scstd.process.run_command",
        "scstd.process.heartbeat",
        "scstd.management",
        "scstd.process.service_manager",
    ),
    "scstd.process.heartbeat": (),
    "scstd.process.last_resort": (
        "scstd.process.heartbeat",
        "scstd.process.log_thread",
    ),
    "scstd.process.log_thread": (),
    "scstd.twistd": (
        "scstd.attributes",
        "scstd.process.last_resort",
        "scstd.process.service_manager",
        "scstd.process.log_thread",
        "scstd.service",
    ),
    "scstd.initiator": (
        "scstd.initiator",
        "scstd.interfaces",
        "scstd.protocols.wire",
    ),
    "scstd.testing": (
        "scstd.block",
        "scstd.interfaces",
        "scstd.results",
        "scstd.testing",
    ),
    "scstd.daemon": (
        "scstd.attributes",
        "scstd.installed",
        "scstd.management",
        "scstd.textfile",
    ),
    "scstd.tap": (
        "scstd.attributes",
        "scstd.interfaces",
        "scstd.plugin",
        "scstd.management",
        "scstd.process.last_resort",
        "scstd.process.service_manager",
        "scstd.twistd",
        "scstd.service",
    ),
}
"""What a module, or a package of them, may import of ours."""

NO_IO = ("scstd.block", "scstd.scsi", "scstd.protocols.wire", "scstd.protocols.engine")
"""Layers that touch no transport, timer, file or reactor."""

ALLOWED_TWISTED = {
    "twisted.internet.defer",
    "twisted.logger",
    "twisted.python.failure",
}


def within(module: str, layer: str) -> bool:
    """
    Say whether *module* is *layer* or in it.
    """
    return module == layer or module.startswith(layer + ".")


def modules() -> dict[str, Path]:
    """
    Return every module of ours but tests, by its name.
    """
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if "test" not in parts and path.name != "__init__.py":
            found[".".join(parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """
    Return what a file imports when it runs: not what only type checkers see.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = node.module
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                is_module = (ROOT.parent / Path(*whole.split("."))).with_suffix(".py")
                found.add(whole if is_module.exists() else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


class ArchitectureTests(SynchronousTestCase):
    """
    The drawing in doc/architecture.md is true.
    """

    def test_arrows(self) -> None:
        """No module imports what its layer may not."""
        wrong = []
        for name, path in modules().items():
            layer = next(one for one in LAYERS if within(name, one))
            for imported in imports(path):
                if not within(imported, "scstd") or imported == "scstd":
                    continue
                if not any(within(imported, one) for one in LAYERS[layer]):
                    wrong.append(f"{name} imports {imported}")
        self.assertEqual(wrong, [])

    def test_rooms(self) -> None:
        """No room of management imports one that is above it: there is no circle."""
        below = {"errors", "paths", "real_path"}
        for room, others in MANAGEMENT.items():
            self.assertEqual(set(others.split()) - below, set(), room)
            below.add(room)
            folder = ROOT / "management" / room
            self.assertTrue(folder.exists() or folder.with_suffix(".py").exists())

    def test_no_io(self) -> None:
        """The SCSI core and the protocol know nothing of transports and files."""
        wrong = []
        for name, path in modules().items():
            if not any(within(name, one) for one in NO_IO):
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
        """No file is longer than 700 lines; one idea a file."""
        for path in ROOT.rglob("*.py"):
            with path.open(encoding="utf-8") as file:
                self.assertLess(sum(1 for _line in file), 700, path)

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
