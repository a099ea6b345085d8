# SPDX-License-Identifier: MIT
"""
From scst.conf to a `Configuration`: reading files.

What a file's statements mean is in `scstd.management.config.blocks`, their grammar in
`scstd.management.grammar.scstconf`.  A person is told of all mistakes at once; with a
mistake there is no configuration.
"""

from __future__ import annotations

from scstd.attributes import (
    ConfigurationError,
)
from scstd.management.config.blocks import Reader
from scstd.management.grammar.scst_dialect import Translator
from scstd.management.grammar.scstconf import (
    MistakeError,
    Mistakes,
    Word,
    parse,
)
from scstd.management.model.configuration import (
    Configuration,
)
from scstd.management.model.group_configuration import (
    NUMBER,
)
from scstd.management.model.warnings import warn
from scstd.textfile import read_text


def read_file(path: str, *, pipes: bool = False) -> Configuration:
    """
    Return what a file configures; warnings go to the log.  With *pipes* it may come
    through a pipe, which may have to be waited for.

    :raises Mistakes: there are mistakes in it, or it cannot be read.
    """
    configuration, warnings = read_file_and_warn(path, pipes=pipes)
    for warning in warnings:
        warn(warning)
    return configuration


def read_file_and_warn(
    path: str, *, pipes: bool = False
) -> tuple[Configuration, list[str]]:
    """
    Return what a file configures, and what is to be said of it though it is no mistake.

    :raises Mistakes: there are mistakes in it, or it cannot be read.
    """
    return _read_file(path, pipes=pipes)[:2]


def _read_file(
    path: str, *, pipes: bool
) -> tuple[Configuration, list[str], dict[str, Word]]:
    try:
        text = read_text(path, pipes=pipes, escaped=True)
    except OSError as error:
        wrong = ConfigurationError(f"{path}: {error.strerror}")
        raise Mistakes([wrong]) from error
    return _read(text, path)


def see_serves(configuration: Configuration, path: str) -> None:
    """
    See that there is something to serve in what a file configures: one that was emptied
    by mistake takes nothing away.

    :raises Mistakes: there is nothing.
    """
    if not configuration.drivers:
        nothing = "nothing to serve: there is no TARGET_DRIVER"
        raise Mistakes([ConfigurationError(f"{path}: {nothing}")])


def read_and_check(
    path: str, *, pipes: bool = False
) -> tuple[Configuration, list[str]]:
    """
    Return what `read_file_and_warn` does, when a start would find nothing wrong either,
    as far as that can be seen without starting (`scstd.management.config.rehearsal`).

    :raises Mistakes: there are mistakes in it, or it cannot be read.
    """
    from scstd.management.config.rehearsal import mistakes  # noqa: PLC0415 - heavy

    configuration, warnings, places = _read_file(path, pipes=pipes)
    see_serves(configuration, path)
    found = [
        one if isinstance(one, MistakeError) else ConfigurationError(f"{path}: {one}")
        for one in mistakes(configuration, places)
    ]
    if found:
        raise Mistakes(found)
    return configuration, warnings


def read(text: str, file: str) -> Configuration:
    """
    Return what *text* configures; *file* is its name for messages.

    :raises Mistakes: there are mistakes in it.
    """
    return _read(text, file)[0]


def read_and_warn(text: str, file: str) -> tuple[Configuration, list[str]]:
    """
    Return what *text* configures, and what is to be said of it.

    :raises Mistakes: there are mistakes in it.
    """
    return _read(text, file)[:2]


def _read(text: str, file: str) -> tuple[Configuration, list[str], dict[str, Word]]:
    reader = Reader()
    translator = Translator(reader.mistakes)
    statements = translator.whole(parse(text, file, reader.mistakes))
    configuration = reader.whole(statements)
    if reader.mistakes:
        raise Mistakes(reader.mistakes)
    unnumbered = [
        f"{file}: {port} of target group {group.name} has no {NUMBER}: it is not"
        " reported"
        for one in configuration.device_groups
        for group in one.groups
        for port, number in group.ports.items()
        if number is None and port not in configuration.rel_tgt_ids()
    ]
    return configuration, translator.warnings + unnumbered, reader.places
