# SPDX-License-Identifier: MIT
"""
Tests for the manual pages and the shell completions: they say what the programs say.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

import scstd
from scstd import daemon
from scstd.management.cli import adm, scstadmin
from scstd.tap import Options
from scstd.test import completion, manual
from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server

CONTRIB = Path(scstd.__file__).parents[1] / "contrib" / "completion"

_ADMIN = "from scstd.management.cli.scstadmin import entry; entry()"

HELPS = {
    "scst-iscsi.8": lambda: str(Options()),
    "scstadmin.8": scstadmin.parser().format_help,
    "iscsi-scst-adm.8": adm.parser().format_help,
    "iscsi-scstd.8": daemon.parser().format_help,
}
"""What ``--help`` prints, by the page of the program."""


class PageTests(TestCase):
    """
    The manual pages.
    """

    def setUp(self) -> None:
        """Write them."""
        self.pages = {page.file: page for page in manual.pages()}
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        for file, page in self.pages.items():
            (self.directory / file).write_text(page.render(), encoding="utf-8")

    def shown(self, file: str) -> str:
        """Return what man shows; it must not warn."""
        need("man")
        done = subprocess.run(
            [str(find("man")), "--warnings", "-E", "UTF-8", "-l", file],
            cwd=self.directory,
            env={**os.environ, "MANWIDTH": "150", "LC_ALL": "C.UTF-8", "PAGER": "cat"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), file)
        return re.sub(r".\x08", "", done.stdout)

    def test_options(self) -> None:
        """Each page has the options that --help has, no more and no less."""
        self.assertEqual({*self.pages} - {*HELPS}, {"scst.conf.5"})
        for file, said in HELPS.items():
            helped = set()
            for line in said().splitlines():
                match = re.match(r"\s+(-\S.*?)(\s{2,}|$)", line)
                if match and "usage" not in line:
                    helped |= set(re.findall(r"(?:^|[\s,])(--?[a-zA-Z_-]+)", match[1]))
            text = self.shown(file).partition("\nOPTIONS\n")[2].split("\nS", 1)[0]
            there = set()
            for line in text.splitlines():
                if re.match(r" {7}-", line):
                    there |= set(re.findall(r"(?:^|[\s,])(--?[a-zA-Z_-]+)", line))
            self.assertEqual(there, helped, file)
            self.assertGreater(len(there), 5)

    def test_attributes(self) -> None:
        """The page of scst.conf has every attribute of doc/attributes.md, and no markup."""
        text = self.shown("scst.conf.5")
        attributes = Path(scstd.__file__).parents[1] / "doc" / "attributes.md"
        if attributes.exists():
            names = re.findall(r"(?m)^\| `(\w+)` \|", attributes.read_text("utf-8"))
            self.assertGreater(len(names), 50)
            for name in names:
                self.assertRegex(text, rf"(?m)^ +{name}\b")
        self.assertNotIn("\\f", text)

    def test_escaped(self) -> None:
        """What means something to roff is taken for text."""
        page = manual.Page("p", 1, "x", [("S", manual.escaped(".so a\\b 'c' -d ~^`"))])
        (self.directory / "p.1").write_text(page.render())
        self.assertIn(".so a\\b 'c' -d ~^`", self.shown("p.1"))


class CompletionTests(TestCase):
    """
    Completion in bash, asked as bash asks.
    """

    timeout = 120

    def setUp(self) -> None:
        """Have a scstadmin to be completed, and a service."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        (self.directory / "bin").mkdir()
        program = self.directory / "bin" / "scstadmin"
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{_ADMIN}' \"$@\"\n")
        program.chmod(0o755)
        (self.directory / "completion").write_text(completion.bash())
        (self.directory / "some.conf").write_text("")

    def complete(self, line: str) -> list[str]:
        """Return what bash would offer for a line."""
        script = (
            "source ./completion; COMP_LINE=$1 COMP_POINT=${#1}; _scstadmin;"
            ' printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", script, "bash", line],
            cwd=self.directory,
            env={
                "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
                "SCSTD_CONTROL": "c",
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_options(self) -> None:
        """Options are those of the parser."""
        every = {name for one in completion.options() for name in one.names}
        self.assertEqual(set(self.complete("scstadmin -")), every)
        self.assertEqual(
            self.complete("scstadmin -rem_d"),
            ["-rem_dgrp", "-rem_dgrp_dev", "-rem_drv_attr"],
        )
        self.assertIn("-noprompt", self.complete("scstadmin -config some.conf -no"))

    def test_files(self) -> None:
        """A file's name is completed where one belongs."""
        self.assertEqual(self.complete("scstadmin -check_config so"), ["some.conf"])

    def test_names(self) -> None:
        """Names are the running service's; new ones nobody knows."""
        device = "d1=memory:size=1M"
        with Server(
            *("--device", device, "--device", "d2=memory:size=1M", "--control", "c"),
            *("--target", "iqn.2026-11.org.scstd:complete"),
            directory=str(self.directory),
            luns=2,
            wait_for="control socket is",
        ):
            self.assertEqual(self.complete("scstadmin -close_dev "), ["d1", "d2"])
            self.assertEqual(
                self.complete(
                    "scstadmin -driver iscsi -target iqn.2026-11.org.scstd:c"
                ),
                ["complete"],
            )
            self.assertEqual(self.complete("scstadmin -add_lun 0 -device d2"), ["d2"])
            self.assertNotIn("d1", self.complete("scstadmin -open_dev "))

    def test_no_service(self) -> None:
        """Without a service there are no names, and no complaint."""
        self.assertNotIn("d1", self.complete("scstadmin -close_dev "))

    def test_zsh(self) -> None:
        """The completion for zsh can be read by it, and has every option."""
        need("zsh")
        (self.directory / "_scstadmin").write_text(completion.zsh())
        script = "_arguments() { print -l -- $@ }; compadd() { }; source ./_scstadmin"
        done = subprocess.run(
            [str(find("zsh")), "-f", "-c", script],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = {line.partition("[")[0] for line in done.stdout.splitlines()}
        every = {name for one in completion.options() for name in one.names}
        self.assertEqual(found, every)
