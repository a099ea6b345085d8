"""A filter that counts what each session reads and writes, and logs it at its end."""

from twisted.logger import Logger
from zope.interface import implementer

from scstd.filters.base import Filtered
from scstd.interfaces import (
    IBlockStatus,
    IExtents,
    IGivenBuffers,
    IKnowsAsker,
    ISessions,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
    asking,
)

PARAMETERS = ()

log = Logger()


@implementer(IKnowsAsker, ISessions)
class Tallied(Filtered):
    transparent = (
        IBlockStatus,
        IExtents,
        IGivenBuffers,
        IUnmap,
        IWriteThrough,
        IWriteZeroes,
    )

    def __init__(self, inner):
        super().__init__(inner)
        self.bytes = {}

    def session_opened(self, session):
        self.bytes[session] = {"read": 0, "written": 0}
        super().session_opened(session)

    def session_closed(self, session):
        super().session_closed(session)
        log.info(
            "{device}: {initiator} has read {read} bytes and written {written}",
            device=session.device,
            initiator=session.initiator,
            **self.bytes.pop(session),
        )

    def read(self, offset, length):
        self._count("read", length)
        return super().read(offset, length)

    def write(self, offset, data, fua):
        self._count("written", len(data))
        return super().write(offset, data, fua)

    def _count(self, what, length):
        asker = asking()
        if asker is not None:
            self.bytes[asker.session][what] += length


def wrap(reactor, device, store, parameters):
    return Tallied(store)
