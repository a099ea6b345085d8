# SPDX-License-Identifier: MIT
"""
What is asked for while something else is being changed: it waits for its turn, or is
refused because everything ends.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.commands import read10
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.errors import TreeError
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.initiator import Initiator
from scstd.test.storming import Calls, Reactor, Thread

X, Y = "iqn.2026-11.org.scstd:x", "iqn.2026-11.org.scstd:y"

TEXT = f"""\
HANDLER memory {{
    DEVICE a {{
        size 1M
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {X} {{
        enabled 1
        LUN 0 a
    }}
}}
"""


class MeanwhileTests(SynchronousTestCase):
    """
    A system whose thread waits until it is told to go on.
    """

    def setUp(self) -> None:
        """Run the configuration."""
        self.calls = Calls(random.Random(0))
        self.reactor = Reactor(self.calls)
        state = StateDirectory(Path(self.mktemp()))
        self.system = System(self.reactor, state)
        self.system.devices.lane = Thread(self.calls)
        self.tree = Tree(self.system)
        self.configurator = Configurator(self.tree)
        self.system.drivers.load(default={"iscsi": ["127.0.0.1:3260"]})
        applied = self.configurator.apply(read(TEXT, ""))
        self.go()
        self.successResultOf(applied)
        self.driver: Any = self.system.drivers["iscsi"].instance
        self.file = Path(self.mktemp())

    def tearDown(self) -> None:
        """See that nothing is left."""
        if not self.tree.closing:
            ended = Deferred.fromCoroutine(self.tree.close())
            self.go()
            self.successResultOf(ended)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.ports, [])

    def go(self) -> None:
        """Let everything go on that waits."""
        while self.calls.waiting:
            self.calls.go(ordered=True)

    def add(self, name: str = Y) -> Deferred[Any]:
        """Begin to add a target: its number is to be remembered first."""
        added = self.tree.manage("targets/iscsi", "add_target", [name])
        self.assertNoResult(added)
        self.assertTrue(self.calls.waiting)
        return added

    def ends(self) -> Deferred[None]:
        """Begin to end everything."""
        return Deferred.fromCoroutine(self.tree.close())

    def refused(self, changed: Any) -> None:
        """See that something is refused because everything ends."""
        done = (
            changed
            if isinstance(changed, Deferred)
            else Deferred.fromCoroutine(changed)
        )
        failure = self.failureResultOf(done, TreeError)
        self.assertEqual(failure.value.errno, errno.ESHUTDOWN)

    def test_kept(self) -> None:
        """A file that is put over what runs takes away nothing that has just come."""
        added = self.add()
        self.file.write_text("HANDLER memory {\nDEVICE b {\nsize 1M\n}\n}\n")
        loaded = Deferred.fromCoroutine(
            self.configurator.reload(str(self.file), keep=True)
        )
        self.go()
        self.successResultOf(added)
        self.assertEqual(len(self.successResultOf(loaded)), 1)
        self.assertEqual(set(self.system.drivers.targets), {X, Y})
        self.assertEqual(set(self.system.devices), {"a", "b"})

    def test_saved(self) -> None:
        """What is saved is never half of a change."""
        wanted = TEXT.replace("DEVICE a {\n", "DEVICE b {\nsize 1M\n}\nDEVICE a {\n")
        applied = self.configurator.apply(read(wanted.replace(X, Y), ""))
        saved = self.configurator.write(str(self.file))
        self.assertNoResult(saved)
        self.go()
        self.successResultOf(applied)
        self.successResultOf(saved)
        again = read(self.file.read_text(), "")
        self.assertEqual([one.name for one in again.devices], ["a", "b"])
        self.assertEqual([one.name for one in again.drivers[0].targets], [Y])
        self.assertEqual(self.configurator.plan(again), [])

    def test_end_waits(self) -> None:
        """The end waits for what is being changed; a device that opens is closed."""
        opened = self.tree.manage(
            "handlers/memory", "add_device", ["b"], [("size", "1M")]
        )
        self.assertNoResult(opened)
        ended = self.ends()
        self.assertNoResult(ended)
        self.assertIn("a", self.system.devices)
        self.go()
        self.successResultOf(opened)
        self.successResultOf(ended)
        self.assertEqual(self.system.devices, {})

    def test_nothing_after_the_end(self) -> None:
        """What comes when everything ends, or has waited till then, is refused; and
        nothing is written over a file.
        """
        added = self.add()
        waiting = self.tree.write(f"targets/iscsi/{X}/alias", "late")
        ended = self.ends()
        self.file.write_text("good")
        late = [
            self.tree.write(f"targets/iscsi/{X}/alias", "late"),
            self.tree.write("suspend", "0"),
            self.configurator.write(str(self.file)),
            self.configurator.clear(),
        ]
        self.go()
        self.successResultOf(added)
        self.successResultOf(ended)
        for one in (waiting, *late, self.configurator.write(str(self.file))):
            self.refused(one)
        self.assertEqual(self.file.read_text(), "good")

    def test_plan_stops(self) -> None:
        """A plan takes no further step, nor a step back, when everything ends."""
        self.file.write_text(
            TEXT.replace(
                "DEVICE a {\n",
                "DEVICE b {\nsize 1M\n}\nDEVICE c {\nsize 1M\n}\nDEVICE a {\n",
            )
        )
        loaded = self.configurator.reload(str(self.file))
        done = Deferred.fromCoroutine(loaded)
        self.assertNoResult(done)
        ended = self.ends()
        self.go()
        self.refused(done)
        self.successResultOf(ended)
        names = {one.stem for one in self.system.state.path.glob("devices/*.json")}
        self.assertEqual(names, {"a", "b"})

    def test_patience_ends(self) -> None:
        """A target that waits for its initiators to log out is removed at once then."""
        Initiator(self.driver.node).ready(X)
        self.successResultOf(self.tree.write(f"targets/iscsi/{X}/LogoutTimeout", "60"))
        removed = self.tree.manage("targets/iscsi", "del_target", [X])
        self.assertNoResult(removed)
        ended = self.ends()
        self.go()
        self.successResultOf(removed)
        self.successResultOf(ended)
        self.assertEqual(self.reactor.seconds(), 0)

    def test_ports(self) -> None:
        """Ports are closed when everything ends, whatever else closes and opens them."""
        mgmt, portals = "targets/iscsi", [f"127.0.0.1:{number}" for number in (1, 2, 3)]
        added = self.tree.manage(mgmt, "set_attribute", ["portal", *portals])
        self.go()
        self.successResultOf(added)
        self.calls.rng.random = lambda: 1.0  # type: ignore[method-assign]
        changed = self.tree.manage(mgmt, "set_attribute", ["portal", portals[2]])
        self.assertNoResult(changed)
        ended = self.ends()
        # The first that was being closed is closed last.
        _name, first, _call = self.calls.waiting.pop(0)
        self.go()
        self.assertNoResult(ended)
        first.callback(None)
        self.go()
        self.successResultOf(ended)
        self.successResultOf(changed)

    def test_port_that_opens_late(self) -> None:
        """A port that is there only when everything ends is closed again."""
        late: Deferred[Any] = Deferred()
        self.patch(type(self.driver), "listen", lambda _self, _where: late)
        added = self.tree.manage(
            "targets/iscsi", "add_attribute", ["portal", "127.0.0.1:9"]
        )
        ended = self.ends()
        port = self.reactor.listenTCP(9, self.driver.factory)
        late.callback(port)
        self.go()
        self.refused(added)
        self.successResultOf(ended)
        self.assertFalse(port.listening)

    def test_held_while_it_goes(self) -> None:
        """A device that is held while it is taken away is closed, and not held then."""
        initiator = Initiator(self.driver.node).ready(X)
        unit = self.system.devices["a"].unit
        slow: Deferred[bytes] = Deferred()
        self.patch(unit.store, "read", lambda _offset, _length: slow)
        initiator.send(initiator.command(read10(0, 1), read=512))
        removed = self.tree.manage(
            "handlers/memory", "del_device", ["a"], [("force", "1")]
        )
        self.assertNoResult(removed)
        held = [
            self.tree.write("devices/a/block", "1"),
            self.tree.write("suspend", "0"),
        ]
        self.assertEqual(len(self.system.watching.holds.by(unit)), 2)
        slow.callback(bytes(512))
        self.go()
        for one in (removed, *held):
            self.successResultOf(one)
        self.assertEqual(self.system.watching.holds.by(unit), frozenset())

    def test_last_result(self) -> None:
        """Saving is no change: what was said of the last one stays."""
        self.failureResultOf(self.tree.write("nothing", "1"), ConfigurationError)
        before = self.tree.last_error
        self.successResultOf(self.configurator.write(str(self.file)))
        self.assertEqual(self.tree.last_error, before)
