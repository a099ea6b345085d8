# SPDX-License-Identifier: MIT
"""
What is refused, with the number that SCST's files would give: ENOENT, EEXIST, ...

Programs look at the number, people read the text.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from scstd.attributes import ConfigurationError, unknown


class TreeError(ConfigurationError):
    """
    An operation on the tree is refused; *errno* says what kind of refusal it is.
    """

    def __init__(self, errno: int, why: str) -> None:
        super().__init__(why)
        self.errno = errno


def number_of(error: BaseException) -> int:
    """
    Return the errno of an error: EINVAL for a mistake that has none of its own.
    """
    found = getattr(error, "errno", None)
    return found if isinstance(found, int) else errno.EINVAL


def absent(what: str, name: str, known: Iterable[object] = ()) -> TreeError:
    """
    Return the error for something that is not there; it names what is.
    """
    names = [str(one) for one in known]
    if len(names) > 40:
        return TreeError(errno.ENOENT, f"there is no {what} {name!r}")
    return TreeError(errno.ENOENT, unknown(what, name, names))


def present(what: str, name: str) -> TreeError:
    """
    Return the error for something that is there already.
    """
    return TreeError(errno.EEXIST, f"there is a {what} {name!r} already")
