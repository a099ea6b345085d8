# SPDX-License-Identifier: MIT
"""
What an iSNS server is told of us, and asked: the attributes of each request (RFC 4171
section 5.6), and what is read out of its answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from scstd.protocols.wire.isns import (
    INITIATOR,
    ISCSI_PROTOCOL,
    SCN_BITMAP,
    TARGET,
    Attributes,
    Message,
    Tag,
    address,
    number,
    string_of,
    text,
)
from scstd.protocols.wire.names import MAX_NAME_LENGTH, folded

MAX_ALIAS_LENGTH = 255
"""Bytes of an alias, without its NUL (section 6.4.3)."""

_MAX_NAME_VALUE = MAX_NAME_LENGTH + 4
"""Bytes of the longest iSCSI name as a value: with its NUL, and padded."""


@attrs.frozen
class Registration:
    """
    What the server is to know: the entity's name, portals as (address, port), targets
    as (name, alias).
    """

    entity: str
    portals: Sequence[tuple[str, int]]
    targets: Sequence[tuple[str, str]]

    def attributes(self, listening: int, *, inquiries: bool = True) -> Attributes:
        """
        Return the operating attributes of DevAttrReg (RFC 4171 section 5.6.5.1): each
        object once, its keys first.  The server reaches us at the port *listening*, for
        *inquiries* too.
        """
        found: Attributes = [
            (Tag.ENTITY_IDENTIFIER, text(self.entity)),
            (Tag.ENTITY_PROTOCOL, number(ISCSI_PROTOCOL)),
        ]
        portals = dict.fromkeys((address(host), port) for host, port in self.portals)
        for where, port in portals:
            found += [
                (Tag.PORTAL_IP_ADDRESS, where),
                (Tag.PORTAL_TCP_UDP_PORT, number(port)),
            ]
            if inquiries:
                found.append((Tag.ESI_PORT, number(listening)))
            found.append((Tag.SCN_PORT, number(listening)))
        for name, alias in self.targets:
            found += [
                (Tag.ISCSI_NAME, text(name)),
                (Tag.ISCSI_NODE_TYPE, number(TARGET)),
            ]
            if alias:
                found.append((Tag.ISCSI_ALIAS, text(alias, MAX_ALIAS_LENGTH)))
        return found


def registering(
    source: str, what: Registration, listening: int, *, inquiries: bool
) -> Attributes:
    """
    Return the attributes of DevAttrReg: *source* is one of the entity's targets.
    """
    return [
        (Tag.ISCSI_NAME, text(source)),
        (Tag.ENTITY_IDENTIFIER, text(what.entity)),
        (Tag.DELIMITER, b""),
        *what.attributes(listening, inquiries=inquiries),
    ]


def deregistering(source: str, entity: str) -> Attributes:
    """
    Return the attributes of DevDereg: all of an entity goes.
    """
    return [
        (Tag.ISCSI_NAME, text(source)),
        (Tag.DELIMITER, b""),
        (Tag.ENTITY_IDENTIFIER, text(entity)),
    ]


def subscribing(name: str) -> Attributes:
    """
    Return the attributes of SCNReg: a target is to hear of changes.
    """
    return [
        (Tag.ISCSI_NAME, text(name)),
        (Tag.ISCSI_NAME, text(name)),
        (Tag.DELIMITER, b""),
        (Tag.ISCSI_SCN_BITMAP, number(SCN_BITMAP)),
    ]


def asking_initiators(name: str) -> Attributes:
    """
    Return the attributes of DevAttrQry: which initiators are in a target's domains.
    """
    return [
        (Tag.ISCSI_NAME, text(name)),
        (Tag.ISCSI_NODE_TYPE, number(INITIATOR)),
        (Tag.DELIMITER, b""),
        (Tag.ISCSI_NAME, b""),
    ]


def initiators_in(answer: Message) -> frozenset[str]:
    """
    Return the names in the answer to that.
    """
    values = [value for tag, value in answer.attributes if tag == Tag.ISCSI_NAME]
    return frozenset(
        folded(string_of(value))
        for value in values
        if 0 < len(value) <= _MAX_NAME_VALUE
    )


def registration_period(answer: Message) -> int:
    """
    Return for how many seconds a registration holds, as the answer to it says; 0 if it
    does not (section 6.2.6).
    """
    periods = [
        int.from_bytes(value, "big")
        for tag, value in answer.attributes
        if tag == Tag.REGISTRATION_PERIOD
    ]
    return min(filter(None, periods), default=0)
