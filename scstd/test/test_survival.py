# SPDX-License-Identifier: MIT
"""
Restarts that initiators survive: a clean stop drains, a new start is the same target,
and whatever a killed process or a damaged file leaves can be loaded.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.blocking import BlockingSession
from scstd.initiator.reservations import (
    APTPL,
    REGISTER,
    RESERVE,
    in_cdb,
    out_cdb,
    parameters,
)
from scstd.management.config.reading import read
from scstd.management.state import backup
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.durable import path_of
from scstd.management.state.state import StateDirectory
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    SCSICommand,
    SCSIResponse,
)
from scstd.test.clients import find, need
from scstd.test.dividing import workers
from scstd.test.serving import PATIENCE, Server, free_port
from scstd.test.test_management import AtOnce

READY = bytes(6)


class DrainTests(TestCase):
    """
    A stop, while commands are under way.
    """

    timeout = 120

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def test_under_way(self) -> None:
        """
        What has begun ends with its status, also a write that still waits for its data;
        what comes later is not answered, and not done.
        """
        device = "d=vdisk_fileio:filename=disk.img:size=1M:filter=delay write=1 read=1"
        with Server("--device", device, directory=str(self.directory)) as server:
            one = BlockingSession(
                server.url, 1, ("InitialR2T", "Yes"), ("ImmediateData", "No")
            )
            one.do(READY)
            one.ask(0, 1)
            # The target asks for the data of this write; it comes after the stop.
            write = struct.pack(">BBIBHB", 0x2A, 0, 8, 0, 1, 0).ljust(16, b"\0")
            tag = 77
            one.socket.sendall(
                SCSICommand(
                    flags=0xA1,
                    itt=tag,
                    expected_data_transfer_length=512,
                    cmd_sn=3,
                    cdb=write,
                ).encode()
            )
            r2t = one.receive()
            assert isinstance(r2t, R2T), r2t
            server.process.terminate()
            self.wait_closed(server)
            late = struct.pack(">BBIBHB", 0x2A, 0, 16, 0, 1, 0).ljust(16, b"\0")
            one.socket.sendall(
                SCSICommand(
                    flags=0xA1,
                    itt=78,
                    expected_data_transfer_length=512,
                    cmd_sn=4,
                    cdb=late,
                ).encode()
            )
            header = struct.pack(
                ">BB2xI8xII4xI4xIII", 0x05, 0x80, 512, tag, r2t.ttt, 0, 0, 0, 0
            )
            one.socket.sendall(header[:48].ljust(48, b"\0") + b"w" * 512)
            answers: list[Any] = [one.receive(), one.receive()]
            self.assertEqual(list(map(type, answers)), [DataIn, SCSIResponse])
            self.assertEqual([answer.status for answer in answers], [0, 0])
            # The Asynchronous Message that says the session ends.
            self.assertIsInstance(one.receive(), AsynchronousMessage)
            self.assertRaises(ConnectionError, one.receive)
            one.socket.close()
        data = (self.directory / "disk.img").read_bytes()
        self.assertEqual(data[8 * 512 : 9 * 512], b"w" * 512)
        self.assertEqual(data[16 * 512 : 17 * 512], bytes(512))

    def wait_closed(self, server: Server) -> None:
        """Wait until nobody is let in any more."""
        host, _colon, port = server.portal.rpartition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), PATIENCE).close()
            except OSError:
                return


class ReconnectTests(TestCase):
    """
    An initiator that comes back: libiscsi, in qemu-nbd.
    """

    timeout = 600

    def setUp(self) -> None:
        """Make a directory; choose ports."""
        need("qemu-nbd", "qemu-io", "qemu-block-extra", "fio")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.port = free_port()

    def serve(self) -> Server:
        """Serve two files on one port, as before."""
        return Server(
            "--device",
            "d=vdisk_fileio:filename=disk.img:size=16M",
            "--device",
            "e=memory:size=1M",
            "--target",
            "iqn.2026-11.org.scstd:survivor",
            directory=str(self.directory),
            listen=f"127.0.0.1:{self.port}",
            luns=2,
        )

    def identity(self, server: Server) -> list[bytes]:
        """Return page 83h of both LUNs."""
        found = []
        for url in server.urls:
            one = BlockingSession(url, 9)
            one.do(READY)
            found.append(one.do(b"\x12\1\x83\0\xff\0", read=255).data)
            one.socket.close()
        return found

    def test_fio(self) -> None:
        """
        An initiator, fio through qemu-nbd, writes and verifies while the target is
        stopped and started, then killed and started: no request fails, no byte is wrong.
        """
        server = self.serve()
        before = self.identity(server)
        exported = str(self.directory / "nbd")
        nbd = subprocess.Popen(
            [
                *(str(find("qemu-nbd")), "-f", "raw", "-t", "-k", exported),
                server.url,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(nbd.communicate)
        self.addCleanup(nbd.kill)
        while not Path(exported).exists():
            self.assertIsNone(nbd.poll(), "qemu-nbd ended")
            time.sleep(0.02)
        fio = subprocess.Popen(
            [
                *(str(find("fio")), "--name=survive", "--ioengine=nbd"),
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
        self.addCleanup(fio.kill)
        try:
            for kill in (False, True):
                self.written_on(server)
                if kill:
                    server.expect_kill()
                    server.process.kill()
                server.__exit__(None, None, None)
                server = self.serve()
            self.written_on(server)
            self.assertEqual(self.identity(server), before)
            # Only now, so that a slow machine does not end it before the kill.
            fio.send_signal(signal.SIGINT)
            said, _nothing = fio.communicate(timeout=PATIENCE)
            self.assertEqual(fio.returncode, 128, said)
            self.assertIn("err= 0", said)
            self.assertNotIn("verify:", said)
        finally:
            nbd.terminate()
            nbd.wait(PATIENCE)
            server.__exit__(None, None, None)

    def written_on(self, server: Server) -> None:
        """Wait until the initiator is back, and has written a good deal."""
        processes = [server.process.pid, *workers(server)]

        def written() -> int:
            return sum(
                int(line.split()[1])
                for pid in processes
                for line in Path(f"/proc/{pid}/io").read_text().splitlines()
                if line.startswith("wchar")
            )

        began, until = written(), time.monotonic() + PATIENCE
        while written() < began + (1 << 20):
            self.assertLess(time.monotonic(), until, server.log())
            self.assertIsNone(server.process.poll())
            time.sleep(0.05)

    def test_reservation(self) -> None:
        """A registration with APTPL, and its reservation, are there after a restart."""
        with self.serve() as server:
            one = BlockingSession(server.url, 1)
            one.do(READY)
            data = parameters(0, 5, APTPL)
            self.assertEqual(
                one.do(out_cdb(REGISTER, 0, len(data)), data=data).status, 0
            )
            data = parameters(5, 0)
            self.assertEqual(
                one.do(out_cdb(RESERVE, 3, len(data)), data=data).status, 0
            )
            one.socket.close()
        with self.serve() as server:
            other = BlockingSession(server.url, 2)
            other.do(READY)
            read_10 = struct.pack(">BBIBHB", 0x28, 0, 0, 0, 1, 0)
            self.assertEqual(other.do(read_10, read=512).status, 0x18)
            self.assertEqual(
                other.do(in_cdb(0), read=64).data[8:16], (5).to_bytes(8, "big")
            )
            other.socket.close()
            owner = BlockingSession(server.url, 1)
            owner.do(READY)
            self.assertEqual(owner.do(read_10, read=512).status, 0)
            owner.socket.close()


_ADMIN = "from scstd.management.cli.scstadmin import entry; entry()"


class KilledTests(TestCase):
    """
    kill -9 while everything is being written.
    """

    timeout = 600

    def test_configuration(self) -> None:
        """
        A service is killed while scst.conf and the state directory are written, over
        and over: both can always be read, and no device has become another.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        chance = random.Random(5)
        serials: dict[str, str] = {}
        text = (
            "HANDLER memory {\n"
            + "".join(f"    DEVICE d{one} {{\n size 1M\n }}\n" for one in range(4))
            + "}\nTARGET_DRIVER iscsi {\n enabled 1\n TARGET iqn.2026-11.org.scstd:k {\n"
            " enabled 1\n LUN 0 d0\n }\n}\n"
        )
        (directory / "scst.conf").write_text(text)
        for _each in range(6):
            with Server(
                *("--config", "scst.conf", "--control", "c"),
                directory=str(directory),
                wait_for="control socket is",
            ) as server:
                server.expect_kill()
                done = subprocess.run(
                    [sys.executable, "-c", _ADMIN, "-list_device", "-json"],
                    env={"SCSTD_CONTROL": "c"},
                    cwd=directory,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=True,
                )
                for row in json.loads(done.stdout):
                    serial = serials.setdefault(row["device"], row["serial"])
                    self.assertEqual(serial, row["serial"])
                churn = subprocess.Popen(
                    [sys.executable, "-c", _CHURN, "c"],
                    cwd=directory,
                    stdout=subprocess.PIPE,
                )
                self.addCleanup(churn.kill)
                assert churn.stdout is not None
                self.assertEqual(churn.stdout.readline(), b"at work\n")
                time.sleep(chance.uniform(0.1, 0.7))
                server.process.kill()
                churn.communicate(timeout=PATIENCE)
                self.assertEqual(churn.returncode, 0)
                server.process.wait(PATIENCE)
            # Also what is only half known to the service is a whole file.
            read((directory / "scst.conf").read_text(), "scst.conf")
        self.assertGreater(len(serials), 4)


_CHURN = """
import sys
from itertools import count
from pathlib import Path
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from scstd.management.control.client import connect

async def main(reactor):
    client = await connect(reactor, Path(sys.argv[1]))
    try:
        for number in count():
            name = f"n{number % 7}"
            try:
                await client.manage("handlers/memory", "add_device", [name], [("size", "1M")])
            except Exception as error:
                if "already" not in str(error):
                    raise
                await client.manage("handlers/memory", "del_device", [name])
            await client.save("")
            if not number:
                print("at work", flush=True)
    except Exception as error:
        if type(error).__name__ not in ("ConnectionLost", "ConnectionDone"):
            raise

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


UUID = "5a0f3c00-0000-4000-8000-000000000001"


class DamageTests(SynchronousTestCase):
    """
    A state file that is damaged or gone.
    """

    def setUp(self) -> None:
        """Have a device that remembers something."""
        self.state = StateDirectory(Path(self.mktemp()))
        kept = self.device()
        kept.update("uuid", UUID)
        kept.update("modes", {"QErr": 1})
        kept.close()
        self.file = self.state.path / "devices" / "disk.json"

    def device(self) -> DeviceMemory:
        """Open the device's memory."""
        return self.state.device("disk", AtOnce())

    def reserve(self, value: Any) -> None:
        """Keep a reservation, or none."""
        kept = self.device()
        kept.update("persistent", value)
        kept.close()

    def damage(self) -> None:
        """Damage the file in one of several ways."""
        for content in (
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b"{}",
            b'{"uuid": 3}',
            b"[" * 9999,
        ):
            self.file.write_bytes(content)
            kept = self.device()
            self.assertEqual(kept.load(), {"uuid": UUID, "modes": {"QErr": 1}})
            kept.close()
            self.assertEqual(self.file.with_suffix(".damaged").read_bytes(), content)
            # The file is whole again.
            self.assertEqual(json.loads(self.file.read_bytes())["uuid"], UUID)

    def test_damaged(self) -> None:
        """Without reservations everything comes from the backup; what was is kept."""
        self.damage()

    def test_gone(self) -> None:
        """A file that is gone comes back."""
        self.file.unlink()
        kept = self.device()
        self.assertEqual(kept.load()["uuid"], UUID)
        kept.close()
        self.assertTrue(self.file.exists())

    def test_reserved(self) -> None:
        """With reservations nothing is believed, until a person says so."""
        self.reserve({"registrations": [], "type": None, "holder": None})
        for content in (b"", b"{", None):
            if content is None:
                self.file.unlink()
            else:
                self.file.write_bytes(content)
            error = self.assertRaises(ConfigurationError, self.device)
            self.assertIn("disk.json", str(error))
            self.assertIn("reservations", str(error))
        # As the message says.
        self.file.write_bytes(path_of(self.file).read_bytes())
        kept = self.device()
        self.assertEqual(kept.load(), {"uuid": UUID, "modes": {"QErr": 1}})
        kept.close()
        self.damage()

    def test_reserved_once(self) -> None:
        """Reservations that are over are no reason."""
        self.reserve({"registrations": [], "type": None, "holder": None})
        self.reserve(None)
        self.damage()

    def test_backup_lags(self) -> None:
        """A backup that a crash has left behind is made good at the next start."""
        whole = json.loads(self.file.read_bytes())
        self.file.write_text(json.dumps({**whole, "modes": {"QErr": 2}}))
        self.device().close()
        kept = json.loads(path_of(self.file).read_bytes())
        self.assertEqual(kept["modes"], {"QErr": 2})

    def test_backup_damaged(self) -> None:
        """A damaged backup is no harm while the file is good, and no help when not."""
        path_of(self.file).write_bytes(b"{")
        self.device().close()
        self.assertEqual(json.loads(path_of(self.file).read_bytes())["uuid"], UUID)
        for path in (self.file, path_of(self.file)):
            path.write_bytes(b"{")
        error = self.assertRaises(ConfigurationError, self.device)
        self.assertIn("disk.json", str(error))
        self.assertIn("no good backup", str(error))

    def test_order(self) -> None:
        """
        The flag that there are reservations is written before they are, and taken back
        after them: at each moment a crash leaves what is safe.
        """
        seen: list[tuple[bool, bool]] = []

        real = os.replace

        def replace(path: Any, to: Any) -> Any:
            done = real(path, to)
            file = json.loads(self.file.read_bytes())
            copy = json.loads(path_of(self.file).read_bytes())
            seen.append((bool(file.get("persistent")), copy[backup.FLAG]))
            return done

        kept = self.device()
        self.patch(os, "replace", replace)
        kept.update("persistent", {"registrations": []})
        kept.update("persistent", {"registrations": [1]})
        kept.update("persistent", None)
        kept.close()
        self.assertEqual(
            seen,
            [(False, True), (True, True), (True, True), (False, True), (False, False)],
        )
