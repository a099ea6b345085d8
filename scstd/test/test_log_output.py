# SPDX-License-Identifier: MIT
"""
Tests for the log: `scstd.management.monitor.logs`, the options of it, and that no secret is
ever in it, or in an event, or in what a person is answered.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    eventAsText,
    globalLogPublisher,
)
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.control.commands import FailedError
from scstd.management.errors import TreeError
from scstd.management.model.value_kinds import LogLevels
from scstd.management.monitor.logs import (
    Levels,
    as_errors,
    as_json,
    in_journal,
    observer,
    prioritized,
    twistd_observer,
)
from scstd.management.ports.lun_maps import Maps
from scstd.process.log_thread import drain
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.serving import PATIENCE
from scstd.test.test_access import proof
from scstd.test.test_control import Connected
from scstd.test.test_tree import CONFIGURATION, IQN, TARGET, login
from scstd.twistd import Services

SECRETS = ("sesame-of-joe-1", "sesame-of-ann-22", "sesame-of-us-333", "sesame-x")


def event(level: Any = LogLevel.info, text: str = "hello {who}", **more: Any) -> Any:
    """Return an event of a module of ours."""
    return {
        "log_time": 0.0,
        "log_level": level,
        "log_namespace": "scstd.protocols.iscsi",
        "log_format": text,
        "who": "you",
        **more,
    }


class LevelTests(SynchronousTestCase):
    """
    Which lines there are.
    """

    def written(self, levels: Levels, level: Any, name: str) -> bool:
        """Say whether a line of this level and namespace is written."""
        file = io.StringIO()
        write: Any = observer(file, "text", levels)
        write(event(level, log_namespace=name))
        return bool(file.getvalue())

    def test_levels(self) -> None:
        """The longest beginning of a namespace decides; changes act at once."""
        kind = LogLevels()
        levels = Levels(kind.parse("warn,scstd.protocols=debug"))
        for level, name, there in (
            (LogLevel.info, "twisted.x", False),
            (LogLevel.warn, "twisted.x", True),
            (LogLevel.debug, "scstd.protocols.iscsi", True),
            (LogLevel.debug, "scstd.scsi", False),
        ):
            self.assertEqual(self.written(levels, level, name), there, name)
        levels.set(kind.parse("scstd.protocols=error"))
        self.assertFalse(self.written(levels, LogLevel.warn, "scstd.protocols.iscsi"))
        self.assertTrue(self.written(levels, LogLevel.warn, "scstd.scsi"))
        levels.set(())
        self.assertTrue(self.written(levels, LogLevel.debug, "scstd.protocols.iscsi"))

    def test_quiet(self) -> None:
        """The tools' connections are not worth a line each, unless asked for."""
        for text, there in (("info", False), ("info,twisted.protocols.amp=info", True)):
            levels = Levels(LogLevels().parse(text))
            self.assertEqual(
                self.written(levels, LogLevel.info, "twisted.protocols.amp"), there
            )

    def test_spelling(self) -> None:
        """What is read is written again; what makes no sense is refused."""
        kind = LogLevels()
        for text in ("", "default=warn", "default=info,scstd.scsi=debug"):
            self.assertEqual(kind.render(kind.parse(text)), text)
        for text in ("loud", "scstd.scsi=loud", "=debug", "scstd.scsi"):
            self.assertRaises(ConfigurationError, kind.parse, text)


class FormatTests(SynchronousTestCase):
    """
    How a line looks.
    """

    def failure(self) -> Failure:
        """Return one with a traceback."""
        try:
            raise ValueError("broken\nin two")  # noqa: TRY301 - a traceback is wanted
        except ValueError:
            return Failure()

    def test_json(self) -> None:
        """An object a line, with the traceback in it."""
        found = json.loads(as_json(event(LogLevel.warn)))
        self.assertEqual(
            [found[name] for name in ("level", "namespace", "message", "fields")],
            ["warn", "scstd.protocols.iscsi", "hello you", {"who": "you"}],
        )
        text = as_json(event(LogLevel.critical, log_failure=self.failure()))
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("ValueError", json.loads(text)["traceback"])
        self.assertEqual(
            json.loads(as_json({"log_format": "x", "log_time": 0.0}))["message"], "x"
        )

    def test_priority(self) -> None:
        """In the journal every line begins with its priority."""
        for level, mark in (
            (LogLevel.debug, "<7>"),
            (LogLevel.info, "<6>"),
            (LogLevel.warn, "<4>"),
            (LogLevel.error, "<3>"),
            (LogLevel.critical, "<2>"),
        ):
            self.assertEqual(
                prioritized(event(level)), f"{mark}scstd.protocols.iscsi: hello you\n"
            )
        lines = prioritized(event(LogLevel.error, log_failure=self.failure()))
        self.assertGreater(lines.count("\n"), 3)
        for line in lines.splitlines():
            self.assertTrue(line.startswith("<3>"), line)

    def test_journal(self) -> None:
        """JOURNAL_STREAM has to name the very file."""
        path = Path(self.mktemp())
        with path.open("w") as file:
            found = os.fstat(file.fileno())
            stream = f"{found.st_dev}:{found.st_ino}"
            self.assertTrue(in_journal(file, {"JOURNAL_STREAM": stream}))
            self.assertFalse(in_journal(file, {"JOURNAL_STREAM": "1:2"}))
            self.assertFalse(in_journal(file, {}))
            said = as_errors("one\ntwo", file, {"JOURNAL_STREAM": stream})
            self.assertEqual(said, "<3>one\n<3>two")
            self.assertEqual(as_errors("one\ntwo", file, {}), "one\ntwo")
        self.assertFalse(in_journal(io.StringIO(), {"JOURNAL_STREAM": stream}))

    def test_where(self) -> None:
        """The options of twistd say where to; syslog and other loggers are left to it."""
        levels = Levels()
        self.assertIsNone(twistd_observer({"syslog": True}, "json", levels))
        self.assertIsNone(twistd_observer({"logger": "x.y"}, "json", levels))
        self.assertIsNone(twistd_observer({"logfile": "-"}, "json", levels))
        path = Path(self.mktemp()).absolute()
        write: Any = twistd_observer({"logfile": str(path)}, "json", levels)
        self.assertTrue(ILogObserver.providedBy(write))
        self.assertFalse(path.exists())
        write(event())
        write(event(LogLevel.debug))
        self.assertTrue(drain(60))
        self.assertEqual(len(path.read_text().splitlines()), 1)
        application = Componentized()
        with contextlib.suppress(Exception):
            Services(write).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), write)


class SecretTests(Connected):
    """
    No secret is in what is logged, told, or answered.
    """

    async def applied(self, client: Any, path: str, *, dry: bool = False) -> None:
        """Apply a configuration file; note what is said."""
        steps, warnings = await client.apply(path, dry=dry)
        self.said += [*steps, *warnings]

    async def refused(self, call: Any) -> None:
        """Carry out a command that fails."""
        try:
            await call
        except FailedError as error:
            self.said.append(f"{error} {error.text}")
        else:
            self.fail("it was done")

    def chap(self, tree: Any, secret: str, isid: int) -> int:
        """Log in with CHAP; return the status."""
        driver: Any = tree.system.drivers["iscsi"].instance
        driver.node.failure_delay = 0.0
        one = Initiator(driver.node, isid=bytes((0x80, 0, 0, 0, 0, isid)))
        names = [
            ("InitiatorName", INITIATOR),
            ("TargetName", IQN),
            ("AuthMethod", "CHAP"),
        ]
        keys: dict[str, str] = {}
        for flags in (0, 1, 0x83):
            pairs = [("CHAP_A", "7")] if flags else names
            if flags == 0x83:
                answer = proof(7, keys, secret)
                asked = [("CHAP_I", "9"), ("CHAP_C", "0x1234567890")]
                pairs = [("CHAP_N", "joe"), ("CHAP_R", answer), *asked]
            one.send(one.login_request(pairs, flags=flags & 0x83 if flags > 1 else 0))
            (response,) = one.receive()
            keys = dict(
                item.split("=", 1)
                for item in bytes(response.data).decode().split("\0")
                if item
            )
        return int(response.status_class << 8 | response.status_detail)

    async def test_nowhere(self) -> None:
        """Logins, configurations with secrets and with mistakes in them, reloads."""
        client, tree = await self.connected()
        self.said: list[str] = []
        joe, ann, us, short = SECRETS

        def hear(one: Any) -> None:
            self.said.append(eventAsText(one))
            self.said.append(as_json(one))

        take = cast("ILogObserver", hear)
        globalLogPublisher.addObserver(take)
        self.addCleanup(globalLogPublisher.removeObserver, take)
        hears = tree.system.events.subscribe()
        await client.write("trace_level", "all")
        path = Path(self.mktemp()).absolute()
        accounts = f'IncomingUser "joe {joe}"\nOutgoingUser "us {us}"\n'
        good = CONFIGURATION.replace("LUN 0 disk1", accounts + "LUN 0 disk1")
        path.write_text(good)
        for dry in (True, False):
            await self.applied(client, str(path), dry=dry)
        self.assertEqual(self.chap(tree, joe, 1), 0)
        self.assertEqual(self.chap(tree, "not-the-secret-", 2), 0x201)

        # Steps that fail beside one with a secret, and are undone.
        def full(*_arguments: Any, **_more: Any) -> None:
            raise TreeError(errno.ENOSPC, "no room")

        path.write_text(good.replace(joe, ann).replace("LUN 0 disk1", "LUN 0 disk3"))
        with mock.patch.object(Maps, "replace_lun", full):
            await self.refused(client.apply(str(path)))
        self.assertEqual(self.chap(tree, joe, 1), 0)
        for wrong in (
            f'IncomingUser "joe {short}"',
            f"IncomingUser joe {short}",
            f'IncomingUser "joe {ann}',
            f"IncomingUser joe {ann} {us}",
            f"OutgoingUser {ann}",
            f'OutgoingUser "joe {ann}"\nOutgoingUser "joe {us}"',
            f'OutgoingUser "us {joe}"',
            f"IncomingUsr joe {ann}",
            f"IncomingUser joe {ann} {{\n}}",
        ):
            path.write_text(
                CONFIGURATION.replace("LUN 0 disk1", wrong + "\nLUN 0 disk1")
            )
            await self.wrong(client, str(path))
        await self.values(client)
        for text in (CONFIGURATION, good):
            path.write_text(text)
            await self.applied(client, str(path))
        words = [IQN, "IncomingUser", f"joe {joe}"]
        await self.refused(
            client.manage("targets/iscsi", "add_target_attribute", words)
        )
        await client.manage("targets/iscsi", "del_target_attribute", words)
        await self.refused(
            client.manage("targets/iscsi", "del_target_attribute", words)
        )
        login(tree).logout()
        events, lost = hears.take(9999)
        self.assertEqual(lost, 0)
        self.said += [json.dumps(one.as_dict()) for one in events]
        self.said.append(json.dumps(await client.dump("", 9)))
        self.assertGreater(len(self.said), 60)
        everything = "\n".join(self.said)
        self.assertIn("LOGIN_REFUSED", everything)
        self.assertIn("going back", everything)
        for secret in SECRETS:
            at = everything.find(secret)
            self.assertEqual(at, -1, everything[max(0, at - 300) : at + 100])
        self.flushLoggedErrors()

    async def values(self, client: Any) -> None:
        """Write secrets that are refused to the tree."""
        _joe, ann, us, short = SECRETS
        for value in (f"joe {short}", f"joe {ann} {us}", ann):
            await self.refused(client.write(f"{TARGET}/IncomingUser1", value))
            await self.refused(client.write(f"{TARGET}/OutgoingUser", value))
            for verb in ("add", "del", "set"):
                words = [IQN, "IncomingUser", value]
                await self.refused(
                    client.manage("targets/iscsi", f"{verb}_target_attribute", words)
                )
            pairs = [("IncomingUser", value)]
            await self.refused(
                client.manage("targets/iscsi", "add_target", [IQN + "2"], pairs)
            )

    async def wrong(self, client: Any, path: str) -> None:
        """Check and apply a file that has a mistake, or none after all."""
        for call in (client.check, client.apply):
            try:
                await call(path)
            except FailedError as error:
                self.said.append(error.text)


class ProcessTests(SynchronousTestCase):
    """
    The options of the service.
    """

    def run_once(self, *options: str, stdout: Any, **environment: str) -> None:
        """Serve a disk, and end."""
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from twisted.scripts.twistd import run; run()",
                *options,
                *("--state-dir", "state", "--listen", "127.0.0.1:0"),
                *("--device", "d=memory:size=1M", "--run", "true"),
            ],
            cwd=self.directory,
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=True,
        )

    def setUp(self) -> None:
        """Have a directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_json_file(self) -> None:
        """--log-format json writes objects, also to twistd's --logfile."""
        self.run_once(
            *("-n", "--pidfile=", "--logfile", "log", "scst-iscsi"),
            *("--log-format", "json", "--log-level", "warn,scstd=debug"),
            stdout=subprocess.DEVNULL,
        )
        lines = (self.directory / "log").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        messages = [one["message"] for one in found]
        self.assertTrue(any("iscsi://" in one for one in messages), messages)
        others = [one for one in found if not one["namespace"].startswith("scstd")]
        self.assertEqual([one for one in others if one["level"] == "info"], [])

    def test_journal(self) -> None:
        """Where JOURNAL_STREAM names its output each line has a priority."""
        path = self.directory / "journal"
        with path.open("w") as file:
            status = os.fstat(file.fileno())
            self.run_once(
                *("-n", "--pidfile=", "scst-iscsi"),
                stdout=file,
                JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}",
            )
        lines = path.read_text().splitlines()
        self.assertTrue(any("iscsi://" in one for one in lines), lines)
        for line in lines:
            self.assertRegex(line, re.compile(r"^<[2-7]>\S+: "))

    def test_wrong(self) -> None:
        """A wrong option is refused with what there is."""
        for options in (("--log-format", "xml"), ("--log-level", "loud")):
            done = subprocess.run(
                [
                    sys.executable,
                    *("-c", "from twisted.scripts.twistd import run; run()"),
                    *("-n", "scst-iscsi", "--device", "d=memory:size=1M", *options),
                ],
                cwd=self.directory,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn("expected", done.stdout + done.stderr)


class LiveTests(Connected):
    """
    The attribute log_levels.
    """

    async def test_live(self) -> None:
        """It acts at once, is read back, and is saved."""
        client, tree = await self.connected()
        file = io.StringIO()
        write = observer(file, "text", tree.system.levels)
        globalLogPublisher.addObserver(write)
        self.addCleanup(globalLogPublisher.removeObserver, write)
        log = Logger("scstd.scsi.x")
        log.debug("line-1")
        await client.write("log_levels", "scstd.scsi=debug")
        log.debug("line-2")
        self.assertEqual(tree.read("log_levels"), "scstd.scsi=debug\n[key]\n")
        await client.write("log_levels", "")
        log.debug("line-3")
        self.assertEqual(re.findall("line-.", file.getvalue()), ["line-2"])
        with self.assertRaises(FailedError):
            await client.write("log_levels", "scstd.scsi=loud")
