# SPDX-License-Identifier: MIT
"""
Tests for the service as a service manager sees it: notifications, sockets that are
handed over, unit files.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

import scstd
from scstd.initiator.blocking import BlockingSession
from scstd.management.config.reading import read
from scstd.management.model.configuration import Configuration
from scstd.management.state.state import StateDirectory
from scstd.process.service_manager import Notifier
from scstd.service import Settings, SystemService
from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE

CONTRIB = Path(scstd.__file__).parents[1] / "contrib"

_TWISTD = "from twisted.scripts.twistd import run; run()"

_SCSTADMIN = "from scstd.management.cli.scstadmin import entry; entry()"


def reload_command() -> list[str]:
    """
    Return the unit's ExecReload, for the file of the tests.
    """
    text = (CONTRIB / "systemd" / "scstd.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"(?m)^ExecReload=(.*)$", text)
    return str(command).replace("/etc/scst.conf", "scst.conf").split()


CONFIGURATION = """\
HANDLER memory {
    DEVICE d {
        size 1M
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    portal systemd:domain=INET:index=0
    TARGET iqn.2026-11.org.scstd:service {
        enabled 1
        LUN 0 d
    }
}
"""


class Manager:
    """
    What a service manager is to a service: a datagram socket, and a listening one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.settimeout(PATIENCE)
        # An abstract address: a path in the test's directory may be too long.
        self.name = f"@scstd-{os.getpid()}-{id(self)}"
        self.told.bind("\0" + self.name[1:])
        self.portal = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """The URL of LUN 0."""
        host, port = self.portal.getsockname()
        return f"iscsi://{host}:{port}/iqn.2026-11.org.scstd:service/0"

    def start(
        self, *more: tuple[str, str], control: str = ""
    ) -> subprocess.Popen[bytes]:
        """
        Start the service as systemd does: the descriptor 3 listens, and LISTEN_PID is
        the process itself.
        """
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            " os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.execv(sys.executable, [sys.executable, '-c', *sys.argv[2:]])"
        )
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self.name,
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "scstd.socket",
            **dict(more),
        }
        number = self.portal.fileno()
        return subprocess.Popen(
            [
                *(sys.executable, "-c", code, str(number), _TWISTD),
                *("-n", "--pidfile=", "scst-iscsi", "--config", "scst.conf"),
                *("--state-dir", "state", "--control", control),
            ],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(number, 3),
        )

    def hear(self) -> dict[str, str]:
        """
        Return the next thing that we are told.
        """
        lines = self.told.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        """
        Close both sockets.
        """
        self.told.close()
        self.portal.close()


class ManagerTests(TestCase):
    """
    A service manager starts, reloads and stops the service.
    """

    timeout = 120

    def setUp(self) -> None:
        """Be a service manager."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        (self.directory / "scst.conf").write_text(CONFIGURATION)
        self.manager = Manager(self.directory)
        self.addCleanup(self.manager.close)

    def start(
        self, *more: tuple[str, str], control: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start the service."""
        process = self.manager.start(*more, control=control)

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def test_life(self) -> None:
        """It says when it serves, around a reload, and when it stops."""
        manager = self.manager
        process = self.start()
        self.assertEqual(
            manager.hear(),
            {"READY": "1", "STATUS": "Serving 1 devices by 1 targets"},
        )
        session = BlockingSession(manager.url, 1)
        self.assertEqual(session.read(0, 1), bytes(512))
        session.socket.close()

        process.send_signal(signal.SIGHUP)
        told = manager.hear()
        self.assertEqual(told["RELOADING"], "1")
        self.assertGreater(int(told["MONOTONIC_USEC"]), 0)
        self.assertEqual(manager.hear()["READY"], "1")

        (self.directory / "scst.conf").write_text("HANDLER nothing {\n")
        process.send_signal(signal.SIGHUP)
        self.assertEqual(manager.hear()["RELOADING"], "1")
        told = manager.hear()
        self.assertEqual(told["READY"], "1")
        self.assertIn("not reloaded: ", told["STATUS"])

        process.send_signal(signal.SIGTERM)
        self.assertEqual(manager.hear()["STOPPING"], "1")
        process.communicate(timeout=PATIENCE)

    def test_changed(self) -> None:
        """It says what is served when that was changed, also by the unit's reload."""
        self.start(control="control")
        self.manager.hear()
        path = self.directory / "scst.conf"
        path.write_text(CONFIGURATION.replace("TARGET_DRIVER", "HANDLER memory {\n"
                        "DEVICE e {\nsize 1M\n}\n}\nTARGET_DRIVER", 1))  # fmt: skip
        for text, status, served in (
            (path.read_text(), 0, {"Serving 2 devices by 1 targets"}),
            ("HANDLER nothing {\n", 1, set()),
            (CONFIGURATION, 0, {"Serving 1 devices by 1 targets"}),
        ):
            path.write_text(text)
            done = subprocess.run(
                [sys.executable, "-c", _SCSTADMIN, *reload_command()[1:]],
                cwd=self.directory,
                env={**os.environ, "SCSTD_CONTROL": "control"},
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual(done.returncode, status, done.stderr)
            if served:
                # Of the device, and of the configuration.
                said = {self.manager.hear()["STATUS"] for _each in range(2)}
                self.assertEqual(said, served)

    def test_again(self) -> None:
        """
        An initiator that comes while the service is started again is served: the socket
        is the manager's.
        """
        manager = self.manager
        process = self.start()
        manager.hear()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(manager.hear()["STOPPING"], "1")
        early = socket.create_connection(manager.portal.getsockname(), 10)
        self.addCleanup(early.close)
        self.start()
        session = BlockingSession(manager.url, 1)
        self.assertEqual(session.read(0, 1), bytes(512))
        session.socket.close()

    def test_watchdog(self) -> None:
        """It says that it is alive, if that is asked for."""
        self.start(("WATCHDOG_USEC", "100000"))
        self.assertIn("READY", self.manager.hear())
        for _each in range(3):
            self.assertEqual(self.manager.hear(), {"WATCHDOG": "1"})

    def test_no_socket(self) -> None:
        """A socket that is not handed over is missed by name."""
        self.start(("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", ""))
        told = self.manager.hear()
        self.assertIn("systemd:domain=INET:index=0", told["STATUS"])
        self.assertIn("not handed over such a socket", told["STATUS"])

    def test_not_started(self) -> None:
        """What cannot start says why, and never that it is ready."""
        path = self.directory / "scst.conf"
        path.write_text(CONFIGURATION.replace("memory", "vdisk_fileio", 1))
        path.write_text(path.read_text().replace("size 1M", "filename /no/such/file"))
        process = self.start()
        told = self.manager.hear()
        self.assertEqual(list(told), ["STATUS"])
        self.assertIn("/no/such/file", told["STATUS"])
        # It is the last word, too.
        self.assertEqual(self.manager.hear(), {"STOPPING": "1", **told})
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1)

    def test_mistaken(self) -> None:
        """A file with mistakes is the last word, too, and nothing else is said."""
        (self.directory / "scst.conf").write_text("HANDLER memory {\n DEVIC x\n")
        process = self.start()
        told = self.manager.hear()
        self.assertEqual(list(told), ["STATUS"])
        self.assertRegex(told["STATUS"], "^scst.conf:1:16: .*; scst.conf:2:2: 'DEVIC'")
        output, _nothing = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, output.count(b"\n")), (1, 2), output)

    def test_useless(self) -> None:
        """So is a file that is not there, and one that has nothing to serve."""
        path = self.directory / "scst.conf"
        for text, why in (("", "nothing to serve"), (None, "No such file")):
            path.unlink() if text is None else path.write_text(text)
            process = self.start()
            self.assertIn(f"scst.conf: {why}", self.manager.hear()["STATUS"])
            output, _nothing = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, output.count(b"\n")), (1, 1), output)


class StoppingTests(SynchronousTestCase):
    """
    A service that is not running, or not any more.
    """

    def test_reload(self) -> None:
        """A reload while it stops is none of the service manager's business."""
        state = StateDirectory(Path(self.mktemp()))
        service = SystemService(Settings(Configuration(), {}, state), Clock())
        told: list[str] = []
        self.patch(Notifier, "tell", lambda _self, *lines: told.append(lines[0]))
        for running in (False, True):
            service.running = running
            service.reload()
            self.assertEqual(told, ["RELOADING=1", "READY=1"] if running else [])


class NotifierTests(SynchronousTestCase):
    """
    Who is told.
    """

    def test_long(self) -> None:
        """What is too long for a datagram of systemd's, 4096 bytes, is cut."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            name = f"scstd-{os.getpid()}-{id(self)}"
            manager.bind(f"\0{name}")
            Notifier(f"@{name}").ready("\U0001f4be" * 5000 + "\udcff")
            told = manager.recv(65536)
        self.assertLess(len(told), 4096)
        self.assertRegex(told.decode(), "^READY=1\nSTATUS=.{900}\\.\\.\\.$")

    def test_environment(self) -> None:
        """The variables are for us alone: children do not get them."""
        environment = {
            "NOTIFY_SOCKET": "/there",
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
            "HOME": "/",
        }
        found = Notifier.of(environment)
        self.assertEqual((found.address, found.interval), ("/there", 1.5))
        self.assertEqual(environment, {"HOME": "/"})

    def test_not_ours(self) -> None:
        """A watchdog of another process, and nonsense, are not ours."""
        for pid, interval in (
            ("1", "3000000"),
            ("", "often"),
            ("", "9" * 400),
            ("", "9" * 5000),
            ("", "-1"),
            ("", "0"),
        ):
            environment = {"WATCHDOG_USEC": interval, "WATCHDOG_PID": pid}
            self.assertEqual(Notifier.of(environment).interval, 0.0)

    def test_hurry(self) -> None:
        """A watchdog that wants to hear of us all the time leaves us time to work."""
        found = Notifier.of({"WATCHDOG_USEC": "1"})
        self.assertGreaterEqual(found.interval, 0.01)

    def test_no_text(self) -> None:
        """What has no form in UTF-8, as a file's name may, is told nevertheless."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0scstd-test-{os.getpid()}")
            Notifier(f"@scstd-test-{os.getpid()}").status("\udcff is missing")
            self.assertEqual(manager.recv(100), b"STATUS=? is missing")

    def test_nobody(self) -> None:
        """Without a manager, or with one that is gone, nothing happens."""
        clock = Clock()
        Notifier().ready("here")
        nobody = Notifier("@scstd-nobody-is-here", 1.0)
        nobody.watch(clock)
        clock.advance(5)
        nobody.stopping("gone")
        self.assertEqual(clock.getDelayedCalls(), [])


class UnitFileTests(TestCase):
    """
    The files of contrib/ are right.
    """

    def setUp(self) -> None:
        """Be in a checkout."""
        if not CONTRIB.exists():
            self.skipTest("not run from a checkout")

    def test_example(self) -> None:
        """The example scst.conf has no mistakes, also with what is commented out."""
        text = (CONTRIB / "scst.conf").read_text(encoding="utf-8")
        self.assertEqual(len(read(text, "scst.conf").devices), 1)
        whole = re.sub(
            r"(?m)^( *)# ( *(DEVICE|filename|}|LUN|portal|Inc).*)", r"\1\2", text
        )
        found = read(whole, "scst.conf")
        self.assertEqual(len(found.devices), 2)
        self.assertEqual(len(found.drivers[0].values["portal"]), 2)

    def test_verified(self) -> None:
        """The service manager itself finds nothing wrong with the unit files."""
        need("systemd-analyze")
        program = find("systemd-analyze")
        assert program is not None
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for name in ("scstd.service", "scstd.socket"):
            text = (CONTRIB / "systemd" / name).read_text(encoding="utf-8")
            # The programs need not be installed where the tests run.
            text = re.sub(
                r"(?m)^(Exec\w+=)/usr/bin/(twistd|scstadmin)", r"\1/bin/true", text
            )
            (directory / name).write_text(text)
        done = subprocess.run(
            [program, "verify", "--man=no", "scstd.service", "scstd.socket"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_command(self) -> None:
        """The command line of the unit file is one that twistd understands."""
        text = (CONTRIB / "systemd" / "scstd.service").read_text(encoding="utf-8")
        (command,) = re.findall(r"(?m)^ExecStart=(.*)$", text)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "scst.conf").write_text(CONFIGURATION.replace("portal", "# "))
        words: list[Any] = command.replace("/etc/scst.conf", "scst.conf").split()[1:]
        words += ["--state-dir", "state", "--listen", "127.0.0.1:0", "--run", "true"]
        done = subprocess.run(
            [sys.executable, "-c", _TWISTD, *words],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_user(self) -> None:
        """The service's user is the one that sysusers makes."""
        unit = (CONTRIB / "systemd" / "scstd.service").read_text(encoding="utf-8")
        users = (CONTRIB / "systemd" / "scstd.sysusers.conf").read_text(
            encoding="utf-8"
        )
        (user,) = re.findall(r"(?m)^User=(\w+)$", unit)
        (made,) = re.findall(r"(?m)^u (\w+) ", users)
        self.assertEqual(user, made)
