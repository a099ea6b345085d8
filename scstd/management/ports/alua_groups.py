# SPDX-License-Identifier: MIT
"""
Device groups as they run: asymmetric access.

The model is `scstd.scsi.alua`'s, what a person says of it is in
`scstd.management.model.group_configuration`; here is how that becomes live objects, and
the timer for changes of state that take their time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed

from scstd.attributes import (
    ConfigurationError,
)
from scstd.interfaces import Result
from scstd.management.model.group_configuration import (
    DeviceGroupConfiguration,
    TargetGroupConfiguration,
)
from scstd.management.ports.transition import Programs
from scstd.scsi.alua import (
    AccessState,
    DeviceGroup,
    TargetPortGroup,
    TransitionRefused,
)


def _nothing(
    live: LiveGroup, group: TargetPortGroup, state: AccessState
) -> Deferred[None]:
    del live, group, state
    return succeed(None)


@attrs.define(eq=False)
class LiveGroup:
    """
    A device group that runs, and the time its changes take.
    """

    reactor: Any
    devices: DeviceGroup
    transition_time: float = 0.0
    follow: Callable[[LiveGroup, TargetPortGroup, AccessState], Deferred[None]] = (
        _nothing
    )
    """What is to be done at a change of state, while ports are transitioning."""
    bound: Callable[[LiveGroup], bool] = lambda _live: False
    """Whether there is anything to be done."""
    programs: Programs = attrs.field(
        default=attrs.Factory(lambda self: Programs(self.reactor), takes_self=True)
    )
    """What SET TARGET PORT GROUPS asks."""
    _waiting: dict[Deferred[None], Any] = attrs.field(factory=dict)
    _turns: DeferredLock = attrs.field(factory=DeferredLock)

    @property
    def values(self) -> dict[str, Any]:
        """Its attributes."""
        return {
            "transition_time": self.transition_time,
            "on_stpg": self.programs.path,
            "on_stpg_timeout": self.programs.timeout,
        }

    def set(self, name: str, value: Any) -> None:
        """
        Give an attribute another value.
        """
        if name == "transition_time":
            self.set_transition_time(value)
        elif name == "on_stpg":
            self.programs.path = value
            self.look()
        else:
            self.programs.timeout = value

    def set_transition_time(self, seconds: float) -> None:
        """
        Have changes of state take so long from now on.
        """
        self.transition_time = seconds
        self.devices.transition_time = -int(-seconds // 1)
        self.look()

    def look(self) -> None:
        """
        See whether a change of state has to wait for anything.
        """
        waits = self.transition_time or self.bound(self) or self.programs.path
        self.devices.carry_out = self._carry_out if waits else None

    def _carry_out(self, group: TargetPortGroup, state: AccessState) -> Result[None]:
        if not self.transition_time:
            return self._change(group, state)
        waited: Deferred[None] = Deferred()
        self._waiting[waited] = self.reactor.callLater(
            self.transition_time, self._over, waited
        )
        return waited.addCallback(lambda _: self._change(group, state))

    def _change(self, group: TargetPortGroup, state: AccessState) -> Deferred[None]:
        task = group.asked_by
        if task is None or not self.programs.path:
            return self.follow(self, group, state)
        arguments = (
            task.itl.unit.name,
            group.left.name.lower(),
            state.name.lower(),
            self.devices.name,
            group.name,
        )
        # One program after the other, as SCST has it.
        asked: Deferred[None] = self._turns.run(
            lambda: Deferred.fromCoroutine(self._ask(group, state, arguments))
        )
        return asked

    async def _ask(
        self, group: TargetPortGroup, state: AccessState, arguments: Sequence[str]
    ) -> None:
        """
        Have the program decide: before stores are opened, but after they are closed,
        for what is below them may not be taken away while they are open.
        """
        if state in (AccessState.ACTIVE, AccessState.NONOPTIMIZED):
            await self.programs.ask(arguments)
            await self.follow(self, group, state)
            return
        await self.follow(self, group, state)
        try:
            await self.programs.ask(arguments)
        except TransitionRefused:
            await self.follow(self, group, group.left)
            raise

    def _over(self, waited: Deferred[None]) -> None:
        del self._waiting[waited]
        waited.callback(None)

    def set_state(self, name: str, word: str) -> Deferred[None]:
        """
        Put a target port group into another state; fire when it is there.
        """
        group = self.devices.groups[name]
        return self.devices.set_state(group, AccessState[word.upper()])

    def set_preferred(self, name: str, preferred: bool) -> None:
        """
        Prefer a target port group, or not.
        """
        self.devices.set_preferred(self.devices.groups[name], preferred=preferred)

    def set_group_id(self, name: str, number: int) -> None:
        """
        Give a target port group another number.

        :raises ConfigurationError: it is taken.
        """
        try:
            self.devices.set_group_id(self.devices.groups[name], number)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def configuration(self) -> DeviceGroupConfiguration:
        """
        Return what would open a device group like this one, as it is now.
        """
        return DeviceGroupConfiguration(
            self.devices.name,
            self.values,
            tuple(unit.name for unit in self.devices.units),
            tuple(
                TargetGroupConfiguration(
                    group.name,
                    {
                        "group_id": group.group_id,
                        "state": group.state.name.lower(),
                        "preferred": group.preferred,
                    },
                    {
                        port.name: None if port.target else port.relative_id or None
                        for port in group.ports.values()
                    },
                )
                for group in self.devices.groups.values()
            ),
        )

    def close(self) -> None:
        """
        Let changes that wait, or come yet, happen now: nothing waits for them.
        """
        self.transition_time = 0.0
        self.devices.carry_out = None
        self.programs.stop()
        for waited, call in list(self._waiting.items()):
            call.cancel()
            self._over(waited)
