# SPDX-License-Identifier: MIT
"""
Command lines that make no sense are answered in the one line that matters, with the
option that was meant.
"""

from __future__ import annotations

import argparse
import difflib
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """
    A parser whose errors are a line, and exit status 2.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and what may have been meant."""
        known = [name for action in self._actions for name in action.option_strings]
        meant = ""
        for word in message.replace(":", "").split():
            found = difflib.get_close_matches(word.partition("=")[0], known, 1)
            if word.startswith("-") and word not in known and found:
                meant = f" (did you mean {found[0]}?)"
                break
        self.exit(2, f"{self.prog}: {message}{meant}; -h lists the options\n")
