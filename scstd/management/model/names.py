# SPDX-License-Identifier: MIT
"""
What may be a name: of a device, of a group or pattern, of an iSCSI target.
"""

from __future__ import annotations

import re

from scstd.attributes import ConfigurationError

RESERVED = frozenset({".", "..", "mgmt", "type", "enabled"})
"""Names that paths in the tree use themselves."""


def check_name(name: str) -> None:
    """
    :raises ConfigurationError: this can be no device's name.
    """
    if (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]{0,63}", name) is None
        or name in RESERVED
    ):
        raise ConfigurationError(
            f"{name!r} is no device name: expected at most 64 letters, digits and"
            f" _ . + : @ -, and none of {', '.join(sorted(RESERVED))}"
        )


def check_path_name(name: str) -> None:
    """
    :raises ConfigurationError: this can be no group's or pattern's name, for it can be
    no part of a path.
    """
    if (
        not 0 < len(name) <= 223
        or name in RESERVED
        or set(name) & set("/=;")
        or not name.isprintable()
        or " " in name
    ):
        raise ConfigurationError(
            f"{name!r} is no name: expected at most 223 printable characters, no blank"
            f" and none of / = ;, and none of {', '.join(sorted(RESERVED))}"
        )


_STANDARD = re.compile(
    r"iqn\.\d{4}-\d{2}\.[a-z0-9][a-z0-9.-]*(:([a-z0-9.:-]|[^\s\0-\x7F])+)?"
    # Initiators' names for it become small letters before they are compared.
    r"|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16}([0-9a-f]{16})?"
)


def check_iqn(name: str) -> None:
    """
    :raises ConfigurationError: this can be no target's name: it does not look like an
    iSCSI name (RFC 7143 sections 4.2.7.2 to 4.2.7.6), or has capital letters, which no
    initiator would find.
    """
    begins = re.match(r"iqn\.\d{4}|eui\.|naa\.", name) is not None
    if _STANDARD.fullmatch(name) is None:
        try:
            check_path_name(name)
        except ConfigurationError:
            begins = False
    if not begins or name != small(name) or len(name.encode()) > 223:
        raise ConfigurationError(
            f"{name!r} is no iSCSI name: expected iqn.YYYY-MM.DOMAIN:WORD (small"
            " letters, digits and - . :), eui.16-HEX-DIGITS or naa.16-OR-32-HEX-DIGITS"
            " (small letters)"
        )


def small(name: str) -> str:
    """
    Return a name with small letters, by which iSCSI names are compared.
    """
    return "".join(one.lower() if one.isascii() else one for one in name)


def iscsi_name(name: str) -> tuple[str, str]:
    """
    Return the name that a target is known by, and what is to be said of it ("":
    nothing): SCST takes any name, and initiators compare them in small letters (RFC
    7143 section 4.2.7.2).

    :raises ConfigurationError: this can be no target's name.
    """
    known = small(name)
    check_iqn(known)
    said = []
    if known != name:
        said.append(f"its capital letters are small ones here: {known}")
    if _STANDARD.fullmatch(known) is None:
        said.append(
            "it is no iSCSI name (RFC 7143 section 4.2.7): some initiators refuse it"
        )
    return known, "; ".join(said)
