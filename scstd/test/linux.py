# SPDX-License-Identifier: MIT
"""
A real Linux under QEMU: a Debian kernel, busybox, and the programs that a test needs.

Nothing of it is installed here, and no kernel module is loaded here: packages are
downloaded (`scstd.test.clients.download`) and unpacked, the root file system is an
archive in memory, and the shell is on the serial line.  QEMU emulates the processor, so
that it runs wherever QEMU does; Linux is there after some ten seconds.
"""

from __future__ import annotations

import gzip
import lzma
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from scstd.test.clients import downloaded, find

_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/
mount -t proc p /proc; mount -t sysfs s /sys
mount -t devtmpfs d /dev; mount -t tmpfs r /run
for m in {modules}; do insmod /m/$m.ko; done
{start}
stty -echo < /dev/ttyS0
echo READY > /dev/ttyS0
export PS1= PS2= ENV=/functions
exec sh < /dev/ttyS0 > /dev/ttyS0 2>&1
"""


def run(*command: str, cwd: Path | None = None, data: bytes = b"") -> bytes:
    """
    Run a program that has to succeed; return what it printed.
    """
    done = subprocess.run(
        [find(command[0]) or command[0], *command[1:]],
        cwd=cwd,
        input=data,
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return done.stdout


def expect(text: str, said: str) -> None:
    """
    See that something was said.
    """
    if text not in said:
        raise AssertionError(f"expected {text!r}, got {said!r}")


def refuse(text: str, said: str) -> None:
    """
    See that something was not said.
    """
    if text in said:
        raise AssertionError(f"did not expect {text!r} in {said!r}")


def same(was: object, now: object) -> None:
    """
    See that two things are the same.
    """
    if was != now:
        raise AssertionError(f"{was!r} became {now!r}")


def libraries(tree: Path, *programs: Path) -> dict[str, Path]:
    """
    Return the libraries that programs load, by where they look for them: those of the
    packages in *tree*, or of this machine, where the packages do not have them.
    """
    ours = ":".join(
        str(path)
        for pattern in ("*-linux-gnu", "*-linux-gnu/systemd")
        for path in tree.glob(f"*/lib/{pattern}")
    )
    said = run("env", f"LD_LIBRARY_PATH={ours}", "ldd", *map(str, programs)).decode()
    expect("=>", said)
    refuse("not found", said)
    return {
        re.sub(rf"^{re.escape(str(tree))}", "", name): Path(name)
        for name in re.findall(r"(/\S+) \(0x", said)
    }


class System:
    """
    What a Linux is made of, in a directory: `kernel`, and `packed`, its root file
    system, with modules and programs of the packages (or of this machine, where the
    packages do not have them), and what is to be done at its start.
    """

    def __init__(
        self,
        directory: Path,
        packages: Sequence[str],
        modules: str,
        programs: Sequence[str] = (),
        start: str = "",
        files: dict[str, str] | None = None,
    ) -> None:
        self.tree = directory / "tree"
        self._root = directory / "root"
        for package in ("linux-image", "busybox-static", *packages):
            run("dpkg-deb", "-x", str(downloaded(package)), str(self.tree))
        (self.kernel,) = (self.tree / "boot").glob("vmlinuz-*")
        self._modules = {
            file.name.split(".ko")[0].replace("-", "_"): file
            for file in self.tree.rglob("*.ko*")
        }
        for name in ("bin", "sbin", "proc", "sys", "dev", "run", "tmp", "mnt", "m"):
            (self._root / name).mkdir(parents=True)
        shutil.copy2(self.tree / "bin" / "busybox", self._root / "bin")
        for program in programs:
            self._add_program(program)
        ordered: list[str] = []
        for name in modules.split():
            self._add_module(name.replace("-", "_"), ordered)
        texts = {
            **(files or {}),
            "init": _INIT.format(modules=" ".join(ordered), start=start),
        }
        for name, text in texts.items():
            file = self._root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (self._root / "init").chmod(0o755)
        archive = run("bsdtar", "--format", "newc", "-cf", "-", "-C", self._root, ".")  # type: ignore[arg-type]
        self.packed = directory / "root.gz"
        self.packed.write_bytes(gzip.compress(archive, 1))

    def _add_module(self, name: str, ordered: list[str]) -> None:
        """
        Add a module after those that it depends on; what the kernel has built in is no
        module.
        """
        file = self._modules.get(name)
        if file is None or name in ordered:
            return
        data = file.read_bytes()
        if file.suffix == ".xz":
            data = lzma.decompress(data)
        for found in re.findall(rb"\0depends=([^\0]*)\0", data):
            for other in found.decode().split(","):
                self._add_module(other.replace("-", "_"), ordered)
        (self._root / "m" / f"{name}.ko").write_bytes(data)
        ordered.append(name)

    def _add_program(self, name: str) -> None:
        """
        Add a program and the libraries that it loads.
        """
        packed = [
            file
            for where in ("sbin", "bin", "usr/sbin", "usr/bin")
            if (file := self.tree / where / name).exists()
        ]
        source = str(packed[0]) if packed else find(name)
        assert source is not None, name
        shutil.copy2(source, self._root / "bin" / name)
        for name_there, library in libraries(self.tree, Path(source)).items():
            there = self._root / name_there.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.exists():
                shutil.copy2(library, there)


class Guest:
    """
    A running Linux, and its shell on the serial line: a context manager.
    """

    def __init__(self, system: System, *options: str, memory: int = 256) -> None:
        program = find("qemu-system-x86_64")
        assert program is not None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._count = 0
        self._process = subprocess.Popen(
            [
                *(program, "-accel", "tcg", "-cpu", "max", "-m", str(memory)),
                *("-nodefaults", "-display", "none", "-no-reboot"),
                *("-serial", "stdio", "-kernel", str(system.kernel)),
                *("-initrd", str(system.packed)),
                *("-append", "console=ttyS0 loglevel=1 panic=-1", *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _said(self, end: str, seconds: float) -> Iterator[str]:
        """
        Go through the lines up to the one with *end*, which is the last.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {end} after {seconds} s") from None
            if not line:
                raise AssertionError("Linux has ended")
            yield line
            if end in line:
                return

    def ready(self) -> None:
        """
        Wait until the shell is there.
        """
        for _line in self._said("READY", 120):
            pass

    def shell(
        self, command: str, *, seconds: float = 120, fails: bool | None = None
    ) -> str:
        """
        Return what a command printed; *fails* says that it has to fail (True) or must
        not (False).
        """
        self._count += 1
        assert self._process.stdin is not None
        end = f"end-of-{self._count}-"
        began = time.monotonic()
        self._process.stdin.write(f"{command}\necho end-of-$(({self._count}))-$?\n")
        self._process.stdin.flush()
        *lines, last = self._said(end, seconds)
        before, _, status = last.partition(end)
        said = "".join([*lines, before])
        shown = "".join(f"  {line}\n" for line in said.splitlines()[-20:])
        print(f"# {command}  [{time.monotonic() - began:.1f} s]\n{shown}", end="",
              flush=True)  # fmt: skip
        if fails is not None and fails != (status.strip() != "0"):
            raise AssertionError(f"{command}: status {status.strip()}: {said}")
        return said

    def do(self, command: str, *, seconds: float = 120) -> str:
        """
        Return what a command printed that has to succeed.
        """
        return self.shell(command, seconds=seconds, fails=False)

    def __enter__(self) -> Guest:  # noqa: PYI034
        """Wait for the shell."""
        try:
            self.ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Switch it off."""
        self.end()

    def end(self) -> None:
        """
        Switch it off.
        """
        self._process.kill()
        self._process.wait(20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
