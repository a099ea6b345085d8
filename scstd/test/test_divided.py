# SPDX-License-Identifier: MIT
"""
A service with workers, and initiators that do not know that there are any.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.initiator.commands import read10, write10
from scstd.initiator.reservations import (
    APTPL,
    CONFLICT,
    REGISTER,
    RESERVE,
    in_cdb,
    out_cdb,
    parameters,
)
from scstd.test.clients import find, need
from scstd.test.copying import (
    cscd,
    list_1,
    offload,
    populate,
    receive_4,
    segment,
    write_using,
    xcopy,
)
from scstd.test.dividing import (
    READY,
    Load,
    ask_targets,
    configuration,
    discover,
    files,
    name,
    worker_of,
    workers,
)
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_real_initiators import (
    FilesystemTests,
    SuiteTests,
    WorkTests,
    call,
)
from scstd.test.test_tls import TLSTests

PAGE_83 = b"\x12\1\x83\4\0\0"


class DividedCase(TestCase):
    """
    A directory, and a configuration in it.
    """

    timeout = 600

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def serve(self, count: int, devices: list[str], more: str = "") -> Server:
        """Serve each of these devices by a target of its own."""
        text = configuration(devices, more)
        (self.directory / "scst.conf").write_text(text)
        return Server(
            "--config",
            "scst.conf",
            directory=str(self.directory),
            luns=len(devices),
            workers=count,
        )

    def file(self, number: int) -> Path:
        """Return the file of a device."""
        return self.directory / f"d{number}.img"


class ToolsTests(DividedCase):
    """
    Two targets, two workers, one port.
    """

    def test_both(self) -> None:
        """
        Discovery at one port lists both targets, and QEMU copies from one to the
        other; the processes that have the disks are two, and none of them the front.
        """
        need("iscsi-ls", "iscsi-inq", "qemu-img", "qemu-io")
        with self.serve(2, files(2)) as server:
            listed = call("iscsi-ls", "-s", f"iscsi://{server.portal}")
            for number in range(2):
                self.assertIn(name(number), listed)
            one, two = server.urls
            for url in server.urls:
                self.assertIn("Vendor:SCSTD", call("iscsi-inq", url))
                self.assertEqual(url.split("/")[2], server.portal)
            call("qemu-io", "-f", "raw", "-c", "write -P 7 1M 3M", one)
            convert = ("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw")
            call(*convert, one, two)
            compare = ("qemu-img", "compare", "-f", "raw", "-F", "raw")
            self.assertIn("identical", call(*compare, one, two))
            owners = {worker_of(server, self.file(number)) for number in range(2)}
            self.assertEqual(len(owners), 2)
            self.assertNotIn(server.process.pid, owners)
        self.assertEqual(self.file(0).read_bytes(), self.file(1).read_bytes())

    def test_send_targets(self) -> None:
        """A session is told the front's portal when it asks for its own target's."""
        with self.serve(2, files(2)) as server:
            for number, url in enumerate(server.urls):
                session = BlockingSession(url, 1)
                said = ask_targets(session.session, session.link, session.socket, "")
                self.assertEqual(said, {name(number): [f"{server.portal},1"]})
                session.logout()
            everything = {name(one): [f"{server.portal},1"] for one in range(2)}
            self.assertEqual(discover(server.portal), everything)


class RealTests(FilesystemTests):
    """
    A file system that QEMU writes through a worker.
    """

    def setUp(self) -> None:
        """Have a worker, or two."""
        super().setUp()
        divide(self)


class RealWorkTests(WorkTests):
    """
    What fio, QEMU and libiscsi's tools do, with workers.
    """

    def setUp(self) -> None:
        """Have two workers."""
        super().setUp()
        divide(self)


class RealTLSTests(TLSTests):
    """
    Certificates that the front looks at, for sessions in workers.
    """

    def setUp(self) -> None:
        """Have two workers."""
        super().setUp()
        divide(self)


class RealSuiteTests(TestCase):
    """
    A part of libiscsi's conformance suite.
    """

    timeout = 600
    suite: Any = SuiteTests.suite

    def test_thin(self) -> None:
        """A thin LUN, two URLs."""
        divide(self)
        self.suite("thin")

    def test_plain(self) -> None:
        """A plain LUN: what iSCSI itself is tested for is in it."""
        divide(self)
        self.suite("plain")


del FilesystemTests, WorkTests, TLSTests, SuiteTests


def divide(case: TestCase) -> None:
    """
    Have every server of a test have two workers.
    """
    case.patch(Server, "default_workers", 2)


class KilledTests(DividedCase):
    """
    A worker is killed under load.
    """

    def test_killed(self) -> None:
        """
        One of two workers is killed, twice, while both targets are written to and
        verified: the other's initiator notices nothing; the first one's logs in again,
        and finds every byte that it had flushed, the same disk, and the same
        persistent reservation.
        """
        size = 4 << 20
        with self.serve(2, files(2, "16M")) as server:
            victim, bystander = server.urls
            before = self.identity(victim)
            self.reserve(victim)
            loads = [
                Load(victim, 1, size),
                Load(bystander, 2, size),
            ]
            try:
                for _each in range(2):
                    for load in loads:
                        load.wait_for(200)
                    pid = worker_of(server, self.file(0))
                    other = worker_of(server, self.file(1))
                    lost = loads[0].lost
                    subprocess.run(["kill", "-9", str(pid)], check=True)
                    self.until(lambda lost=lost: loads[0].lost > lost)
                    for load in loads:
                        load.wait_for(200)
                    self.assertNotEqual(worker_of(server, self.file(0)), pid)
                    self.assertEqual(worker_of(server, self.file(1)), other)
            finally:
                for load in loads:
                    load.stop()
            self.assertEqual([load.wrong for load in loads], [[], []])
            self.assertEqual(loads[0].lost, 2)
            self.assertEqual((loads[1].lost, loads[1].refused), (0, 0))
            self.assertEqual(self.identity(victim), before)
            self.reserved(victim)

    def test_fio(self) -> None:
        """
        Initiators that are not ours, fio through qemu-nbd, write and verify both disks
        while a worker is killed: no request of either fails, and no byte is wrong.
        """
        need("qemu-nbd", "qemu-block-extra", "fio")
        with self.serve(2, files(2)) as server:
            running = []
            try:
                for number, url in enumerate(server.urls):
                    running.append(self.fio(number, url))
                for number in range(2):
                    self.written_on(worker_of(server, self.file(number)))
                pid = worker_of(server, self.file(0))
                subprocess.run(["kill", "-9", str(pid)], check=True)
                self.until(lambda: pid not in workers(server))
                for number in range(2):
                    self.written_on(worker_of(server, self.file(number)))
                # Only now, so that a slow machine does not end them before.
                for fio in running:
                    fio.send_signal(signal.SIGINT)
                for fio in running:
                    said, _nothing = fio.communicate(timeout=PATIENCE)
                    self.assertEqual(fio.returncode, 128, said)
                    self.assertIn("err= 0", said)
                    self.assertNotIn("verify:", said)
            finally:
                for fio in running:
                    fio.kill()

    def fio(self, number: int, url: str) -> subprocess.Popen[str]:
        """Begin to write and verify a disk."""
        exported = str(self.directory / f"nbd{number}")
        nbd = subprocess.Popen(
            [str(find("qemu-nbd")), "-f", "raw", "-t", "-k", exported, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(nbd.communicate)
        self.addCleanup(nbd.kill)
        self.until(lambda: Path(exported).exists())
        return subprocess.Popen(
            [
                *(str(find("fio")), "--name=divided", "--ioengine=nbd"),
                f"--uri=nbd+unix:///?socket={exported}",
                *("--rw=randwrite", "--bs=4k", "--size=16M", "--io_size=48M"),
                *("--verify=crc32c", "--verify_backlog=256", "--iodepth=8"),
                *("--rate_iops=900", "--time_based", "--runtime=600"),
                *("--norandommap", "--randseed=1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
        )

    def written_on(self, pid: int) -> None:
        """Wait until a process has written a good deal."""
        stat = Path(f"/proc/{pid}/io")

        def written() -> int:
            (line,) = (one for one in stat.read_text().splitlines() if "wchar" in one)
            return int(line.split()[1])

        began = written()
        self.until(lambda: written() > began + (1 << 20))

    def until(self, true: Any) -> None:
        """Wait until something is true."""
        until = time.monotonic() + PATIENCE
        while not true():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def identity(self, url: str) -> bytes:
        """Return what page 83h says of a disk."""
        session = BlockingSession(url, 9)
        page = session.command(PAGE_83, read=1024)
        session.logout()
        return page

    def reserve(self, url: str) -> None:
        """Have the first initiator register, and reserve for who has registered."""
        session = BlockingSession(url, 1)
        session.do(READY)
        for action, kind, data in (
            (REGISTER, 0, parameters(0, 5, APTPL)),
            (RESERVE, 5, parameters(5, 0)),
        ):
            done = session.do(out_cdb(action, kind, len(data)), data=data)
            self.assertEqual(done.status, 0)
        session.logout()

    def reserved(self, url: str) -> None:
        """See that it still has it, and that others are kept from writing."""
        other = BlockingSession(url, 3)
        other.do(READY)
        self.assertEqual(other.do(write10(0, 1), data=bytes(512)).status, CONFLICT)
        keys = other.command(in_cdb(0), read=8192)
        self.assertEqual(keys[8:], (5).to_bytes(8, "big"))
        other.logout()


class CopyTests(DividedCase):
    """
    What cannot cross from a worker to another.
    """

    def test_between_workers(self) -> None:
        """
        A disk of another worker is no disk that a copy reaches, and its token is
        unknown: what SPC-5 and SBC-4 say of those.
        """
        with self.serve(2, files(2)) as server:
            one, two = (BlockingSession(url, 1) for url in server.urls)
            names = []
            for session in (one, two):
                session.do(READY)
                page = session.command(PAGE_83, read=1024)
                names.append(cscd(page[8 : 8 + page[7]]))
            data = list_1(names, [segment(8, 0, 8)])
            done = one.do(xcopy(data), data=data)
            # COPY ABORTED, COPY TARGET DEVICE NOT REACHABLE.
            self.assertEqual((done.status, done.key, done.asc), (2, 0xA, 0x0D02))
            data = populate((0, 8))
            one.command(offload(0x10, data), data=data)
            token = one.command(receive_4(7, 7), read=1024)[38:550]
            data = write_using(token, (0, 8))
            done = two.do(offload(0x11, data), data=data)
            # ILLEGAL REQUEST, INVALID TOKEN OPERATION, TOKEN UNKNOWN.
            self.assertEqual((done.status, done.key, done.asc), (2, 5, 0x2304))
            for session in (one, two):
                self.assertEqual(session.command(read10(0, 1), read=512), bytes(512))
                session.logout()


class ManyTests(DividedCase):
    """
    Many targets.
    """

    def test_thousand(self) -> None:
        """A thousand targets are divided evenly over four workers, and all are there."""
        count = 1000
        with self.serve(4, ["memory size=1M"] * count) as server:
            self.assertEqual(len(workers(server)), 4)
            self.assertEqual(len(discover(server.portal)), count)
            chance = random.Random(4)
            sessions = []
            for number in chance.sample(range(count), 60):
                session = BlockingSession(server.urls[number], number + 1)
                data = name(number).encode().ljust(512, b"\0")
                session.do(READY)
                self.assertEqual(session.do(write10(0, 1), data=data).status, 0)
                sessions.append((session, data))
            for session, data in sessions:
                self.assertEqual(session.command(read10(0, 1), read=512), data)
                session.logout()
