# SPDX-License-Identifier: MIT
"""
The console's terminal: conch's manhole, with TAB, and a window that may change.

TAB finishes names, what follows a dot, and inside quotes paths of the tree.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.conch.interfaces import IConchUser
from twisted.conch.manhole import ColoredManhole, Manhole, ManholeInterpreter
from twisted.conch.manhole_ssh import TerminalSession, TerminalUser
from twisted.conch.ssh.session import SSHSession
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.console.summaries import brief
from scstd.management.console.tables import Live
from scstd.management.errors import number_of

_PATH = re.compile(r"""["']([^"']*)$""")
_NAME = re.compile(r"([A-Za-z_][\w.]*)$")

LONGEST = 2000
"""Characters that are shown of one value; tables are not cut."""

COLORED = 500
"""Characters of a line that is colored: conch does all of it again for each."""

MAX_TYPED = 4096
"""Characters that are taken of one line."""

Paths = Callable[[str], list[str]]
"""Return the names in a directory of the tree; directories end in a slash."""


def completions(line: str, namespace: Mapping[str, Any], paths: Paths) -> list[str]:
    """
    Return what the last word of *line* could be: each is that word and more, or it.

    Nothing is called for it, and what is not known has no completions.
    """
    if line.count('"') % 2 or line.count("'") % 2:
        found = _PATH.search(line)
        if found is None:
            return []
        directory, slash, begun = found[1].rpartition("/")
        names = [f"{directory}{slash}{name}" for name in paths(directory)]
        return sorted(
            name for name in names if name.startswith(f"{directory}{slash}{begun}")
        )
    found = _NAME.search(line)
    word = found[1] if found else ""
    owner, dot, begun = word.rpartition(".")
    if not dot:
        return sorted(name for name in namespace if name.startswith(begun))
    first, *rest = owner.split(".")
    if first not in namespace:
        return []
    value = namespace[first]
    for name in rest:
        # An instance's own attributes alone: a property would be called.
        value = getattr(value, "__dict__", {}).get(name)
    names = [
        name for name in dir(value) if not name.startswith("_") or begun.startswith("_")
    ]
    return sorted(f"{owner}.{name}" for name in names if name.startswith(begun))


def word_before(line: str) -> str:
    """
    Return the word of *line* that `completions` finishes.
    """
    inside = line.count('"') % 2 or line.count("'") % 2
    found = (_PATH if inside else _NAME).search(line)
    return found[1] if found else ""


class Interpreter(ManholeInterpreter):
    """
    Shows what is said: of an object its fields, of what is very long the beginning, of
    what is refused the reason and not how that came about.
    """

    live: Live | None = None

    def displayhook(self, obj: Any) -> None:
        """Show one value."""
        if isinstance(obj, Live):
            self._follow(obj)
        if obj is None or isinstance(obj, Deferred | Live):
            super().displayhook(None if isinstance(obj, Live) else obj)
            return
        self.locals["_"] = obj
        shown = brief(obj)
        if len(shown) > LONGEST and "\n" not in shown:
            shown = f"{shown[:LONGEST]}...\n({len(shown)} characters: print(_))"
        self.write(shown)

    def _follow(self, live: Live) -> None:
        self.end()
        if live.over:
            return
        self.live = live
        terminal: Any = self.handler
        live.start(terminal.show_line)
        self.write("what happens is shown here from now on; follow(False) ends that")

    def end(self) -> None:
        """Show nothing of what happens any more."""
        before, self.live = self.live, None
        if before is not None:
            before.end()

    def runcode(self, code: Any) -> None:
        """Run what was said; ``exit()`` ends the prompt, not the process."""
        try:
            super().runcode(code)
        except SystemExit:
            terminal: Any = self.handler
            terminal.handle_QUIT()

    def showtraceback(self) -> None:
        """Say what went wrong."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConfigurationError | OSError):
            super().showtraceback()
            return
        code = errno.errorcode.get(number_of(error), "")
        self.write(f"{code} {error}\n" if code else f"{error}\n")


class Terminal(ColoredManhole):
    """
    The prompt.
    """

    def __init__(self, namespace: dict[str, Any], paths: Paths) -> None:
        super().__init__(namespace)
        self._paths = paths

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()
        self.interpreter = Interpreter(self, self.namespace)

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:  # noqa: N802, N803
        """Take a character, and color the line, if it is not too long."""
        length = len(self.lineBuffer)
        if length < COLORED:
            super().characterReceived(ch, moreCharactersComing)
        elif length < MAX_TYPED:
            Manhole.characterReceived(self, ch, moreCharactersComing)

    def show_line(self, text: str) -> None:
        """Show a line above the one that is being typed."""
        before = len(self.lineBuffer) + len(self.ps[self.pn])
        self.terminal.eraseLine()
        self.terminal.cursorBackward(before)
        self.terminal.write(text.encode())
        self.terminal.nextLine()
        self._draw_again()

    def _draw_again(self) -> None:
        self.drawInputLine()
        if self.lineBufferIndex < len(self.lineBuffer):
            self.terminal.cursorBackward(len(self.lineBuffer) - self.lineBufferIndex)

    def connectionLost(self, reason: Any) -> None:
        """End what is shown here."""
        self.end()
        super().connectionLost(reason)

    def end(self) -> None:
        """Show nothing of what happens any more."""
        interpreter: Any = self.interpreter
        interpreter.end()

    def handle_TAB(self) -> None:  # noqa: N802 - as conch has it
        """Finish a word, or show what it could be."""
        line = b"".join(self.lineBuffer[: self.lineBufferIndex]).decode("utf-8")
        word = word_before(line)
        if not word and not line.endswith(('"', "'")):
            super().handle_TAB()
            return
        found = completions(line, self.interpreter.locals, self._paths)
        more = os.path.commonprefix(found)[len(word) :]  # noqa: RUF071
        if more:
            for letter in more.encode():
                self.characterReceived(bytes([letter]), False)
        elif len(found) > 1:
            self.terminal.nextLine()
            shown = [name[len(word.rpartition("/")[0]) :].lstrip("/") for name in found]
            self.terminal.write("  ".join(shown).encode())
            self.terminal.nextLine()
            self._draw_again()
        else:
            self.terminal.write(b"\a")


class ConsoleSession(TerminalSession):
    """
    An SSH session of one user, with a terminal or without.
    """

    _terminal: Any = None

    def openShell(self, transport: Any) -> None:  # noqa: N802
        """Open the prompt."""
        if not hasattr(self, "width"):
            # ssh -T: there is no terminal, and a window of the usual size will do.
            self.height, self.width = 24, 80
        opened = self.transportFactory(
            transport,
            self.chainedProtocolFactory(),
            IConchUser(self.original),
            self.width,
            self.height,
        )
        self._terminal = opened.chainedProtocol.terminalProtocol

    def closed(self) -> None:
        """End what is shown, however the session has ended."""
        if self._terminal is not None:
            self._terminal.end()
        super().closed()

    def execCommand(self, transport: Any, _command: bytes) -> None:  # noqa: N802
        """Refuse: what is said here is said at the prompt."""
        transport.errReceived(b"no commands here: a prompt (ssh), and files (sftp)\n")
        transport.processEnded(Failure(ProcessTerminated(1)))

    def windowChanged(self, size: tuple[int, ...]) -> None:  # noqa: N802
        """Take another size of the window: rows, columns."""
        self.height, self.width = size[:2]
        if self._terminal is not None:
            # Not terminalSize: that is for a new window, and clears it.
            self._terminal.width, self._terminal.height = self.width, self.height


class Channel(SSHSession):
    """
    A channel that ends when its client has no more to say, as one of ``sftp`` expects.
    """

    def eofReceived(self) -> None:  # noqa: N802
        """End it, well, when what is answered by now is sent."""
        assert self.conn is not None
        self.conn.sendRequest(self, b"exit-status", bytes(4))
        self.loseConnection()


def user(sftp: Callable[..., Any], original: Any, name: Any) -> Any:
    """
    Return a user who has the terminal, and the subsystem sftp.
    """
    made: Any = TerminalUser(original, name)
    made.channelLookup[b"session"] = Channel
    made.subsystemLookup[b"sftp"] = sftp
    return made
