# SPDX-License-Identifier: MIT
"""
Tests for plugins that are broken: each is named once, and harms no other.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import twisted.plugin
from twisted.trial.unittest import SynchronousTestCase

import scstd
from scstd import installed, plugin
from scstd.attributes import Attribute, ConfigurationError, Integer, Text
from scstd.interfaces import IDeviceHandler, IFilter

ROOT = Path(scstd.__file__).parents[1]

GOOD = """
from scstd.plugin import DeviceHandler, Filter
fine = DeviceHandler("fine", "It works", "{package}_code")
missing = DeviceHandler("missing", "Its module is not there", "{package}_nowhere")
raising = Filter("raising", "Its module raises", "{package}_raises")
script = DeviceHandler("script", "Its module ends the process", "{package}_exits")
tables = DeviceHandler("tables", "Its table is none", "{package}_tables")
empty = DeviceHandler("empty", "It opens nothing", "{package}_empty")
odd = DeviceHandler("an odd/name", "No word", "{package}_code")
lines = DeviceHandler("lines", "Two\\nlines", "{package}_code")
number = DeviceHandler(7, "No text", "{package}_code")
memory = DeviceHandler("memory", "Another one", "{package}_code")
one = DeviceHandler("same", "One", "{package}_code")
two = DeviceHandler("same", "Two", "{package}_empty")
"""

PLUGINS = {
    "good": GOOD,
    "syntax": "x = = 1\n",
    "raises": 'raise RuntimeError("no moon\\ntonight")\n',
    "exits": "import sys\nsys.exit(4)\n",
    "imports": "import no_such_module_at_all\n",
}

CODE = {
    "code": "PARAMETERS = ()\ndef open(reactor, device, parameters): return None\n",
    "raises": "raise ValueError('not\\nthis week')\n",
    "exits": "raise SystemExit(3)\n",
    "tables": "PARAMETERS = ({'name': 'size'},)\ndef open(*_): pass\n",
    "empty": "PARAMETERS = ()\n",
}


class PluginsTests(SynchronousTestCase):
    """
    A package of plugins in which almost everything is broken.
    """

    def setUp(self) -> None:
        """Make it, and have the registry find it besides ours."""
        place = Path(self.mktemp()).absolute()
        name = f"plugins{id(self)}"
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").touch()
        for one, text in PLUGINS.items():
            path = place / name / f"{one}.py"
            path.write_text(text.format(package=name) if one == "good" else text)
        for one, text in CODE.items():
            (place / f"{name}_{one}.py").write_text(text)
        self.patch(sys, "path", [str(place), *sys.path])
        self.addCleanup(self.forget, name)
        self.name = name
        self.package = importlib.import_module(name)

        def both(interface: Any) -> installed.Installed:
            ours = installed.installed(interface)
            theirs = installed.installed(interface, self.package)
            found = [*ours.plugins, *theirs.plugins]
            return installed.Installed(found, [*ours.broken, *theirs.broken])

        self.patch(plugin, "installed", both)

    def forget(self, name: str) -> None:
        """Forget its modules."""
        for module in [one for one in sys.modules if one.startswith(name)]:
            del sys.modules[module]
        importlib.invalidate_caches()

    def test_others_work(self) -> None:
        """What is right is found, ours first of all."""
        handlers = {one.name: one for one in plugin.device_handlers()}
        self.assertIn("fine", handlers)
        self.assertEqual(
            handlers["memory"].summary, "A disk in memory, gone at the end"
        )
        self.assertNotIn("same", handlers)
        self.assertEqual(list(plugin.find_device_handler("fine").parameters()), [])

    def test_named(self) -> None:
        """What is broken is named once, with its reason in a line."""
        lines = list(map(str, plugin.broken(IDeviceHandler)))
        name = self.name
        self.assertEqual(len(lines), len(set(lines)))
        for expected in (
            f"{name}.syntax cannot be used: SyntaxError: invalid syntax",
            f"{name}.raises cannot be used: RuntimeError: no moon tonight",
            f"{name}.exits cannot be used: SystemExit: 4",
            f"{name}.imports cannot be used: ModuleNotFoundError: No module named",
            f"missing cannot be used: cannot import {name}_nowhere: ModuleNotFoundError",
            f"script cannot be used: cannot import {name}_exits: SystemExit: 3",
            "tables cannot be used: its table has {'name': 'size'}: no Attribute",
            f"empty cannot be used: {name}_empty has no function open",
            f"{name}.good cannot be used: its name 'an odd/name' is no word",
            f"{name}.good cannot be used: its name 7 is no word",
            f"{name}_code cannot be used: scstd has one of the name memory",
            "lines cannot be used: its summary is 'Two\\nlines', which is no line",
            "same cannot be used: more than one is named 'same': ",
        ):
            found = [line for line in lines if line.startswith(expected)]
            self.assertEqual(len(found), 1, (expected, lines))
            self.assertNotIn("\n", found[0])
        (line,) = (str(one) for one in plugin.broken(IFilter) if one.name == "raising")
        self.assertIn(f"cannot import {name}_raises: ValueError: not this week", line)

    def test_found(self) -> None:
        """Whoever asks for a broken one is told why, and others of the same mistake."""
        for word in ("missing", "script", "tables", "empty", "same"):
            error = self.assertRaises(
                ConfigurationError, plugin.find_device_handler, word
            )
            said = f"device handler {word} cannot be used: "
            self.assertTrue(str(error).startswith(said), error)
        error = self.assertRaises(ConfigurationError, plugin.find_device_handler, "fin")
        self.assertIn("did you mean 'fine'?", str(error))

    def test_no_tracebacks(self) -> None:
        """Twisted logs nothing while we look; afterwards it does as before."""
        module: Any = twisted.plugin
        before = module.log
        installed.installed(IDeviceHandler, self.package)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIs(module.log, before)


class TableTests(SynchronousTestCase):
    """
    Tables of parameters.
    """

    def test_rows(self) -> None:
        """Rows that cannot be shown, and names that are no words, are named."""
        good = Attribute("size", Integer(), 1, "Bytes.")
        self.assertEqual(plugin.rows_of(lambda: [good]), [good])
        wrong: list[tuple[Any, str]] = [
            (None, "it has no table: TypeError"),
            ([good, good], "has size twice"),
            ([Attribute("a b", Text(), None, "x")], "has the name 'a b'"),
            ([Attribute(1, Text(), None, "x")], "has the name 1"),  # type: ignore[arg-type]
            ([Attribute("a", int, 1, "x")], "its row a: AttributeError"),  # type: ignore[arg-type]
            ([Attribute("a", Text(), None, None)], "its row a has no text"),  # type: ignore[arg-type]
        ]
        for table, said in wrong:
            error = self.assertRaises(
                ConfigurationError, plugin.rows_of, lambda table=table: table
            )
            self.assertIn(said, str(error))


class CommandTests(SynchronousTestCase):
    """
    The command line.
    """

    def test_lists(self) -> None:
        """Each list names what is broken once, and has the others."""
        place = Path(self.mktemp()).absolute()
        (place / "twisted" / "plugins").mkdir(parents=True)
        module = place / "twisted" / "plugins" / "scstd_test_broken.py"
        module.write_text("raise RuntimeError('no moon\\ntonight')\n")
        path = os.pathsep.join(
            [str(place), str(ROOT), os.environ.get("PYTHONPATH", "")]
        )
        why = "twisted.plugins.scstd_test_broken cannot be used: RuntimeError: no moon"
        for option, word in (
            ("--list-handlers", "memory: "),
            ("--list-filters", "delay: "),
            ("--list-drivers", "iscsi: "),
        ):
            done = subprocess.run(
                (
                    *(
                        sys.executable,
                        "-c",
                        "from twisted.scripts.twistd import run; run()",
                    ),
                    *("-n", "--pidfile=", "scst-iscsi", option),
                ),
                cwd=place,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.count(why), 1, done.stdout)
            self.assertIn(word, done.stdout)
