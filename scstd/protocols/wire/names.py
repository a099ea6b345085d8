# SPDX-License-Identifier: MIT
"""
iSCSI names, and their normal form (RFC 7143 section 4.2.7, RFC 3722).

Names are compared in the form that stringprep gives them.  What initiators send is
taken only as the standard has it; what a person has configured may be a little freer.
"""

from __future__ import annotations

import re
import stringprep
import unicodedata

from scstd.protocols.wire.login_status import LoginError, LoginStatus

MAX_NAME_LENGTH = 223
"""Bytes of the longest iSCSI name (RFC 7143 section 4.2.7.1)."""

_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c11_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_d1,
)
"""
The tables of RFC 3454 whose characters no iSCSI name has (RFC 3722 sections 5 to 7):
right-to-left ones not, for every name begins from the left.
"""

_FULL_STOP = "\u3002"
"""The ideographic full stop, which RFC 3722 prohibits besides."""


def folded(name: str) -> str:
    """
    Return a name with what makes no difference taken out (RFC 3722 sections 3 and 4).
    """
    if name.isascii():
        # Nearly every name: all that the tables do to one.
        return name.lower()
    mapped = "".join(
        stringprep.map_table_b2(one) for one in name if not stringprep.in_table_b1(one)
    )
    return unicodedata.normalize("NFKC", mapped)


def _prohibited(character: str) -> bool:
    if character.isascii():
        return not (character.isalnum() or character in "-.:")
    return character == _FULL_STOP or any(table(character) for table in _PROHIBITED)


def wanted_name(name: str) -> str:
    """
    Return the name of a target that is asked for in its normal form; it may be one that
    a person has configured though it is none by the standard (``_``, as SCST takes it).

    :raises LoginError: it can be no target's name.
    """
    normal = folded(name) if len(name) <= MAX_NAME_LENGTH else ""
    odd = re.fullmatch(r"(iqn\.\d{4}|eui\.|naa\.)[!-~]*", normal)
    if odd is not None and not set(normal) & set("/=;"):
        return normal
    return normal_name(name)


def normal_name(name: str) -> str:
    """
    Return an iSCSI name in its normal form (RFC 7143 section 4.2.7.2, RFC 3722).

    Its length is looked at first: what folding costs grows faster than that.

    :raises LoginError: it is no iSCSI name.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise LoginError(
            LoginStatus.INITIATOR_ERROR,
            f"a name of {len(name)} characters: {name[:60]!r}...",
        )
    normal = folded(name)
    form = re.fullmatch(
        r"iqn\.\d{4}-\d{2}\.[^\s:]+(:\S+)?|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}){1,2}",
        normal,
    )
    if (
        form is None
        or len(normal.encode()) > MAX_NAME_LENGTH
        or any(map(_prohibited, normal))
    ):
        raise LoginError(
            LoginStatus.INITIATOR_ERROR, f"not an iSCSI name: {name[:60]!r}"
        )
    return normal
