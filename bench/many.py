# SPDX-License-Identifier: MIT
"""
A thousand sessions (`crowd`), and a thousand LUNs over a hundred targets: how long the
service takes to start, list, save and reload, and how much memory it has.

``python bench/many.py`` starts the service on a scratch directory, twice (the first
start makes identities), and runs the tools against it.  With ``--files`` each LUN is a
file; then all of them are written to and flushed at the same time, and the threads that
the service has are counted.
"""

from __future__ import annotations

import argparse
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import crowd
from peers import cpu_of_all, processes

from scstd.initiator.blocking import BlockingSession
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.test.test_neighbours import memory_of

TWISTD = "from twisted.scripts.twistd import run; run()"
ADMIN = "from scstd.management.cli.scstadmin import entry; entry()"


def configuration(targets: int, luns: int, *, files: bool = False) -> str:
    """
    Return the text of scst.conf: *luns* devices of their own for each target.
    """
    lines = [f"HANDLER {'vdisk_fileio' if files else 'vdisk_nullio'} {{"]
    for number in range(targets * luns):
        lines += [f"    DEVICE d{number} {{", "        size 4M"]
        lines += [f"        filename d{number}.img"] if files else []
        lines.append("    }")
    lines += ["}", "TARGET_DRIVER iscsi {", "    enabled 1"]
    for target in range(targets):
        lines += [f"    TARGET iqn.2026-11.org.scstd:t{target} {{", "        enabled 1"]
        lines += [f"        LUN {lun} d{target * luns + lun}" for lun in range(luns)]
        lines.append("    }")
    return "\n".join([*lines, "}", ""])


class Service:
    """
    The service, on a free port, with its state in *directory*.
    """

    def __init__(self, directory: str, count: int, options: Sequence[str]) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", TWISTD, "-n", "--pidfile=", "scst-iscsi"),
                *("--state-dir", "state", "--listen", "127.0.0.1:0"),
                *("--config", "scst.conf", *options),
            ],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.urls: list[str] = []
        for line in self.process.stdout:
            if "iscsi://" in line:
                self.urls.append(line.split()[-1])
            if "control socket is" in line:
                break
        self.seconds = time.monotonic() - began
        assert len(self.urls) == count, f"{len(self.urls)} LUNs"

    def reload(self) -> float:
        """
        Return how many seconds a reload of the file takes, by SIGHUP.
        """
        began = time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if " changes" in line:
                break
        return time.monotonic() - began

    def memory(self) -> tuple[float, float]:
        """
        Return MB of resident memory, and seconds of CPU, so far; of its workers, too.
        """
        pid = self.process.pid
        return sum(map(memory_of, processes(pid))) / 1e6, cpu_of_all(pid)

    def threads(self) -> int:
        """
        Return how many threads it has.
        """
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def busy(self) -> tuple[float, int]:
        """
        Write to each LUN, and flush it, all at the same time, five times; return how
        many seconds that takes, and the most threads that were seen.
        """
        sessions = [BlockingSession(url, at) for at, url in enumerate(self.urls)]
        for one in sessions:
            one.do(bytes(6))
        most = 0
        began = time.monotonic()
        for turn in range(5):
            # No whole pages.
            write = struct.pack(">BBIBHB", 0x2A, 0, 2 * turn + 1, 0, 1, 0)
            for one in sessions:
                one.send(write, data=bytes(512))
                one.send(b"\x35" + bytes(9))
            for at, one in enumerate(2 * sessions):
                answer = one.receive()
                assert isinstance(answer, SCSIResponse)
                assert answer.status == 0
                if at % 100 == 0:
                    most = max(most, self.threads())
        seconds = time.monotonic() - began
        for one in sessions:
            one.close()
        return seconds, most

    def stop(self) -> float:
        """
        Return how many seconds it takes to stop.
        """
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.read()
        self.process.wait(60)
        return time.monotonic() - began


def tool(directory: str, *words: str) -> tuple[float, str]:
    """
    Return how many seconds scstadmin takes, and what it prints.
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ADMIN, "-socket", "state/control", *words],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.monotonic() - began, done.stdout


def show(what: str, seconds: float, more: str = "") -> None:
    """
    Print a line.
    """
    print(f"{what:44}{seconds:7.2f} s  {more}", flush=True)


def main() -> int:
    """
    Measure, and print.
    """
    parser = argparse.ArgumentParser(
        description="Measure a service with many sessions, and with many LUNs."
    )
    parser.add_argument("--sessions", type=int, default=1000, help="0: none")
    parser.add_argument("--idle", type=float, default=crowd.IDLE, help="seconds")
    parser.add_argument("--targets", type=int, default=100, help="0: none")
    parser.add_argument("--luns", type=int, default=10)
    parser.add_argument("--files", action="store_true", help="files, all of them busy")
    parser.add_argument("--workers", type=int, default=0, help="0: one process")
    chosen = parser.parse_args()
    workers = chosen.workers
    chosen.options = ("--workers", str(workers)) if workers else ()
    if chosen.sessions:
        for line in crowd.figures(chosen.sessions, chosen.idle, chosen.options):
            print(line, flush=True)
    if chosen.targets:
        many_luns(chosen)
    return 0


def many_luns(chosen: argparse.Namespace) -> None:
    """
    Measure many LUNs, and print a table.
    """
    count = chosen.targets * chosen.luns
    with tempfile.TemporaryDirectory() as directory:
        text = configuration(chosen.targets, chosen.luns, files=chosen.files)
        Path(directory, "scst.conf").write_text(text, encoding="utf-8")
        print(f"{count} devices as LUNs of {chosen.targets} targets")
        service = Service(directory, count, chosen.options)
        show("first start (makes identities)", service.seconds)
        service.stop()
        service = Service(directory, count, chosen.options)
        memory, cpu = service.memory()
        show("start", service.seconds, f"{cpu:.2f} s of CPU, {memory:.0f} MB")
        if chosen.files:
            idle = service.threads()
            seconds, most = service.busy()
            memory, _cpu = service.memory()
            said = f"{idle} threads before, {most} at most, {memory:.0f} MB"
            show("5 writes and flushes of each LUN", seconds, said)
        show("SIGHUP, unchanged file", service.reload())
        text = text.replace("LUN 0 d0\n", "LUN 0 d0 {\n read_only 1\n }\n")
        Path(directory, "scst.conf").write_text(text, encoding="utf-8")
        show("SIGHUP, one LUN changed", service.reload())
        for words in (
            ("-list_device",),
            ("-list_target",),
            ("-list_group",),
            ("-list_dev_attr", "d0"),
            ("-check_config", "scst.conf"),
            ("-config", "scst.conf", "-noprompt", "-dry", "-force"),
            ("-config", "scst.conf", "-noprompt", "-force"),
            ("-write_config", "saved.conf"),
        ):
            seconds, said = tool(directory, *words)
            lines = said.splitlines()
            show("scstadmin " + " ".join(words), seconds, f"{len(lines)} lines")
            assert words[0] != "-config" or lines == ["0 changes."], lines[:3]
        show("stop", service.stop())


if __name__ == "__main__":
    sys.exit(main())
