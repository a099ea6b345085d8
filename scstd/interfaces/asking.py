# SPDX-License-Identifier: MIT
"""
For whom a store is called.
"""

from __future__ import annotations

from contextvars import ContextVar

command_priority: ContextVar[int] = ContextVar("command_priority", default=0)
"""
The priority of the command for which a store is called, 1 (the highest) to 15; 0 if it
has none.  A store whose calls wait may let those of a high priority go first
(`scstd.blocking.Lane` does).  It is set while a command makes its first call.
"""
