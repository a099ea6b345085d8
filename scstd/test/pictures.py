# SPDX-License-Identifier: MIT
"""
The pictures of doc/: state machines from their tables, the house from its imports.

They are Mermaid, in Markdown: a forge draws it, and in a plain checkout it reads as
what it is, one arrow a line, which a change shows as one line of difference.  Nothing
has to be installed to make or to see it.  Below each picture the same stands as a
table, with what the picture has no room for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from scstd.protocols.wire import states
from scstd.test import house

HEAD = "<!-- Written by `make docs` from the tables and imports; do not edit. -->\n\n"

PLUGINS = house.ROOT.parent / "twisted" / "plugins" / "scstd_plugins.py"

Transitions = Mapping[tuple[Any, Any], tuple[Any, str]]


def _mermaid(lines: Iterable[str]) -> str:
    return "".join(("```mermaid\n", *(f"{line}\n" for line in lines), "```\n"))


def _members(path: Path) -> dict[tuple[str, str], str]:
    """
    Return what stands behind the members of a file's classes, by class and member.
    """
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        name = ""
        for one in node.body:
            if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
                name = one.targets[0].id
            elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                found[node.name, name] = " ".join(str(one.value.value).split())
                name = ""
    return found


def _machine(first: Enum, transitions: Transitions) -> str:
    """
    Return a state machine as a picture, and its states and events as tables.
    """
    between: dict[tuple[str, str, str], list[str]] = {}
    for (state, event), (target, number) in transitions.items():
        between.setdefault((state.name, target.name, number), []).append(event.name)
    lines = ["stateDiagram-v2", f"    [*] --> {first.name}"]
    lines += [
        f"    {state} --> {target}: {' '.join((number, ' / '.join(events))).strip()}"
        for (state, target, number), events in between.items()
    ]
    said = _members(Path(states.__file__))
    text = [_mermaid(lines)]
    (_state, event), _row = next(iter(transitions.items()))
    for kind, title in ((type(first), "state"), (type(event), "event")):
        text.append(f"\n| {title} | |\n|---|---|\n")
        text += [
            f"| {one.name} | {said.get((kind.__name__, one.name), '')} |\n"
            for one in kind
        ]
    return "".join(text)


def machines() -> str:
    """
    Return doc/states.md.
    """
    state, stage = states.ConnectionState, states.LoginStage
    return "".join(
        (
            HEAD,
            "# States\n\n",
            "The state machines of `scstd/protocols/wire/states.py`, as its tables have",
            " them. What is not drawn is the protocol error. An arrow has the RFC's",
            " number, if it has one there, and the events that lead along it.\n\n",
            "## A connection (RFC 7143 sections 8.1 and 8.2)\n\n",
            _machine(state.FREE, states.TRANSITIONS),
            "\n## A session (RFC 7143 section 8.3)\n\n",
            _machine(states.SessionState.FREE, states.SESSION_TRANSITIONS),
            "\n## A login (RFC 7143 sections 6.3 and 11.12.3)\n\n",
            "The numbers are sections of the RFC.\n\n",
            _machine(stage.NONE, states.LOGIN_TRANSITIONS),
        )
    )


def needed(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """
    Return the arrows without those that follow from others.
    """

    def reach(room: str) -> set[str]:
        return arrows[room].union(*(reach(one) for one in arrows[room]))

    return {
        room: {
            one
            for one in to
            if not any(one in reach(other) for other in to if other != one)
        }
        for room, to in arrows.items()
    }


def _about(room: str) -> str:
    """
    Return what a room says of itself: the first sentence of its documentation.
    """
    place = house.ROOT / Path(*room.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(said.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(":.")


def _plugins() -> set[str]:
    """
    Return the rooms that are found at run time, by a word in the configuration.
    """
    found = re.findall(r'"scstd\.([\w.]+)"', PLUGINS.read_text(encoding="utf-8"))
    return {house.room_of(one) for one in found} - {"tap"}


def the_house() -> str:
    """
    Return doc/house.md.
    """
    arrows = house.arrows()
    ground, *storeys = house.STOREYS.items()
    drawn = [room for _title, rooms in storeys for room in rooms]
    lines = ["flowchart TD"]
    for number, (title, rooms) in enumerate(storeys):
        lines.append(f'    subgraph storey{number}["{title}"]')
        lines += [f'        {_id(room)}["{room}"]' for room in rooms]
        lines.append("    end")
    above = needed({room: arrows[room] - set(ground[1]) for room in drawn})
    lines += [
        f"    {_id(room)} --> {_id(one)}"
        for room in reversed(drawn)
        for one in drawn
        if one in above[room]
    ]
    lines.append('    plugin["plugin"]')
    lines += [f"    plugin -.-> {_id(one)}" for one in drawn if one in _plugins()]
    text = [
        HEAD,
        "# The house\n\n",
        "Who imports whom, from the imports themselves: an arrow points to what is",
        " imported, and none points up. Those that follow from others are left out,",
        " and so is the ground floor, on which everybody stands. Dotted is what",
        " `plugin` finds at run time, by a word in the configuration: nobody imports",
        " that. Who may import whom is `STOREYS` in scstd/test/house.py, which a test",
        " holds the code to.\n\n",
        _mermaid(lines),
    ]
    for title, rooms in reversed(house.STOREYS.items()):
        text.append(f"\n## {title}\n\n| room | | imports |\n|---|---|---|\n")
        text += [
            f"| `{room}` | {_about(room)} |"
            f" {', '.join(one for one in house.ROOMS if one in arrows[room])} |\n"
            for room in rooms
        ]
    return "".join(text)


def _id(room: str) -> str:
    return room.replace(".", "_")


PAGES = {"house.md": the_house, "states.md": machines}
