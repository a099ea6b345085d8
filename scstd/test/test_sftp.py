# SPDX-License-Identifier: MIT
"""
Tests for the tree over SSH: `scstd.management.console.sftp`, with conch's client, OpenSSH's
sftp and sshfs.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ssh import filetransfer as fx
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read
from scstd.management.console.sftp import PAGE, OpenTreeFile, TreeServer, subsystem
from scstd.management.tree.nodes import File
from scstd.management.tree.tree import Tree
from scstd.test.mounting import SSH, Mounting
from scstd.test.serving import Server
from scstd.test.test_tree import IQN, started


class Pipe:
    """
    Conch's client and our server, and what they say to each other.
    """

    def __init__(self, tree: Tree) -> None:
        self.client: Any = fx.FileTransferClient()
        self.server = subsystem(tree)(b"", None)
        self.ends = (StringTransport(), StringTransport())
        self.server.makeConnection(self.ends[1])
        self.client.makeConnection(self.ends[0])
        self.flush()

    def flush(self) -> None:
        """Carry what was said to the other end, until nothing is."""
        said = True
        while said:
            said = False
            for end, other in zip(self.ends, (self.server, self.client), strict=True):
                data = end.value()
                end.clear()
                if data:
                    said = True
                    other.dataReceived(data)

    async def ask(self, asked: Deferred[Any]) -> Any:
        """Return the answer, when there is one."""
        self.flush()
        for end in self.ends:
            # What is answered later is carried when it is written.
            end.write = self._later(end)  # type: ignore[method-assign]
        try:
            return await asked
        finally:
            for end in self.ends:
                del end.write

    def _later(self, end: StringTransport) -> Any:
        other = self.client if end is self.ends[1] else self.server
        return other.dataReceived

    async def text(self, path: str, length: int = 1 << 16) -> str:
        """Return what a file says, read in pieces of *length*."""
        file = await self.ask(self.client.openFile(path.encode(), fx.FXF_READ, {}))
        said, piece = b"", b"-"
        while piece:
            try:
                piece = await self.ask(file.readChunk(len(said), length))
            except EOFError:
                piece = b""
            said += piece
        await self.ask(file.close())
        return said.decode()

    async def write(self, path: str, *pieces: bytes) -> None:
        """Write to a file, as programs do."""
        flags = fx.FXF_WRITE | fx.FXF_CREAT | fx.FXF_TRUNC
        file = await self.ask(self.client.openFile(path.encode(), flags, {}))
        at = 0
        try:
            for piece in pieces:
                await self.ask(file.writeChunk(at, piece))
                at += len(piece)
        finally:
            await self.ask(file.close())


class SFTPTests(TestCase):
    """
    What the server answers.
    """

    async def open(self) -> Pipe:
        """Return the two ends of a session on a running system."""
        self.tree = await started(self)
        return Pipe(self.tree)

    async def failed(self, asked: Deferred[Any]) -> Any:
        """Return the error that something ends with."""
        try:
            await asked
        except fx.SFTPError as error:
            return error
        raise AssertionError("it did not fail")

    async def code(self, asked: Any) -> Any:
        """Return the status code that something is refused with."""
        error = await self.failed(ensureDeferred(asked))
        return error.code

    async def test_interfaces(self) -> None:
        """The server's and the file's objects are what conch asks for."""
        server = TreeServer(await started(self))
        verifyObject(ISFTPServer, server)
        verifyObject(ISFTPFile, OpenTreeFile(server, "version"))

    async def test_reads(self) -> None:
        """A file is read whole in pieces of any size; its size is that of its text."""
        pipe = await self.open()
        for path in ("version", "devices/disk1/blocksize", "handlers/memory/mgmt"):
            whole = self.tree.read(path)
            for length in (3, 1 << 16):
                self.assertEqual(await pipe.text(path, length), whole)
            given = await pipe.ask(pipe.client.getAttrs(path.encode(), 1))
            self.assertEqual(given["size"], len(whole))
            self.assertEqual(given["permissions"] & 0o170444, 0o100444)

    async def test_one_text(self) -> None:
        """Who reads in pieces gets one text, though it changes meanwhile."""
        pipe = await self.open()
        path = b"devices/disk1/prod_id"
        await pipe.write(path.decode(), b"first one\n")
        file = await pipe.ask(pipe.client.openFile(path, fx.FXF_READ, {}))
        begun = await pipe.ask(file.readChunk(0, 5))
        await pipe.write(path.decode(), b"other\n")
        self.assertEqual(begun + await pipe.ask(file.readChunk(5, 4)), b"first one")
        self.assertEqual(await pipe.ask(file.readChunk(0, 5)), b"other")

    async def test_writes(self) -> None:
        """A write is carried out when it comes; several on one handle are several."""
        pipe = await self.open()
        mgmt = "handlers/memory/mgmt"
        await pipe.write(mgmt, b"add_device a size=1M\n", b"add_device b size=1M")
        self.assertEqual({"a", "b"} - self.tree.system.devices.keys(), set())
        await pipe.write(f"targets/iscsi/{IQN}/luns/mgmt", b"del 1\n")
        self.assertEqual(self.tree.list(f"targets/iscsi/{IQN}/luns"), ["mgmt", "0"])

    async def test_pieces(self) -> None:
        """A text that a client cuts into pieces is one text; its rest ends with it."""
        pipe = await self.open()
        path = "devices/disk1/prod_id"
        done: list[str] = []
        self.patch(Tree, "do_write", lambda _self, _path, text: done.append(text))
        await pipe.write(path, b"x" * PAGE, b"y" * PAGE, b"z\n")
        await pipe.write(path, b"x" * PAGE, b"y" * PAGE)
        whole = "x" * PAGE + "y" * PAGE
        self.assertEqual(done, [whole + "z\n", whole])

    async def test_lost(self) -> None:
        """Of a text whose connection is lost nothing is carried out."""
        pipe = await self.open()
        done: list[str] = []
        self.patch(Tree, "do_write", lambda _self, _path, text: done.append(text))
        opened = pipe.client.openFile(b"devices/disk1/prod_id", fx.FXF_WRITE, {})
        file = await pipe.ask(opened)
        await pipe.ask(file.writeChunk(0, b"x" * PAGE))
        pipe.server.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(done, [])

    async def test_order(self) -> None:
        """A close is answered when the write before it was, a read after it sees it."""
        pipe = await self.open()
        over: Deferred[None] = Deferred()
        self.patch(Tree, "do_write", lambda _self, _path, _text: over)
        answers: list[str] = []
        opened = pipe.client.openFile(b"devices/disk1/prod_id", fx.FXF_WRITE, {})
        file = await pipe.ask(opened)
        for name, asked in (("w", file.writeChunk(0, b"a\n")), ("c", file.close())):
            asked.addCallback(lambda _, name=name: answers.append(name))
        pipe.flush()
        self.assertEqual(answers, [])
        over.callback(None)
        pipe.flush()
        self.assertEqual(sorted(answers), ["c", "w"])
        self.assertEqual(pipe.server.openFiles, {})

    async def test_refused(self) -> None:
        """What is refused has SFTP's word for it, and the reason is in the tree."""
        pipe = await self.open()
        client = pipe.client
        write, read = fx.FXF_WRITE, fx.FXF_READ
        disk = "devices/disk1"
        for asked, code in (
            (client.openFile(b"devices/none/size", read, {}), fx.FX_NO_SUCH_FILE),
            (client.openFile(b"version/x", read, {}), fx.FX_NO_SUCH_FILE),
            (client.openFile(b"\xff", read, {}), fx.FX_NO_SUCH_FILE),
            (client.openFile(b"version", write, {}), fx.FX_PERMISSION_DENIED),
            (client.openFile(f"{disk}/sync".encode(), read, {}), fx.FX_PERMISSION_DENIED),
            (client.openFile(disk.encode(), read, {}), fx.FX_FAILURE),
            (client.getAttrs(b"devices/none", 1), fx.FX_NO_SUCH_FILE),
            (client.readLink(b"version"), fx.FX_FAILURE),
            (client.removeFile(b"version"), fx.FX_PERMISSION_DENIED),
            (client.makeDirectory(b"devices/x", {}), fx.FX_PERMISSION_DENIED),
            (client.removeDirectory(b"devices"), fx.FX_PERMISSION_DENIED),
            (client.renameFile(b"version", b"v"), fx.FX_PERMISSION_DENIED),
            (client.makeLink(b"x", b"version"), fx.FX_PERMISSION_DENIED),
            (client.setAttrs(b"version", {"permissions": 0o777}), fx.FX_PERMISSION_DENIED),
        ):  # fmt: skip
            self.assertEqual(await self.code(pipe.ask(asked)), code)
        unknown = pipe.ask(client.extendedRequest(b"statvfs@openssh.com", b""))
        await self.assertFailure(ensureDeferred(unknown), NotImplementedError)
        for path, text, code, number, why in (
            (f"{disk}/tst", b"0\n", fx.FX_PERMISSION_DENIED, 0, ""),
            (f"{disk}/rotational", b"maybe\n", fx.FX_FAILURE, errno.EINVAL, "rotational"),
            ("handlers/vdisk_nullio/mgmt", b"add_device disk1\n", fx.FX_FAILURE, errno.EEXIST, "already"),
            ("handlers/vdisk_nullio/mgmt", b"del_device disk1\n", fx.FX_FAILURE, errno.EBUSY, "LUN"),
            ("handlers/vdisk_nullio/mgmt", b"del_device zz\n", fx.FX_NO_SUCH_FILE, errno.ENOENT, "zz"),
            (f"{disk}/prod_id", b"\xff\n", fx.FX_FAILURE, 0, ""),
        ):  # fmt: skip
            self.assertEqual(await self.code(pipe.write(path, text)), code)
            if why:
                self.assertIn(why, await pipe.text("last_error"))
                self.assertEqual(await pipe.text("last_sysfs_mgmt_res"), f"{number}\n")
        self.assertEqual(pipe.server.openFiles, {})
        await pipe.write(f"{disk}/prod_id", b"fine\n")
        self.assertEqual(await pipe.text("last_error"), "\n")
        self.assertEqual(await pipe.text("last_sysfs_mgmt_res"), "0\n")

    async def test_failed_later(self) -> None:
        """What fails after a while, in any way, is refused; conch has no traceback."""
        pipe = await self.open()
        over: Deferred[None] = Deferred()
        self.patch(Tree, "do_write", lambda _self, _path, _text: over)
        asked = ensureDeferred(pipe.write("devices/disk1/prod_id", b"a\n"))
        over.errback(ValueError("a mistake of ours: ü"))
        error: Any = await self.failed(asked)
        self.assertEqual(error.code, fx.FX_FAILURE)
        self.assertIn(r"\xfc", str(error.message))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_links(self) -> None:
        """Links lead from where they are to what the tree says; paths lose them."""
        pipe = await self.open()
        client = pipe.client
        for path, leads in (
            ("devices/disk1/handler", "../../handlers/vdisk_nullio"),
            ("handlers/vdisk_nullio/disk1", "../../devices/disk1"),
            ("handlers/vdisk_nullio/disk1/handler", "../../handlers/vdisk_nullio"),
            ("devices/disk1/exported/export0", f"../../../targets/iscsi/{IQN}/luns/0"),
        ):
            self.assertEqual(await pipe.ask(client.readLink(path.encode())), leads)
            given = await pipe.ask(client.getAttrs(path.encode(), 0))
            self.assertEqual(given["permissions"] & 0o170000, 0o120000)
            given = await pipe.ask(client.getAttrs(path.encode(), 1))
            self.assertEqual(given["permissions"] & 0o170000, 0o040000)
        for path, real in (
            (".", "/"),
            ("/../..", "/"),
            ("devices/disk1/handler", "/handlers/vdisk_nullio"),
            ("devices/disk1/handler/..", "/handlers"),
            ("handlers/vdisk_nullio/disk1/blocks", "/devices/disk1/blocks"),
            ("devices/none", "/devices/none"),
        ):
            self.assertEqual(await pipe.ask(client.realPath(path.encode())), real)

    async def test_listing(self) -> None:
        """A directory lists what the tree lists, in rounds, with what each is."""
        pipe = await self.open()
        for number in range(300):
            await self.tree.manage(
                "handlers/memory", "add_device", [f"m{number}"], [("size", "1M")]
            )
        opened = await pipe.ask(pipe.client.openDirectory(b"devices"))
        names: list[str] = []
        while True:
            try:
                found = await pipe.ask(opened.read())
            except EOFError:
                break
            names += [name.decode() for name, _line, _attrs in found]
        await pipe.ask(opened.close())
        self.assertEqual(names, self.tree.list("devices"))
        directory = self.tree.directory("devices/disk1")
        entries = dict(directory.entries())
        self.assertEqual(list(entries), directory.listing())
        for name, entry in entries.items():
            self.assertIs(type(entry), type(directory.find(name)))
            if isinstance(entry, File):
                given = await pipe.ask(
                    pipe.client.getAttrs(f"devices/disk1/{name}".encode(), 1)
                )
                self.assertEqual(bool(given["permissions"] & 0o444), entry.readable)
                self.assertEqual(bool(given["permissions"] & 0o200), entry.writable)

    async def test_secrets(self) -> None:
        """
        A secret is its owner's, as the mode says; who reads the tree otherwise does not
        see it; nobody sees one that was refused.
        """
        pipe = await self.open()
        path = f"targets/iscsi/{IQN}/IncomingUser"
        await pipe.write(path, b"joe secret-of-joe-1\n")
        self.assertEqual(await pipe.text(path), "joe secret-of-joe-1\n[key]\n")
        self.assertEqual(self.tree.read(path), "joe ********\n[key]\n")
        for where, mode in ((path, 0o600), (f"targets/iscsi/{IQN}/alias", 0o644)):
            given = await pipe.ask(pipe.client.getAttrs(where.encode(), 1))
            self.assertEqual(given["permissions"] & 0o777, mode)
            self.assertEqual(given["size"], len(await pipe.text(where)))
        mgmt = "targets/iscsi/mgmt"
        for where, text in (
            (path, "joe hush-1"),
            (path, "joe hush-1 and-more"),
            (mgmt, f"add_target_attribute {IQN} IncomingUser 'joe hush-1'"),
            (mgmt, f'add_target_attribute {IQN} IncomingUser "joe hush-1"'),
            (mgmt, f'del_target_attribute {IQN} IncomingUser "joe hush-1-is-long"'),
            (mgmt, f'add_target {IQN}x IncomingUser="joe hush-1"'),
        ):
            await self.failed(ensureDeferred(pipe.write(where, text.encode())))
            said = await pipe.text("last_error")
            self.assertGreater(len(said), 5)
            self.assertNotIn("hush-1", said, text)
        file = f'TARGET_DRIVER iscsi {{\n TARGET {IQN} {{\n IncomingUser "joe hush-1"\n }}\n}}\n'
        error = self.assertRaises(ConfigurationError, read, file, "scst.conf")
        self.assertIn(
            "scst.conf:3:2: 'IncomingUser': the secret, the second word", str(error)
        )
        self.assertNotIn("hush-1", str(error))


class RealTests(Mounting):
    """
    The clients that people have.
    """

    def test_sftp(self) -> None:
        """OpenSSH's sftp lists, follows links, reads and writes, in a batch."""
        (self.directory / "add").write_text("add_device d1 size=2M\n")
        (self.directory / "batch").write_text(
            "cd handlers/memory\nput add mgmt\ncd d1/handler\nls -l\n"
            "get /devices/d1/current_size size\n-put add mgmt\nget /last_error why\n"
        )
        options = "".join(f" -o{name}={value}" for name, value in SSH.items())
        with self.served() as server:
            said = self.sh(
                f"sftp -P {self.port} -i key{options} -b batch x@127.0.0.1"
            ).stdout
            server.stop()
            self.assertNotIn("Traceback", server.log())
        self.assertRegex(said, r"lrwxrwxrwx .* d1\n")
        self.assertEqual((self.directory / "size").read_text(), f"{2 << 20}\n")
        self.assertIn("'d1' already", (self.directory / "why").read_text())

    def test_ssh(self) -> None:
        """Without a terminal the prompt takes what comes; a command is refused."""
        options = "".join(f" -o{name}={value}" for name, value in SSH.items())
        with self.served() as server:
            ssh = f"ssh -p {self.port} -i key{options}"
            said = self.sh(f"printf 'luns()\\r' | {ssh} -T x@127.0.0.1").stdout
            refused = self.sh(f"{ssh} x@127.0.0.1 'luns()' || test $? = 1").stderr
            server.stop()
            self.assertNotIn("Traceback", server.log())
        self.assertIn("1048576", said)
        self.assertIn("no commands here", refused)

    def test_sshfs(self) -> None:
        """
        The script of doc/operating.md makes a device, a target and a LUN with echo
        alone, and an initiator reads it.
        """
        mount, script = self.page("operating.md")[:2]
        with self.served() as server:
            self.sh("mkdir mnt")
            self.mount(
                self.here(mount).replace("/mnt/scst", str(self.directory / "mnt"))
            )
            try:
                self.sh(script.replace("/mnt/scst", str(self.directory / "mnt")))
                self.check_mount(server)
            finally:
                self.sh("fusermount3 -u mnt")
            server.stop()
            self.assertNotIn("Traceback", server.log())

    def check_mount(self, server: Server) -> None:
        """Look at what the script made, and at what cannot be done."""
        url = f"iscsi://{server.portal}/iqn.2026-11.org.scstd:new/0"
        self.assertIn("PRODUCT", self.sh(f"iscsi-inq {url}").stdout.upper())
        self.sh(
            """
            cd mnt
            fails() { if sh -c "$1"; then echo "it did not fail: $1"; exit 1; fi; }
            test "$(cat devices/new/current_size)" = 67108864
            # What is there is there at once, whatever was asked before.
            for size in 1 22 333; do
                echo $size > targets/iscsi/iqn.2026-11.org.scstd:new/QueuedCommands
                test "$(head -1 targets/iscsi/*:new/QueuedCommands)" = $size
            done
            grep -q '^.key.$' targets/iscsi/*:new/QueuedCommands
            test "$(readlink devices/new/handler)" = ../../handlers/memory
            test "$(cat devices/new/handler/new/current_size)" = 67108864
            ls targets/iscsi/*:new/luns/0/device/exported | grep -q export0
            # find goes everywhere, and everything that can be read is read.
            find . -type f -readable -perm /444 -exec cat {} + > ../all
            test $(find . -type d | wc -l) -gt 10
            fails 'echo 1 > devices/none'
            fails 'echo 1 > devices/new/blocks'
            fails 'cat devices/new/sync'
            fails 'mkdir devices/more'
            fails 'rm devices/new/blocks'
            fails 'chmod 777 devices/new/blocks'
            touch devices/new/prod_id
            # The shell says so where a program's write fails.
            for mistake in 'add_device new size=1M' 'del_device new' nonsense; do
                fails "echo '$mistake' > handlers/memory/mgmt"
                test "$(cat last_sysfs_mgmt_res)" != 0
                cat last_error >> ../errors
            done
            """
        )
        errors = (self.directory / "errors").read_text()
        self.assertIn("there is a device 'new' already", errors)
        self.assertIn("unknown verb 'nonsense'", errors)
        self.assertIn("67108864", (self.directory / "all").read_text())
