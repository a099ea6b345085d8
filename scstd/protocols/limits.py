# SPDX-License-Identifier: MIT
"""
Attributes of the iscsi driver and its targets: limits, timers, faults, and what a
target brings to the negotiation.

Names, ranges and defaults are SCST's (iscsi-scst) where it has them.  Who may come in
is in `settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import (
    Attribute,
    Choice,
    Effect,
    Flag,
    Integer,
    Seconds,
    Size,
    Text,
    ValueKind,
    YesOrNo,
)
from scstd.protocols.engine.faults import FIELDS
from scstd.protocols.settings import ACCOUNTS, GATE, ISNS, NODE
from scstd.protocols.wire.keys import CONFIGURABLE, KEYS, LOCAL, Boolean, FirstOf

MOST = 1 << 20
"""Longest data segment or burst that can be configured, in bytes."""

ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "enabled",
        Flag(),
        False,
        "Let initiators log in.",
        effect=Effect.LIVE,
        marked=False,
    ),
    Attribute(
        "LoginTimeout",
        Seconds(1, 3600),
        30.0,
        "How long a login may take.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "initiators_allow",
        Text(4096, "a file's path"),
        "/etc/initiators.allow",
        "Addresses that may see targets in spite of initiators_deny.",
    ),
    Attribute(
        "initiators_deny",
        Text(4096, "a file's path"),
        "/etc/initiators.deny",
        "Addresses that may not see targets.",
    ),
    *ISNS,
    *(row for _field, row in NODE.values()),
    *(row for _field, row in ACCOUNTS.values()),
)


def _kind(name: str) -> ValueKind[Any]:
    """
    Return the kind of a text key's local value.
    """
    values = KEYS[name].values
    if isinstance(values, Boolean):
        return YesOrNo()
    if isinstance(values, FirstOf):
        return Choice(("None", "CRC32C", "CRC32C,None", "None,CRC32C"))
    numbers = {
        "MaxOutstandingR2T": Integer(1, 65535),
        "MaxConnections": Integer(1, 8),
        "ErrorRecoveryLevel": Integer(0, 2),
        "DefaultTime2Wait": Integer(0, 3600),
        "DefaultTime2Retain": Integer(0, 3600),
    }
    if name in numbers:
        return numbers[name]
    return Size(512, MOST)


LIMITS: Mapping[str, tuple[str, Attribute[Any]]] = {
    row.name: (field, row)
    for field, row in (
        (
            "queued_commands",
            Attribute(
                "QueuedCommands",
                Integer(1, 2048),
                32,
                "Commands that a session may have under way.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "response_timeout",
            Attribute(
                "RspTimeout",
                Seconds(2, 65535),
                90.0,
                "How long an initiator may take to send data or take an answer.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "nop_in_interval",
            Attribute(
                "NopInInterval",
                Seconds(0, 65535),
                30.0,
                "How long a session may be idle before it is pinged; 0: for ever.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "nop_in_timeout",
            Attribute(
                "NopInTimeout",
                Seconds(2, 65535),
                30.0,
                "How long the answer to a ping may take.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "logout_timeout",
            Attribute(
                "LogoutTimeout",
                Integer(0, 60),
                3,
                "Seconds that an initiator has to log out when its session is closed or"
                " its target removed; 0: it is not asked. Other changes wait.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "aen_disabled",
            Attribute(
                "aen_disabled",
                Flag(),
                False,
                "Tell of changed LUNs, capacity and INQUIRY data by unit attentions"
                " alone, not by Asynchronous Messages too.",
                effect=Effect.LIVE,
            ),
        ),
        (
            "max_sessions",
            Attribute(
                "MaxSessions",
                Integer(0, 65535),
                0,
                "Sessions that there may be at once; 0: any number.",
                effect=Effect.LOGIN,
            ),
        ),
        (
            "alias",
            Attribute("alias", Text(255), "", "The TargetAlias.", effect=Effect.LOGIN),
        ),
        (
            "comment",
            Attribute(
                "comment",
                Text(1024),
                "",
                "A note for people; nothing is done with it.",
                effect=Effect.LIVE,
            ),
        ),
    )
}
"""Attributes of a target that `Limits` holds: its field, and the row."""

FAULTS: Mapping[str, tuple[str, Attribute[Any]]] = {
    row.name: (FIELDS[row.name], row)
    for row in (
        Attribute(
            "black_hole",
            Integer(0, 4),
            0,
            "Never answer: 1 commands, 2 task management too, 3 commands that move"
            " blocks, 4 those and task management.",
            effect=Effect.LIVE,
        ),
        Attribute(
            "DigestFailures",
            Integer(0, 1 << 30),
            0,
            "Take one in so many PDUs for damaged, where digests are on; 0: none.",
            effect=Effect.LIVE,
        ),
    )
}
"""Attributes of a target that `Faults` holds: its field, and the row."""

GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = tuple(
    attrs.evolve(
        row, default=None, help=f"{row.help} When not set, as the target does."
    )
    for _field, row in FAULTS.values()
)
"""Attributes of a group of initiators: faults of its own."""

TARGET_ATTRIBUTES: Sequence[Attribute[Any]] = (
    *(row for _field, row in LIMITS.values()),
    *(row for _field, row in GATE.values()),
    *(row for _field, row in FAULTS.values()),
    *(
        Attribute(
            name,
            _kind(name),
            LOCAL[name],
            f"What the target brings to the negotiation of {name}.",
            effect=Effect.LOGIN,
        )
        for name in CONFIGURABLE
    ),
)
