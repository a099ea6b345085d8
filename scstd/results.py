# SPDX-License-Identifier: MIT
"""
Values that may be Deferreds (`scstd.interfaces.Result`), in coroutines.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred

from scstd.interfaces import Result

T = TypeVar("T")


async def settled(result: Result[T]) -> T:
    """
    Return a value, waiting for it if it is a Deferred.
    """
    return await result if isinstance(result, Deferred) else result
