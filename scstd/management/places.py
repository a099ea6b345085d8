# SPDX-License-Identifier: MIT
"""
Where things are when nobody says otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path


def default_directory() -> Path:
    """
    Return where state is kept unless ``--state-dir`` says otherwise: what the service
    manager names, /var/lib/scstd for root, else the user's state directory.
    """
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/scstd")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "scstd"


def default_socket(state: Path | None = None) -> Path:
    """
    Return where the control socket is unless somebody says otherwise: in the state
    directory.
    """
    return (state or default_directory()) / "control"
