# SPDX-License-Identifier: MIT
"""
Tests for `scstd.tap`, `scstd.service` and `scstd.management.console.console`: the command itself,
as a process.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

import scstd
from scstd.attributes import ConfigurationError
from scstd.management.model.portals import endpoints, listening
from scstd.tap import Options, more_files, split_device
from scstd.test.clients import need
from scstd.test.serving import PATIENCE, Server

_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")

_HEEDS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


def twistd(*options: str, directory: str) -> subprocess.CompletedProcess[str]:
    """
    Run ``twistd -n scst-iscsi`` to its end.
    """
    return subprocess.run(
        [*_TWISTD, "-n", "--pidfile=", "scst-iscsi", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class OptionsTests(SynchronousTestCase):
    """
    What a person may type.
    """

    def parsed(self, *words: str) -> Options:
        """Parse a command line."""
        options = Options()
        options.parseOptions(list(words))
        return options

    def refused(self, *words: str) -> str:
        """Return why a command line is refused."""
        return str(self.assertRaises(UsageError, self.parsed, *words))

    def test_devices(self) -> None:
        """Devices become LUN 0, 1, ... of one enabled target, files after them."""
        found = self.parsed(
            "--device",
            "d0=memory:size=64M",
            "--device",
            "d1=vdisk_nullio",
            "--target",
            "iqn.2026-11.org.scstd:t",
            "some.img",
        )["settings"].configuration
        (target,) = found.drivers[0].targets
        self.assertEqual(
            [(one.lun, one.device) for one in target.luns],
            [(0, "d0"), (1, "d1"), (2, "some")],
        )
        self.assertTrue(target.values["enabled"] and found.drivers[0].values["enabled"])
        self.assertEqual(found.devices[2].values["filename"], "some.img")

    def test_escapes(self) -> None:
        """A backslash takes a colon's meaning away, as in endpoint strings."""
        self.assertEqual(
            split_device(r"d=vdisk_fileio:filename=a\:b\\c:read_only:size=1G"),
            (
                "d",
                "vdisk_fileio",
                [("filename", r"a:b\c"), ("read_only", "1"), ("size", "1G")],
            ),
        )

    def test_endpoints(self) -> None:
        """Addresses become endpoint strings; endpoint strings stay what they are."""
        for where, expected in (
            ("127.0.0.1:3260", "tcp:3260:interface=127.0.0.1"),
            ("[::1]:0", r"tcp6:0:interface=\:\:1"),
            (":3260", "tcp:3260"),
            ("*:3260", "tcp:3260"),
            ("localhost:99", "tcp:99:interface=localhost"),
            ("tcp:3260:backlog=5", "tcp:3260:backlog=5"),
            ("unix:/run/x", "unix:/run/x"),
        ):
            self.assertEqual(endpoints(where), expected)
        for where in ("127.0.0.1", "host:70000", "::1:3260", "[::1]"):
            self.assertRaises(ConfigurationError, endpoints, where)

    def test_listening(self) -> None:
        """Where it listens is shown as a person may write it."""
        for address, shown in (
            (IPv4Address("TCP", "127.0.0.1", 3260), "127.0.0.1:3260"),
            (IPv6Address("TCP", "::1", 3260), "[::1]:3260"),
        ):
            self.assertEqual(listening(address), shown)
            endpoints(shown)

    def test_default_endpoint(self) -> None:
        """Without a configuration file only this machine is let in."""
        settings = self.parsed("--device", "d=memory:size=1M")["settings"]
        self.assertEqual(
            (settings.listen, settings.default["iscsi"]),
            ({}, ["tcp:3260:interface=127.0.0.1"]),
        )
        path = self.mktemp()
        Path(path).write_text("TARGET_DRIVER iscsi {\n enabled 1\n}\n")
        (where,) = self.parsed("--config", path)["settings"].default["iscsi"]
        self.assertIn("3260", where)
        self.assertNotIn("127.0.0.1", where)

    def test_listen_driver(self) -> None:
        """--listen names the driver that is meant, or means the default one."""
        words = ("--device", "d=memory:size=1M", "--listen")
        for given in ("127.0.0.1:99", "iscsi=127.0.0.1:99", "iscsi=tcp:99"):
            settings = self.parsed(*words, given)["settings"]
            self.assertEqual(list(settings.listen), ["iscsi"])
            (where,) = settings.listen["iscsi"]
            self.assertTrue(where.startswith("tcp:99"), where)

    def test_state_keys(self) -> None:
        """Devices of one name for different files are different devices."""
        keys = {
            self.parsed("--device", f"d=vdisk_fileio:filename={name}:size=1M")[
                "settings"
            ]
            .configuration.devices[0]
            .state_key
            for name in ("a.img", "b.img", "./a.img")
        }
        self.assertEqual(len(keys), 2)

    def test_order(self) -> None:
        """Options may stand behind files, and a file may be named like an option."""
        path = self.mktemp()
        Path(path).touch()
        for words in (
            (path, "--target", "iqn.2026-01.org.x:t", "-l", "127.0.0.1:99"),
            ("--target=iqn.2026-01.org.x:t", path, "--listen=127.0.0.1:99"),
        ):
            options = self.parsed(*words)
            self.assertEqual(options["files"], [path])
            self.assertEqual(options["target"], "iqn.2026-01.org.x:t")
            self.assertEqual(options["listen"], ["127.0.0.1:99"])
        self.assertEqual(self.parsed("--", "--target")["files"], ["--target"])
        self.assertIn("--nosuch", self.refused(path, "--nosuch"))

    def test_help(self) -> None:
        """Help is told without holes, and examples as a person would type them."""
        shown = Options().getUsage(80)
        self.assertIn("\n  twistd -n scst-iscsi disk.img\n", shown)
        self.assertNotRegex(shown, r"in {2,}this order")

    def test_more_files(self) -> None:
        """The process may have more open files than shells usually allow."""
        limits = [(1024, 4096), (1024, resource.RLIM_INFINITY), (70000, 90000)]
        given: list[tuple[int, tuple[int, int]]] = []
        self.patch(resource, "getrlimit", lambda _which: limits.pop(0))
        self.patch(resource, "setrlimit", lambda *what: given.append(what))
        while limits:
            more_files()
        self.assertEqual(
            [limit for _which, limit in given],
            [(4096, 4096), (65536, resource.RLIM_INFINITY)],
        )

    def test_refused(self) -> None:
        """What makes no sense is refused in one line."""
        for words, why in (
            ((), "nothing to serve"),
            (("--device", "d0"), "expected NAME=HANDLER"),
            (("--device", "d0=nosuch"), "unknown device handler 'nosuch'"),
            (("--device", "d0=memory"), "'size' is missing"),
            (("--device", "d0=memory:sice=1M"), "did you mean 'size'?"),
            (("--device", "d0=memory:size=1Q"), "expected a number of bytes"),
            (("--device", "d=memory:size=1M", "--device", "d=vdisk_nullio"), "two"),
            (("--device", "d=memory:size=1M", "--target", "x"), "no iSCSI name"),
            (("--device", "d=memory:size=1M", "--listen", "x"), "ADDRESS:PORT"),
            (
                ("--device", "d=memory:size=1M", "--listen", "iscsy=:1"),
                "did you mean 'iscsi'?",
            ),
            (
                ("--device", "d=memory:size=1M", "--driver", "iscsy"),
                "did you mean 'iscsi'?",
            ),
            (("--device", "d=memory:size=1M", "--manhole", ":22"), "no password"),
            (("\udcff.img",), "expected UTF-8"),
            (("--device", "d=vdisk_fileio:filename=\udcff"), "expected UTF-8"),
            (("--config", "x", "disk.img"), "no --device"),
        ):
            self.assertIn(why, self.refused(*words), words)


class CommandTests(TestCase):
    """
    The command as a process.
    """

    def setUp(self) -> None:
        """Make a directory to run in."""
        self.directory = os.path.abspath(self.mktemp())  # noqa: PTH100
        Path(self.directory).mkdir()

    def run_here(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the command with a state directory of its own, on a free port."""
        return twistd(
            "--state-dir",
            "state",
            "--listen",
            "127.0.0.1:0",
            *options,
            directory=self.directory,
        )

    def test_lists(self) -> None:
        """--list-… and --version print and end."""
        for option, words in (
            ("--list-handlers", ("vdisk_fileio: ", "    filename ", "memory: ")),
            ("--list-filters", ("delay: ", "    read ")),
            ("--list-drivers", ("iscsi: ", "    QueuedCommands ")),
            ("--version", (f"scstd {scstd.__version__}",)),
            ("--help", ("--device", "--run", "disk.img")),
        ):
            done = twistd(option, directory=self.directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            for word in words:
                self.assertIn(word, done.stdout)

    def test_run(self) -> None:
        """--run serves, runs, and ends with the command's status."""
        command = 'test "$SCSTD_URLS" = "$SCSTD_URL" && echo "<$SCSTD_PORTAL>"; exit 7'
        done = self.run_here("--device", "d=memory:size=1M", "--run", command)
        self.assertEqual(done.returncode, 7, done.stdout + done.stderr)
        # Standard output is the command's alone.
        self.assertRegex(done.stdout, r"^<127\.0\.0\.1:\d+>\n$")
        self.assertRegex(done.stderr, r"iscsi://127\.0\.0\.1:\d+/iqn\.[^/]+/0\n")

    def test_run_without_targets(self) -> None:
        """SCSTD_PORTAL is there without a LUN, and in brackets for IPv6."""
        text = "TARGET_DRIVER iscsi {\n enabled 1\n}\n"
        Path(self.directory, "scst.conf").write_text(text)
        command = 'echo "<$SCSTD_PORTAL><$SCSTD_URL>"'
        for listen, shown in (
            ("127.0.0.1:0", r"<127\.0\.0\.1:\d+><>\n"),
            ("0.0.0.0:0", r"<127\.0\.0\.1:\d+><>\n"),
            ("[::1]:0", r"<\[::1\]:\d+><>\n"),
        ):
            done = twistd(
                *("--config", "scst.conf", "--listen", listen, "--run", command),
                directory=self.directory,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, f"^{shown}$")

    def test_keep_going(self) -> None:
        """With --keep-going what cannot be opened breaks its LUN alone, and is named."""
        text = (
            "HANDLER memory {\n DEVICE good {\n  size 1M\n }\n}\nHANDLER vdisk_fileio {\n"
            " DEVICE gone {\n  filename /no/such/file\n }\n}\nTARGET_DRIVER iscsi {\n"
            " enabled 1\n TARGET iqn.2026-11.org.scstd:t {\n  enabled 1\n  LUN 0 good\n"
            "  LUN 1 gone\n }\n}\n"
        )
        Path(self.directory, "scst.conf").write_text(text)
        tool = "from scstd.management.cli.scstadmin import entry; entry()"
        command = shlex.join([sys.executable, "-c", tool, "-list_device", "-json"])
        words = ("--config", "scst.conf", "--listen", "127.0.0.1:0", "--run", command)
        done = twistd(*words, directory=self.directory)
        self.assertEqual(done.returncode, 1)
        self.assertIn("device gone: /no/such/file", done.stdout + done.stderr)
        done = twistd("--keep-going", *words, directory=self.directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        states = {one["device"]: one["state"] for one in json.loads(done.stdout)}
        self.assertEqual(states["good"], "open")
        self.assertIn("missing: /no/such/file", states["gone"])
        self.assertIn("device gone is missing", done.stderr)

    def test_run_tool(self) -> None:
        """The command's tools find the service: nobody has to name its socket."""
        tool = "from scstd.management.cli.scstadmin import entry; entry()"
        command = shlex.join([sys.executable, "-c", tool, "-list_device", "-json"])
        done = twistd(
            *("--listen", "127.0.0.1:0", "--device", "d=memory:size=1M"),
            *("--run", command),
            directory=self.directory,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        (found,) = json.loads(done.stdout)
        self.assertEqual(found["device"], "d")

    def test_run_stopped(self) -> None:
        """
        A signal for us reaches the command and all that it has started, and the status
        is the command's.
        """
        for number, status in ((signal.SIGINT, 5), (signal.SIGTERM, 6)):
            command = (
                "trap 'exit 5' INT; trap 'exit 6' TERM; sleep 3600 & echo $!;"
                " while :; do sleep 0.01; done"
            )
            process = subprocess.Popen(
                [
                    # What a shell starts in the background would ignore SIGINT.
                    *(sys.executable, "-c", _HEEDS + _TWISTD[-1]),
                    *("-n", "--pidfile=", "scst-iscsi", "--listen", "127.0.0.1:0"),
                    *("--device", "d=memory:size=1M", "--run", command),
                ],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            child = int(process.stdout.readline())
            process.send_signal(number)
            _out, said = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, status, said)
            stat = Path(f"/proc/{child}/stat")
            self.assertTrue(not stat.exists() or " Z " in stat.read_text())

    def test_run_signal(self) -> None:
        """A command that a signal ends is reported as shells do."""
        done = self.run_here("--device", "d=memory:size=1M", "--run", "kill -9 $$")
        self.assertEqual(done.returncode, 137)

    def test_cannot_start(self) -> None:
        """What cannot start says so in one line, without a traceback, with status 1."""
        done = self.run_here("missing.img")
        self.assertEqual(done.returncode, 1)
        self.assertIn("missing.img does not exist", done.stdout)
        # One line of the kind, whatever else twistd says.
        self.assertEqual(done.stdout.count("missing.img"), 1)
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_usage(self) -> None:
        """Options that make no sense are answered in a line, and status 1."""
        for words in (("--devise", "x"), (), ("--device", "d=nosuch")):
            done = twistd(*words, directory=self.directory)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_mistake(self) -> None:
        """A mistake in the configuration file has its place, and no traceback."""
        Path(self.directory, "scst.conf").write_text("HANDLER memory {\n DEVIC x\n}\n")
        done = self.run_here("--config", "scst.conf")
        self.assertNotEqual(done.returncode, 0)
        self.assertTrue(done.stderr.startswith("scst.conf:2:2: 'DEVIC'"), done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_configuration(self) -> None:
        """A configuration file is served; what is not enabled is said."""
        text = (
            "HANDLER memory {\n DEVICE d { size 1M\n }\n}\n"
            "TARGET_DRIVER iscsi {\n enabled 1\n"
            " TARGET iqn.2026-11.org.scstd:on {\n enabled 1\n LUN 0 d\n }\n"
            " TARGET iqn.2026-11.org.scstd:off {\n LUN 0 d\n }\n}\n"
        )
        Path(self.directory, "scst.conf").write_text(text)
        done = self.run_here("--config", "scst.conf", "--run", 'echo "($SCSTD_URLS)"')
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"\(iscsi://\S+/iqn\.2026-11\.org\.scstd:on/0\)")
        self.assertIn("scstd:off is not enabled", done.stderr)

    def test_bare_file(self) -> None:
        """A file is served as it is; one that cannot be written is read-only."""
        Path(self.directory, "disk.img").write_bytes(bytes(1 << 20))
        with Server("disk.img", directory=self.directory) as server:
            self.assertTrue(server.url.endswith("/0"))

    def test_stopped(self) -> None:
        """SIGTERM stops it, and what was written is in the file."""
        need("qemu-io")
        path = Path(self.directory, "disk.img")
        path.write_bytes(bytes(1 << 20))
        with Server("disk.img", directory=self.directory) as server:
            done = subprocess.run(
                ["qemu-io", "-f", "raw", "-c", "write -P 0x5a 4096 8192", server.url],
                check=False,
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(PATIENCE)
            self.assertIn("Server Shut Down", server.log())
        self.assertEqual(path.read_bytes()[4096:12288], b"\x5a" * 8192)

    def test_stopped_twice(self) -> None:
        """
        A second signal has it end at once, whatever it waits for; of a temporary state
        directory nothing is left.
        """
        temporary = Path(self.directory, "tmp")
        temporary.mkdir()
        self.patch(os, "environ", {**os.environ, "TMPDIR": str(temporary)})
        with Server(
            "--device",
            "d=memory:size=1M:filter=delay flush=3600",
            *("--state-dir", ""),
            directory=self.directory,
        ) as server:
            for said in ("Received SIGTERM", "told to stop again"):
                server.process.send_signal(signal.SIGTERM)
                tries = threading.Event()
                while said not in server.log() and server.process.poll() is None:
                    tries.wait(0.01)
            server.process.wait(PATIENCE)
        self.assertIn("told to stop again", server.log())
        self.assertNotIn("Traceback", server.log())
        self.assertEqual(list(temporary.iterdir()), [])

    def test_manhole(self) -> None:
        """The console lets in who has the key, knows the objects, and nobody else."""
        need("ssh", "ssh-keygen")
        for name in ("key", "other"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name],
                cwd=self.directory,
                check=True,
            )
        with Server(
            "--device",
            "d0=memory:size=1M",
            "--manhole",
            "127.0.0.1:0",
            "--manhole-keys",
            "key.pub",
            directory=self.directory,
            wait_for="the console listens on",
        ) as server:
            port = server.lines[-1].rpartition(":")[2].strip()
            said = self.ssh(
                port, "key", "ls()", 'get("devices/d0")["current_size"]', "tasks()"
            )
            self.assertIn("'devices/d0'", said)
            self.assertIn("1048576", said)
            refused = self.ssh(port, "other", "ls()")
            self.assertNotIn("devices/d0", refused)
            self.assertIn("Permission denied", refused)

    def ssh(self, port: str, key: str, *lines: str) -> str:
        """Say something at the console; return what comes."""
        command = [
            "ssh",
            "-tt",
            "-p",
            port,
            "-i",
            key,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "anybody@127.0.0.1",
        ]
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        waiting = [f"{line}\r".encode() for line in lines] + [b"\x04"]
        # A line is said when there is a prompt for it: the last prompt is a new one.
        while piece := os.read(process.stdout.fileno(), 65536):
            said += piece
            if waiting and said.count(b">>> ") > len(lines) + 2 - len(waiting):
                process.stdin.write(waiting.pop(0))
                process.stdin.flush()
        process.wait(PATIENCE)
        timer.cancel()
        process.stdin.close()
        process.stdout.close()
        return said.decode(errors="replace")

    def test_make_run(self) -> None:
        """What `make run` starts is what the Makefile says it starts."""
        makefile = Path(scstd.__file__).parents[1] / "Makefile"
        if not makefile.exists():
            return
        done = subprocess.run(
            ["make", "-n", "-C", str(makefile.parent), "run"],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.replace("\\\n", " ").splitlines()
        words = shlex.split(next(line for line in lines if "scst-iscsi" in line))
        options = Options()
        options.parseOptions(words[words.index("scst-iscsi") + 1 :])
        settings = options["settings"]
        self.assertEqual(settings.listen, {"iscsi": ["tcp:3260:interface=127.0.0.1"]})
        self.assertEqual(settings.configuration.devices[0].values["size"], 1 << 30)
