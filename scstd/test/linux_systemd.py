# SPDX-License-Identifier: MIT
"""
The root file system of a Linux whose process 1 is systemd, with this checkout in it:
for `scstd.test.linux_service`.

It is an ext4 image: systemd of the distribution (downloaded, not
installed), and the Python that runs this, with what the service imports, as a virtual
environment in ``/opt/scstd`` whose programs are linked into ``/usr/bin``, where the unit
expects them.  Nothing of the unit is there yet: the first scene installs it as
doc/operating.md says.  An image, and not an archive in memory, for files keep their
times there, by which Python takes its compiled modules for good.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from pathlib import Path

import scstd
from scstd.test.clients import find
from scstd.test.linux import System, libraries, run

CHECKOUT = Path(scstd.__file__).parents[1]

_DEVELOPERS = (
    "mypy*", "*mypyc*", "ruff*", "hypothesis*", "librt*", "pip*", "setuptools*",
    "pkg_resources", "pyscsi*", "PYSCSI*", "*scstd*", "ast_serialize*",
)  # fmt: skip
"""What is installed beside us that the service does not import."""

_LEFT_OUT = (
    "test", "tests", "site-packages", "dist-packages", "ensurepip", "idlelib",
    "tkinter", "lib2to3", "turtledemo", "config-*", "*.a", "*.opt-?.pyc",
    "dropin.cache",
)  # fmt: skip

_SWITCH = """\
mkdir /root
mount -t ext4 /dev/vda /root
chown -R 0:0 /root
chroot /root /usr/bin/busybox --install -s /usr/bin
# As udev does.
mount -t devtmpfs d /root/dev; chgrp 6 /root/dev/vdb; chmod 660 /root/dev/vdb
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
umount /proc /sys /dev /run
exec switch_root /root /usr/lib/systemd/systemd"""

_TOOLS = ("install",)
"""Programs of this machine that busybox does not have."""

_SHELL = """\
[Unit]
Description=The shell of the tests
[Service]
Environment=HOME=/root TERM=dumb SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0
Environment=COLUMNS=200 PS1= PS2= ENV=/root/functions
WorkingDirectory=/root
ExecStart=sh -c 'stty -echo; echo READY; exec sh'
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""

_FUNCTIONS = """\
# Wait until a command succeeds.
until_true() {
  for try in $(seq 150); do
    eval "$1" > /dev/null 2>&1 && return
    sleep 2
  done
  echo never: "$1"; return 1
}
# What systemd knows of the service.
show() { systemctl show scstd --value -p "$1"; }
"""

_PROBE = """\
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 3260)).close()
    except ConnectionRefusedError:
        print("refused", flush=True)
    else:
        print("let in", flush=True)
    time.sleep(0.5)
"""

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\ndisk:x:6:\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hostname": "linux\n",
    "etc/systemd/system.conf": "[Manager]\nShowStatus=no\nLogTarget=journal\n",
    "etc/systemd/system/shell.service": _SHELL,
    "root/functions": _FUNCTIONS,
    "root/probe.py": _PROBE,
    "opt/scstd/pyvenv.cfg": "home = /usr/bin\n",
}


def instructions() -> list[str]:
    """
    Return the commands of doc/operating.md that install the service.
    """
    text = (CHECKOUT / "doc" / "operating.md").read_text(encoding="utf-8")
    chapter = text.partition("\n## As a service\n")[2].partition("\n## ")[0]
    return re.findall(r"(?m)^# (.*)$", chapter)


def system(directory: Path) -> System:
    """
    Return a Linux that goes on to the root file system on its first disk.
    """
    return System(
        directory,
        ("systemd", "libsystemd-shared", "libsystemd0"),
        "virtio_pci virtio_net virtio_blk crc32c_intel ext4",
        start=_SWITCH,
    )


def _copy(source: Path, to: Path, *but: str) -> None:
    """
    Copy a directory into one that may be there.
    """
    shutil.copytree(
        *(source, to),
        symlinks=True,
        ignore=shutil.ignore_patterns(*but),
        dirs_exist_ok=True,
    )


def _add_python(root: Path) -> None:
    """
    Add the Python that runs this, and what the service imports.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = root / "usr" / "bin" / version
    shutil.copy2(Path(sys.executable).resolve(), program)
    library = Path(sysconfig.get_path("stdlib"))
    _copy(library, root / "usr" / "lib" / version, *_LEFT_OUT)
    home = root / "opt" / "scstd"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(f"/usr/bin/{version}")
    site = home / "lib" / version / "site-packages"
    for path in {sysconfig.get_path(name) for name in ("purelib", "platlib")}:
        _copy(Path(path), site, *_DEVELOPERS, *_LEFT_OUT)
    _copy(CHECKOUT / "scstd", site / "scstd", "__pycache__", "test_*.py")
    shutil.copy2(
        CHECKOUT / "twisted" / "plugins" / "scstd_plugins.py",
        site / "twisted" / "plugins",
    )
    run(sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/",
        str(site / "scstd"), str(site / "twisted" / "plugins"))  # fmt: skip
    for name in ("twistd", "scstadmin"):
        script = Path(sysconfig.get_path("scripts")) / name
        text = re.sub(r"\A#!.*", "#!/opt/scstd/bin/python", script.read_text())
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
        (root / "usr" / "bin" / name).symlink_to(f"/opt/scstd/bin/{name}")


def _add_libraries(root: Path, tree: Path) -> None:
    """
    Add what all those programs and modules load, in the one directory where it is
    looked for; the loader has a place of its own.
    """
    programs = [
        file
        for file in root.rglob("*")
        if file.is_file() and not file.is_symlink() and file.name != "busybox"
        if file.open("rb").read(4) == b"\x7fELF"
    ]
    found = libraries(tree, *programs)
    where = next(Path(name).parent for name in found if name.endswith("/libc.so.6"))
    for name, file in found.items():
        there = Path(name) if "/ld-" in name else where / Path(name).name
        there = root / str(there).lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            shutil.copy2(file, there)


def image(directory: Path, tree: Path) -> Path:
    """
    Make the root file system; return the image.
    """
    root = directory / "system"
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
        if (tree / name).exists():
            _copy(tree / name, root / "usr" / name, "modules", "system-generators")
    for name in ("usr", "etc"):
        _copy(tree / name, root / name, "doc", "man", "locale", "system-generators")
    for name in ("proc", "sys", "dev", "run", "tmp", "var", "srv", "root"):
        (root / name).mkdir()
    _copy(CHECKOUT / "contrib", root / "root" / "contrib")
    for name, text in _FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    wants = root / "etc" / "systemd" / "system" / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "shell.service").symlink_to("../shell.service")
    for name in _TOOLS:
        shutil.copy2(find(name) or name, root / "usr" / "bin")
    _add_python(root)
    _add_libraries(root, tree)
    made = directory / "system.img"
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), "-E", "root_owner=0:0",
        str(made), "1G")  # fmt: skip
    shutil.rmtree(root)
    return made
