# SPDX-License-Identifier: MIT
"""
Tests for `scstd.service` in somebody else's process, and for `scstd.process.run_command`.
"""

from __future__ import annotations

import atexit
import os
import pwd
import signal
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.blocking import BlockingSession
from scstd.management.cli.tools import socket_path
from scstd.management.config.applying import Configurator
from scstd.management.control.commands import FailedError
from scstd.management.paths import default_directory, default_socket
from scstd.process import run_command
from scstd.process.run_command import RunCommand
from scstd.service import SystemService, make_service
from scstd.tap import Options, check_user
from scstd.test.serving import PATIENCE

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def read(url: str) -> bytes:
    """
    Return the first block of a LUN.
    """
    session = BlockingSession(url, 1)
    try:
        return session.read(0, 1)
    finally:
        session.close()


class EmbeddingTests(TestCase):
    """
    The service as a part of a process that has other things to do.
    """

    def setUp(self) -> None:
        """See what the process has, and who is to do something at its end."""
        leaving: list[Any] = []
        self.patch(atexit, "register", leaving.append)
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": "@nobody-is-here"})
        handlers = [signal.getsignal(one) for one in SIGNALS]

        def same() -> None:
            self.assertEqual([signal.getsignal(one) for one in SIGNALS], handlers)
            self.assertEqual(leaving, [])
            self.assertEqual(os.environ["NOTIFY_SOCKET"], "@nobody-is-here")

        self.addCleanup(same)

    def service(self, *words: str) -> SystemService:
        """Return a service that has not been started."""
        options = Options()
        options.parseOptions(["--listen", "127.0.0.1:0", *words])
        (found,) = make_service(options["settings"], reactor)
        assert isinstance(found, SystemService)
        return found

    async def test_served(self) -> None:
        """It starts, serves and stops, more than once in a process."""
        for _time in range(2):
            one = self.service("--device", "d=memory:size=1M", "--state-dir", "")
            before = one.whenStarted()
            one.startService()
            (url,) = await one.whenStarted()
            self.assertEqual(await before, [url])
            self.assertEqual(await deferToThread(read, url), bytes(512))
            await one.stopService()

    async def test_failed(self) -> None:
        """
        Whoever asks why it cannot start is told, before and after; nobody's process
        ends, and what was opened is closed.
        """
        one = self.service("missing.img", "--state-dir", "")
        before = one.whenStarted()
        one.startService()
        for asked in (before, one.whenStarted(), one.whenStarted()):
            error = await self.assertFailure(asked, ConfigurationError)
            self.assertIn("missing.img does not exist", str(error))
        await one.stopService()
        self.assertFalse(one.settings.state.path.exists())

    async def test_failed_otherwise(self) -> None:
        """So is who meets a fault of ours, and nothing is logged as unexpected."""
        one = self.service("--device", "d=memory:size=1M", "--state-dir", "")

        async def start(*_arguments: Any) -> None:
            raise RuntimeError("a fault")

        self.patch(Configurator, "start", start)
        one.startService()
        error = await self.assertFailure(one.whenStarted(), RuntimeError)
        self.assertEqual(str(error), "a fault")
        await one.stopService()

    async def test_not_looked_at(self) -> None:
        """Who does not look may stop it nevertheless, and hears no more of it."""
        one = self.service("missing.img", "--state-dir", "")
        one.startService()
        await one.stopService()

    async def test_run(self) -> None:
        """The end of the command of --run is told; the service goes on."""
        one = self.service("--device", "d=memory:size=1M", "--run", "exit 3")
        done = one.whenDone()
        one.startService()
        (url,) = await one.whenStarted()
        self.assertEqual(await done, 3)
        # Who asks when it has ended is told, too.
        self.assertEqual(await one.whenDone(), 3)
        self.assertEqual(await deferToThread(read, url), bytes(512))
        await one.stopService()

    async def test_temporary(self) -> None:
        """A temporary state directory is there while it is served, and then gone."""
        for words in (("--state-dir", ""), ("--run", "true")):
            one = self.service("--device", "d=memory:size=1M", *words)
            path = one.settings.state.path
            self.assertFalse(path.exists())
            one.startService()
            await one.whenStarted()
            self.assertEqual(len(list(path.glob("devices/*.json"))), 1)
            self.assertEqual(path.stat().st_mode & 0o777, 0o700)
            await one.stopService()
            self.assertFalse(path.exists())

    async def test_temporary_not_had(self) -> None:
        """Without a place for temporary files the reason is one line."""
        self.patch(tempfile, "tempdir", "/proc")
        one = self.service("--device", "d=memory:size=1M", "--state-dir", "")
        one.startService()
        error = await self.assertFailure(one.whenStarted(), ConfigurationError)
        self.assertIn("choose one with --state-dir", str(error))
        await one.stopService()


class CommandTests(TestCase):
    """
    What --run starts.
    """

    def setUp(self) -> None:
        """Have a pipe for what the command says."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def run_here(self, text: str) -> RunCommand:
        """Run a command."""
        one = RunCommand(reactor)
        one.start(text, {"HERE": str(self.directory)})
        return one

    async def said(self, name: str) -> str:
        """Return what a file says, when it is there."""
        path = self.directory / name
        while not path.exists() or not path.read_text():
            await deferLater(reactor, 0.01)
        return path.read_text().strip()

    async def test_status(self) -> None:
        """Its status is that of a shell."""
        for text, status in (
            ("true", 0),
            ("exit 7", 7),
            ("nosuchprogram-of-ours 2>/dev/null", 127),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
            # What Python ignores is not ignored.
            ("kill -PIPE $$", 141),
        ):
            one = self.run_here(text)
            self.assertEqual(await one.ended, status, text)
            await one.stop()

    async def test_whole(self) -> None:
        """All that it has started goes with it, also what outlives it."""
        self.patch(run_command, "GRACE", float(PATIENCE))
        text = (
            "sh -c 'sleep 3600 & echo $! >$HERE/child; mv $HERE/child $HERE/pid;"
            " %s' & %s"
        )
        for inner, outer in (("wait", "wait"), ("wait", "exit 3"), ("exit", "exit 3")):
            one = self.run_here(text % (inner, outer))
            number = int(await self.said("pid"))
            os.kill(number, 0)
            await one.stop()
            self.assertEqual(await one.ended, 143 if outer == "wait" else 3)
            self.assertTrue(await self.over(number))
            (self.directory / "pid").unlink()

    async def over(self, number: int) -> bool:
        """Wait until a process has ended; one that nobody has waited for has, too."""
        while True:
            try:
                stat = Path(f"/proc/{number}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return True
            if stat.rpartition(")")[2].split()[0] == "Z":
                return True
            await deferLater(reactor, 0.01)

    async def test_stubborn(self) -> None:
        """What does not listen is killed after a while."""
        self.patch(run_command, "GRACE", 0.2)
        one = self.run_here(
            "trap '' TERM INT; (trap '' TERM; echo $$ >$HERE/pid; sleep 3600;"
            " sleep 3600) & while :; do sleep 3600; done"
        )
        await self.said("pid")
        await one.stop(signal.SIGINT)
        self.assertEqual(await one.ended, 137)

    async def test_told(self) -> None:
        """Ctrl-C reaches it as what it is, and it may end in its own way."""
        self.patch(run_command, "GRACE", float(PATIENCE))
        one = self.run_here(
            "trap 'exit 5' INT; echo $$ >$HERE/pid; while :; do sleep 0.01; done"
        )
        await self.said("pid")
        await one.stop(signal.SIGINT)
        self.assertEqual(await one.ended, 5)

    async def test_files(self) -> None:
        """It has the standard files and no other, not even what a child would have."""
        ours, others = os.pipe()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, others)
        os.set_inheritable(others, True)
        one = self.run_here("ls /proc/$$/fd | tr '\\n' ' ' >$HERE/fds")
        self.assertEqual(await one.ended, 0)
        numbers = [int(word) for word in (await self.said("fds")).split()]
        self.assertNotIn(others, numbers)


class HomeTests(SynchronousTestCase):
    """
    A user without a home: a number that passwd does not know, no HOME.
    """

    def setUp(self) -> None:
        """Be that user."""
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.patch(os, "geteuid", lambda: 54321)

        def unknown(number: int) -> None:
            raise KeyError(number)

        self.patch(pwd, "getpwuid", unknown)

    def parsed(self, *words: str) -> Any:
        """Return the settings of a command line."""
        options = Options()
        options.parseOptions(["--device", "d=memory:size=1M", *words])
        return options["settings"]

    def test_service(self) -> None:
        """The service names the option that is needed, in one line."""
        error = self.assertRaises(UsageError, self.parsed)
        self.assertIn("--state-dir", str(error))
        self.assertNotIn("\n", str(error))

    def test_not_needed(self) -> None:
        """With another place for state, or none, there is nothing to say."""
        self.assertEqual(str(self.parsed("--state-dir", "s").state.path), "s")
        self.assertTrue(self.parsed("--state-dir", "").temporary)
        self.assertTrue(self.parsed("--run", "true").temporary)
        self.assertFalse(self.parsed("--run", "true", "--state-dir", "s").temporary)
        os.environ["HOME"] = "/h"
        self.assertEqual(default_directory(), Path("/h/.local/state/scstd"))

    def test_tool(self) -> None:
        """A tool says how the control socket can be named."""
        error = self.assertRaises(FailedError, socket_path, None)
        self.assertIn("-socket or SCSTD_CONTROL", str(error))
        os.environ["SCSTD_CONTROL"] = "c"
        self.assertEqual(socket_path(None), Path("c"))
        self.assertRaises(ConfigurationError, default_socket)

    def test_empty_home(self) -> None:
        """An empty HOME is none: no directory is meant by it."""
        os.environ["HOME"] = ""
        self.assertRaises(ConfigurationError, default_directory)

    def test_user_of_twistd(self) -> None:
        """Twistd's --uid of a number that passwd does not know is refused in a line."""
        error = self.assertRaises(ConfigurationError, check_user, {"uid": 54321})
        self.assertIn("--uid 54321", str(error))
        check_user({"uid": None})


class UsageTests(SynchronousTestCase):
    """
    Options that make no sense.
    """

    def refused(self, *words: str, parent: Any = None) -> Any:
        """Return why a command line is refused."""
        options = Options()
        options.parent = parent
        kind = UsageError if parent is None else SystemExit
        return self.assertRaises(kind, options.parseOptions, list(words))

    def test_meant(self) -> None:
        """A mistyped option is answered with the one that was meant."""
        for words, why in (
            (("--devise", "d=memory:size=1M"), "did you mean --device?"),
            (("--statedir", "s"), "did you mean --state-dir?"),
            (("--qqqq",), "there is no option --qqqq; --help lists them"),
            (("--config",), "requires argument"),
            (("-q",), "there is no option -q"),
        ):
            self.assertIn(why, str(self.refused(*words)))

    def test_of_twistd(self) -> None:
        """An option of twistd's own is told its place."""
        from twisted.scripts._twistd_unix import ServerOptions  # noqa: PLC0415

        for option in ("--nodaemon", "-n", "--pidfile=x"):
            why = self.refused(option, "d.img", parent=ServerOptions()).code
            self.assertIn("is an option of twistd itself: it comes before", why)

    def test_one_line(self) -> None:
        """Under twistd one line is all there is; others get the usual exception."""
        for words in ((), ("--qqqq",), ("--device", "d"), ("--listen", "x", "d.img")):
            why = self.refused(*words, parent={}).code
            self.assertEqual(why.count("\n"), 0, why)
            self.assertEqual(str(self.refused(*words)), why)
