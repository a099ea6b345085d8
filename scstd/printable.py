# SPDX-License-Identifier: MIT
"""
What others have sent, made fit for logs, lists and terminals.

A terminal obeys control characters, of both sets (below 20h, and 7Fh to 9Fh); others
turn the direction of a line (U+202E), or end it (U+2028).  So nothing is shown as it is
but what can be printed: what Unicode calls neither control, format, separator (but for
the space), private, unassigned nor half of a pair.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """
    Return a text in which nothing works a terminal or ends a line: what cannot be
    printed is escaped as Python has it.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def printable_lines(text: str) -> str:
    """
    Return the lines of a text, each of them `printable`; tabs are blanks.
    """
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))
