# SPDX-License-Identifier: MIT
"""
The filters of a device as they are configured: the value of its attribute ``filter``.

A filter's parameters are parsed with the text that names it: what travels from then on
is the filter and its values.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import attrs

from scstd.attributes import ConfigurationError, Text, parse_values
from scstd.interfaces import IFilter
from scstd.plugin import find_filter


@attrs.frozen
class FilterConfiguration:
    """
    A filter and its parameters.
    """

    filter: IFilter
    """The plugin."""
    values: Mapping[str, Any]
    """A value for each of its parameters."""
    text: str = attrs.field(default="", eq=False)
    """How a person has written it."""


_TEXT = Text(what="a filter's name and its parameters")


@attrs.frozen
class FilterLine:
    """
    The kind of such a value: a filter's name and its parameters.
    """

    def parse(self, text: str) -> FilterConfiguration:
        """Return the filter that *text* names, with its parameters."""
        try:
            words = shlex.split(_TEXT.parse(text))
        except ValueError as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"filter {text!r}: {error}") from None
        if not words:
            raise ConfigurationError("filter: expected a filter's name")
        found = find_filter(words[0])
        given = [pair(word) for word in words[1:]]
        try:
            values = parse_values(found.parameters(), given)
        except ConfigurationError as error:
            raise ConfigurationError(f"filter {words[0]!r}: {error}") from None
        return FilterConfiguration(found, values, text)

    def render(self, value: FilterConfiguration) -> str:
        """Return the text as it was written."""
        return value.text

    def describe(self) -> str:
        """Say what is expected."""
        return _TEXT.describe()


def pair(word: str) -> tuple[str, str]:
    """
    Return name and value of ``name=value``; a name alone is a flag that is set.
    """
    name, equals, value = word.partition("=")
    return name, value if equals else "1"
