# SPDX-License-Identifier: MIT
"""
Stages: who sees, holds or answers commands on their way through a logical unit.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class ICommandStage(Interface):
    """
    Something that commands pass on their way through a logical unit.

    What changes answers is a stage; what changes bytes is a block filter.  A stage is
    put on a unit with ``unit.pipeline.add(stage)``, and may be on many.  It wraps those
    of the four points of a command's life for which it has a function, and costs the
    others nothing; `scstd.scsi.pipeline` has a base class, the points, what may be done
    at each, and the order of stages.

    Each function takes a `scstd.scsi.sam.Task`, and a function without arguments that
    lets it go on, at once or in another turn of the reactor.  What it raises before
    that ends the command with HARDWARE ERROR, and is logged with the stage's name.
    """

    name: str = Attribute("What the log calls it.")

    rank: int = Attribute(
        """Where it stands among others: the lowest sees a command first, and its answer
        last.  Among equals the name decides (`scstd.scsi.pipeline.Rank`)."""
    )

    arrive = Attribute(
        """A function, or None: a command has come, and is going to be decoded and put
        in the task set.  It goes on at once."""
    )

    run = Attribute(
        """A function, or None: all Data-Out of the task has come; it may start when the
        task set has enabled it."""
    )

    execute = Attribute(
        """A function, or None: the task is about to start, if reservations, unit
        attentions and the state of the unit do not stop it."""
    )

    finish = Attribute(
        """A function, or None: it is known how the task ends.  It leaves the task set,
        and is answered."""
    )
