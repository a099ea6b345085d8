# SPDX-License-Identifier: MIT
"""
What is to be said of a change though it is no mistake: to the log, and to who asked.

A warning may arise far below the face that the change came through.  Who asked listens
(`hearing`) while the change is begun; whatever the change awaits, its warnings come to
the same list, for a coroutine keeps the context that it was made in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from twisted.logger import Logger

_log = Logger()

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


_muted: ContextVar[bool] = ContextVar("muted", default=False)


def warn(text: str) -> None:
    """
    Say something in the log, and to who listens.
    """
    if _muted.get():
        return
    _log.warn("{said}", said=text)
    heard(text)


def heard(text: str) -> None:
    """
    Say something to who listens alone: the log has it already.
    """
    found = _heard.get()
    if found is not None and text not in found:
        found.append(text)


@contextmanager
def hearing() -> Iterator[list[str]]:
    """
    Have a list that takes what changes begun in the block have to say, then and later.
    """
    said: list[str] = []
    token = _heard.set(said)
    try:
        yield said
    finally:
        _heard.reset(token)


@contextmanager
def unsaid() -> Iterator[None]:
    """
    Have nothing said of what is done in the block: somebody else has said it.
    """
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def contents_go(name: str, why: str) -> str:
    """
    Return what is said of a device whose contents are lost.
    """
    return f"the contents of {name} go: {why}"
