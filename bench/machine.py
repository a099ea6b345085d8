# SPDX-License-Identifier: MIT
"""
What was measured, and on what: the commit, the Python and its build, the machine.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sysconfig
import time
from pathlib import Path

_TURNS = 200_000


def optimized() -> bool:
    """
    Say whether this Python was built with profile-guided optimisation, as
    ``configure --enable-optimizations`` has it.

    Distributions' are; what a version manager compiles is not, if it is not told to,
    and is a fifth slower.
    """
    told = str(sysconfig.get_config_var("CONFIG_ARGS"))
    flags = str(sysconfig.get_config_var("PY_CORE_CFLAGS"))
    if "--enable-optimizations" in told or "-fprofile-use" in flags:
        return True
    # Debian asks for it in another way, and takes the flags out of what is remembered.
    return not sysconfig.get_config_var("PGO_PROF_USE_FLAG")


def _loop() -> int:
    found, table = 0, {1: 2}
    for number in range(_TURNS):
        table[number & 15] = found
        found = (found + table.get(number & 7, 3)) & 0xFFFF
    return found


def speed() -> float:
    """
    Return how many nanoseconds this Python takes for a turn of a small loop: the best
    of some.  It tells runs of different machines, and builds, apart.
    """
    best = 1.0
    for _round in range(7):
        began = time.perf_counter()
        _loop()
        best = min(best, time.perf_counter() - began)
    return best / _TURNS * 1e9


def commit() -> str:
    """
    Return the commit of this checkout, with a plus if files have changed since.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    # What a run has written before is no change of what is measured.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../scstd")
    return (git("rev-parse", "--short=10", "HEAD") or "?") + ("+" if changed else "")


def description() -> dict[str, str]:
    """
    Return what a line of the history begins with.
    """
    now = dt.datetime.now(dt.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "python": platform.python_version(),
        "optimized": "yes" if optimized() else "no",
        "loop ns": f"{speed():.0f}",
        "kernel": platform.release().split("-")[0],
        "processors": str(len(os.sched_getaffinity(0))),
    }


def sentence() -> str:
    """
    Return the same, for people.
    """
    what = description()
    built = "with its optimisations" if optimized() else "without optimisations"
    return (
        f"{platform.python_implementation()} {what['python']}, built {built}"
        f" ({what['loop ns']} ns for a turn of a small loop),"
        f" Linux {what['kernel']}, {what['processors']} processors."
    )
