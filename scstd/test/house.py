# SPDX-License-Identifier: MIT
"""
The house: its rooms, which may import which, and what they really import.

`STOREYS` is the one table.  A room is a module, or a package of them; it may import
itself, and what its line names, which stands *above* that line: so there is no circle.
`scstd.test.test_architecture` holds the code to it; doc/house.md is drawn from what the
code really imports (`scstd.test.pictures`).
"""

from __future__ import annotations

import ast
from pathlib import Path

import scstd

ROOT = Path(scstd.__file__).parent

STOREYS: dict[str, dict[str, str]] = {
    "The contract, and helpers that know nothing else of ours": {
        "attributes": "",
        "interfaces": "attributes",
        "pool": "",
        "blocking": "interfaces pool",
        "results": "interfaces",
        "pagecache": "",
        "steady": "",
        "allocation": "",
        "filesystems": "",
        "textfile": "",
        "printable": "",
        "crowd": "",
        "secret": "",
        "installed": "",
        "plugin": "attributes installed interfaces",
    },
    "Stores, and SCSI on them": {
        "block": "interfaces results",
        "handlers": "attributes interfaces allocation blocking filesystems pagecache",
        "filters": "attributes interfaces block.around",
        "scsi": "interfaces results block",
        "drivers": "installed interfaces scsi",
    },
    "iSCSI": {
        "protocols.wire": "interfaces",
        "protocols.engine": "interfaces scsi protocols.wire",
        "protocols.hosts": "blocking textfile protocols.wire",
        "protocols.isns": "protocols.wire",
        "protocols.tls": "",
        "protocols.target_names": "attributes",
        "protocols.attributes": "attributes protocols.wire protocols.engine",
        "protocols.closing": "",
        "protocols.connection_slots": "crowd protocols.engine",
        "protocols.turns": "",
        "protocols.poller": "protocols.turns",
        "protocols.backpressure": "interfaces protocols.closing protocols.engine"
        " protocols.turns",
        "protocols.iscsi": "interfaces drivers protocols.backpressure protocols.closing"
        " protocols.connection_slots protocols.poller protocols.tls protocols.turns"
        " protocols.wire protocols.engine",
        "protocols.iscsi_server": "drivers protocols.connection_slots protocols.engine"
        " protocols.iscsi protocols.poller protocols.turns",
        "protocols.adoption": "protocols.engine protocols.iscsi protocols.iscsi_server",
        "protocols.relay": "",
        "protocols.handover": "protocols.adoption protocols.closing protocols.iscsi"
        " protocols.iscsi_server protocols.relay protocols.wire",
        "protocols.driver": "attributes installed interfaces drivers scsi protocols",
    },
    "The other side": {
        "initiator": "interfaces protocols.wire",
    },
    "Management": {
        "process": "",
        "management.errors": "attributes",
        "management.paths": "attributes",
        "management.real_path": "",
        "management.model": "attributes interfaces installed plugin scsi"
        " management.errors management.real_path",
        "management.monitor": "attributes interfaces blocking printable block results scsi"
        " process.log_thread management.errors management.model",
        "management.grammar": "attributes interfaces plugin management.model",
        "management.state": "attributes interfaces blocking block results textfile scsi"
        " management.model",
        "management.devices": "attributes interfaces blocking block scsi"
        " management.errors management.real_path management.monitor management.model"
        " management.state",
        "management.ports": "attributes interfaces plugin results scsi management.errors"
        " management.monitor management.model management.state management.devices",
        "management.system": "attributes plugin steady scsi management.errors"
        " management.monitor management.model management.state management.devices"
        " management.ports",
        "management.tree": "attributes interfaces blocking plugin results block scsi"
        " management.errors management.grammar management.monitor management.model"
        " management.devices management.ports management.system",
        "management.config": "attributes interfaces blocking plugin textfile"
        " management.errors management.grammar management.model management.state"
        " management.devices management.ports management.system management.tree",
        "management.console": "attributes crowd results textfile block scsi management.errors"
        " management.model management.monitor management.state management.system management.tree",
        "management.control": "attributes blocking results management.errors management.paths"
        " management.monitor management.model management.tree management.config",
        "management.converters": "attributes plugin textfile management.grammar"
        " management.model management.config",
        "management.cli": "attributes printable management.paths management.config"
        " management.control management.converters",
    },
    "More than one process": {
        "workers": "",
        "workers.islands": "attributes plugin management.model",
        "workers.link": "attributes installed interfaces plugin block management.errors"
        " management.model",
        "workers.output": "printable process management.model management.monitor",
        "workers.facts": "attributes scsi management",
        "workers.numbers": "management.ports",
        "workers.answering": "management workers.facts workers.numbers",
        "workers.mirror": "scsi management workers.facts",
        "workers.front_sessions": "management.monitor",
        "workers.front_reads": "attributes scsi management workers.islands workers.link"
        " workers.facts workers.front_sessions",
        "workers.front_moves": "attributes management workers.islands workers.mirror"
        " workers.front_reads",
        "workers.front_agreement": "attributes management workers.islands"
        " workers.mirror workers.front_reads workers.front_moves",
        "workers.front_tree": "attributes management workers.islands workers.mirror"
        " workers.front_reads workers.front_moves workers.front_agreement",
        "workers.worker": "process management workers.link workers.output"
        " workers.answering",
        "workers.process": "process workers.link workers.output workers.worker",
        "workers.supervisor": "attributes management workers.link workers.process"
        " workers.worker",
        "workers.front": "attributes interfaces plugin management workers.front_tree"
        " workers.mirror workers.process workers.supervisor workers.worker",
    },
    "The service, and who starts it": {
        "service": "attributes process management workers.front",
        "twistd": "attributes process service",
        "daemon": "attributes installed textfile management",
        "tap": "attributes interfaces plugin process management service twistd",
    },
    "For the tests of other packages": {
        "testing": "attributes interfaces results block scsi management service tap",
    },
}
"""What each room may import, a storey at a time, from the ground up."""

ROOMS = {
    name: line.split() for rooms in STOREYS.values() for name, line in rooms.items()
}
"""What each room may import: rooms, modules in rooms, or packages of rooms."""


def within(module: str, room: str) -> bool:
    """
    Say whether *module* is *room* or in it.
    """
    return module == room or module.startswith(room + ".")


def room_of(module: str) -> str:
    """
    Return the room that a module (without ``scstd.``) is in.

    :raises LookupError: it is in none.
    """
    found = [room for room in ROOMS if within(module, room)]
    if not found:
        raise LookupError(f"{module} is in no room: scstd/test/house.py")
    return max(found, key=len)


def modules() -> dict[str, Path]:
    """
    Return every module of ours but tests, by its name without ``scstd.``.  Packages
    that are nothing but rooms have no code.
    """
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        name = ".".join(parts)
        if parts and parts[0] != "test" and name not in {"management", "protocols"}:
            found[name] = path
    return found


def imports(path: Path, *, types: bool = False) -> set[str]:
    """
    Return what a file imports when it runs; with *types* also what only type checkers
    see.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        only_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if only_types and not types:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                place = ROOT.parent / Path(*whole.split("."))
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                found.add(whole if is_module else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def ours(path: Path) -> set[str]:
    """
    Return what a file imports of ours, without ``scstd.``.
    """
    return {
        name.removeprefix("scstd.")
        for name in imports(path)
        if name.startswith("scstd.")
    }


def arrows() -> dict[str, set[str]]:
    """
    Return which other rooms each room really imports.
    """
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in modules().items():
        room = room_of(module)
        found[room] |= {room_of(one) for one in ours(path)} - {room}
    return found
