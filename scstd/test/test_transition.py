# SPDX-License-Identifier: MIT
"""
Tests for the program that SET TARGET PORT GROUPS asks, and that may refuse.
"""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.commands import read10
from scstd.management.model.value_kinds import ProgramPath
from scstd.management.ports import transition
from scstd.management.tree.tree import Tree
from scstd.test.initiator import Initiator
from scstd.test.test_tree import started

ONE, TWO = "iqn.2026-11.org.scstd:one", "iqn.2026-11.org.scstd:two"

CONFIGURATION = f"""
HANDLER memory {{
    DEVICE disk1 {{
        size 1M
        expl_alua 1
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {ONE} {{
        LUN 0 disk1
        enabled 1
    }}
    TARGET {TWO} {{
        LUN 0 disk1
        enabled 1
    }}
}}
DEVICE_GROUP dg {{
    DEVICE disk1
    TARGET_GROUP a {{
        group_id 1
        state active
        TARGET {ONE}
    }}
    TARGET_GROUP b {{
        group_id 2
        state nonoptimized
        TARGET {TWO}
    }}
}}
"""

ACTIVE, NONOPTIMIZED, STANDBY = 0, 1, 2


def stpg(*wanted: tuple[int, int]) -> tuple[bytes, bytes]:
    """Return a SET TARGET PORT GROUPS, (group, state) ..., and its data."""
    data = bytes(4) + b"".join(
        struct.pack(">BxH", state, group) for group, state in wanted
    )
    return b"\xa4\x0a" + bytes(4) + struct.pack(">Ixx", len(data)), data


class Watched(transition.Run):
    """
    A program at work; *ended* fires when nothing is left of it.
    """

    runs: ClassVar[list[Watched]] = []

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.ended: Deferred[None] = Deferred()
        self.runs.append(self)

    def processEnded(self, reason: Any) -> None:
        """Fire."""
        super().processEnded(reason)
        self.ended.callback(None)


class ProgramTests(TestCase):
    """
    Real programs.
    """

    def setUp(self) -> None:
        """Wait at the end for programs that were killed, too."""
        self.patch(transition, "Run", Watched)
        Watched.runs.clear()
        self.addCleanup(lambda: gatherResults([one.ended for one in Watched.runs]))

    async def connect(self, script: str) -> Tree:
        """Serve with a program that does this, and log in by the first port."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        program = self.directory / "on_stpg"
        program.write_text(f"#!/bin/sh\ncd {self.directory}\n{script}\n")
        program.chmod(0o755)
        tree = await started(self, CONFIGURATION)
        await tree.write("device_groups/dg/on_stpg", str(program))
        driver: Any = tree.system.drivers["iscsi"].instance
        self.one = Initiator(driver.node).ready(ONE)
        self.tree = tree
        return tree

    async def set(self, *wanted: tuple[int, int]) -> Any:
        """Carry out a SET TARGET PORT GROUPS; return how it ended."""
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        cdb, data = stpg(*wanted)
        return await itl.unit.perform(itl, cdb, data)

    def states(self) -> list[str]:
        """Return the states of both groups."""
        path = "device_groups/dg/target_groups"
        return [
            self.tree.read(f"{path}/{name}/state").split()[0] for name in ("a", "b")
        ]

    def refused(self, task: Any) -> None:
        """The command has to have failed as SPC-5 says it does, and changed nothing."""
        self.assertEqual(task.status, 2)
        self.assertEqual((task.failure.key, task.failure.asc), (4, 0x670A))
        self.assertEqual(self.states(), ["active", "nonoptimized"])

    async def test_asked(self) -> None:
        """It is asked for each group, in SCST's words, and then it is done."""
        await self.connect(
            'echo "$@" >> asked\nenv | grep "^SCST_\\|^PATH=" | sort > environment'
        )
        task = await self.set((1, NONOPTIMIZED), (2, ACTIVE))
        self.assertEqual(task.status, 0)
        self.assertEqual(self.states(), ["nonoptimized", "active"])
        self.assertEqual(
            (self.directory / "asked").read_text().splitlines(),
            ["disk1 active nonoptimized dg a", "disk1 nonoptimized active dg b"],
        )
        self.assertEqual(
            (self.directory / "environment").read_text().splitlines(),
            [
                "PATH=/bin:/usr/bin:/sbin:/usr/sbin",
                "SCST_ALUA_STATE=active",
                "SCST_DEVICE_GROUP=dg",
                "SCST_DEVICE_NAME=disk1",
                "SCST_PREV_ALUA_STATE=nonoptimized",
                "SCST_TARGET_GROUP=b",
            ],
        )

    async def test_refused(self) -> None:
        """A status, a signal, no program: refused, and everything is as before."""
        for script in ("echo not now >&2; exit 3", "kill -9 $$"):
            await self.connect(script)
            self.refused(await self.set((1, STANDBY)))
            self.assertEqual(self.one.do(read10(0, 1), read=512).status, 0)
        await self.tree.write("device_groups/dg/on_stpg", f"{self.directory}/nothing")
        heard: list[str] = []
        listen: Any = lambda event: heard.append(event.get("why", ""))  # noqa: E731
        globalLogPublisher.addObserver(listen)
        self.addCleanup(globalLogPublisher.removeObserver, listen)
        self.refused(await self.set((1, STANDBY)))
        self.assertIn("it cannot be run", heard)

    async def test_left_behind(self) -> None:
        """What the program leaves running is not waited for."""
        await self.connect("sleep 600 & echo $! > left; exit 3")
        self.refused(await self.set((1, STANDBY)))
        os.kill(int((self.directory / "left").read_text()), signal.SIGKILL)

    async def test_late(self) -> None:
        """One that does not end is killed, and has refused."""
        await self.connect("exec sleep 600")
        await self.tree.write("device_groups/dg/on_stpg_timeout", "1")
        self.refused(await self.set((1, STANDBY)))

    async def test_all_or_nothing(self) -> None:
        """Where one of two is refused the other is taken back, and the program told."""
        await self.connect('echo "$5 $3" >> asked\n[ "$5" = a ]')
        self.refused(await self.set((1, NONOPTIMIZED), (2, ACTIVE)))
        self.assertEqual(
            (self.directory / "asked").read_text().splitlines(),
            ["a nonoptimized", "b active", "a active"],
        )

    async def test_a_person_is_not_asked(self) -> None:
        """What is written to the tree is an operator's own wish."""
        await self.connect("exit 1")
        await self.tree.write("device_groups/dg/target_groups/a/state", "standby")
        self.assertEqual(self.states()[0], "standby")

    async def test_the_program_sets_it(self) -> None:
        """One that sets the state itself, as SCST's do, does not wait for itself."""
        await self.connect("echo > began; while [ ! -e go ]; do sleep 0.05; done")
        task = Deferred.fromCoroutine(self.set((1, NONOPTIMIZED)))
        await self.tree.write("device_groups/dg/target_groups/a/state", "nonoptimized")
        self.assertEqual(self.states()[0], "nonoptimized")
        (self.directory / "go").touch()
        self.assertEqual((await task).status, 0)
        self.assertEqual(self.states()[0], "nonoptimized")

    async def test_removed(self) -> None:
        """A group that goes waits for no program."""
        await self.connect("exec sleep 600")
        task = Deferred.fromCoroutine(self.set((1, STANDBY)))
        await self.tree.write("device_groups/mgmt", "del dg")
        self.assertEqual((await task).status, 2)

    def test_path(self) -> None:
        """Its path is a whole one, or nothing."""
        self.assertEqual(ProgramPath().parse("/bin/true"), "/bin/true")
        self.assertEqual(ProgramPath().parse(""), "")
        self.assertRaises(ConfigurationError, ProgramPath().parse, "on_stpg")
