# SPDX-License-Identifier: MIT
"""
A service with its console on a free port, for tests with ssh, sftp and sshfs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import scstd
from scstd.test.clients import need
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_docs import blocks

OPTIONS = "direct_io,dir_cache=no,sshfs_sync"
SSH = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
}


def joined(options: dict[str, str]) -> str:
    """
    Return options as ``-o`` takes them.
    """
    return ",".join(f"{name}={value}" for name, value in options.items())


class Mounting(unittest.TestCase):
    """
    A case with a directory, a key and a service.
    """

    def setUp(self) -> None:
        """Have a directory with a key."""
        need("ssh", "ssh-keygen", "sftp", "iscsi-inq")
        self.directory = Path(f"_sftp_{os.getpid()}_{self._testMethodName}").absolute()
        self.directory.mkdir()
        self.addCleanup(shutil.rmtree, self.directory)
        self.sh("ssh-keygen -q -t ed25519 -N '' -f key")

    def sh(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script that has to succeed."""
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=self.directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}{done.stderr}")
        return done

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Serve something, with the console on a free port: `self.port`."""
        with Server(
            *("--device", "d0=memory:size=1M"),
            *("--manhole", "127.0.0.1:0", "--manhole-keys", "key.pub"),
            directory=str(self.directory),
            wait_for="the console listens on",
        ) as server:
            self.port = server.lines[-1].rpartition(":")[2].strip()
            yield server

    def page(self, name: str) -> list[str]:
        """
        Return what a page of doc/ has for a shell; skip where nothing can be mounted.
        """
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise unittest.SkipTest("no /dev/fuse: nothing can be mounted here")
        need("sshfs", "fusermount3")
        page = Path(scstd.__file__).parents[1] / "doc" / name
        if not page.exists():
            raise unittest.SkipTest("not run from a checkout")
        return blocks(page, "shell")

    def here(self, command: str) -> str:
        """
        Return a page's command with our port, key and options.
        """
        self.assertIn(OPTIONS, command)
        for of_page, of_us in (
            ("-p 2222", f"-p {self.port} -o IdentityFile={self.directory}/key"),
            ("192.0.2.1", "127.0.0.1"),
            (",no_contain_symlinks", f",no_contain_symlinks,{joined(SSH)}"),
        ):
            self.assertIn(of_page, command)
            command = command.replace(of_page, of_us)
        if "no_contain_symlinks" not in self.sh("sshfs -h 2>&1 || true").stdout:
            # An older one lets every link through, and does not know the word.
            command = command.replace("no_contain_symlinks,", "")
        return command

    def mount(self, command: str) -> str:
        """
        Run a command that mounts something; return what it says.
        """
        try:
            return self.sh(command).stdout
        except AssertionError as error:
            # A container may have the device and still not be let mount anything.
            said = str(error)
            denied = "mount failed" in said or "unshare failed" in said
            if denied and os.environ.get("CI") != "true":
                raise unittest.SkipTest(str(error)) from error
            raise
