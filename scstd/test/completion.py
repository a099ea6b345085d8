# SPDX-License-Identifier: MIT
"""
Shell completion for scstadmin, from its parser: ``make docs`` writes contrib/completion.

Options are completed from the table; the names of devices, targets, drivers, handlers
and groups are asked of the running service, by ``scstadmin -list_...``.
"""

from __future__ import annotations

from scstd.management.cli import scstadmin
from scstd.management.cli.scstadmin_commands import ACTIONS
from scstd.test.manual import Option, options_of

NAMES = {
    "DEVICE": ("list_device", 1),
    "TARGET": ("list_target", 2),
    "DRIVER": ("list_driver", 1),
    "HANDLER": ("list_handler", 1),
    "GROUP": ("list_group", 3),
    "INITIATOR": ("list_sessions", 3),
    "TO": ("list_group", 3),
    "DGROUP": ("list_dgrp", 1),
    "DEV_GROUP": ("list_dgrp", 1),
}
"""The list, and its column, that has the names that a word stands for."""

_FILES = {"FILE", "PATH"}

HEAD = "# Written by `make docs` from scstadmin's parser; do not edit.\n"


def options() -> list[Option]:
    """
    Return scstadmin's options.
    """
    return options_of(scstadmin.parser())


def word_of(option: Option) -> str:
    """
    Return what kind of word comes after an option.
    """
    return option.word.strip("[]").split(" ")[0]


def new_names() -> set[str]:
    """
    Return the options whose word is a name that is not there yet.
    """
    return {
        f"-{one.option}"
        for one in ACTIONS
        if one.option.startswith(("open_", "add_")) and one.option.count("attr") == 0
    }


def bash() -> str:
    """
    Return the completion for bash.
    """
    cases = []
    groups: dict[str, list[str]] = {}
    for one in options():
        word = word_of(one)
        if set(one.names) & new_names():
            continue
        for name in one.names:
            groups.setdefault(word if word not in _FILES else "FILE", []).append(name)
    for word, names in groups.items():
        pattern = "|".join(names)
        if word == "FILE":
            cases.append(
                f"        {pattern})\n"
                '            mapfile -t COMPREPLY < <(compgen -f -- "$current")\n'
                "            return ;;"
            )
        elif word in NAMES:
            listing, column = NAMES[word]
            cases.append(
                f"        {pattern})\n"
                "            mapfile -t COMPREPLY < <(compgen -W"
                f' "$(_scstadmin_names {listing} {column})" -- "$current")\n'
                "            [[ ${#COMPREPLY[@]} -gt 0 ]] && return ;;"
            )
    words = " ".join(name for one in options() for name in one.names)
    return (
        HEAD
        + """\
_scstadmin_names() {
    local socket=() at
    for ((at = 1; at < ${#words[@]} - 1; at++)); do
        [[ ${words[at]} == -socket ]] && socket=(-socket "${words[at + 1]}")
    done
    "${words[0]}" "${socket[@]}" "-$1" 2>/dev/null |
        awk -v column="$2" 'NR > 2 && $column != "-" && !seen[$column]++ {
            print $column
        }'
}

_scstadmin() {
    # Bash breaks words at colons, which names of targets have: the line has them whole.
    local line=${COMP_LINE:0:COMP_POINT} words current previous
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]} previous=${words[-2]}
    _scstadmin_reply
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
}

_scstadmin_reply() {
    COMPREPLY=()
    case $previous in
"""
        + "\n".join(cases)
        + f"""
    esac
    mapfile -t COMPREPLY < <(compgen -W "{words}" -- "$current")
}}

complete -F _scstadmin scstadmin
"""
    )


def zsh() -> str:
    """
    Return the completion for zsh.
    """
    lines = []
    for one in options():
        word = word_of(one)
        text = one.help.replace("'", "").replace("[", "(").replace("]", ")")
        text = text.replace(":", "\\:")
        for name in one.names:
            action = ""
            if word in _FILES:
                action = f":{word}:_files"
            elif word in NAMES and name not in new_names():
                listing, column = NAMES[word]
                action = f":{word}:_scstadmin_names {listing} {column}"
            elif word:
                action = f":{word}: "
            optional = ":" if action and one.word.startswith("[") else ""
            lines.append(f"    '{name}[{text}]{optional}{action}'")
    return (
        "#compdef scstadmin\n"
        + HEAD
        + """\
_scstadmin_names() {
    local -a found
    found=(${(f)"$(scstadmin -$1 2>/dev/null | awk -v column=$2 \\
        'NR > 2 && $column != "-" && !seen[$column]++ { print $column }')"})
    compadd -a found
}

_arguments \\
"""
        + " \\\n".join(lines)
        + "\n"
    )


FILES = {"scstadmin.bash": bash, "_scstadmin": zsh}
