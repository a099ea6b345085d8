# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.cli`: scstadmin, on a service that runs.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from scstd import plugin
from scstd.attributes import ConfigurationError
from scstd.management.cli import adm, lists, scstadmin, tools
from scstd.management.cli.lists import TEXTS, number
from scstd.management.config.reading import read_file
from scstd.management.control.commands import FailedError
from scstd.management.model import attribute_tables
from scstd.test.configurations import essence
from scstd.test.test_control import Connected
from scstd.test.test_tree import IQN, login


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
