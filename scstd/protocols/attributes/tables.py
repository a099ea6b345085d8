# SPDX-License-Identifier: MIT
"""
The attributes of the driver iscsi and of its targets, a row each, with the field that
has the value: of `Node` for the driver, of `TargetSettings` for a target.

Names, ranges and defaults are SCST's (iscsi-scst) where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
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
from scstd.protocols.attributes.kinds import (
    Account,
    Algorithms,
    EntityName,
    ISNSServer,
    Pattern,
    Redirect,
)
from scstd.protocols.engine.faults import FIELDS
from scstd.protocols.wire.chap import NAMES
from scstd.protocols.wire.keys import CONFIGURABLE, KEYS, LOCAL, Boolean, FirstOf

MOST = 1 << 20
"""Longest data segment or burst that can be configured, in bytes."""


@attrs.frozen
class AttributeRow:
    """
    An attribute, and where its value is.
    """

    field: str
    """
    The field of the object, perhaps of one in it (``access.incoming``); "" of what is
    in none: `BaseDriver.settings` has it alone.
    """
    attribute: Attribute[Any]

    @property
    def is_account(self) -> bool:
        """Whether it is one of the accounts, which have to agree."""
        return self.field in {"access.incoming", "access.outgoing"}

    def get(self, holder: Any) -> Any:
        """
        Return the value that a `Node` or a `TargetSettings` has.
        """
        return attrgetter(self.field)(holder)

    def set(self, holder: Any, value: Any) -> None:
        """
        Give it another one.
        """
        inner, _dot, field = self.field.rpartition(".")
        setattr(attrgetter(inner)(holder) if inner else holder, field, value)


class KeyRow(AttributeRow):
    """
    A text key, of which `TargetSettings.local` has the target's side.
    """

    def get(self, holder: Any) -> Any:
        """Return it."""
        return holder.local[self.attribute.name]

    def set(self, holder: Any, value: Any) -> None:
        """Give it another one, from the next login on."""
        holder.local = {**holder.local, self.attribute.name: value}


_DRIVER = (
    AttributeRow(
        "enabled",
        Attribute(
            "enabled",
            Flag(),
            False,
            "Let initiators log in.",
            effect=Effect.LIVE,
            marked=False,
        ),
    ),
    AttributeRow(
        "login_timeout",
        Attribute(
            "LoginTimeout",
            Seconds(1, 3600),
            30.0,
            "How long a login may take.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "",
        Attribute(
            "initiators_allow",
            Text(4096, "a file's path"),
            "/etc/initiators.allow",
            "Addresses that may see targets in spite of initiators_deny.",
        ),
    ),
    AttributeRow(
        "",
        Attribute(
            "initiators_deny",
            Text(4096, "a file's path"),
            "/etc/initiators.deny",
            "Addresses that may not see targets.",
        ),
    ),
)
"""Of the driver."""

_ISNS = (
    AttributeRow(
        "",
        Attribute(
            "iSNSServer",
            ISNSServer(),
            None,
            "The iSNS server; with AccessControl its domains decide who sees what.",
        ),
    ),
    AttributeRow(
        "",
        Attribute(
            "isns_entity_name",
            EntityName(),
            "",
            "The entity's name there; when not set, this host's.",
        ),
    ),
)
"""Of the driver, about iSNS (RFC 4171)."""

_NODE = (
    AttributeRow(
        "internal_portal",
        Attribute(
            "internal_portal",
            Text(255, "an address"),
            "",
            "The portal where nobody has to prove who it is.",
            effect=Effect.LOGIN,
        ),
    ),
    AttributeRow(
        "max_logins",
        Attribute(
            "MaxUnfinishedLogins",
            Integer(1, 65535),
            256,
            "Logins under way at once; with more the oldest silent one gives way.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "max_connections",
        Attribute(
            "MaxOpenConnections",
            Integer(1, 65535),
            4096,
            "Connections there may be at once; with more a login gives way.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "suspended",
        Attribute(
            "suspended",
            Flag(),
            False,
            "Refuse new logins for now (status 0301).",
            effect=Effect.LIVE,
        ),
    ),
)
"""Of the driver, about logins."""

_ACCOUNTS = (
    AttributeRow(
        "access.incoming",
        Attribute(
            "IncomingUser",
            Account(),
            None,
            "A user who may log in, and the secret; with none everybody may (CHAP).",
            repeats=True,
            effect=Effect.LOGIN,
            secret=True,
        ),
    ),
    AttributeRow(
        "access.outgoing",
        Attribute(
            "OutgoingUser",
            Account(),
            None,
            "The name and secret by which we prove ourselves to initiators that ask.",
            effect=Effect.LOGIN,
            secret=True,
        ),
    ),
    AttributeRow(
        "access.algorithms",
        Attribute(
            "CHAPAlgorithms",
            Algorithms(),
            tuple(NAMES),
            "What initiators may prove themselves with; the first of theirs is taken.",
            effect=Effect.LOGIN,
        ),
    ),
)
"""Accounts: a target's for its sessions, the driver's for discovery."""

_SETTINGS = (
    AttributeRow(
        "queued_commands",
        Attribute(
            "QueuedCommands",
            Integer(1, 2048),
            32,
            "Commands that a session may have under way.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "response_timeout",
        Attribute(
            "RspTimeout",
            Seconds(2, 65535),
            90.0,
            "How long an initiator may take to send data or take an answer.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "nop_in_interval",
        Attribute(
            "NopInInterval",
            Seconds(0, 65535),
            30.0,
            "How long a session may be idle before it is pinged; 0: for ever.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
        "nop_in_timeout",
        Attribute(
            "NopInTimeout",
            Seconds(2, 65535),
            30.0,
            "How long the answer to a ping may take.",
            effect=Effect.LIVE,
        ),
    ),
    AttributeRow(
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
    AttributeRow(
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
    AttributeRow(
        "max_sessions",
        Attribute(
            "MaxSessions",
            Integer(0, 65535),
            0,
            "Sessions that there may be at once; 0: any number.",
            effect=Effect.LOGIN,
        ),
    ),
    AttributeRow(
        "alias",
        Attribute("alias", Text(255), "", "The TargetAlias.", effect=Effect.LOGIN),
    ),
    AttributeRow(
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
"""Limits and timers of a target."""

_ACCESS = (
    AttributeRow(
        "access.allowed_portals",
        Attribute(
            "allowed_portal",
            Pattern(),
            None,
            "Portals on which the target is there; with none on all.",
            repeats=True,
            effect=Effect.LOGIN,
        ),
    ),
    AttributeRow(
        "access.per_portal_acl",
        Attribute(
            "per_portal_acl",
            Flag(),
            False,
            "Groups know an initiator as NAME#ADDRESS of the portal it is on.",
            effect=Effect.LOGIN,
        ),
    ),
    AttributeRow(
        "access.redirect",
        Attribute(
            "redirect",
            Redirect(),
            None,
            "Send initiators there instead: ADDRESS[:PORT] temp or perm.",
            effect=Effect.LOGIN,
        ),
    ),
)
"""Who may come in to a target, besides accounts."""

_FAULTS = tuple(
    AttributeRow(f"faults.{FIELDS[row.name]}", row)
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
)
"""What a target does wrong on purpose."""


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


_KEYS = tuple(
    KeyRow(
        "local",
        Attribute(
            name,
            _kind(name),
            LOCAL[name],
            f"What the target brings to the negotiation of {name}.",
            effect=Effect.LOGIN,
        ),
    )
    for name in CONFIGURABLE
)


def _by_name(*rows: AttributeRow) -> Mapping[str, AttributeRow]:
    return {row.attribute.name: row for row in rows}


DRIVER_ROWS = _by_name(*_DRIVER, *_ISNS, *_NODE, *_ACCOUNTS)
"""The rows of the driver, of a `Node`."""

TARGET_ROWS = _by_name(*_SETTINGS, *_ACCOUNTS, *_ACCESS, *_FAULTS, *_KEYS)
"""The rows of a target, of its `TargetSettings`."""

ATTRIBUTES: Sequence[Attribute[Any]] = [row.attribute for row in DRIVER_ROWS.values()]

TARGET_ATTRIBUTES: Sequence[Attribute[Any]] = [
    row.attribute for row in TARGET_ROWS.values()
]

GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = tuple(
    attrs.evolve(
        row.attribute,
        default=None,
        help=f"{row.attribute.help} When not set, as the target does.",
    )
    for row in _FAULTS
)
"""Attributes of a group of initiators: faults of its own."""
