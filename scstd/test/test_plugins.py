# SPDX-License-Identifier: MIT
"""
Tests for plugins that are broken: each is named once, and harms no other.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import twisted.plugin
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import classImplements

import scstd
from scstd import installed, plugin
from scstd.attributes import Attribute, ConfigurationError, Integer, Text
from scstd.interfaces import IDeviceHandler, IFilter, ITargetDriver
from scstd.management.config.reading import read
from scstd.management.model.target_attributes import TARGET_ATTRIBUTES

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


class DriverTests(SynchronousTestCase):
    """
    Target drivers of others.
    """

    def installed(self, *drivers: Any) -> None:
        """Have these be installed besides ours."""

        def both(interface: Any) -> installed.Installed:
            found = installed.installed(interface)
            more = [one for one in drivers if interface.providedBy(one)]
            return installed.Installed([*found.plugins, *more], list(found.broken))

        self.patch(plugin, "installed", both)

    def driver(self, name: str, **more: Any) -> Any:
        """Return a driver whose module is made here."""
        module: Any = types.ModuleType(f"driver_{name}_{id(self)}")
        module.ATTRIBUTES = module.TARGET_ATTRIBUTES = ()
        module.open = lambda _reactor, _settings: None
        for field in ("TARGET_ATTRIBUTES", "target_name", "default_target_name"):
            if field in more:
                setattr(module, field, more.pop(field))
        sys.modules[module.__name__] = module
        self.addCleanup(sys.modules.pop, module.__name__, None)
        return plugin.TargetDriver(name, "One of others", module.__name__, **more)

    def test_reserved(self) -> None:
        """A table that has what every target has is none."""
        rows = (Attribute("rel_tgt_id", Integer(), 1, "Mine."),)
        self.installed(self.driver("greedy", TARGET_ATTRIBUTES=rows))
        (line,) = (
            str(one) for one in plugin.broken(ITargetDriver) if one.name == "greedy"
        )
        self.assertIn("rel_tgt_id, which every target has", line)
        names = {row.name for row in TARGET_ATTRIBUTES}
        self.assertEqual(names, plugin.OF_EVERY_TARGET)

    def test_default(self) -> None:
        """Ours is the default driver, whoever else says so; names of others are long."""
        self.installed(self.driver("another", default=True), self.driver("third"))
        self.assertEqual(plugin.default_target_driver().name, "iscsi")
        self.assertEqual(plugin.qualified_name("iscsi", "t"), "t")
        self.assertEqual(plugin.qualified_name("third", "t"), "third:t")
        self.assertEqual(plugin.qualified_name("another", "t"), "another:t")

    def test_names(self) -> None:
        """Without a rule of the driver's any name will do; with one it is asked."""

        def target_name(name: str) -> tuple[str, str]:
            if not name.isalpha():
                raise ConfigurationError("letters")
            return name.lower(), ""

        free, strict = self.driver("free"), self.driver("s", target_name=target_name)
        self.assertEqual(free.target_name("A b"), ("A b", ""))
        self.assertEqual(plugin.known_name(strict, "ABC"), "abc")
        self.assertEqual(plugin.known_name(strict, "A1"), "A1")

    def test_names_wrong(self) -> None:
        """A driver whose own code fails is named with why, and with the name."""

        def raising(name: str) -> Any:
            raise KeyError(name)

        for answer, why in (
            (raising, "KeyError: 'x'"),
            (lambda _name: None, "None are no two texts"),
            (lambda name: (name, None), "('x', None) are no two texts"),
        ):
            driver = self.driver("wrong", target_name=answer)
            error = self.assertRaises(
                ConfigurationError, plugin.target_name, driver, "x"
            )
            said = "target driver wrong cannot say whether 'x' is a name: "
            self.assertEqual(str(error), said + why)
            self.assertEqual(plugin.known_name(driver, "x"), "x")
        for default, why in (
            (lambda: raising("x"), "KeyError: 'x'"),
            (lambda: 7, "7 is no text"),
        ):
            driver = self.driver("wrong", default_target_name=default)
            error = self.assertRaises(
                ConfigurationError, plugin.default_target_name, driver
            )
            said = "target driver wrong has no name for a target: "
            self.assertEqual(str(error), said + why)

    def test_names_in_a_file(self) -> None:
        """A file with a target of such a driver is wrong at the target's line."""
        self.installed(self.driver("wrong", target_name=lambda _name: 1 // 0))
        text = "TARGET_DRIVER wrong {\n    TARGET t {\n    }\n}\n"
        error = self.assertRaises(ConfigurationError, read, text, "file")
        self.assertIn("file:2", str(error))
        self.assertIn("target driver wrong cannot say whether 't' is", str(error))

    def test_incomplete(self) -> None:
        """A plugin that lacks what every driver has is named, and harms no other."""

        class Old:
            name, summary, module = "old", "An old one", "scstd.protocols.driver"

            def attributes(self) -> tuple[()]:
                return ()

            target_attributes = group_attributes = attributes

        # As one of an older release: mypy would see what it lacks.
        declare: Any = classImplements
        declare(Old, IPlugin, ITargetDriver)
        self.installed(Old())
        (line,) = (
            str(one) for one in plugin.broken(ITargetDriver) if one.name == "old"
        )
        self.assertIn("it has no default", line)
        self.assertEqual(plugin.default_target_driver().name, "iscsi")
