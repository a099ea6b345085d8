# SPDX-License-Identifier: MIT
"""
A device handler whose stores do not end what they are asked for, for tests of a service
in a process of its own: `install` makes it a plugin there.

*hang* has the calls that never end, by a Deferred that nobody fires (``read``,
``flush``, ``close``, ``open``), a thread that Python waits for (``thread``: a read), or
by the reactor standing still for 4 seconds (``reactor``: a read).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.attributes import Attribute, Text
from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Buffer, IBackstore, Result

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("hang", Text(), "", "What never ends."),
)

STILL = 4.0
"""Seconds that the reactor stands still."""


@implementer(IBackstore)
class HangingStore:
    """
    A store in memory, some calls of which never end.
    """

    block_size = 512
    size = 1 << 20

    def __init__(self, hang: str) -> None:
        self._hang = hang.split()
        self._inner = MemoryStore(self.size, self.block_size)

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, or not."""
        if "reactor" in self._hang:
            time.sleep(STILL)
        if "thread" in self._hang:
            threading.Thread(target=threading.Event().wait).start()
        if "read" in self._hang:
            return Deferred()
        return self._inner.read(offset, length)

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write."""
        self._inner.write(offset, data, fua)
        return None

    def flush(self) -> Result[None]:
        """Flush, or not."""
        if "flush" in self._hang:
            return Deferred()
        print("flushed", flush=True)
        return None

    def close(self) -> Result[None]:
        """Close, or not."""
        return Deferred() if "close" in self._hang else None


def open(  # noqa: A001 - the name of the interface
    reactor: Any,
    device: str,
    parameters: Mapping[str, Any],
) -> Result[IBackstore]:
    """Open one, or not."""
    if "open" in parameters["hang"]:
        return Deferred()
    return HangingStore(parameters["hang"])


def install(directory: Path) -> dict[str, str]:
    """
    Make it a plugin in a directory; return the environment that has it.
    """
    plugins = directory / "plugins" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "hanging_plugin.py").write_text(
        "from scstd.plugin import DeviceHandler\n"
        'hanging = DeviceHandler("hanging", "Hangs", "scstd.test.hanging")\n',
        encoding="ascii",
    )
    return {"PYTHONPATH": str(directory / "plugins")}
