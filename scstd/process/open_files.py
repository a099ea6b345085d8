# SPDX-License-Identifier: MIT
"""
How many files a process may have open.
"""

from __future__ import annotations

import resource

_FILES = 65536
"""Open files that a process needs at most."""


def more_files() -> None:
    """
    Let the process have more open files, as far as it may: each device has three.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
