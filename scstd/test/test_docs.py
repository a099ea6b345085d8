# SPDX-License-Identifier: MIT
"""
The documentation is true: its commands run, its code is what the tests ran.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from twisted.trial.unittest import TestCase

import scstd
from scstd.management.config.reading import read
from scstd.test import generated
from scstd.test.clients import need
from scstd.test.serving import Server, free_port

ROOT = Path(scstd.__file__).parents[1]
DOC = ROOT / "doc"


def blocks(path: Path, kind: str) -> list[str]:
    """
    Return the fenced blocks of a kind in a file.
    """
    text = path.read_text(encoding="utf-8")
    return re.findall(
        rf"^```{re.escape(kind)}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )


def defined() -> set[str]:
    """
    Return the name of everything that our files define, and of rooms and files.
    """
    found: set[str] = set()
    for path in (ROOT / "scstd").rglob("*.py"):
        found |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


class DocumentationTests(TestCase):
    timeout = 300

    def setUp(self) -> None:
        """Be in a checkout, and in an empty directory."""
        if not DOC.exists():
            raise unittest.SkipTest("not run from a checkout")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def test_generated(self) -> None:
        """Pages that are made of tables are those that the tables make."""
        for name, make in generated.PAGES.items():
            self.assertEqual(
                (DOC / name).read_text(encoding="utf-8"), make(), f"{name}: make docs"
            )

    def environment(self) -> dict[str, str]:
        """Return an environment with our commands, of this interpreter."""
        bin_ = self.directory / "bin"
        bin_.mkdir()
        for name, entry in (
            ("twistd", "twisted.scripts.twistd import run"),
            ("scstadmin", "scstd.management.cli.scstadmin import main as run"),
        ):
            (bin_ / name).write_text(
                f"#!/bin/sh\nexec {sys.executable} -c"
                f" 'import sys; from {entry}; sys.exit(run())' \"$@\"\n"
            )
            (bin_ / name).chmod(0o755)
        return {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}

    def test_tutorial(self) -> None:
        """The ten minutes of doc/operating.md, in order, in one shell."""
        need("qemu-io", "qemu-img", "iscsi-ls")
        commands = blocks(DOC / "operating.md", "sh")
        self.assertGreater(len(commands), 8)
        script = "\n".join(commands).replace(":3260", f":{free_port()}")

        def end() -> None:
            pid_file = self.directory / "scstd.pid"
            if pid_file.exists():
                os.kill(int(pid_file.read_text()), signal.SIGKILL)

        self.addCleanup(end)
        said = self.directory / "said"
        with said.open("w") as file:
            # Not a pipe: the service would hold it.
            done = subprocess.run(
                ["timeout", "250", "sh", "-exc", script],
                cwd=self.directory,
                env=self.environment(),
                stdout=file,
                stderr=file,
                timeout=270,
                check=False,
            )
        self.assertEqual(done.returncode, 0, said.read_text()[-5000:])

    def test_commands(self) -> None:
        """The commands of README.md run."""
        need("qemu-io", "iscsi-ls")
        commands = blocks(ROOT / "README.md", "sh")
        self.assertGreater(len(commands), 2)
        environment = self.environment()
        for command in commands:
            done = subprocess.run(
                ["sh", "-ec", command],
                cwd=self.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=270,
                check=False,
            )
            self.assertEqual(done.returncode, 0, command + done.stdout + done.stderr)

    def test_configuration(self) -> None:
        """The scst.conf of doc/operating.md is served."""
        text, accounts = blocks(DOC / "operating.md", "scst.conf")
        (driver,) = read(accounts, "scst.conf").drivers
        self.assertEqual(len(driver.targets[0].values["IncomingUser"]), 2)
        self.assertEqual(len(read(text, "scst.conf").devices), 3)
        (self.directory / "scst.conf").write_text(text)
        with Server(
            "--config", "scst.conf", directory=str(self.directory), luns=2
        ) as server:
            self.assertIn(":vm/1", server.urls[1])

    def test_device_groups(self) -> None:
        """The device group of doc/operating.md can stand behind its scst.conf."""
        text, *_others = blocks(DOC / "operating.md", "scst.conf")
        (group,) = blocks(DOC / "operating.md", "conf")
        (found,) = read(text + group, "scst.conf").device_groups
        self.assertEqual((found.name, len(found.groups)), ("storage", 2))

    def test_handler(self) -> None:
        """The code of doc/handlers.md is the code of the example."""
        example = DOC / "examples" / "scstd_sqlite"
        files = [
            (example / name).read_text(encoding="utf-8")
            for name in (
                "scstd_sqlite.py",
                "twisted/plugins/scstd_sqlite_plugin.py",
                "setup.py",
                "test_scstd_sqlite.py",
            )
        ]
        xor = DOC / "examples" / "scstd_xor"
        files += [
            (xor / name).read_text(encoding="utf-8")
            for name in ("scstd_xor.py", "twisted/plugins/scstd_xor_plugin.py")
        ]
        tally = DOC / "examples" / "scstd_tally" / "scstd_tally.py"
        box = DOC / "examples" / "scstd_mailbox" / "scstd_mailbox.py"
        files += [one.read_text(encoding="utf-8") for one in (tally, box)]
        self.assertEqual(blocks(DOC / "handlers.md", "python"), files)
        lines = [line for line in files[0].splitlines() if line.strip()]
        self.assertLess(len(lines), 55)

    def test_driver(self) -> None:
        """The code of doc/drivers.md is the code of the example."""
        example = DOC / "examples" / "scstd_lines"
        files = [
            (example / name).read_text(encoding="utf-8")
            for name in (
                "scstd_lines.py",
                "twisted/plugins/scstd_lines_plugin.py",
                "test_scstd_lines.py",
            )
        ]
        self.assertEqual(blocks(DOC / "drivers.md", "python"), files)
        self.assertLess(len(files[0].splitlines()), 120)

    def test_links(self) -> None:
        """What the pages point to is there."""
        for path in [*ROOT.glob("*.md"), *DOC.glob("*.md")]:
            text = path.read_text(encoding="utf-8")
            for link in re.findall(r"\]\(([^)#:]+)\)", text):
                self.assertTrue((path.parent / link).exists(), f"{path}: {link}")

    def test_modules(self) -> None:
        """Files that doc/architecture.md names are there."""
        names = re.findall(r"`([\w/]+\.py)`", self.architecture())
        self.assertGreater(len(names), 60)
        for name in names:
            inside = ROOT / "scstd" / name
            self.assertTrue(inside.exists() or (ROOT / name).exists(), name)

    def test_names(self) -> None:
        """Classes, members and rooms that it names are defined somewhere."""
        names = re.findall(r"`([A-Za-z_][\w.]*)`", self.architecture())
        names = [name for name in names if not name.endswith(".py")]
        self.assertGreater(len(names), 30)
        known = defined()
        for name in names:
            for part in name.split("."):
                self.assertIn(part, known, name)

    def architecture(self) -> str:
        """Return what doc/architecture.md says."""
        return (DOC / "architecture.md").read_text(encoding="utf-8")
