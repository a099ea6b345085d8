# SPDX-License-Identifier: MIT
"""
What may be a name: of a device, of a group or pattern, of whatever is part of a path.
What a target may be called besides is its driver's (`ITargetDriver.target_name`).
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
    :raises ConfigurationError: this can be no target's, group's or pattern's name, for
    it can be no part of a path.
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
