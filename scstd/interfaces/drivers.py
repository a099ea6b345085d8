# SPDX-License-Identifier: MIT
"""
Target drivers: the plugins that bring commands from some transport to the SCSI core.

What a driver calls of the core is `scstd.scsi.target.Target` (given to it),
`scstd.scsi.nexus.Nexus`, `scstd.scsi.sam.Task` and of a logical unit ``arrive``,
``run``, ``fail`` and ``abort``: doc/drivers.md says in which order.
`scstd.drivers.session` does it for a simple driver, and `scstd.drivers.base` has what
is below for any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from scstd.interfaces.values import Result

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from scstd.attributes import Attribute as Row


class ITargetDriver(IPlugin):
    """
    A plugin that brings commands from some transport to the SCSI core:
    ``TARGET_DRIVER <name> { TARGET ... }`` in scst.conf.  `scstd.plugin.TargetDriver`
    is one whose code is in a module.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-drivers.")
    default: bool = Attribute(
        "Whether it is meant where the command line names no driver: true of ours."
    )
    port: int | None = Attribute(
        "The TCP port where it listens when no portal is given; None: it listens only"
        " where it is told to."
    )

    def target_name(name: str) -> tuple[str, str]:
        """
        Return the name that a target is known by (in small letters, say), and what is
        to be said of it to a person ("": nothing).  Whoever asks for the target by any
        spelling finds it.

        :raises ConfigurationError: this can be no target's name.
        """

    def default_target_name() -> str:
        """
        Return what the target of the command line is named when it has no name.
        """

    def attributes() -> Sequence[Row[Any]]:
        """
        Return the table of the driver's own attributes.  One named ``enabled`` says
        whether anybody is let in; while it is not, the driver does not begin to listen.
        """

    def target_attributes() -> Sequence[Row[Any]]:
        """
        Return the table of its own attributes of each of its targets.  What every
        target has (``enabled``, ``addr_method``, ``rel_tgt_id``) is not in it.
        """

    def group_attributes() -> Sequence[Row[Any]]:
        """
        Return the table of what it knows of each group of initiators, besides what the
        core does: none repeats.
        """

    def open(reactor: Any, settings: Mapping[str, Any]) -> ITargetDriverInstance:
        """
        Return a driver ready for targets and listening, not yet listening.
        """


class ITargetDriverInstance(Interface):
    """
    A target driver at work.  The service tree calls it in the order written here.
    """

    def add_target(target: Any, settings: Mapping[str, Any]) -> None:
        """
        Accept initiators for *target* (`scstd.scsi.target.Target`) from now on;
        *settings* has a value for every row of `ITargetDriver.target_attributes`.

        A target that is not enabled (``target.enabled``) lets nobody in.
        """

    def remove_target(name: str) -> Result[None]:
        """
        Let nobody in to this target any more and end its sessions; done means that no
        command of theirs can touch data.  One of its name may be added before that.
        """

    def attributes() -> Mapping[str, Any]:
        """
        Return the driver's own attributes as they are now.
        """

    def set(name: str, value: Any) -> None:
        """
        Give one of the driver's own attributes another value.
        """

    def attributes_of(target: str) -> Mapping[str, Any]:
        """
        Return a target's own attributes, of every row, as they are now.
        """

    def set_attribute(target: str, name: str, value: Any) -> None:
        """
        Give an attribute of a target another value; when it acts is in its row.
        """

    def target_changed(target: str) -> None:
        """
        Act on what has changed in what every target has: it was enabled, or is not any
        more.  Its sessions stay.
        """

    def group_changed(target: str) -> None:
        """
        Act on what has changed in the values (`scstd.scsi.luns.Group.values`) of a
        target's groups.
        """

    def listen(endpoint: str) -> Result[Any]:
        """
        Listen on a Twisted server endpoint string; fire with an IListeningPort.
        """

    def unlisten(port: Any) -> Result[None]:
        """
        Stop listening on what `listen` fired with; sessions stay.
        """

    def urls() -> Sequence[str]:
        """
        Return a URL for each LUN of each enabled target on the first portal, as a local
        initiator is to be given it.
        """

    def sessions() -> Sequence[Any]:
        """
        Return the sessions now logged in.

        Each has the attributes *initiator* (its name, which is part of a path in the
        tree: ``/`` is not in it) and *nexus* (`scstd.scsi.nexus.Nexus`).  It can be
        referred to weakly.
        """

    def report(session: Any) -> Mapping[str, Any]:
        """
        Return what there is to say of a session: negotiated values, counters.  Names
        are files of the session in the tree; those that
        `scstd.management.monitor.counters` knows are SCST's counters.
        """

    def end_session(session: Any, why: str) -> Result[None]:
        """
        End a session; done means that none of its commands can touch data.
        """

    def stop() -> Result[None]:
        """
        Stop listening, end every session, and fire when no command can touch data.
        """


class IReporting(Interface):
    """
    A target driver at work that tells of events: sessions that open and close, logins
    that are refused, task management.

    SESSION_OPENED and SESSION_CLOSED have *target* (`Target.qualified_name`),
    *initiator*, *peer* and *portal* (addresses) and *tsih* (a number of the session);
    the latter *reason*, *commands* and *seconds*, too.
    """

    def report_to(report: Callable[..., None]) -> None:
        """
        Call ``report(NAME, field=value, ...)`` at each event from now on.  Values are
        strings, numbers or None, and never a secret.
        """


class IDividedDriver(Interface):
    """
    A target driver at work whose sessions may be in other processes than its ports
    (doc/scale.md).  One instance, in the front process, listens, says which targets
    there are, and is in no session; one in each worker has some of the targets, never
    listens, and adopts those who want these.  Without it a driver's targets cannot be
    divided over workers.
    """

    def divide(
        give: Callable[[str, Any, int], Deferred[None]],
    ) -> None:
        """
        In the front, before it listens: have nobody in a session here.

        Once it is known which target somebody wants, ``give(target, told, descriptor)``
        is called with the name of the target, whatever `adopt` has to know (pickle has
        to take it), and the descriptor of a stream socket whose other end is the
        initiator's, which stays the caller's: a copy travels.  It fires when that is
        adopted; or it fails, and who has come is to be told to come again.  With the
        errno EAGAIN or ECONNRESET it may wait instead: the process that has the target
        is not there, or has just ended, and another will take its place (`again`).
        """

    def again() -> None:
        """
        In the front: a process is there that was not.
        """

    def passed_on() -> Deferred[None]:
        """
        In the front, when the workers have ended: fire when initiators have got what
        has gone through this instance.  It is not waited for long.
        """

    def adopt(target: str, told: Any, descriptor: int) -> Result[None]:
        """
        In a worker: take what the front's instance has given away.  The descriptor is
        this one's to close, whatever happens.

        :raises OSError: nobody has been adopted.
        """

    def portals() -> Sequence[str]:
        """
        Return the addresses, ``HOST:PORT``, that initiators are told of.
        """

    def listens_elsewhere(portals: Sequence[str]) -> None:
        """
        In a worker: have what the front's `portals` has returned be what initiators
        are told.
        """
