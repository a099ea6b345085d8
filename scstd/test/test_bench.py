# SPDX-License-Identifier: MIT
"""
The measurements of bench/ run, and write what they promise, on real initiators; how
long they measure here says nothing.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from twisted.trial.unittest import TestCase

import scstd
from scstd.test.clients import need
from scstd.test.serving import PATIENCE

ROOT = Path(scstd.__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


def run(script: str, *options: str) -> str:
    """
    Return what a script of bench/ prints; whether figures are good is not looked at.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert not done.stderr, done.stderr
    return done.stdout


class BenchTests(TestCase):
    """
    One round of each kind of row.
    """

    timeout = 300

    def test_compare(self) -> None:
        """
        Rows by libiscsi, by a socket and by TLS become a table, a picture with a mark
        where something is asked for, and a line of a history that takes new columns.
        """
        need("tgtd", "cc", "libiscsi-dev", "socat")
        where = Path(self.mktemp()).absolute()
        short = ("--rounds", "1", "--seconds", "0.05", "--keep", str(where))
        first = run("compare.py", "--only", "4k-70-8x8,64k-r-crc", *short)
        run("compare.py", "--only", "4k-r-tls,4k-70-8x8", *short)
        self.assertIn("fewest", first)
        page = (where / "bench" / "results.md").read_text(encoding="utf-8")
        rows = [line for line in page.splitlines() if line.startswith("| random")]
        self.assertEqual(len(rows), 2)
        cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
        self.assertEqual(cells[0], "random 70/30 4 KiB, 8 sessions, depth 8")
        self.assertEqual(cells[4], "1.8")
        for cell in (*cells[1:3], *cells[5:11]):
            self.assertGreater(float(cell), 0, rows[0])
        self.assertIn("built with", page)

        picture = ET.parse(where / "doc" / "bench.svg")
        kinds = [one.get("class") for one in picture.iter() if one.get("class")]
        self.assertEqual(kinds.count("bar") + kinds.count("short"), 2)
        self.assertEqual(kinds.count("wanted"), 1)
        said = [one.text for one in picture.iter(f"{SVG}text")]
        self.assertIn("random read 4 KiB, depth 32, TLS", said)

        with (where / "bench" / "history.csv").open(encoding="utf-8") as file:
            one, other = csv.DictReader(file)
        self.assertTrue(float(one["4k-70-8x8"]) and float(other["4k-70-8x8"]))
        self.assertTrue(float(one["64k-r-crc"]) and not one["4k-r-tls"])
        self.assertTrue(float(other["4k-r-tls"]) and not other["64k-r-crc"])
        self.assertIn(one["optimized"], ("yes", "no"))

    def test_many(self) -> None:
        """Sessions log in, idle and are pinged; LUNs start, are listed and saved."""
        some = ("--sessions", "40", "--targets", "2", "--luns", "3", "--idle", "0.1")
        said = run("many.py", *some)
        self.assertIn("20 logins, one by one: ", said)
        self.assertIn("40 idle sessions take ", said)
        self.assertIn("a NOP-Out of each is answered in ", said)
        self.assertIn("6 devices as LUNs of 2 targets\n", said)
        self.assertRegex(said, r"(?m)^scstadmin -write_config saved\.conf ")

    def test_workers(self) -> None:
        """Two targets are measured with one worker, and with two beside it."""
        need("cc", "libiscsi-dev")
        some = ("--rounds", "1", "--seconds", "0.05", "--only", "4k-r-8x2")
        said = run("workers.py", *some)
        self.assertRegex(said, r" 1 workers +[1-9]\d* /s  ratio 1\.00 ")
        self.assertRegex(said, r" 2 workers +[1-9]\d* /s  ratio \d+\.\d\d ")

    def test_unknown_row(self) -> None:
        """A row that there is none of is told, and nothing is measured."""
        with self.assertRaisesRegex(AssertionError, "no row has 'nonsense'"):
            run("compare.py", "--only", "nonsense")
