# SPDX-License-Identifier: MIT
"""
The manual pages and shell completions, from the parsers and tables that the programs
themselves use: ``make docs`` writes doc/man and contrib/completion.

A page is a `Page`: what a program says of itself, and options as its parser has them.
Text is escaped here and nowhere else.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from twisted.python.reflect import prefixedMethodNames

import scstd
from scstd import daemon, plugin
from scstd.attributes import Attribute
from scstd.management.cli import adm, scstadmin
from scstd.management.model.attribute_tables import (
    GROUP_ATTRIBUTES,
    LUN_ATTRIBUTES,
    ROOT_ATTRIBUTES,
)
from scstd.management.model.device_attributes import DEVICE_ATTRIBUTES
from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
)
from scstd.management.model.target_attributes import target_rows
from scstd.tap import Options

_PARAMETERS: Sequence[tuple[str, str | None, None, str]] = [
    (str(row[0]), row[1], None, str(row[3])) for row in Options.optParameters
]

OURS = ("scstd.handlers.", "scstd.filters.", "scstd.protocols.")


@attrs.frozen
class Option:
    """
    One option: how it is written, with what after it, and what it does.
    """

    names: tuple[str, ...]
    word: str
    help: str


@attrs.frozen
class Page:
    """
    One manual page: *body* has sections, by title, of roff.
    """

    name: str
    section: int
    summary: str
    body: Sequence[tuple[str, str]]

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.section}"

    def render(self) -> str:
        """
        Return the page.
        """
        head = [
            '.\\" Written by `make docs` from the parsers and tables; do not edit.',
            f'.TH "{self.name.upper()}" "{self.section}" "" "scstd {scstd.__version__}"',
            ".SH NAME",
            f"{escaped(self.name)} \\- {escaped(self.summary)}",
        ]
        for title, text in self.body:
            head += [f".SH {title}", text.rstrip("\n")]
        return "\n".join(head) + "\n"


def escaped(text: str) -> str:
    """
    Return text as roff has it: nothing in it means anything.
    """
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"(?m)^\.", r"\\&.", text)


def listed(options: Iterable[Option]) -> str:
    """
    Return options as a list.
    """
    lines = []
    for one in options:
        names = ", ".join(f"\\fB{escaped(name)}\\fR" for name in one.names)
        word = f" \\fI{escaped(one.word)}\\fR" if one.word else ""
        lines += [".TP", names + word, escaped(one.help) or "\\&"]
    return "\n".join(lines)


def options_of(parser: argparse.ArgumentParser) -> list[Option]:
    """
    Return the options that ``--help`` of an argparse parser shows.
    """
    found = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or not action.option_strings:
            continue
        word = ""
        if action.nargs != 0:
            word = action.metavar if isinstance(action.metavar, str) else ""
            if not word and action.choices is not None:
                word = "{" + ",".join(map(str, action.choices)) + "}"
            word = word or action.dest.upper()
            word = {"?": f"[{word}]", "+": f"{word} ..."}.get(str(action.nargs), word)
        found.append(Option(tuple(action.option_strings), word, action.help or ""))
    return found


def _parsed(
    parser: argparse.ArgumentParser, section: int, summary: str, *see: str
) -> Page:
    description = parser.description or ""
    if parser.epilog:
        description += f"\n.PP\n{escaped(parser.epilog)}"
        first, _newline, rest = description.partition("\n")
        description = f"{escaped(first)}\n{rest}"
    else:
        description = escaped(description)
    return Page(
        parser.prog,
        section,
        summary,
        (
            ("SYNOPSIS", f"\\fB{escaped(parser.prog)}\\fR [\\fIoptions\\fR]"),
            ("DESCRIPTION", description),
            ("OPTIONS", listed(options_of(parser))),
            ("SEE ALSO", _see(*see)),
        ),
    )


def _see(*pages: str) -> str:
    return ",\n".join(
        re.sub(r"(.*)\((\d)\)", lambda m: f"\\fB{escaped(m[1])}\\fR({m[2]})", page)
        for page in pages
    )


def twistd_options() -> list[Option]:
    """
    Return the options of ``twistd scst-iscsi``: those of its table and its methods.
    """
    found = [
        Option(
            ((f"-{short}", f"--{name}") if short else (f"--{name}",)),
            name.rpartition("-")[2].upper(),
            text,
        )
        for name, short, _default, text in _PARAMETERS
    ]
    found += [
        Option((f"-{short}", f"--{name}"), "", text)
        for name, short, text in Options.optFlags
    ]
    shorts = {
        getattr(Options, f"opt_{name}"): name
        for name in prefixedMethodNames(Options, "opt_")
        if len(name) == 1
    }
    for name in prefixedMethodNames(Options, "opt_"):
        method = getattr(Options, f"opt_{name}")
        if len(name) == 1:
            continue
        words = {"listen": "WHERE", "device": "NAME=HANDLER[:param=value...]"}
        names = [f"--{name.replace('_', '-')}"]
        if method in shorts:
            names.insert(0, f"-{shorts[method]}")
        text = " ".join((method.__doc__ or "").split())
        found.append(Option(tuple(names), words.get(name, ""), text))
    return sorted(found, key=lambda one: one.names[-1])


def _twistd() -> Page:
    intro, _blank, examples = Options.longdesc.partition("\n\n")
    commands, _blank, more = examples.partition("\n\n")
    text = (
        f"{escaped(' '.join(intro.split()))}\n.PP\n.nf\n.RS\n"
        + "\n".join(escaped(line.strip()) for line in commands.splitlines())
        + f"\n.RE\n.fi\n.PP\n{escaped(' '.join(more.split()))}"
    )
    signals = (
        Option(("SIGHUP",), "", "The configuration file is read again."),
        Option(
            ("SIGTERM", "SIGINT"),
            "",
            "Commands under way end, what was written is flushed, and the process ends.",
        ),
    )
    environment = (
        Option(("STATE_DIRECTORY",), "", "The state directory, without --state-dir."),
        Option(("NOTIFY_SOCKET", "WATCHDOG_USEC"), "", "See sd_notify(3)."),
        Option(
            ("LISTEN_FDS", "LISTEN_PID"),
            "",
            "Sockets that are handed over, for the endpoint"
            " systemd:domain=INET6:index=0; see sd_listen_fds(3).",
        ),
    )
    return Page(
        "scst-iscsi",
        8,
        "serve disks over iSCSI",
        (
            (
                "SYNOPSIS",
                "\\fBtwistd\\fR [\\fB\\-n\\fR] \\fBscst\\-iscsi\\fR [\\fIoptions\\fR]"
                " [\\fIFILE\\fR ...]",
            ),
            ("DESCRIPTION", text),
            ("OPTIONS", listed(twistd_options())),
            ("SIGNALS", listed(signals)),
            ("ENVIRONMENT", listed(environment)),
            ("SEE ALSO", _see("scst.conf(5)", "scstadmin(8)", "twistd(1)")),
        ),
    )


def _rows(rows: Iterable[Attribute[Any]]) -> str:
    def default(row: Attribute[Any]) -> str:
        if row.required:
            return "It is required."
        if row.default is None or row.repeats:
            return ""
        return f"Default: {row.kind.render(row.default) or 'empty'}."

    return listed(
        Option(
            (row.name,),
            row.kind.describe(),
            " ".join(filter(None, (row.help, default(row)))),
        )
        for row in rows
    )


def _configuration() -> Page:
    grammar = (
        "One statement a line: a word and its arguments, and for a block an opening brace"
        " at the end of the line. # begins a comment; double quotes and backslashes take"
        " a character\\(aqs meaning away. Sizes take K, M, G and T, flags are 0 and 1."
    )
    parts = [
        ("DESCRIPTION", grammar.replace("-", "\\-")),
        (
            "STRUCTURE",
            ".nf\n.RS\n"
            + escaped(
                "HANDLER name {\n    DEVICE name {\n        attribute value\n    }\n}\n"
                "TARGET_DRIVER name {\n    attribute value\n    TARGET name {\n"
                "        attribute value\n        LUN number device\n"
                "        GROUP name {\n            INITIATOR pattern\n"
                "            LUN number device {\n                read_only 1\n"
                "            }\n        }\n    }\n}\n"
                "DEVICE_GROUP name {\n    DEVICE name\n    TARGET_GROUP name {\n"
                "        attribute value\n        TARGET name {\n"
                "            rel_tgt_id number\n        }\n    }\n}"
            )
            + "\n.RE\n.fi",
        ),
        ("ATTRIBUTES OF THE WHOLE", _rows(ROOT_ATTRIBUTES)),
        ("ATTRIBUTES OF EVERY DEVICE", _rows(DEVICE_ATTRIBUTES)),
    ]
    parts += [
        (f"DEVICES OF {one.name}", _rows(one.parameters()))
        for one in _ours(plugin.device_handlers())
    ]
    parts += [
        (f"THE FILTER {one.name}", _rows(one.parameters()))
        for one in _ours(plugin.filters())
    ]
    for one in _ours(plugin.target_drivers()):
        parts += [
            (f"THE TARGET DRIVER {one.name}", _rows(one.attributes())),
            (f"TARGETS OF {one.name}", _rows(target_rows(one))),
            (f"GROUPS OF {one.name}", _rows(one.group_attributes())),
        ]
    parts += [
        ("ATTRIBUTES OF A LUN", _rows(LUN_ATTRIBUTES)),
        ("ATTRIBUTES OF A GROUP", _rows(GROUP_ATTRIBUTES)),
        ("ATTRIBUTES OF A DEVICE GROUP", _rows(DEVICE_GROUP_ATTRIBUTES)),
        ("ATTRIBUTES OF A TARGET GROUP", _rows(TARGET_GROUP_ATTRIBUTES)),
        ("ATTRIBUTES OF A TARGET IN A TARGET GROUP", _rows(PORT_ATTRIBUTES)),
        ("FILES", ".TP\n\\fI/etc/scst.conf\\fR\nWhere the tools look for it."),
        ("SEE ALSO", _see("scst-iscsi(8)", "scstadmin(8)")),
    ]
    return Page("scst.conf", 5, "what an iSCSI target serves", parts)


def _ours(found: Iterable[Any]) -> list[Any]:
    return [one for one in found if str(one.module).startswith(OURS)]


def pages() -> list[Page]:
    """
    Return every manual page.
    """
    see = ("scst-iscsi(8)", "scst.conf(5)")
    return [
        _twistd(),
        _parsed(scstadmin.parser(), 8, "administer a running scstd", *see),
        _parsed(adm.parser(), 8, "the first iSCSI-SCST's tool, for scstd", *see),
        _parsed(daemon.parser(), 8, "the first iSCSI-SCST's daemon, for scstd", *see),
        _configuration(),
    ]
