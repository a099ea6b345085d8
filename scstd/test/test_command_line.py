# SPDX-License-Identifier: MIT
"""
Tests for `scstd.tap`, `scstd.service` and `scstd.management.console.console`: the command itself,
as a process.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

import scstd
from scstd.tap import Options
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
            # With workers what `get` returns comes later, and is no dict before.
            size = "luns()" if server.workers else 'get("devices/d0")["current_size"]'
            said = self.ssh(port, "key", "ls()", size, "tasks()")
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
