# SPDX-License-Identifier: MIT
"""
Names of iSCSI targets as people write them (RFC 7143 sections 4.2.7.2 to 4.2.7.6).
"""

from __future__ import annotations

import re
import socket

from scstd.attributes import ConfigurationError

_STANDARD = re.compile(
    r"iqn\.\d{4}-\d{2}\.[a-z0-9][a-z0-9.-]*(:([a-z0-9.:-]|[^\s\0-\x7F])+)?"
    # Initiators' names for it become small letters before they are compared.
    r"|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16}([0-9a-f]{16})?"
)
_BEGINNING = re.compile(r"iqn\.\d{4}|eui\.|naa\.")
_NEVER = frozenset("/=; ")
"""What no name has, whatever SCST takes: some initiator could not ask for it."""


def check_iqn(name: str) -> None:
    """
    :raises ConfigurationError: this can be no target's name: it does not look like an
    iSCSI name, or has capital letters, which no initiator would find.
    """
    begins = _BEGINNING.match(name) is not None
    if _STANDARD.fullmatch(name) is None and (
        set(name) & _NEVER or not name.isprintable()
    ):
        begins = False
    if not begins or name != _small(name) or len(name.encode()) > 223:
        raise ConfigurationError(
            f"{name!r} is no iSCSI name: expected iqn.YYYY-MM.DOMAIN:WORD (small"
            " letters, digits and - . :), eui.16-HEX-DIGITS or naa.16-OR-32-HEX-DIGITS"
            " (small letters)"
        )


def _small(name: str) -> str:
    """
    Return a name with small letters, by which iSCSI names are compared.
    """
    return "".join(one.lower() if one.isascii() else one for one in name)


def target_name(name: str) -> tuple[str, str]:
    """
    Return the name that a target is known by, and what is to be said of it ("":
    nothing): SCST takes any name, and initiators compare them in small letters (RFC
    7143 section 4.2.7.2).

    :raises ConfigurationError: this can be no target's name.
    """
    known = _small(name)
    check_iqn(known)
    said = []
    if known != name:
        said.append(f"its capital letters are small ones here: {known}")
    if _STANDARD.fullmatch(known) is None:
        said.append(
            "it is no iSCSI name (RFC 7143 section 4.2.7): some initiators refuse it"
        )
    return known, "; ".join(said)


def default_target_name() -> str:
    """
    Return the name of the target when none is given: one of this host.
    """
    host = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower()) or "localhost"
    return f"iqn.2026-11.org.scstd:{host}"
