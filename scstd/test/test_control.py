# SPDX-License-Identifier: MIT
"""
Tests for the control socket and the tools on it: `scstd.management.control.control`, `client`,
`scstadmin`, `listing`, `adm`, and `scstd.daemon`; the service as a process.
"""

from __future__ import annotations

import contextlib
import io
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

from scstd import plugin
from scstd.attributes import ConfigurationError
from scstd.management.cli import adm, lists, scstadmin, tools
from scstd.management.cli.lists import TEXTS, number
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read_file
from scstd.management.control import commands, control
from scstd.management.control.client import connect
from scstd.management.control.commands import FailedError
from scstd.management.control.control import listen
from scstd.management.model import attribute_tables
from scstd.test.configurations import essence
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
            f"from scstd.management.{module} import entry; entry()",
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
        self.assertEqual(
            found, json.loads(json.dumps(control.contents(tree.entry("targets"), 9)))
        )

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


def takes_any(kind: Any) -> bool:
    """
    Say whether a kind of attributes has texts that look like numbers and are none: it
    takes one with a zero in front, and keeps that.
    """
    try:
        return "0042" in str(kind.render(kind.parse("0042")))
    except (ConfigurationError, AttributeError, TypeError):
        return False


class ScstadminTests(Connected):
    """
    The tools' commands, on a connection.
    """

    async def tool(
        self, client: Any, *words: str, prepare: Any = scstadmin.prepare
    ) -> tuple[int, str]:
        """Do what a command line asks for; return its status and what it said."""
        said: list[str] = []
        for module in (scstadmin, lists, adm):
            self.patch(module, "show", said.append)
        self.patch(scstadmin, "say", said.append)
        try:
            with contextlib.redirect_stderr(io.StringIO()) as error:
                body = prepare(list(words))
        except SystemExit as ended:
            return int(ended.code or 0), error.getvalue()
        if isinstance(body, int):
            return body, "\n".join(said)
        try:
            return await body(client), "\n".join(said)
        except FailedError as failed:
            return tools.REFUSED, failed.text

    async def said(self, client: Any, *words: str, **keywords: Any) -> str:
        """Do what succeeds; return what it said."""
        status, said = await self.tool(client, *words, **keywords)
        self.assertEqual(status, tools.DONE, (words, said))
        return said

    async def test_day(self) -> None:
        """A day's work with scstadmin."""
        client, _tree = await self.connected()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        saved, again = str(directory / "saved.conf"), str(directory / "again.conf")
        of = ("-driver", "iscsi", "-target", IQN)
        self.assertIn("disk1", await self.said(client, "-list_device"))
        self.assertIn("5 - cdrom", await self.said(client, "-list_hnd_attr", "vcdrom"))
        for words in (
            ("-open_dev", "m", "-handler", "memory", "-attributes", "size=1M,usn=7"),
            ("-add_lun", "7", *of, "-device", "m", "-attributes", "read_only=1"),
            ("-add_group", "h", *of),
            ("-add_init", "iqn.x:*", *of, "-group", "h"),
            ("-add_lun", "0", *of, "-group", "h", "-device", "m"),
            ("-set_tgt_attr", IQN, "-driver", "iscsi", "-attributes", "QueuedCommands=8"),
            ("-set_dev_attr", "m", "-attributes", "prod_id=A B"),
            ("-resync_dev", "disk1"),
            ("-add_tgt_attr", IQN, "-driver", "iscsi", "-attributes", "IncomingUser=joe 12charsecret"),
        ):  # fmt: skip
            await self.said(client, *words)
        listed = json.loads(await self.said(client, "-list_group", "h", "-json"))
        self.assertEqual(
            [(one["initiators"], one["device"]) for one in listed], [("iqn.x:*", "m")]
        )
        shown = await self.said(client, "-list_tgt_attr", IQN, "-driver", "iscsi")
        self.assertRegex(shown, r"QueuedCommands +8 +yes")
        self.assertRegex(shown, r"IncomingUser +joe \*+ +yes")
        for option in (
            "-list_handler",
            "-list_driver",
            "-list_target",
            "-list_scst_attr",
            "-list_sessions",
        ):
            self.assertTrue(await self.said(client, option))
        await self.said(client, "-write_config", saved)
        text = Path(saved).read_text()
        for word in ('prod_id "A B"', "LUN 7 m {", "INITIATOR iqn.x:*", "12charsecret"):
            self.assertIn(word, text)
        self.patch(sys, "stdin", io.StringIO())
        cases: list[tuple[tuple[str, ...], int]] = [
            (("-rem_lun", "7", *of), tools.REFUSED),
            (("-rem_lun", "7", *of, "-noprompt"), tools.DONE),
            (("-rem_lun", "7", *of, "-noprompt"), tools.REFUSED),
            (("-close_dev", "m", "-handler", "memory", "-noprompt"), tools.REFUSED),
            (("-close_dev", "m", "-handler", "memory", "-noprompt", "-force"), tools.DONE),
            (("-disable_target", IQN, "-driver", "iscsi", "-noprompt"), tools.DONE),
            (("-enable_target", IQN, "-driver", "iscsi"), tools.DONE),
            (("-move_init", "iqn.x:*", *of, "-group", "h", "-to", "g", "-noprompt"), tools.DONE),
            (("-add_lun", "7"), tools.USAGE),
            (("-set_dev_attr", "disk1"), tools.USAGE),
            (("-nonsense",), tools.USAGE),
            (("",), tools.USAGE),
            (("\n",), tools.USAGE),
            ((), tools.USAGE),
            (("-list_target", "none"), tools.REFUSED),
            (("-clear_config", "-noprompt"), tools.DONE),
            (("-config", saved, "-force"), tools.REFUSED),
            (("-config", saved, "-force", "-noprompt"), tools.DONE),
            (("-write_config", again), tools.DONE),
        ]  # fmt: skip
        for line, status in cases:
            self.assertEqual((await self.tool(client, *line))[0], status, line)
        self.assertEqual(essence(read_file(again)), essence(read_file(saved)))

    async def test_kinds(self) -> None:
        """In JSON numbers are numbers and flags are true or false, in every list."""
        client, _tree = await self.connected()
        of = ("-driver", "iscsi", "-target", IQN)

        async def listed(*words: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(
                await self.said(client, *words, "-json")
            )
            self.assertNotEqual(found, [])
            return found

        for words, kinds in (
            (("-list_device",), {"bytes": int, "sessions": int, "serial": str}),
            (("-list_driver",), {"enabled": bool, "targets": int}),
            (
                ("-list_target",),
                {"enabled": bool, "luns": int, "groups": int, "sessions": int},
            ),
            (("-list_group",), {"lun": int, "read_only": bool, "device": str}),
        ):
            for row in await listed(*words):
                for name, kind in kinds.items():
                    self.assertIs(type(row[name]), kind, (words, name))
        await self.said(
            client, "-set_dev_attr", "disk1", "-attributes", "prod_rev_lvl=12"
        )
        known: dict[str, Any]
        asked: tuple[str, ...]
        for asked, known in (
            (
                ("-list_dev_attr", "disk1"),
                {"blocksize": 512, "rotational": 1, "prod_rev_lvl": "12"},
            ),
            (
                ("-list_tgt_attr", IQN, *of[:2]),
                {"QueuedCommands": 32, "InitialR2T": "No", "rel_tgt_id": 1},
            ),
            (("-list_lun_attr", "0", *of), {"read_only": 0}),
        ):
            found = {row["attribute"]: row["value"] for row in await listed(*asked)}
            self.assertEqual({name: found[name] for name in known}, known)
        for row in await listed("-list_dev_attr", "disk1"):
            self.assertIs(type(row["key"]), bool)

    def test_texts(self) -> None:
        """What is text stays text, though it looks like a number: every such row."""
        tables = [
            *(one.parameters() for one in plugin.device_handlers()),
            *(one.parameters() for one in plugin.filters()),
            *(one.attributes() for one in plugin.target_drivers()),
            *(one.target_attributes() for one in plugin.target_drivers()),
            *(
                getattr(attribute_tables, name)
                for name in dir(attribute_tables)
                if name.endswith("ATTRIBUTES")
            ),
        ]
        texts = {row.name for table in tables for row in table if takes_any(row.kind)}
        self.assertEqual(texts - TEXTS, set())
        self.assertEqual(number("IncomingUser1", "5"), "5")
        self.assertEqual(number("RspTimeout", "1.5"), 1.5)
        self.assertEqual(number("some", "007"), "007")

    async def test_no_attributes(self) -> None:
        """What has no attributes that could be changed says so."""
        client, _tree = await self.connected()
        of = ("-driver", "iscsi", "-target", IQN, "-group", "g")
        name = await self.said(client, "-list_group", "g", "-json")
        name = json.loads(name)[0]["initiators"].split()[0]
        self.assertEqual(
            await self.said(client, "-list_init_attr", name, *of),
            "There is nothing to list.",
        )
        set_one = ("-attributes", "some=1")
        for words, why in (
            (("-list_init_attr", "iqn.x:none", *of), "no initiator 'iqn.x:none'"),
            (("-set_init_attr", name, *of, *set_one), "has no entries"),
            (("-set_hnd_attr", "vcdrom", *set_one), "some"),
            (("-set_hnd_attr", "vcdrom", "-attributes", "type=1"), "type"),
        ):
            status, said = await self.tool(client, *words)
            self.assertEqual(status, tools.REFUSED, said)
            self.assertIn(why, said)

    async def test_device_groups(self) -> None:
        """Device groups by SCST's commands, and in its lists."""
        client, tree = await self.connected()
        dg, tg = ("-dev_group", "dg"), ("-tgt_group", "tg")
        remote = "iqn.2006-10.net.vlnb:remote"
        for words in (
            ("-add_dgrp", "dg"),
            ("-add_dgrp_dev", "disk1", *dg),
            ("-add_tgrp", "tg", *dg),
            ("-add_tgrp_tgt", IQN, *dg, *tg),
            ("-add_tgrp_tgt", remote, *dg, *tg),
            ("-set_dgrp_attr", "dg", "-attributes", "transition_time=0"),
            ("-set_tgrp_attr", "tg", *dg, "-attributes", "group_id=256,preferred=1"),
            ("-set_ttgt_attr", remote, *dg, *tg, "-attributes", "rel_tgt_id=9"),
        ):
            await self.said(client, *words)
        (row,) = json.loads(await self.said(client, "-list_dgrp", "-json"))
        self.assertEqual(
            row, {"group": "dg", "devices": "disk1", "target groups": "tg"}
        )
        (row,) = json.loads(await self.said(client, "-list_tgrp", "tg", *dg, "-json"))
        self.assertEqual((row["group_id"], row["state"]), (256, "active"))
        self.assertEqual(row["targets"], f"{IQN} 1, {remote} 9")
        for words, what in (
            (("-list_dgrp_attr", "dg"), "transition_time"),
            (("-list_tgrp_attr", "tg", *dg), "group_id +256 +yes"),
            (("-list_ttgt_attr", remote, *dg, *tg), "rel_tgt_id +9 +yes"),
            (("-list_dgrp", "dg"), "disk1"),
        ):
            self.assertRegex(await self.said(client, *words), what)
        removals: list[tuple[str, ...]] = [
            ("-rem_tgrp_tgt", remote, *dg, *tg),
            ("-rem_tgrp", "tg", *dg),
            ("-rem_dgrp_dev", "disk1", *dg),
            ("-rem_dgrp", "dg"),
        ]
        self.patch(sys, "stdin", io.StringIO())
        for line in removals:
            self.assertEqual((await self.tool(client, *line))[0], tools.REFUSED)
            await self.said(client, *line, "-noprompt")
        self.assertEqual(len(tree.system.device_groups), 0)
        for line in (("-list_dgrp", "dg"), ("-rem_dgrp", "dg", "-noprompt")):
            self.assertEqual((await self.tool(client, *line))[0], tools.REFUSED)
        self.assertEqual((await self.tool(client, "-add_tgrp", "x"))[0], tools.USAGE)

    async def test_wrong_words(self) -> None:
        """What makes no sense is told in two lines, with what may have been meant."""
        client, _tree = await self.connected()
        for words, why in (
            ((), "a command is missing"),
            (("-force",), "a command is missing"),
            (("-list_devce",), "unknown: -list_devce (did you mean -list_device?)"),
            (("-add_lun", "0"), "-add_lun needs -driver"),
            (("-clear_inits", "-add_lun", "0"), "not allowed with argument"),
        ):
            status, said = await self.tool(client, *words)
            self.assertEqual(status, tools.USAGE)
            self.assertIn(why, said)
            self.assertEqual(len(said.splitlines()), 2)

    async def test_nothing_there(self) -> None:
        """A list of one thing that is not there is refused; one of none is empty."""
        client, _tree = await self.connected()
        for option in ("handler", "device", "driver", "target", "group", "sessions"):
            status, said = await self.tool(client, f"-list_{option}", "nosuch")
            self.assertEqual((option, status), (option, tools.REFUSED))
            self.assertIn("'nosuch'", said)
        self.assertEqual(await self.said(client, "-list_dgrp", "-json"), "[]")

    async def test_left_out(self) -> None:
        """Who applies a file is told what was left out of it."""
        client, _tree = await self.connected()
        path = Path(self.mktemp()).absolute()
        path.write_text(
            "threads 8\nHANDLER memory {\nDEVICE m {\nsize 1M\n}\n}\n"
            "TARGET_DRIVER iscsi {\nenabled 1\n}\n"
        )
        for words in (("-config", str(path)), ("-check_config", str(path))):
            said = await self.said(client, *words)
            self.assertIn(f"warning: {path}:1:1: 'threads': ", said)

    async def test_adm(self) -> None:
        """The seed's own tool: targets by number, sessions, parameters, users."""
        client, tree = await self.connected()
        new = "iqn.2006-10.net.vlnb:new"

        async def do(*words: str) -> str:
            return await self.said(client, *words, prepare=adm.prepare)

        await do("--op", "new", "--params", f"Name={new}")
        shown = await do("--op", "show")
        self.assertIn(f"tid:1 name:{IQN}", shown)
        self.assertIn(f"tid:2 name:{new}", shown)
        await do(
            "--op",
            "update",
            "--tid",
            "2",
            "--params",
            "QueuedCommands=8,MaxBurstLength=65536",
        )
        shown = await do("--op", "show", "--tid", "2")
        self.assertIn("QueuedCommands=8\nRspTimeout", shown)
        for where in ((), ("--tid", "2")):
            await do(
                "--op",
                "new",
                *where,
                "--user",
                "--params",
                "IncomingUser=joe,Password=12charsecret",
            )
            await do(
                "--op",
                "new",
                *where,
                "--user",
                "--params",
                "OutgoingUser=us,Password=13charsecrets",
            )
            shown = await do("--op", "show", *where, "--user")
            self.assertEqual(shown, "IncomingUser=joe\nOutgoingUser=us")
            await do(
                *("--op", "update", *where, "--user"),
                *("--params", "IncomingUser=joe,Password=another-secret"),
            )
            kept = await self.configurator.write(str(self.path) + ".conf")
            self.assertIn("joe another-secret", Path(kept).read_text())
            await do("--op", "delete", *where, "--user", "--params", "IncomingUser=joe")
            self.assertEqual(
                await do("--op", "show", *where, "--user"), "OutgoingUser=us"
            )
        initiator = login(tree)
        self.assertIn(f"initiator_name:{initiator.name}", await do("--op", "show"))
        self.assertIn(
            "MaxBurstLength=", await do("--op", "show", "--tid", "1", "--sid", "1")
        )
        await do("--op", "delete", "--tid", "1", "--sid", "1")
        self.assertTrue(initiator.connection.over)
        await do("--op", "delete", "--tid", "2")
        for tid in ("77", "0"):
            name = f"iqn.2006-10.net.vlnb:number-{tid}"
            await do("--op", "new", "--tid", tid, "--params", f"Name={name}")
        self.assertIn(
            "tid:77 name:iqn.2006-10.net.vlnb:number-77", await do("--op", "show")
        )
        await do("--op", "delete")
        self.assertEqual(tree.system.drivers.targets, {})
        cases: list[tuple[tuple[str, ...], int]] = [
            (("--op", "show", "--tid", "9"), tools.REFUSED),
            (("--op", "delete", "--user", "--params", "IncomingUser=x"), tools.REFUSED),
            (("--op", "new"), tools.USAGE),
            (("--op", "update", "--tid", "1"), tools.USAGE),
            (("--op", "new", "--user"), tools.USAGE),
            (("--op", "update", "--user", "--params", "Password=x"), tools.USAGE),
            (("--op", "new", "--tid", "1", "--params", f"Name={new}"), tools.DONE),
            (("--op", "new", "--tid", "1", "--params", f"Name={IQN}"), tools.REFUSED),
            (("--op", "x"), tools.USAGE),
        ]
        for words, status in cases:
            done = await self.tool(client, *words, prepare=adm.prepare)
            self.assertEqual(done[0], status, words)


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
