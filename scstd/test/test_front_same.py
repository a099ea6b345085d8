# SPDX-License-Identifier: MIT
"""
A front with two workers is the same tree as one process: random steps in both.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from scstd.attributes import ConfigurationError
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.errors import number_of
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.results import settled
from scstd.test.test_front_tree import TWO, FrontCase, X, Y


async def told(result: Any) -> Any:
    """
    Return what reading or changing something ends with: what is read, or an error's
    number and text.
    """
    try:
        return await settled(result)
    except (ConfigurationError, OSError) as error:
        return number_of(error), str(error)


OWN = {
    "serial",
    "naa",
    "uuid",
    "threads",
    "listening",
    "processes",
    "workers",
    "threads_num",
}
"""Files that are different in every process."""


def alike(found: Any) -> Any:
    """
    Return what is dumped without what is different in every process.
    """
    if not isinstance(found, dict):
        return found
    if "exported" in found:
        # A worker has targets in the order in which they came to it.
        links = sorted(one["link"] for one in found["exported"].values())
        found = {**found, "exported": links}
    return {name: alike(one) for name, one in found.items() if name not in OWN}


class Steps:
    """
    Random changes, of things that are there, or nearly.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def step(self) -> tuple[str, str]:
        """Return a path, and what is written there."""
        rng = self.rng
        pick = rng.choice
        disk, target, group = pick("abcdef"), pick((X, Y, X + "2")), pick("gh")
        where = f"targets/iscsi/{target}"
        luns = pick((f"{where}/luns", f"{where}/ini_groups/{group}/luns"))
        tied = f"device_groups/{group}"
        lun, number = pick((0, 0, 1, 1, 2, "x")), pick(("", 1, 2, 3, 70000))
        handlers = "handlers/vdisk_nullio"
        other = pick((target, "elsewhere"))
        return pick(
            (
                (f"{handlers}/mgmt", f"add_device {disk} usn={disk}{disk}"),
                (f"{handlers}/mgmt", f"add_device {disk} usn=aa; t10_vend_id=x"),
                (f"{handlers}/mgmt", f"add_device {disk} state_key={pick('abc')}"),
                (f"{handlers}/mgmt", f"add_device {disk} nothing=1"),
                (f"{handlers}/mgmt", f"del_device {disk} force={pick('01')}"),
                (f"{handlers}/mgmt", f"del_device {disk}"),
                (f"{handlers}/mgmt", f"set_filters {disk} {pick(('', 'delay'))}"),
                (f"{handlers}/mgmt", pick(("nothing", "", "add_device"))),
                ("targets/iscsi/mgmt", f"add_target {target}"),
                ("targets/iscsi/mgmt", f"add_target {target} rel_tgt_id={number}"),
                ("targets/iscsi/mgmt", f"del_target {target}"),
                ("targets/iscsi/mgmt", f"set_target_attribute {target} alias me"),
                ("targets/iscsi/mgmt", "add_attribute IncomingUser joe 123456789012"),
                ("targets/iscsi/LoginTimeout", pick(("20", "x"))),
                (f"{luns}/mgmt", f"add {disk} {lun}"),
                (f"{luns}/mgmt", f"add {disk} {lun} read_only=1"),
                (f"{luns}/mgmt", f"add {disk} {lun}"),
                (f"{luns}/mgmt", f"replace {disk} {lun}"),
                (f"{luns}/mgmt", f"del {lun}"),
                (f"{luns}/mgmt", "clear"),
                (f"{luns}/{lun}/read_only", pick("01")),
                (f"{luns}/{lun}/device/prod_id", pick(("p", "q"))),
                (f"{where}/ini_groups/mgmt", f"{pick(('create', 'del'))} {group}"),
                (
                    f"{where}/ini_groups/{group}/initiators/mgmt",
                    f"{pick(('add', 'del'))} iqn.x:*",
                ),
                (f"{where}/rel_tgt_id", str(number)),
                (f"{where}/enabled", pick("01")),
                (f"devices/{disk}/prod_id", pick(("p", "q", ":default:"))),
                (f"devices/{disk}/usn", pick(("aa", "bb", disk * 2, ""))),
                (f"devices/{disk}/active", pick("01")),
                (f"devices/{disk}/handler/mgmt", f"del_device {pick('abc')}"),
                (f"devices/{disk}/sync", "1"),
                (f"devices/{disk}/nothing", "1"),
                ("device_groups/mgmt", f"{pick(('create', 'create', 'del'))} {group}"),
                (f"{tied}/devices/mgmt", f"{pick(('add', 'add', 'del'))} {disk}"),
                (f"{tied}/target_groups/mgmt", f"{pick(('create', 'del'))} t"),
                (f"{tied}/target_groups/t/mgmt", f"add {other}"),
                (f"{tied}/target_groups/t/mgmt", f"add {other} rel_tgt_id={number}"),
                (f"{tied}/target_groups/t/mgmt", f"del {other}"),
                (f"{tied}/target_groups/t/state", pick(("standby", "active", "x"))),
                (f"{tied}/target_groups/t/group_id", pick("0123")),
                (f"{tied}/target_groups/t/elsewhere/rel_tgt_id", str(number)),
                ("setup_id", str(rng.randrange(5))),
                ("trace_level", pick(("add scsi", "none", "x"))),
                ("suspend", pick(("1", "-1"))),
            )
        )


class SameTests(FrontCase):
    """
    A front with two workers is the same tree as one process.
    """

    async def alone(self, text: str = TWO) -> Tree:
        """Return the tree of one process."""
        state = Path(self.mktemp())
        tree = Tree(System(reactor, StateDirectory(state)))
        await Configurator(tree).start(
            read(text, "scst.conf"), {"iscsi": ["tcp:0:interface=127.0.0.1"]}
        )
        self.addCleanup(tree.system.close)
        return tree

    async def same(self, one: Tree, what: str) -> None:
        """See that both say the same."""
        there = alike(one.dump("", 16))
        found = alike(await settled(self.tree.dump("", 16)))
        self.assertEqual(found, there, what)
        self.assertEqual(
            render(self.tree.system.configuration()),
            render(one.system.configuration()),
            what,
        )
        for worker in self.workers:
            held = {at.name for at, n in self.tree.owners.items() if n == worker.number}
            has = {
                *worker.system.devices,
                *worker.system.drivers.targets,
                *worker.system.device_groups,
            }
            self.assertEqual(held, has, what)

    async def steps(self, seed: int, count: int) -> None:
        """Take random steps in both."""
        one = await self.alone()
        await self.front()
        made = Steps(seed)
        for _step in range(count):
            path, text = made.step()
            wanted = await told(one.write(path, text))
            found = await told(self.tree.write(path, text))
            what = f"seed {seed}: {path}: {text}"
            self.assertEqual(found, wanted, what)
            await self.same(one, what)

    async def test_steps(self) -> None:
        """The same random steps end with the same errors, and the same tree."""
        for seed in range(
            *map(int, __import__("os").environ.get("SEEDS", "0 4").split())
        ):
            await self.steps(seed, 60)
