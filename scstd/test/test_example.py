# SPDX-License-Identifier: MIT
"""
The example of another package's handler, and an installation from scratch.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

import scstd
from scstd.handlers.memory import MemoryStore
from scstd.initiator.commands import read10, write10
from scstd.interfaces import IBackstore
from scstd.test.clients import find, need
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.test_docs import blocks
from scstd.testing.contracts import BackstoreContract

ROOT = Path(scstd.__file__).parents[1]
EXAMPLE = ROOT / "doc" / "examples" / "scstd_sqlite"

_IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "_trial_temp*", "build", "*.egg-info", "*.img", ".*_cache"
)


def ignored(directory: str, names: list[str]) -> set[str]:
    """
    Return what of a directory is not copied: the state of ``make run`` neither.
    """
    state = {"state"} if Path(directory) == ROOT else set()
    return _IGNORED(directory, names) | state


def checkout() -> None:
    """
    Skip the test where there is no checkout but an installed package.
    """
    if not EXAMPLE.exists():
        raise unittest.SkipTest("not run from a checkout")


def example(name: str) -> Any:
    """
    Return the module of an example.
    """
    checkout()
    path = EXAMPLE.parent / name / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SQLiteContract(BackstoreContract, TestCase):
    """
    The example keeps the contract.
    """

    async def open(self) -> IBackstore:
        """Return a store in a database."""
        module = example("scstd_sqlite")
        return IBackstore(module.SQLiteStore(reactor, self.mktemp(), 2 << 20))


class XORContract(BackstoreContract, TestCase):
    """
    So does a store behind the filter that is an example.
    """

    async def open(self) -> IBackstore:
        """Return zeros, which are others below."""
        module = example("scstd_xor")
        inner = MemoryStore(2 << 20, 512)
        store = module.wrap(reactor, "disk", inner, {"key": 0x5A})
        store.write(0, bytes(2 << 20), False)
        self.assertEqual(inner.read(0, 4), b"\x5a" * 4)
        return IBackstore(store)


class TallyContract(BackstoreContract, TestCase):
    """
    And one behind the filter that counts.
    """

    async def open(self) -> IBackstore:
        """Return a store in memory behind it."""
        module = example("scstd_tally")
        return IBackstore(module.wrap(reactor, "d", MemoryStore(2 << 20, 512), {}))


class TallyTests(TestCase):
    """
    The filter that counts for each session.
    """

    def test_told(self) -> None:
        """Each session has what it has read and written, and is in the log then."""
        module = example("scstd_tally")
        said: list[Any] = []
        note: Any = said.append
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        store = module.wrap(reactor, "d", MemoryStore(2 << 20, 512), {})
        node, _target, _units = serve(store)
        one = Initiator(node).ready()
        two = Initiator(node, name=f"{INITIATOR}.two").ready()
        one.do(write10(0, 4), data=bytes(2048))
        two.do(read10(0, 2), read=1024)
        one.do(read10(0, 1), read=512)
        one.logout()
        two.logout()
        self.assertEqual(
            [formatEvent(line) for line in said if "written" in line],
            [
                f"disk0: {INITIATOR} has read 512 bytes and written 2048",
                f"disk0: {INITIATOR}.two has read 1024 bytes and written 0",
            ],
        )
        self.assertEqual(store.bytes, {})


class InstallationTests(TestCase):
    """
    A clean virtual environment, another directory.
    """

    timeout = 600

    def run_here(self, *command: str, directory: Path) -> str:
        """Run a program that has to succeed."""
        done = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def test_installed(self) -> None:
        """
        Scstd and the example are installed, found, and serve a real initiator; our own
        tests are not there.
        """
        checkout()
        need("qemu-io")
        work = Path(self.mktemp()).absolute()
        work.mkdir()
        source = work / "source"
        shutil.copytree(ROOT, source, ignore=ignored)
        self.run_here(sys.executable, "-m", "venv", "venv", directory=work)
        pip = str(work / "venv" / "bin" / "pip")
        example = str(source / "doc" / "examples" / "scstd_sqlite")
        self.run_here(
            pip,
            "install",
            "--quiet",
            "--disable-pip-version-check",
            str(source),
            example,
            directory=work,
        )
        # As doc/handlers.md has it for a CI: in the checkout of the example.
        for line in blocks(source / "doc" / "handlers.md", "sh")[0].splitlines()[2:]:
            self.run_here(
                *line.replace("venv/", f"{work}/venv/").split(),
                directory=Path(example),
            )
        elsewhere = work / "elsewhere"
        elsewhere.mkdir()
        twistd = (str(work / "venv" / "bin" / "twistd"), "-n", "--pidfile=")
        python = str(work / "venv" / "bin" / "python")
        for statement in (
            "import scstd.testing.contracts, scstd.initiator.blocking",
            "from importlib.util import find_spec; assert not find_spec('scstd.test')",
        ):
            self.run_here(python, "-c", statement, directory=elsewhere)
        listed = self.run_here(
            *twistd, "scst-iscsi", "--list-handlers", directory=elsewhere
        )
        self.assertIn("sqlite: A disk in a SQLite database", listed)
        self.assertIn("vdisk_fileio: ", listed)
        qemu_io = find("qemu-io")
        self.run_here(
            *twistd,
            "scst-iscsi",
            "--state-dir",
            "state",
            "--listen",
            "127.0.0.1:0",
            "--device",
            "d=sqlite:database=disk.db:size=64M",
            "--run",
            f"{qemu_io} -f raw -c 'write -P 0x33 1M 1M' -c flush"
            " -c 'read -P 0x33 1M 1M' -c 'read -P 0 8M 64k' $SCSTD_URL",
            directory=elsewhere,
        )
        self.assertGreater((elsewhere / "disk.db").stat().st_size, 1 << 20)
