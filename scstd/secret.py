# SPDX-License-Identifier: MIT
"""
``python -m scstd.secret`` prints a secret for CHAP: 128 random bits (RFC 7143 section
9.2.1), as 32 letters and digits that go into scst.conf, and into an initiator.

There is no other way to have one made here: what is derived from a word that somebody
remembers can be found out by whoever has heard one login.
"""

from __future__ import annotations

import secrets

BITS = 128
"""Random bits of a secret."""


def secret() -> str:
    """
    Return a new secret, in hexadecimal.
    """
    return secrets.token_hex(BITS // 8)


if __name__ == "__main__":
    print(secret())  # noqa: T201 - it is for this
