# SPDX-License-Identifier: MIT
"""
What we write, read by the rules of SCST's own tool.

`Oracle` is these rules and nothing else, written after its manual page and what it does:
comments first, then backslashes, then braces and ends of lines, then quotes and blanks.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import changed_values
from scstd.management.config.reading import read
from scstd.management.config.writing import render, unlike
from scstd.management.grammar.scstconf import expressible, parse, quoted
from scstd.management.model.attribute_tables import (
    LUN_ATTRIBUTES,
    ROOT_ATTRIBUTES,
    driver_rows,
    group_rows,
)
from scstd.management.model.configuration import Configuration, LunConfiguration
from scstd.management.model.device_attributes import device_rows
from scstd.management.model.target_attributes import target_rows
from scstd.plugin import find_target_driver
from scstd.test.configurations import configurations
from scstd.test.generating import examples

Tree = dict[str, Any]

_WORD = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"|(\S+)', re.DOTALL)


class Oracle:
    """
    Reads a text as SCST's tool does: into a tree of words.
    """

    def __init__(self, text: str) -> None:
        lines = []
        for line in text.splitlines(keepends=True):
            bare = re.sub(r"^#.*", "", line)
            bare = re.sub(r"[^\\]#.*", "", bare)
            lines.append(re.sub(r"\\(.)", r"\1", bare))
        self._left = list(reversed("".join(lines)))

    def tree(self) -> Tree:
        """Return what is up to the end of a block."""
        found: Tree = {}
        line = ""
        while self._left:
            character = self._left.pop()
            if character == "{":
                child = self.tree()
                self._put(found, line, child)
                line = ""
            elif character == "}":
                return found
            elif character == "\n":
                self._put(found, line, {})
                line = ""
            else:
                line += character
        return found

    @staticmethod
    def _put(found: Tree, line: str, child: Tree) -> None:
        words = [
            quote if text is None else text
            for quote, text in (
                (one[1], one[2]) for one in _WORD.finditer(line.strip())
            )
        ][:3]
        if not words:
            return
        for word in words[:-1]:
            found = found.setdefault(word, {})
        found[words[-1]] = child


def _attributes(rows: Any, values: Any) -> Tree:
    tree: Tree = {}
    for name, text in changed_values(rows, values):
        tree.setdefault(name, {})[text] = {}
    return tree


def _luns(luns: tuple[LunConfiguration, ...]) -> Tree:
    found: Tree = {}
    for one in luns:
        inside = _attributes(LUN_ATTRIBUTES, {"read_only": one.read_only})
        found[str(one.lun)] = {one.device: inside}
    return {"LUN": found} if found else {}


def wanted(configuration: Configuration) -> Tree:
    """Return the tree that SCST is to see."""
    tree = _attributes(ROOT_ATTRIBUTES, configuration.values)
    for device in configuration.devices:
        block = tree.setdefault("HANDLER", {}).setdefault(device.handler.name, {})
        rows = device_rows(device.handler)
        block.setdefault("DEVICE", {})[device.name] = _attributes(rows, device.values)
    for driver in configuration.drivers:
        plugin = find_target_driver(driver.name)
        block = _attributes(driver_rows(plugin), driver.values)
        for target in driver.targets:
            inside = _attributes(target_rows(plugin), target.values)
            inside.update(_luns(target.luns))
            for group in target.groups:
                there = _attributes(group_rows(plugin), group.values)
                there.update(_luns(group.luns))
                if group.patterns:
                    there["INITIATOR"] = {one: {} for one in group.patterns}
                inside.setdefault("GROUP", {})[group.name] = there
            block.setdefault("TARGET", {})[target.name] = inside
        if block:
            tree.setdefault("TARGET_DRIVER", {})[driver.name] = block
    return tree


class GrammarTests(SynchronousTestCase):
    """
    Two readers of one text.
    """

    @examples()
    @given(st.text('ab "\\{}#;=\t', max_size=8))
    @example('a"b')
    @example('"a"')
    @example("a b\\")
    @example("a b\\\\")
    @example("\\#")
    def test_words(self, text: str) -> None:
        """A word is read back here, and there unless it is said that it is not."""
        line = f"name {quoted(text)}\n"
        (statement,) = parse(line, "")
        self.assertEqual([one.text for one in statement.words], ["name", text])
        there = Oracle(line).tree() == {"name": {text: {}}}
        self.assertEqual(there, expressible(text), line)

    @examples()
    @given(st.text('ab "\\#;=\t', max_size=8))
    def test_tool(self, text: str) -> None:
        """What SCST's tool writes for a value we read as it would itself."""
        escaped = re.sub(r"([\\#])", r"\\\1", text)
        line = "name " + (f'"{escaped}"' if " " in escaped else escaped) + "\n"
        there = Oracle(line).tree().get("name", {})
        # A quote in front, or two of them, are a person's here; one among blanks too.
        alone = text.count('"') == 1 and text[0] != '"' and " " not in text
        plain = '"' not in text or alone
        if plain and list(there) == [text]:
            (statement,) = parse(line, "")
            self.assertEqual([one.text for one in statement.words[1:]], [text])

    @examples()
    @given(configurations())
    def test_configurations(self, configuration: Configuration) -> None:
        """A configuration is written so that SCST reads every word and value of it."""
        text = render(configuration)
        if not unlike(text):
            self.assertEqual(Oracle(text).tree(), wanted(configuration))

    def test_values(self) -> None:
        """Numbers are plain, and booleans as SCST has them."""
        text = (
            "HANDLER vdisk_nullio {\nDEVICE d {\nsize 256K\nopt_trans_len 1M\n}\n}\n"
            "TARGET_DRIVER iscsi {\niSNSServer 192.0.2.1\nTARGET iqn.2026-11.org.scstd:t {\n"
            "InitialR2T 1\nImmediateData 0\nMaxBurstLength 256K\nenabled 1\n"
            'comment "a # b"\n}\n}\n'
        )
        tree = Oracle(render(read(text, ""))).tree()
        self.assertEqual(
            tree["HANDLER"]["vdisk_nullio"]["DEVICE"]["d"],
            {"size": {"262144": {}}, "opt_trans_len": {"1048576": {}}},
        )
        driver = tree["TARGET_DRIVER"]["iscsi"]
        self.assertEqual(driver["iSNSServer"], {"192.0.2.1": {}})
        self.assertEqual(
            driver["TARGET"]["iqn.2026-11.org.scstd:t"],
            {
                "InitialR2T": {"Yes": {}},
                "ImmediateData": {"No": {}},
                "MaxBurstLength": {"262144": {}},
                "enabled": {"1": {}},
                "comment": {"a # b": {}},
            },
        )

    def test_said(self) -> None:
        """What SCST cannot read is said, by its line, but no word of it."""
        text = render(
            read(
                "TARGET_DRIVER iscsi {\nTARGET iqn.2026-11.org.scstd:t {\n"
                'IncomingUser "joe se{cret-of-joe"\ncomment "a \\"b\\""\n}\n}\n',
                "",
            )
        )
        said = unlike(text)
        self.assertEqual([one.split(":")[0] for one in said], ["line 3", "line 4"])
        self.assertIn("behind comment", said[0])
        self.assertNotIn("cret", "".join(said))
