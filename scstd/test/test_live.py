# SPDX-License-Identifier: MIT
"""
Changes under real initiators: resizing, reloading, being killed.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.test.clients import need
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_control import short_directory, tool

KEPT = "iqn.2026-11.org.scstd:kept"

HEAD = """\
HANDLER vdisk_fileio {{
    DEVICE disk {{
        filename disk.img
        size 64M
    }}
{devices}}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {kept} {{
        enabled 1
        LUN 0 disk
    }}
{targets}}}
"""


def configuration(seed: int) -> str:
    """Return a configuration that has one target in common with every other."""
    chance = random.Random(seed)
    devices, targets = "", ""
    names = [f"d{number}" for number in range(4) if chance.random() < 0.7]
    for name in names:
        devices += (
            f"    DEVICE {name} {{\n        filename {name}.img\n        size 1M\n"
            f"        rotational {chance.randrange(2)}\n"
            f"        tst {chance.randrange(2)}\n    }}\n"
        )
    for target in "xyz":
        if chance.random() < 0.7:
            targets += f"    TARGET iqn.2026-11.org.scstd:{target} {{\n"
            targets += f"        enabled {chance.randrange(2)}\n"
            for lun, name in enumerate(chance.sample(names, len(names))):
                targets += f"        LUN {lun * 3} {name}\n"
            targets += "    }\n"
    return HEAD.format(devices=devices, targets=targets, kept=KEPT)


class RealTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = short_directory(self)
        self.config = self.directory / "scst.conf"

    def server(self, **keywords: Any) -> Server:
        """Serve the configuration."""
        return Server(
            "--config",
            "scst.conf",
            directory=str(self.directory),
            wait_for="the control socket is",
            **keywords,
        )

    def run_here(self, *command: str) -> str:
        """Run a program; return what it says."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, (command, done.stdout + done.stderr))
        return done.stdout + done.stderr

    def capacity(self, url: str) -> int:
        """Return the size that an initiator sees, in bytes."""
        said = self.run_here("iscsi-readcapacity16", url)
        size = re.search(r"Total size:(\d+)", said)
        assert size is not None, said
        return int(size[1])

    def test_resize(self) -> None:
        """A file that qemu-img resizes is as large for initiators; its data stays."""
        need("qemu-img", "qemu-io", "iscsi-readcapacity16")
        self.config.write_text(HEAD.format(devices="", targets="", kept=KEPT))
        with self.server() as server:
            for resize, size in ((None, 64), ("128M", 128), ("32M", 32)):
                if resize is not None:
                    options = ("--shrink",) if size < 64 else ()
                    self.run_here(
                        *("qemu-img", "resize", "-q", "-f", "raw", *options),
                        *("disk.img", resize),
                    )
                    tool(self.directory, "-resync_dev", "disk")
                self.assertEqual(self.capacity(server.url), size << 20)
                at = (size << 20) - 65536
                for command in (f"write -P {size} {at} 64k", "write -P 7 1M 64k"):
                    if "P 7" not in command or resize is None:
                        self.run_here("qemu-io", "-f", "raw", "-c", command, server.url)
                read = ("-c", f"read -P {size} {at} 64k", "-c", "read -P 7 1M 64k")
                said = self.run_here("qemu-io", "-f", "raw", *read, server.url)
                self.assertNotIn("failed", said)

    def test_reloads(self) -> None:
        """
        While configurations are reloaded an initiator of a target that is in all of
        them reads what it wrote, and its session is the same.
        """
        need("qemu-io")
        self.config.write_text(configuration(0))
        with self.server(luns=0, listen="127.0.0.1:0") as server:
            where = next(line for line in server.lines if f"{KEPT}/0" in line)
            url = "iscsi://" + where.partition("iscsi://")[2].strip()
            process = subprocess.Popen(
                ["qemu-io", "-f", "raw", url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            sessions = set()
            steps = 0
            for seed in range(1, 5):
                for number in range(5):
                    at = number * 65536
                    process.stdin.write(f"write -P {seed} {at} 64k\n")
                    process.stdin.flush()
                self.config.write_text(configuration(seed))
                said = tool(self.directory, "-config", "-force", "-noprompt", "-json")
                steps += len(json.loads(said))
                process.stdin.write(f"read -P {seed} 0 320k\n")
                process.stdin.flush()
                if seed in {1, 4}:
                    listed = json.loads(tool(self.directory, "-list_sessions", "-json"))
                    sessions |= {one["ip"] for one in listed if one["target"] == KEPT}
            output, _nothing = process.communicate("quit\n", timeout=PATIENCE)
            self.assertGreater(steps, 20)
            self.assertEqual(output.count("read 327680/327680"), 4, output)
            self.assertNotRegex(output, "(?i)fail|error|mismatch")
            self.assertEqual(len(sessions), 1)

    def test_killed(self) -> None:
        """
        Killed at any moment, it starts again with the identity and the configuration
        that it had: what was saved is whole.
        """
        self.config.write_text(configuration(0))
        serials = set()
        chance = random.Random(7)
        for turn in range(3):
            with self.server(luns=0) as server:
                server.expect_kill()
                listed = json.loads(
                    tool(self.directory, "-list_device", "disk", "-json")
                )
                serials.add(listed[0]["serial"])
                saving = subprocess.Popen(
                    ["sh", "-c", "while kill -HUP $1 2>/dev/null; do :; done", "", str(server.process.pid)],
                )  # fmt: skip
                self.config.write_text(configuration(turn + 1))
                time.sleep(chance.random() / 4)
                server.process.send_signal(signal.SIGKILL)
                server.process.wait(PATIENCE)
                saving.wait(PATIENCE)
        self.assertEqual(len(serials), 1)
        for path in Path(self.directory, "state").rglob("*.json"):
            json.loads(path.read_text())
