# SPDX-License-Identifier: MIT
"""
``scstadmin -events``: what happens, a line an event, as it does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from scstd.management.cli.tools import DONE, say, show
from scstd.management.control.client import Client
from scstd.printable import printable


def line(event: Mapping[str, Any]) -> str:
    """
    Return an event for people: the time, its name, its fields.
    """
    fields = {
        name: value
        for name, value in event.items()
        if name not in {"number", "time", "event"} and value not in {None, ""}
    }
    when = datetime.fromtimestamp(event["time"]).astimezone()
    said = " ".join(
        f"{name}={json.dumps(value) if ' ' in str(value) else value}"
        for name, value in fields.items()
    )
    whole = f"{when.isoformat(timespec='milliseconds')} {event['event']} {said}"
    return printable(whole.rstrip())


async def follow(
    names: Sequence[str], count: int | None, client: Client, *, as_json: bool
) -> int:
    """
    Print events until *count* have come, or for ever; return the exit status.

    With *as_json* each is an object on a line of its own.  Events that were lost,
    because this was too slow, are counted on standard error.
    """
    await client.subscribe(names)
    say("subscribed")
    left = count
    while left is None or left > 0:
        events, lost = await client.events()
        for event in events if left is None else events[:left]:
            show(json.dumps(event) if as_json else line(event))
        if lost:
            say(f"{lost} events were lost: this was too slow to take them")
        sys.stdout.flush()
        if left is not None:
            left -= len(events)
    return DONE
