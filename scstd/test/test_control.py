# SPDX-License-Identifier: MIT
"""
Tests for the control socket and the tools on it: `scstd.management.control.control`, `client`,
`scstadmin`, `listing`, `adm`, and `scstd.daemon`; the service as a process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import TestCase

from scstd.attributes import ConfigurationError
from scstd.management.cli import tools
from scstd.management.config.applying import Configurator
from scstd.management.control import commands, control
from scstd.management.control.client import connect
from scstd.management.control.commands import FailedError
from scstd.management.control.control import listen
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_tree import CONFIGURATION, IQN, TARGET, login, started


def short_directory(case: Any) -> Path:
    """Return a directory whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="scstd"))
    case.addCleanup(shutil.rmtree, path)
    return path


def run_tool(
    directory: Path, *options: str, module: str = "scstadmin"
) -> tuple[int, str]:
    """Run a tool of the service in a directory; return its status and what it said."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from scstd.management.cli.{module} import entry; entry()",
            *options,
        ],
        env={**os.environ, "SCSTD_CONTROL": str(directory / "state/control")},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return done.returncode, said


def tool(directory: Path, *options: str) -> str:
    """Run scstadmin, that succeeds; return what it said."""
    status, said = run_tool(directory, *options)
    assert status == tools.DONE, (options, said)
    return said


class Connected(TestCase):
    """
    The socket, in this process.
    """

    async def connected(self) -> Any:
        """Return a client, and the tree at its other end."""
        tree = await started(self)
        self.configurator = Configurator(tree)
        self.path = short_directory(self) / "control"
        port = listen(reactor, self.path, tree, self.configurator)
        self.addCleanup(port.stopListening)
        client = await connect(reactor, self.path)
        self.addCleanup(self.hang_up, client)
        return client, tree

    def hang_up(self, client: Any) -> Any:
        """Close a client's connection, and wait until it is."""
        gone: Deferred[None] = Deferred()
        before = client.amp.connectionLost

        def lost(reason: Any) -> None:
            before(reason)
            gone.callback(None)

        if client.amp.transport is None:
            return None
        client.amp.connectionLost = lost
        client.close()
        return gone


class SocketTests(Connected):
    """
    The socket itself.
    """

    async def failed(self, call: Any) -> FailedError:
        """Return how a command fails."""
        try:
            await call
        except FailedError as error:
            return error
        raise AssertionError("it was done")

    async def test_faces(self) -> None:
        """What the tree does the socket does."""
        client, tree = await self.connected()
        login(tree)
        self.assertEqual(await client.read("version"), tree.read("version"))
        self.assertEqual(await client.names("devices"), ["disk1", "disk2", "disk3"])
        await client.write(f"{TARGET}/QueuedCommands", "8")
        self.assertEqual(tree.read(f"{TARGET}/QueuedCommands"), "8\n[key]\n")
        await client.manage(
            "handlers/memory", "add_device", ["m"], [("size", "1M"), ("usn", "a;b c")]
        )
        self.assertEqual(tree.read("devices/m/serial"), "a;b c\n")
        found = await client.dump("", 9)
        self.assertEqual(found["devices"]["m"]["size"], f"{1 << 20}\n[key]")
        sessions = found["targets"]["iscsi"][IQN]["sessions"]
        self.assertEqual(next(iter(sessions.values()))["lun1"]["active_commands"], "0")

    async def test_long_answers(self) -> None:
        """An answer longer than AMP carries comes in pieces."""
        client, tree = await self.connected()
        for count in range(60):
            await client.manage("targets/iscsi", "add_target", [f"{IQN}{count}"])
        found = await client.dump("targets", 9)
        self.assertGreater(len(json.dumps(found)), 2 * commands.PIECE)
        self.assertEqual(found, json.loads(json.dumps(tree.dump("targets", 9))))

    async def test_errors(self) -> None:
        """A refusal has its errno and its text; the connection lives on."""
        client, _tree = await self.connected()
        error = await self.failed(client.read("nothing"))
        self.assertEqual((error.errno, "nothing" in error.text), (2, True))
        error = await self.failed(
            client.manage("handlers/vdisk_nullio", "del_device", ["disk1"])
        )
        self.assertEqual(error.errno, 16)
        error = await self.failed(client.apply("/no/such/file"))
        self.assertIn("/no/such/file", error.text)
        error = await self.failed(client.save(""))
        self.assertIn("name one", error.text)
        error = await self.failed(client.amp.callRemote(commands.More, more=99))
        self.assertEqual(error.errno, 2)
        self.assertEqual(await client.read("last_sysfs_mgmt_res"), "16\n")

    async def test_files(self) -> None:
        """Files are checked, tried, applied, written."""
        client, tree = await self.connected()
        path = Path(self.mktemp()).absolute()
        self.assertEqual(await client.save(str(path)), (str(path), []))
        await client.check(str(path))
        self.assertEqual(await client.apply(str(path)), ([], []))
        path.write_text(
            path.read_text().replace("LUN 1 disk2", "LUN 1 disk3\n LUN x y")
        )
        error = await self.failed(client.check(str(path)))
        self.assertIn("'x'", error.text)
        path.write_text(CONFIGURATION.replace("LUN 1 disk2", "LUN 1 disk3"))
        steps, _said = await client.apply(str(path), dry=True)
        self.assertEqual(steps, [f"{TARGET}/luns/mgmt: replace disk3 1"])
        self.assertEqual(await client.apply(str(path)), (steps, []))
        self.assertEqual(await client.apply(str(path), dry=True), ([], []))
        self.assertGreater(len(await client.clear()), 4)
        self.assertEqual(tree.list("devices"), [])

    async def test_who(self) -> None:
        """Its owner and root are let in, by mode and by what the kernel says."""
        client, _tree = await self.connected()
        await client.read("version")
        mode = self.path.stat().st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.patch(control, "peer_user", lambda _socket: 12345)
        stranger = await connect(reactor, self.path)
        try:
            await stranger.read("version")
        except FailedError:
            self.fail("it was answered")
        except (ConnectionDone, ConnectionLost):
            pass
        self.assertEqual(await client.names("device_groups"), ["mgmt"])

    async def test_long_path(self) -> None:
        """A path that is too long for a socket will do, and is clean in the end."""
        tree = await started(self)
        directory = short_directory(self) / ("d" * 100)
        port = listen(reactor, directory / "control", tree, Configurator(tree))
        client = await connect(reactor, directory / "control")
        self.assertEqual(await client.read("version"), tree.read("version"))
        self.assertEqual(
            {one.name for one in directory.iterdir()}, {"control", "control.lock"}
        )
        await self.hang_up(client)
        await maybeDeferred(port.stopListening)
        self.assertEqual(list(directory.iterdir()), [])
        still = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
        self.assertNotIn(directory, still)

    async def test_in_use(self) -> None:
        """A socket that another process has is not taken; nor is one too long a path."""
        _client, tree = await self.connected()
        for path, why in (
            (self.path, f"{self.path}: another process has it"),
            (Path("/" + "x" * 120), "longer"),
            (Path("/proc/scstd/control"), "No such file or directory"),
        ):
            error = self.assertRaises(
                ConfigurationError, listen, reactor, path, tree, self.configurator
            )
            self.assertIn(why, str(error))


class ServiceTests(TestCase):
    """
    The tools, each a process, and the service.
    """

    def setUp(self) -> None:
        """Make a directory with a configuration."""
        self.directory = short_directory(self)
        self.config = self.directory / "scst.conf"
        self.config.write_text(CONFIGURATION)

    def server(self, *options: str, **keywords: Any) -> Server:
        """Return a server of the configuration."""
        return Server(
            "--config",
            "scst.conf",
            *options,
            directory=str(self.directory),
            luns=2,
            wait_for="the control socket is",
            **keywords,
        )

    def tool(self, *options: str) -> tuple[int, str]:
        """Run scstadmin; return its status and what it said."""
        return run_tool(self.directory, *options)

    def said(self, *options: str) -> str:
        """Run scstadmin, that succeeds; return what it said."""
        return tool(self.directory, *options)

    def test_check(self) -> None:
        """Every mistake is told at once, and a missing LUN 0, without a service."""
        self.assertIn("nothing is wrong", self.said("-check_config", "scst.conf"))
        self.assertIn("no LUN 0 in group g", self.said("-check_config", "scst.conf"))
        self.config.write_text(
            CONFIGURATION.replace("size 1G", "sice 1G").replace("LUN 1 d", "LUN 1 x")
        )
        status, said = self.tool("-check_config", "scst.conf")
        self.assertEqual((status, len(said.splitlines())), (tools.REFUSED, 2))

    def test_reload(self) -> None:
        """SIGHUP has the file read again; a bad one is refused, and service goes on."""
        with self.server() as server:
            self.config.write_text(CONFIGURATION.replace("disk3", "disk4"))
            server.process.send_signal(signal.SIGHUP)
            self.wait_for(server, "scst.conf: 3 changes")
            self.assertIn("disk4", self.said("-list_device"))
            self.config.write_text("nonsense\n")
            server.process.send_signal(signal.SIGHUP)
            self.wait_for(server, "not reloaded")
            self.assertIn("disk4", self.said("-list_device"))
            self.assertIn("'nonsense'", self.tool("-config")[1])

    def wait_for(self, server: Server, words: str) -> None:
        """Wait until the service has logged something."""
        end = time.monotonic() + PATIENCE
        while words not in server.log():
            self.assertLess(time.monotonic(), end, server.log())
            time.sleep(0.02)
