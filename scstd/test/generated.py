# SPDX-License-Identifier: MIT
"""
The pages of doc/ that follow from tables: ``python -m scstd.test.generated --write``.

doc/attributes.md comes from the rows of handlers, filters and drivers; doc/conformance.md
from the tables of keys, PDUs, commands and pages, with what is not there named beside;
doc/man and contrib/completion from the parsers (`manual`, `completion`); doc/states.md
and doc/house.md are pictures (`pictures`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import scstd
from scstd import plugin
from scstd.attributes import Attribute
from scstd.handlers.memory import MemoryStore
from scstd.management.model.attribute_tables import (
    GROUP_ATTRIBUTES,
    LUN_ATTRIBUTES,
    ROOT_ATTRIBUTES,
)
from scstd.management.model.device_attributes import DEVICE_ATTRIBUTES, unit_settings
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
)
from scstd.management.model.target_attributes import target_rows
from scstd.protocols.engine.dispatch import ROWS
from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.keys import KEYS, LOCAL
from scstd.protocols.wire.pdu import PDU_TYPES
from scstd.scsi.alua import DeviceGroup
from scstd.scsi.command import Command, every
from scstd.scsi.device import open_cdrom, open_disk
from scstd.scsi.kinds import PRIMARY
from scstd.scsi.mmc.configuration import FEATURES
from scstd.scsi.spc import log, mode, vpd
from scstd.test import completion, manual, pictures, setups
from scstd.test.sections import SECTIONS, TASK_MODEL

DOC = Path(scstd.__file__).parents[1] / "doc"

HEAD = "<!-- Written by `make docs` from the tables; do not edit. -->\n\n"

ABSENT_COMMANDS = """\
12 with CMDDT|3E READ LONG(10)|3F WRITE LONG(10)
9E/11 READ LONG(16)|9F/11 WRITE LONG(16)
5F/08 PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION
A3/0E REPORT PRIORITY|A4/0E SET PRIORITY"""
"""Commands of SPC and SBC that are not there: INVALID COMMAND OPERATION CODE."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _default(row: Attribute[Any]) -> str:
    if row.required:
        return "required"
    if row.default is None or row.repeats:
        return "not set"
    return row.kind.render(row.default) or '""'


def _rows(rows: Iterable[Attribute[Any]]) -> str:
    return _table(
        ("attribute", "default", "value", "", "changes act"),
        (
            (
                f"`{row.name}`",
                _default(row),
                row.kind.describe(),
                row.help,
                row.effect.value,
            )
            for row in rows
        ),
    )


OURS = ("scstd.handlers.", "scstd.filters.", "scstd.protocols.")


def _ours(found: Iterable[Any]) -> list[Any]:
    """
    Return our own plugins: others may be installed where this runs.
    """
    return [one for one in found if str(one.module).startswith(OURS)]


def attributes() -> str:
    """
    Return doc/attributes.md.
    """
    parts = [HEAD + "# Attributes\n\n"]
    parts += [
        "In scst.conf an attribute is a line of its block; on the command line a device's",
        " are `:name=value` behind its handler. Sizes take K, M, G, T (powers of 1024),",
        " flags 0 and 1.\n\n## Every device\n\n",
        _rows(DEVICE_ATTRIBUTES),
    ]
    for handler in _ours(plugin.device_handlers()):
        parts.append(f"\n## Devices of {handler.name}\n\n{handler.summary}.\n\n")
        parts.append(_rows(handler.parameters()))
    for one in _ours(plugin.filters()):
        parts.append(f"\n## The filter {one.name}\n\n{one.summary}.\n\n")
        parts.append(_rows(one.parameters()))
    parts.append("\n## The whole\n\n" + _rows(ROOT_ATTRIBUTES))
    parts.append("\n## A LUN\n\n" + _rows(LUN_ATTRIBUTES))
    parts.append("\n## A group of initiators\n\n" + _rows(GROUP_ATTRIBUTES))
    parts.append("\n## A device group\n\n" + _rows(DEVICE_GROUP_ATTRIBUTES))
    parts.append("\n## A target group\n\n" + _rows(TARGET_GROUP_ATTRIBUTES))
    parts.append("\n## A target in a target group\n\n" + _rows(PORT_ATTRIBUTES))
    for driver in _ours(plugin.target_drivers()):
        parts.append(f"\n## The target driver {driver.name}\n\n{driver.summary}.\n\n")
        parts.append(_rows(driver.attributes()))
        parts.append(f"\n## Targets of {driver.name}\n\n")
        parts.append(_rows(target_rows(driver)))
        if driver.group_attributes():
            parts.append(f"\n## Groups of initiators of {driver.name}\n\n")
            parts.append(_rows(driver.group_attributes()))
    return "".join(parts)


def _cdrom_commands() -> list[Command]:
    """
    Return what a CD/DVD drive has besides what every device has.
    """
    unit = open_cdrom("cd", MemoryStore(1 << 20, 2048))
    primary = {id(row) for one in PRIMARY for row in one.rows}
    return [row for row in every(unit.commands) if id(row) not in primary]


def _code(row: Command) -> str:
    action = "" if row.service_action is None else f"/{row.service_action:02X}"
    return f"{row.opcode:02X}{action}h"


def _phases(phases: int) -> str:
    names = (
        (Phase.LOGIN, "login"),
        (Phase.NORMAL, "normal"),
        (Phase.DISCOVERY, "discovery"),
    )
    return ", ".join(name for bit, name in names if phases & bit)


def conformance() -> str:
    """
    Return doc/conformance.md.
    """
    absent = [entry.strip() for entry in ABSENT_COMMANDS.replace("\n", "|").split("|")]
    pages = [page for _code, page in sorted(vpd.PAGES.items())]
    return "".join(
        (
            HEAD,
            "# Conformance\n\n",
            "What there is of the standards, from the tables that the program itself",
            " uses. `make conformance` runs libiscsi's suite; its verdicts are strict: a",
            " skip is not a pass.\n\n## RFC 7143 and RFC 7144 by sections\n\n",
            _table(
                ("section", "title", "state", "shown by"),
                (line.split("|") for line in SECTIONS.splitlines()),
            ),
            "\n## PDUs (RFC 7143 section 11)\n\n",
            _table(
                ("opcode", "PDU", "state"),
                (
                    (
                        f"{opcode:02X}h",
                        (kind.__doc__ or "").rstrip("."),
                        f"taken in: {_phases(ROWS[opcode].phases)}"
                        if opcode in ROWS
                        else "sent",
                    )
                    for opcode, kind in PDU_TYPES.items()
                ),
            ),
            "\n## Text keys (RFC 7143 sections 12 and 13)\n\n",
            _table(
                ("key", "section", "default", "ours", "scope"),
                (
                    (
                        key.name,
                        key.section,
                        _text(key.default),
                        _text(LOCAL[key.name]),
                        key.scope.value,
                    )
                    for key in KEYS.values()
                ),
            ),
            "\nAny other key: NotUnderstood. Keys about data are Irrelevant in discovery",
            " sessions.\n\n## Commands (SPC-5, SBC-4)\n\n",
            _table(
                ("code", "command", "when"),
                ((_code(row), row.name, _when(row)) for row in _disk()),
            ),
            "\nNot there (INVALID COMMAND OPERATION CODE): ",
            ", ".join(absent),
            ".\n\nWRITE SAME with UNMAP deallocates whatever the data says.",
            " START STOP UNIT flushes; it stops nothing.",
            " SYNCHRONIZE CACHE flushes all of the medium, whatever the range.",
            " UNMAP and WRITE SAME with ANCHOR are refused, and so are ORWRITE(32) with",
            " another BMOP than 000b, and FORMAT UNIT with a defect list, an",
            " initialization pattern or protection information.",
            " The REPORT LUNS well known logical unit (C101h) has INQUIRY, REPORT",
            " LUNS, REQUEST SENSE and TEST UNIT READY. Copies: between the",
            " units that a nexus sees; CSCD descriptors E4h, and the ID FFFFh; segment",
            " descriptors 02h and 0Ah; ROD tokens of the types 00800000h, 00800001h and, to be",
            " written, FFFF0001h. RECEIVE COPY DATA has no data to tell.\n\n",
            "## The task model (SAM-5)\n\n",
            _table(
                ("what", "state", "tests"),
                (line.split("|") for line in TASK_MODEL.splitlines()),
            ),
            "\n",
            "## libiscsi's suite\n\n",
            "No kind of LUN can pass all of its 230 cases: one wants a disc that can be",
            " taken out, another one that cannot be written. Each case passes on at least",
            " one of these set-ups, but for those that cannot pass anywhere",
            " (`python -m scstd.test.suite --summary`).\n\n",
            _table(("set-up", "device", "portals", "cases"), _setups()),
            "\n",
            _table(("never passes", "why"), setups.NEVER.items()),
            "\n### Cases that need not pass\n\n",
            _table(("case", "on", "why"), _exempt()),
            "\n## Commands of a CD/DVD drive (MMC-6)\n\n",
            "Besides these it has what every device has: the commands above that are",
            " SPC's. A CD's sectors are read with any of sync, header, user data and error",
            " correction that follow each other; subchannels, C2 errors, CD-DA, PMA, ATIP",
            " and CD-TEXT are refused. There are no commands that write.\n\n",
            _table(
                ("code", "command"),
                ((_code(row), row.name) for row in _cdrom_commands()),
            ),
            "\n| feature | | current with |\n|---|---|---|\n",
            *(
                f"| {one.number:04X}h | {one.name} |"
                f" {', '.join(f'{each:04X}h' for each in one.current) or 'always'} |\n"
                for one in FEATURES
            ),
            "\n## VPD pages\n\n",
            _table(
                ("code", "page"), ((f"{page.code:02X}h", page.name) for page in pages)
            ),
            "\n## Mode pages\n\n",
            _table(
                ("code", "page", "changeable"),
                (
                    (
                        f"{page.code:02X}h"
                        + (f"/{page.subpage:02X}h" if page.subpage else ""),
                        page.name,
                        ", ".join(one.name for one in page.fields if one.changeable),
                    )
                    for page in mode.PAGES.values()
                ),
            ),
            "\nTST stays as it is configured. GLTSD is 1: log parameters are not saved.",
            "\n\n## Log pages\n\n",
            _table(
                ("code", "page", "LOG SELECT resets"),
                (
                    (
                        f"{page.code:02X}h"
                        + (f"/{page.subpage:02X}h" if page.subpage else ""),
                        page.name,
                        "its counters" if page.counts else "",
                    )
                    for page in log.PAGES.values()
                ),
            ),
            "\nAnd the lists of pages (00h), of subpages (00h/FFh), and of each page's",
            " subpages. There is no temperature. The intervals of page 19h are",
            " microseconds: those of commands that waited for the store, and of one in",
            " sixteen of those that did not, for all; the weighted counts are 0.\n",
        )
    )


def _setups() -> Iterable[Sequence[str]]:
    """
    Yield the set-ups: name, device, portals, and for which cases it is there.
    """
    for setup, (device, portals) in setups.SETUPS.items():
        cases = ", ".join(setups.ONLY.get(setup, ("all",))).replace("*", r"\*")
        yield setup, f"`{device}`", str(portals), cases


def _exempt() -> Iterable[Sequence[str]]:
    """
    Yield case, set-ups and reason of each case that need not pass.
    """
    found = {(case, why): ["all"] for case, why in setups.NEVER.items()}
    for setup, cases in setups.EXEMPT.items():
        for row in cases.items():
            found.setdefault(row, []).append(setup)
    for (case, why), names in found.items():
        yield case.replace("*", r"\*"), ", ".join(names), why


_EVERYTHING = {"removable": True, "long_cdbs": True, "expl_alua": True}

_WITHOUT: Sequence[tuple[str, dict[str, bool]]] = (
    ("removable", {"removable": False}),
    ("thin provisioning", {"thin_provisioned": False}),
    ("device group", {"grouped": False}),
    ("`expl_alua`", {"expl_alua": False}),
    ("`erase_commands`", {"erase_commands": False}),
    ("`long_cdbs`", {"long_cdbs": False}),
)
"""What a command may need, and a disk that lacks it."""


def _disk(*, grouped: bool = True, **settings: bool) -> list[Command]:
    store = MemoryStore(1 << 20, 512)
    unit = open_disk(
        "disk", store, unit_settings({**_EVERYTHING, **settings}), clock=lambda: 0.0
    )
    if grouped:
        DeviceGroup("dg").add_unit(unit)
    return list(every(unit.commands))


def _when(row: Command) -> str:
    needs = [what for what, settings in _WITHOUT if row not in _disk(**settings)]
    return ", ".join(needs) or "always"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return "" if value is None else str(value)


PAGES = {
    "attributes.md": attributes,
    "conformance.md": conformance,
    **pictures.PAGES,
    **{f"man/{page.file}": page.render for page in manual.pages()},
    **{
        f"../contrib/completion/{name}": make for name, make in completion.FILES.items()
    },
}


def main() -> int:
    """
    Write the pages, or say which are out of date.
    """
    old = 0
    for name, make in PAGES.items():
        path = DOC / name
        text = make()
        if "--write" in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"doc/{name} is out of date: make docs")
            old += 1
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
