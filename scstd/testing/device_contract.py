# SPDX-License-Identifier: MIT
"""
The contract of a device that takes whole commands (`scstd.interfaces.ICommandDevice`)
as tests: for those of other packages.

Inherit from `CommandDeviceContract` and trial's ``TestCase``, and say how a device is
made::

    from twisted.trial.unittest import TestCase
    from scstd.testing.device_contract import CommandDeviceContract

    class MyDeviceTests(CommandDeviceContract, TestCase):
        async def open(self):
            return MyDevice(...)

Only INQUIRY, TEST UNIT READY and operation codes that no standard has are sent: the
suite writes nothing.  The device is called as a logical unit calls it, through
`scstd.scsi.checked_device`: what is no answer fails the test with a `StoreFault`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from scstd.interfaces import Asker, CommandAnswer, ICommandDevice, LunSession
from scstd.results import settled
from scstd.scsi.checked_device import checked_device

_SESSION = LunSession(1, "iqn.2026-11.org.scstd:test", "", "", 0, "contract")
_CHECK_CONDITION, _ILLEGAL_REQUEST = 0x02, 0x05

_UNKNOWN = (0x7E, 0x9F, 0xB1)
"""An extended CDB, and a reserved service action and operation code (SPC-5)."""


def _asker(opcode: int, tag: int) -> Asker:
    return Asker(_SESSION, opcode, f"opcode {opcode:02X}h", tag)


def _inquiry(length: int, *, page: int | None = None) -> bytes:
    """
    Return the CDB of an INQUIRY (SPC-5 section 6.7).
    """
    evpd = bytes((0, 0)) if page is None else bytes((1, page))
    return b"\x12" + evpd + length.to_bytes(2, "big") + bytes(11)


class CommandDeviceContract:
    """
    What every such device promises.
    """

    async def open(self) -> ICommandDevice:
        """
        Return a new device.
        """
        raise NotImplementedError

    async def _opened(self) -> Any:
        device: Any = checked_device(await self.open(), "contract")
        case: Any = self

        async def close() -> None:
            await settled(device.close())

        case.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return device

    @staticmethod
    async def _done(device: Any, cdb: bytes, length: int = 0) -> CommandAnswer:
        answer: CommandAnswer = await settled(
            device.execute(cdb, b"", length, _asker(cdb[0], 1))
        )
        return answer

    async def test_inquiry(self) -> None:
        """It says what it is, and of the type that it is said to be."""
        device = await self._opened()
        answer = await self._done(device, _inquiry(255), 255)
        assert answer.status == 0, answer
        assert len(answer.data_in) >= 36
        assert answer.data_in[0] == device.device_type

    async def test_lengths(self) -> None:
        """It returns no more than is asked for, and than is expected."""
        device = await self._opened()
        for asked, expected in ((0, 36), (5, 36), (36, 5), (255, 36), (36, 0)):
            answer = await self._done(device, _inquiry(asked), expected)
            assert answer.status == 0, answer
            assert len(answer.data_in) <= min(asked, expected)

    async def test_ready(self) -> None:
        """TEST UNIT READY ends, one way or the other, and moves nothing."""
        device = await self._opened()
        answer = await self._done(device, bytes(16))
        assert not answer.data_in

    async def test_unknown(self) -> None:
        """What it does not know it refuses, and goes on."""
        device = await self._opened()
        for opcode in _UNKNOWN:
            cdb = bytes((opcode, 0x1F)) + bytes(14)
            answer = await self._done(device, cdb, 8)
            assert answer.status == _CHECK_CONDITION, answer
            sense = bytes(answer.sense)
            key = sense[1 if sense[0] & 0x7F >= 0x72 else 2] & 0x0F
            assert key == _ILLEGAL_REQUEST, sense
        await self.test_inquiry()

    async def test_overlapping(self) -> None:
        """Commands that overlap all end."""
        device = await self._opened()
        several = [
            Deferred.fromCoroutine(self._done(device, _inquiry(36), 36))
            for _one in range(16)
        ]
        answers = await gatherResults(several)
        assert len({bytes(one.data_in) for one in answers}) == 1

    async def test_aborted(self) -> None:
        """An abort of what has ended harms nothing, nor does a reset."""
        device = await self._opened()
        asker = _asker(0x12, 7)
        await settled(device.execute(_inquiry(36), b"", 36, asker))
        device.inner.abort(asker)
        device.inner.abort(_asker(0x12, 8))
        await settled(device.inner.reset())
        answer = await self._done(device, _inquiry(36), 36)
        assert answer.status == 0
