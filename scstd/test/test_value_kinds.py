# SPDX-License-Identifier: MIT
"""
Values as people write them: what is rendered parses to the same value, of every kind.

The kinds are found, not listed: by the rows of every table in our modules, and of every
installed plugin.  One of which nothing here knows a value fails the test.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import scstd
from scstd.attributes import Attribute, ConfigurationError, Seconds
from scstd.plugin import device_handlers, filters, target_drivers


def _in(found: Any) -> Iterator[Attribute[Any]]:
    """
    Yield the rows in something that a module defines.
    """
    if isinstance(found, Attribute):
        yield found
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from _in(one)
    elif isinstance(found, tuple | list):
        for one in found:
            yield from _in(one)


def rows() -> list[Attribute[Any]]:
    """
    Return every row that there is.
    """
    found: list[Attribute[Any]] = []
    for module in pkgutil.walk_packages(scstd.__path__, "scstd."):
        if ".test" not in module.name:
            for name, value in vars(importlib.import_module(module.name)).items():
                if name.lstrip("_").isupper():
                    found += _in(value)
    for handler in device_handlers():
        found += handler.parameters()
    for one in filters():
        found += one.parameters()
    for driver in target_drivers():
        found += [*driver.attributes(), *driver.target_attributes()]
        found += driver.group_attributes()
    return found


@cache
def kinds() -> dict[str, Any]:
    """
    Return every kind, by what it is in a message.
    """
    return {repr(row.kind): row.kind for row in rows()}


WORDS = (
    *(
        "",
        "0",
        "1",
        "00",
        "007",
        "0x10",
        "yes",
        "No",
        "on",
        "512",
        "4096",
        "1K",
        "8mib",
    ),
    *("disk", "a b", " a ", "a=b", "#", '"', "\\", "é", "https://host/a?b=c"),
    *("0.5", "1e-5", "12345.678", "30", "86399.99999999999", "0.1", "1e1", "17s"),
    *("naa.0123456789abcdef", "eui.0123456789ABCDEF", "iqn.2026-11.org.scstd:a"),
    *("0x2000000000000001", "50:00:00:00:00:00:00:01", "6" * 32, "ab" * 8, "AB" * 12),
    *("all", "none", "default", "value 0x1400", "scsi | mgmt", "MGMT,pr", "value 3"),
    *("warn", "scstd.scsi=debug,info", "default=error", "a=b=info", "a=warn a=info"),
    *("127.0.0.1:3260", "[::1]:3260", ":3260", "tcp:3260:interface=127.0.0.1"),
    *(
        "unix:/run/s",
        "scst-tls:3260",
        "10.0.0.1",
        "10.0.0.?",
        "!10.0.0.1",
        "*",
        "[a-c]",
    ),
    *(
        "user secret-secret-1",
        "u  two words of it",
        'u "quoted words here"',
        "u s\\ecret12345",
    ),
    *("MD5", "SHA1,MD5", "sha3-256, SHA-256", "SHA256 SHA3-256", "CRC32C,None"),
    *("10.0.0.1,1", "10.0.0.1:3260 temp", "10.0.0.1:3260 permanent", "[::1]:3260 perm"),
    *("10.0.0.1 access", "10.0.0.1:3205", "host access", "host:3206 access", "[::1]"),
    *("/bin/true", "/a b", "PERIPHERAL", "flat", "Active", "nonoptimized", "offline"),
    *(
        "delay read=0.25",
        "error  on=write",
        "EIO",
        "eio",
        "ENOSPC",
        "read",
        "write,read",
        "0-4095",
        "25%",
    ),
)
"""Texts, of which each kind takes some."""


def values(kind: Any) -> st.SearchStrategy[Any]:
    """
    Return a strategy for values of a kind.
    """
    texts = st.sampled_from(WORDS) | st.text(max_size=20)
    low, high = getattr(kind, "lowest", None), getattr(kind, "highest", None)
    if isinstance(low, float) or isinstance(high, float):
        return st.floats(low, high, allow_nan=False)
    if isinstance(low, int) and isinstance(high, int):
        near = st.integers(low, high).map(str)
        texts = texts | near | st.sampled_from((str(low), str(high), hex(high)))
    for word in getattr(kind, "words", ()):
        texts = texts | st.just(word) | st.just(word.upper())
    return texts.flatmap(lambda text: _parsed(kind, text))


def _parsed(kind: Any, text: str) -> st.SearchStrategy[Any]:
    try:
        return st.just(kind.parse(text))
    except ConfigurationError:
        return st.nothing()


def _known(kind: Any) -> Sequence[Any]:
    """
    Return the values of a kind that `WORDS` has.
    """
    found = []
    for text in WORDS:
        try:
            found.append(kind.parse(text))
        except ConfigurationError:
            continue
    return found


class InverseTests(SynchronousTestCase):
    """
    Rendering, and parsing what was rendered.
    """

    def test_finds(self) -> None:
        """The kinds of handlers, filters, drivers and management are found."""
        found = {type(kind).__name__ for kind in kinds().values()}
        expected = {"Size", "Seconds", "Portal", "TraceLevel", "Account", "NAA"}
        self.assertEqual(expected - found, set())

    def test_words(self) -> None:
        """Of each kind something is tried that it takes."""
        silent = [name for name, kind in kinds().items() if not _known(kind)]
        self.assertEqual(silent, [])

    def test_known(self) -> None:
        """Each value of our words comes back as it was."""
        for name, kind in kinds().items():
            for value in _known(kind):
                self.assertEqual(kind.parse(kind.render(value)), value, name)

    def test_defaults(self) -> None:
        """Defaults that are values can be written."""
        for row in rows():
            if row.default not in (None, ()):
                text = row.kind.render(row.default)
                self.assertEqual(row.kind.parse(text), row.default, row.name)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_any(self, data: st.DataObject) -> None:
        """So does any other; and the text is stable from the first time on."""
        every = kinds()
        kind = every[data.draw(st.sampled_from(sorted(every)))]
        value = data.draw(values(kind))
        text = kind.render(value)
        self.assertEqual(kind.parse(text), value)
        self.assertEqual(kind.render(kind.parse(text)), text)

    @given(st.floats(0, 86400))
    def test_seconds(self, value: float) -> None:
        """A duration keeps all its digits; a short one stays short."""
        kind = Seconds()
        self.assertEqual(kind.parse(kind.render(value)), value)
        self.assertEqual([kind.render(one) for one in (30.0, 0.5)], ["30", "0.5"])

    def test_reload(self) -> None:
        """A duration of many digits is no change, written and read."""
        kind = Seconds()
        self.assertEqual(kind.render(kind.parse("12345.678")), "12345.678")
