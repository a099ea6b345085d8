# SPDX-License-Identifier: MIT
"""
Tests for the tree of a front, over two workers in the same process.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.control.client import connect
from scstd.management.control.control import listen
from scstd.management.errors import TreeError
from scstd.management.tree.tree import Tree
from scstd.results import settled
from scstd.test.configurations import essence
from scstd.test.initiator import Initiator
from scstd.test.test_control import short_directory
from scstd.test.test_sftp import Pipe
from scstd.test.workers import front, homes
from scstd.workers.front_tree import FrontTree

X, Y = "iqn.2026-11.org.scstd:x", "iqn.2026-11.org.scstd:y"

DISKS = """\
HANDLER vdisk_nullio {
    DEVICE a {
        size 1G
        usn aa
    }
    DEVICE b {
        usn bb
    }
    DEVICE c {
        usn cc
    }
}
"""

TWO = f"""\
{DISKS}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {X} {{
        enabled 1
        rel_tgt_id 1
        LUN 0 a
    }}
    TARGET {Y} {{
        enabled 1
        rel_tgt_id 2
        LUN 0 b
        GROUP g {{
            LUN 1 c
            INITIATOR *:special
        }}
    }}
}}
"""


class FrontCase(TestCase):
    """
    A front with two workers.
    """

    async def front(self, text: str = TWO) -> FrontTree:
        """Return the front's tree."""
        self.tree, self.workers = await front(self, read(text, "scst.conf"))
        return self.tree

    async def logged_in(self, number: int, name: str) -> Any:
        """Return an initiator at a target of a worker."""
        driver: Any = self.workers[number].system.drivers["iscsi"].instance
        return Initiator(driver.node, name="iqn.2005-03.org.x:i").ready(name)

    async def refused(self, result: Any) -> Any:
        """Return the error that something ends with."""
        try:
            await settled(result)
        except TreeError as error:
            return error
        raise AssertionError("it was done")


class PlacedTests(FrontCase):
    """
    What is where, and who is asked.
    """

    async def test_start(self) -> None:
        """Each worker has its part, and the front has no device open."""
        tree = await self.front()
        self.assertEqual(homes(tree), {"a": 1, X: 1, "b": 0, "c": 0, Y: 0})
        one, other = self.workers
        self.assertEqual([*one.system.devices], ["b", "c"])
        self.assertEqual([*other.system.devices], ["a"])
        self.assertEqual([*other.system.drivers.targets], [X])
        self.assertEqual([*tree.system.devices], ["a", "b", "c"])
        self.assertEqual(await settled(tree.read("devices/a/state")), "open\n")
        self.assertEqual(tree.system.devices["a"].state, "open")

    async def test_reads(self) -> None:
        """What a device says is its worker's word, also by links; lists are whole."""
        tree = await self.front()
        serial = self.workers[1].tree.read("devices/a/serial")
        for path in (
            "devices/a/serial",
            "handlers/vdisk_nullio/a/serial",
            f"targets/iscsi/{X}/luns/0/device/serial",
        ):
            self.assertEqual(await settled(tree.read(path)), serial)
        self.assertEqual(await settled(tree.list("devices")), ["a", "b", "c"])
        values = await settled(tree.values(f"targets/iscsi/{Y}"))
        self.assertEqual(values["rel_tgt_id"], "2")

    async def test_workers(self) -> None:
        """The tree says what each worker has; how many there are to be is a number."""
        tree = await self.front(f"workers 2\n{TWO}")
        self.assertEqual(await settled(tree.read("workers")), "2\n[key]\n")
        await tree.write("workers", "3")
        self.assertEqual(tree.system.configuration().values["workers"], 3)
        self.assertEqual([*await settled(tree.list("processes"))], ["0", "1"])
        found = await settled(tree.dump("processes", 2))
        self.assertEqual(
            found["0"],
            {
                "pid": "1000",
                "state": "up",
                "targets": Y,
                "devices": "b\nc",
                "device_groups": "",
                "sessions": "0",
            },
        )


LUNS = f"targets/iscsi/{X}/luns/mgmt"


class JoinedTests(FrontCase):
    """
    What is tied moves, or the change is refused.
    """

    async def test_moves(self) -> None:
        """The smaller island moves, with all of it, and goes on as it was."""
        tree = await self.front()
        serial = await settled(tree.read("devices/a/serial"))
        await tree.write(LUNS, "add b 1")
        self.assertEqual(homes(tree), dict.fromkeys(("a", "b", "c", X, Y), 0))
        self.assertEqual([*self.workers[1].system.devices], [])
        self.assertEqual(await settled(tree.read("devices/a/serial")), serial)
        luns = await settled(tree.list(f"targets/iscsi/{X}/luns"))
        self.assertEqual(luns, ["mgmt", "0", "1"])

    async def test_who_is_there(self) -> None:
        """Who is logged in stays where it is; the other side moves to it."""
        tree = await self.front()
        await self.logged_in(1, X)
        await tree.write(LUNS, "add b 1")
        self.assertEqual(homes(tree), dict.fromkeys(("a", "b", "c", X, Y), 1))

    async def test_refused(self) -> None:
        """With somebody on both sides it is refused, by their names."""
        tree = await self.front()
        await self.logged_in(0, Y)
        await self.logged_in(1, X)
        before = homes(tree)
        error = await self.refused(tree.write(LUNS, "add b 1"))
        self.assertEqual(error.errno, errno.EBUSY)
        self.assertIn(f"iqn.2005-03.org.x:i at {X}", str(error))
        self.assertIn(f"iqn.2005-03.org.x:i at {Y}", str(error))
        self.assertEqual(homes(tree), before)
        self.assertEqual(tree.last_error, str(error))
        self.assertEqual(await settled(tree.list(LUNS[:-5])), ["mgmt", "0"])

    async def test_contents(self) -> None:
        """A device whose contents would go stays; one that was just added moves."""
        tree = await self.front()
        memory = "handlers/memory/mgmt"
        for name, target in (("m", X), ("n", Y)):
            await tree.write(memory, f"add_device {name} size=1M")
            await tree.write(f"targets/iscsi/{target}/luns/mgmt", f"add {name} 7")
        self.assertEqual((homes(tree)["m"], homes(tree)["n"]), (1, 0))
        error = await self.refused(tree.write(LUNS, "add n 8"))
        self.assertEqual(error.errno, errno.EBUSY)
        self.assertIn("device m would lose what it holds", str(error))
        self.assertIn("device n would lose what it holds", str(error))

    async def test_moved_back(self) -> None:
        """What cannot be opened where it would go is where it was, and refused."""
        tree = await self.front()
        apply, failed = Configurator.apply, list[int]()

        def fails(one: Configurator, *given: Any, **named: Any) -> Any:
            if one is self.workers[0].configurator and not failed:
                failed.append(1)
                raise TreeError(errno.EIO, "no")
            return apply(one, *given, **named)

        self.patch(Configurator, "apply", fails)
        before = homes(tree)
        error = await self.refused(tree.write(LUNS, "add b 1"))
        self.assertEqual(str(error), "no")
        self.assertEqual(homes(tree), before)
        self.assertEqual(await settled(tree.read("devices/a/state")), "open\n")
        self.assertEqual(tree.moving, set())

    async def test_applied(self) -> None:
        """A file that ties what is apart is applied, and what it opens comes to it."""
        tree = await self.front()
        wanted = TWO.replace("LUN 0 a", "LUN 0 a\n        LUN 1 b\n        LUN 2 d")
        wanted = wanted.replace("DEVICE c {", "DEVICE d\n    DEVICE c {")
        await Configurator(tree).apply(read(wanted, "scst.conf"))
        self.assertEqual(len(set(homes(tree).values())), 1)
        self.assertEqual(
            essence(tree.system.configuration()), essence(read(wanted, "scst.conf"))
        )


class NumberTests(FrontCase):
    """
    One numbering for the ports of all.
    """

    async def test_taken(self) -> None:
        """A number of another worker's target is refused."""
        tree = await self.front()
        error = await self.refused(tree.write(f"targets/iscsi/{X}/rel_tgt_id", "2"))
        self.assertEqual(error.errno, errno.EEXIST)

    async def test_given_up(self) -> None:
        """A target has another number when one of another worker is given its own."""
        tree = await self.front(TWO.replace("rel_tgt_id 2", ""))
        found = self.workers[0].system.drivers.targets[Y]
        self.assertEqual(found.relative_port, 2)
        await tree.write(f"targets/iscsi/{X}/rel_tgt_id", "2")
        self.assertNotEqual(found.relative_port, 2)
        mirrored = tree.system.drivers.targets[Y].relative_port
        self.assertEqual(found.relative_port, mirrored)


class DeathTests(FrontCase):
    """
    A worker that ends.
    """

    async def test_comes_back(self) -> None:
        """What is configured of it is there again, with the names it had."""
        tree = await self.front()
        serial = await settled(tree.read("devices/a/serial"))
        before = render(tree.system.configuration())
        await self.workers[1].die()
        await deferLater(reactor, 0)
        self.assertEqual(await settled(tree.list("devices")), ["a", "b", "c"])
        error = await self.refused(tree.read("devices/a/serial"))
        self.assertEqual(error.errno, errno.EAGAIN)
        self.assertIn("b", (await settled(tree.dump("", 9)))["devices"])
        self.assertIn("missing", tree.system.devices["a"].state)
        self.assertEqual(render(tree.system.configuration()), before)
        error = await self.refused(tree.write("devices/a/prod_id", "x"))
        self.assertEqual(error.errno, errno.EAGAIN)
        await tree.write("devices/b/prod_id", "x")
        await self.workers[1].come_back()
        self.assertEqual(await settled(tree.read("devices/a/serial")), serial)
        self.assertEqual(tree.system.devices["a"].state, "open")

    async def test_in_a_plan(self) -> None:
        """One that ends while a file is applied: what was configured comes back."""
        tree = await self.front()
        before = render(tree.system.configuration())
        wanted = TWO.replace("LUN 0 a", "LUN 0 a\n        LUN 3 a\n        LUN 4 a")
        wanted = wanted.replace("usn bb", "usn other")
        worker, steps = self.workers[1], list[Any]()
        do = Tree.do_manage

        def dies(one: Tree, *given: Any) -> Any:
            if one is worker.tree and not steps:
                steps.append(given)
                assert worker.link is not None
                worker.link.abort()
            return do(one, *given)

        self.patch(Tree, "do_manage", dies)
        error = await self.refused(Configurator(tree).apply(read(wanted, "scst.conf")))
        self.assertIn("worker 1 has ended", str(error))
        self.assertIn("everything is as it was before", str(error))
        self.assertEqual(len(steps), 1)
        self.assertEqual(render(tree.system.configuration()), before)
        self.assertEqual(self.workers[0].tree.read("devices/b/usn"), "bb\n[key]\n")
        await worker.die()
        await worker.come_back()
        luns = await settled(tree.list(LUNS[:-5]))
        self.assertEqual(luns, ["mgmt", "0"])


class SessionTests(FrontCase):
    """
    Who is logged in at workers, as the front tells of it.
    """

    async def test_sessions(self) -> None:
        """Sessions are listed, read and ended."""
        tree = await self.front()
        await self.logged_in(1, X)
        await self.logged_in(0, Y)
        found = await settled(tree.sessions())
        names = sorted(one.nexus.target.qualified_name for one, _said in found)
        self.assertEqual(names, [X, Y])
        path = f"targets/iscsi/{X}/sessions"
        (name,) = await settled(tree.list(path))
        self.assertIn("luns", await settled(tree.list(f"{path}/{name}")))
        dumped = await settled(tree.dump("targets/iscsi", 16))
        self.assertIn(name, dumped[X]["sessions"])
        for target in (X, Y):
            await tree.write(f"targets/iscsi/{target}/LogoutTimeout", "0")
        await tree.write(f"{path}/{name}/force_close", "1")
        self.assertEqual(await settled(tree.list(path)), [])
        (left,) = await settled(tree.sessions())
        await tree.end_session(left[0], "over")
        self.assertEqual(await settled(tree.sessions()), [])

    async def test_lost(self) -> None:
        """Sessions of a worker that has ended are over, and told to be; others stay."""
        tree = await self.front()
        hub = tree.system.events
        told = hub.subscribe(["SESSION_*"])
        hub.clock = lambda: 50.0
        for one in self.workers:
            one.system.events.clock = lambda: 47.5
        await self.logged_in(0, Y)
        await self.logged_in(1, X)
        while [tree.logged_in.count(at) for at in (0, 1)] != [1, 1]:
            await deferLater(reactor, 0)
        opened, _lost = told.take(9)
        # As the worker has dated it.
        self.assertEqual({one.time for one in opened}, {47.5})
        (gone,) = (one for one in opened if one.fields["target"] == X)
        await self.workers[1].die()
        while tree.logged_in.count(1):
            await deferLater(reactor, 0)
        (event,), _lost = told.take(9)
        over = {"reason": "its worker has ended", "commands": None, "seconds": 2.5}
        self.assertEqual(event.fields, {**gone.fields, **over})
        self.assertEqual(event.name, "SESSION_CLOSED")
        self.assertEqual(tree.logged_in.count(0), 1)

    async def test_by_a_session(self) -> None:
        """What is changed by a link of a session is changed in the front too."""
        tree = await self.front()
        await self.logged_in(1, X)
        (name,) = await settled(tree.list(f"targets/iscsi/{X}/sessions"))
        where = f"targets/iscsi/{X}/sessions/{name}/luns/mgmt"
        await tree.write(where, "add a 5")
        (driver,) = tree.system.configuration().drivers
        (target,) = [one for one in driver.targets if one.name == X]
        self.assertEqual([one.lun for one in target.luns], [0, 5])


class FacesTests(FrontCase):
    """
    What faces make of answers that come later.
    """

    async def test_control(self) -> None:
        """The control socket reads, lists, dumps, and says what a change ends with."""
        tree = await self.front()
        path = short_directory(self) / "control"
        port = listen(reactor, path, tree, Configurator(tree))
        self.addCleanup(port.stopListening)
        client = await connect(reactor, path)
        serial = self.workers[1].tree.read("devices/a/serial")
        self.assertEqual(await client.read("devices/a/serial"), serial)
        luns = await client.names(f"targets/iscsi/{X}/luns")
        self.assertEqual(luns, ["mgmt", "0"])
        dumped = await client.dump("devices", 2)
        self.assertEqual(dumped["a"]["serial"], serial.strip())
        await client.write("devices/a/prod_id", "x")
        self.assertEqual(self.workers[1].tree.read("devices/a/prod_id"), "x\n[key]\n")
        gone: Deferred[None] = Deferred()
        before = client.amp.connectionLost

        def lost(reason: Any) -> None:
            before(reason)
            gone.callback(None)

        client.amp.connectionLost = lost  # type: ignore[method-assign]
        client.close()
        await gone

    async def test_sftp(self) -> None:
        """SFTP follows links, lists and reads what a worker has."""
        tree = await self.front()
        pipe = Pipe(tree)
        serial = self.workers[1].tree.read("devices/a/serial")
        path = f"targets/iscsi/{X}/luns/0/device/serial"
        self.assertEqual(await pipe.text(path), serial)
        given = await pipe.ask(pipe.client.getAttrs(path.encode(), 1))
        self.assertEqual(given["size"], len(serial))
