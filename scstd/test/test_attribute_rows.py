# SPDX-License-Identifier: MIT
"""
Tests for `scstd.attributes` and `scstd.plugin`: rows, their values, and what is
installed.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd import plugin
from scstd.attributes import (
    Attribute,
    Choice,
    ConfigurationError,
    Flag,
    Integer,
    Seconds,
    Size,
    Text,
    changed_values,
    find,
    parse_values,
)
from scstd.installed import Installed
from scstd.test.generating import examples


class AttributeTests(SynchronousTestCase):
    """
    Values as people write them.
    """

    def test_kinds(self) -> None:
        """Each kind takes its spellings and refuses others, saying what it expects."""
        for kind, good, bad in (
            (Integer(1, 9), {"5": 5, "0x9": 9}, ["0", "10", "x", ""]),
            (Size(512), {"1K": 1024, "2m": 2 << 20, "512": 512, "1GiB": 1 << 30, "0x400": 1024, "010K": 10240}, ["1", "K", "1.5K", "-1", "9" * 5000, "0x" + "f" * 5000, "9" * 20 + "T", "\u0663K"]),
            (Flag(), {"1": True, "No": False, "on": True}, ["2", ""]),
            (Seconds(1, 60), {"1.5": 1.5, "30s": 30.0}, ["0", "x"]),
            (Choice(("EIO", "ENOSPC")), {"eio": "EIO"}, ["EPERM"]),
            (Text(3), {"abc": "abc"}, ["abcd"]),
        ):  # fmt: skip
            for text, expected in good.items():
                self.assertEqual(kind.parse(text), expected)
                self.assertEqual(kind.parse(kind.render(expected)), expected)  # type: ignore[arg-type]
            for text in bad:
                error = self.assertRaises(ConfigurationError, kind.parse, text)
                self.assertIn(kind.describe(), str(error))

    @examples()
    @given(st.integers(0, 1 << 62))
    def test_sizes(self, size: int) -> None:
        """A size is rendered as what parses to it."""
        self.assertEqual(Size().parse(Size().render(size)), size)

    def test_rows(self) -> None:
        """Defaults, repeats, what is required, what is unknown."""
        rows = (
            Attribute("a", Integer(), 1, ""),
            Attribute("b", Text(), None, "", required=True),
            Attribute("c", Text(), None, "", repeats=True),
        )
        values = parse_values(rows, [("b", "x"), ("c", "1"), ("c", "2")])
        self.assertEqual(values, {"a": 1, "b": "x", "c": ("1", "2")})
        self.assertEqual(
            changed_values(rows, values), [("b", "x"), ("c", "1"), ("c", "2")]
        )
        for given_pairs, word in (
            ([], "'b' is missing"),
            ([("b", "1"), ("b", "2")], "'b' is given twice"),
            ([("b", "1"), ("aa", "2")], "did you mean 'a'?"),
            ([("b", "1"), ("a", "x")], "'a': 'x': expected a whole number"),
            ([("b", "1\n2")], "'b': '1\\n2': expected one line"),
            ([("b", "1\0")], "'b': '1\\x00': expected one line"),
            ([("b", "\udcff")], "'b': '\\udcff': expected UTF-8"),
        ):
            error = self.assertRaises(
                ConfigurationError, parse_values, rows, given_pairs
            )
            self.assertIn(word, str(error))
        self.assertRaises(ConfigurationError, find, rows, "z", "attribute")


class PluginTests(SynchronousTestCase):
    """
    The registry.
    """

    def test_ours(self) -> None:
        """Our own plugins are found, with tables that can be printed."""
        for found, expected in (
            (plugin.device_handlers(), {"memory", "vdisk_fileio", "vdisk_nullio"}),
            (plugin.filters(), {"delay", "error"}),
            (plugin.target_drivers(), {"iscsi"}),
        ):
            everything: Any = found
            self.assertLessEqual(expected, {one.name for one in everything})
            for one in everything:
                rows = getattr(one, "parameters", None) or one.target_attributes
                for row in rows():
                    self.assertTrue(row.help.endswith("."), row)
                    row.kind.describe()

    def test_unknown(self) -> None:
        """An unknown word is an error that names those there are."""
        error = self.assertRaises(
            ConfigurationError, plugin.find_device_handler, "vdisk_file"
        )
        self.assertIn("did you mean 'vdisk_fileio'?", str(error))
        self.assertIn("memory", str(error))

    def test_two_of_a_name(self) -> None:
        """Two plugins of one name are an error when it is asked for."""
        one = plugin.DeviceHandler("same", "", "a.module")
        other = plugin.DeviceHandler("same", "", "another.module")
        both = [one, other]
        self.patch(plugin, "installed", lambda _interface: Installed(list(both)))
        error = self.assertRaises(
            ConfigurationError, plugin.find_device_handler, "same"
        )
        self.assertIn("a.module, another.module", str(error))

    def test_not_importable(self) -> None:
        """A plugin whose module cannot be imported says so when it is used."""
        broken = plugin.DeviceHandler("broken", "", "scstd.no_such_module")
        error = self.assertRaises(ConfigurationError, broken.parameters)
        self.assertIn("scstd.no_such_module", str(error))
