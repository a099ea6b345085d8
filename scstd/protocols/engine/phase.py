# SPDX-License-Identifier: MIT
"""
The phases of a connection, as bits: where a PDU is legal.
"""

from __future__ import annotations


class Phase:
    """
    Where a PDU is legal: bits (plain ones, for each PDU is looked at).
    """

    LOGIN = 1
    NORMAL = 2
    DISCOVERY = 4
    OVER = 8
