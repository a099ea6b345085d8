# SPDX-License-Identifier: MIT
"""
Tests for the sessions that a store is told of (`scstd.interfaces.ISessions`): each
comes and goes once, also where filters change under them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from scstd import plugin
from scstd.filters.base import Filtered
from scstd.initiator.commands import read10, write10
from scstd.installed import Installed
from scstd.installed import installed as found_installed
from scstd.interfaces import Asker, IFilter, ISessions, LunSession
from scstd.management.config.reading import read
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.scsi.device import close_disk
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.recorder import Recorder
from scstd.test.stores import memory
from scstd.test.test_handlers_of_others import Wrapper
from scstd.test.test_presence import PresenceCase
from scstd.test.test_tree import login


@implementer(ISessions)
class Told(Filtered):
    """One that raises, or answers, what it is given when it is told."""

    def __init__(self, inner: Any, answer: Any) -> None:
        super().__init__(inner)
        self.answer = answer

    def session_opened(self, session: LunSession) -> Any:
        """Hand it on, and do as it was told."""
        super().session_opened(session)
        return self._done()

    def session_closed(self, session: LunSession) -> Any:
        """The same at the end."""
        super().session_closed(session)
        return self._done()

    def _done(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class SessionsTests(SynchronousTestCase):
    """
    Sessions of a target in memory.
    """

    def connect(self, count: int = 1) -> None:
        """Serve so many stores."""
        self.stores = [Recorder(memory()) for _one in range(count)]
        self.node, self.target, self.units = serve(*self.stores)

    def events(self, lun: int = 0) -> list[tuple[str, str]]:
        """Return what a store was told, with the initiators' names."""
        return [(what, one.initiator) for what, one in self.stores[lun].sessions]

    def test_life(self) -> None:
        """It is opened at the login, the same at each call, and closed at the end."""
        self.connect(2)
        one = Initiator(self.node).ready()
        two = Initiator(self.node, name=INITIATOR + ".two").ready()
        one.do(read10(0, 1), read=512)
        one.do(read10(1, 1), read=512)
        self.assertEqual(self.events(), [("opened", INITIATOR), ("opened", two.name)])
        session = self.stores[0].sessions[0][1]
        for asker in self.stores[0].askers("read"):
            assert asker is not None
            self.assertIs(asker.session, session)
        self.assertIsNot(self.stores[1].sessions[0][1], session)
        self.assertEqual(self.stores[1].sessions[0][1].lun, 1)
        one.logout()
        self.assertEqual(self.events()[2:], [("closed", INITIATOR)])
        self.assertIs(self.stores[0].sessions[2][1], session)
        again = Initiator(self.node).ready()
        again.logout()
        two.logout()
        self.assertEqual(
            self.events()[3:],
            [("opened", INITIATOR), ("closed", INITIATOR), ("closed", two.name)],
        )
        numbers = {one.number for _what, one in self.stores[0].sessions}
        self.assertEqual(len(numbers), 3)

    def test_last_call(self) -> None:
        """It is closed when the last of its calls is over, and no sooner."""
        self.connect()
        store = self.stores[0]
        one = Initiator(self.node).ready()
        store.slow = True
        one.send(one.command(write10(0, 1), write=512, data=bytes(512)))
        one.connection.disconnected()
        self.assertEqual(self.events(), [("opened", INITIATOR)])
        store.go()
        self.assertEqual(self.events()[1:], [("closed", INITIATOR)])

    def test_reinstated(self) -> None:
        """A login in the place of a session is another session."""
        self.connect()
        Initiator(self.node).ready()
        Initiator(self.node).ready()
        self.assertEqual(
            sorted(what for what, _who in self.events()), ["closed", "opened", "opened"]
        )

    def test_maps(self) -> None:
        """It comes with a LUN and goes with it; resets leave it there."""
        self.connect(2)
        one = Initiator(self.node).ready()
        for function in (
            TaskManagementCode.LOGICAL_UNIT_RESET,
            TaskManagementCode.TARGET_WARM_RESET,
        ):
            one.manage(function)
        self.target.remove_lun(1)
        self.assertEqual(self.events(1), [("opened", INITIATOR), ("closed", INITIATOR)])
        self.target.add_lun(7, self.units[1])
        self.assertEqual(self.stores[1].sessions[-1][0], "opened")
        self.assertEqual(self.stores[1].sessions[-1][1].lun, 7)
        self.assertEqual(self.events(0), [("opened", INITIATOR)])

    def test_store_closed(self) -> None:
        """Those that are there when the store is closed end before, and once."""
        self.connect()
        one = Initiator(self.node).ready()
        self.successResultOf(close_disk(self.units[0]))
        self.assertEqual(self.events(), [("opened", INITIATOR), ("closed", INITIATOR)])
        one.logout()
        self.assertEqual(len(self.events()), 2)

    def test_wrong(self) -> None:
        """What it raises or returns is logged with its name, and changes nothing."""

        async def later() -> None:
            pass

        for answer, logged in (
            (KeyError("x"), KeyError),
            (SystemExit(3), SystemExit),
            (OSError(5, "no"), None),
            (7, None),
            (succeed(None), None),
            (Deferred(), None),
            (later(), None),
        ):
            recorder = Recorder(memory())
            store: Any = Told(recorder, answer)
            node, _target, _units = serve(store)
            one = Initiator(node).ready()
            self.assertEqual(one.do(read10(0, 1), read=512).status, 0)
            one.logout()
            self.assertEqual(
                [what for what, _who in recorder.sessions], ["opened", "closed"]
            )
            found = self.flushLoggedErrors(*([logged] if logged else []))
            self.assertEqual(len(found), 2 if logged else 0, answer)


class LiveTests(PresenceCase):
    """
    Filters that are put before an open store, and taken away.
    """

    def install(self, wrapper: Wrapper) -> None:
        """Have another filter besides ours."""

        def installed(kind: Any) -> Installed:
            found = found_installed(kind)
            more = [wrapper] if kind is IFilter else []
            return Installed([*found.plugins, *more], found.broken)

        self.patch(plugin, "installed", installed)

    async def test_put_in(self) -> None:
        """
        The sessions that are there are opened at once, before their first call, and
        closed when the filter is taken away; the device's LUNs stay.
        """
        made: list[Recorder] = []

        def wrap(store: Any) -> Any:
            made.append(Recorder(store))
            return made[-1]

        self.install(Wrapper(wrap, "recorder"))
        config = await self.start(self.text("size 1M", handler="memory"))
        tree = config.tree
        one = login(tree)
        two = login(tree, "iqn.2005-03.org.initiator:b")
        wanted = 'size 1M\nfilter "recorder"\nfilter "delay"\nfilter "recorder"'
        await config.apply(read(self.text(wanted, handler="memory"), ""))
        self.assertEqual(len(made), 2)
        self.assertEqual(self.sees(one), 0)
        for filter_ in made:
            self.assertEqual(
                [(what, who.initiator) for what, who in filter_.sessions],
                [("opened", one.name), ("opened", two.name)],
            )
            asker: Asker | None = filter_.askers("read")[-1]
            assert asker is not None
            self.assertIs(asker.session, filter_.sessions[0][1])
            self.assertEqual(asker.session.device, "d0")
        two.logout()
        await config.apply(read(self.text("size 1M", handler="memory"), ""))
        for filter_ in made:
            self.assertEqual(
                [(what, who.initiator) for what, who in filter_.sessions[2:]],
                [("closed", two.name), ("closed", one.name)],
            )
        self.assertEqual(self.sees(one), 0)

    async def test_named(self) -> None:
        """The log has the name of the filter that raises."""
        said: list[Any] = []
        note: Any = said.append
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        self.install(Wrapper(lambda store: Told(store, OSError(5, "no")), "broken"))
        config = await self.start(self.text("size 1M", handler="memory"))
        await config.tree.write("devices/d0/filter", "broken")
        one = login(config.tree)
        self.assertEqual(self.sees(one), 0)
        lines = [
            formatEvent(one)
            for one in said
            if one.get("log_namespace") == "scstd.block.checked"
        ]
        self.assertEqual(
            lines, ["d0: filter broken: session_opened raised OSError: [Errno 5] no"]
        )
