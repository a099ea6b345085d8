# SPDX-License-Identifier: MIT
"""
Every zope interface: the whole contract between scstd and other people's packages.

A *device handler* opens a *backstore*: bytes at offsets (or a device that takes
whole commands, `ICommandDevice`).  A *filter* wraps a
backstore and overrides what it changes.  A *target driver* listens on some transport
and brings commands to the SCSI core.  Each is a plugin: an object in a module under
``twisted/plugins`` that provides one of the ``…Handler``, ``…Filter`` or ``…Driver``
interfaces below and is named by a word in configuration.

===========  ========================================================================
`plugins`    device handlers and filters: what a package of one of them provides
`stores`     a backstore, and what it can do with its bytes besides
`media`      its medium: which one it is, its size, and that both may change
`markers`    what it says of itself without a method
`commands`   a device that takes whole SCSI commands
`asking`     for whom it is called
`drivers`    target drivers
`stages`     who sees, holds or answers commands at a logical unit
`taps`       who sees, changes, drops, holds or adds PDUs
`values`     results, bytes and errors
===========  ========================================================================

All their names are to be had from here, and stay here.

**Value or Deferred.**  Wherever a method is annotated `Result`, it returns the value
itself or a `twisted.internet.defer.Deferred` that fires with it.  Return the value
when you have it: it is an order of magnitude cheaper.  Never block the reactor: what
may wait goes to a thread (see `scstd.blocking`).

**Errors.**  A method that fails raises, or fires its Deferred with, an `OSError` whose
``errno`` says why; the device server turns it into sense data (EIO: MEDIUM ERROR;
ENOSPC: SPACE ALLOCATION FAILED; EROFS: WRITE PROTECTED; ...; `scstd.scsi.sense` has the
table).  A store that knows where it failed raises `MediumError`.  Any other exception
is logged with its traceback and answered HARDWARE ERROR; so is any other answer than
the one that is promised here, in one line of the log.

**Coroutines.**  A method annotated `Result` may be an ``async def``, and so may
`IDeviceHandler.open` and `IFilter.wrap`.  It awaits Deferreds.
"""

from __future__ import annotations

from scstd.interfaces.asking import (
    Asker,
    IKnowsAsker,
    ISessions,
    LunSession,
    asking,
    carried,
    command_priority,
    current_asker,
)
from scstd.interfaces.commands import CommandAnswer, ICommandDevice
from scstd.interfaces.drivers import (
    IDividedDriver,
    IReporting,
    ITargetDriver,
    ITargetDriverInstance,
)
from scstd.interfaces.markers import (
    IGivenBuffers,
    IOpticalDrive,
    IReadOnly,
    IVolatile,
    IWriteThrough,
)
from scstd.interfaces.media import (
    IMediumIdentity,
    IRemovableMedium,
    IResize,
    IResizeNotice,
)
from scstd.interfaces.plugins import (
    ICheckedHandler,
    IDeviceHandler,
    IFilter,
)
from scstd.interfaces.stages import ICommandStage
from scstd.interfaces.stores import (
    Extent,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IPrefetch,
    ISpace,
    IUnmap,
    IWriteZeroes,
)
from scstd.interfaces.taps import (
    IIncomingPDUs,
    IOutgoingPDUs,
    IPDUTap,
    ITapClosed,
    ITapped,
)
from scstd.interfaces.values import (
    BLOCK_SIZES,
    Buffer,
    MediumError,
    Result,
)

__all__ = [
    "BLOCK_SIZES",
    "Asker",
    "Buffer",
    "CommandAnswer",
    "Extent",
    "IBackstore",
    "IBlockStatus",
    "ICheckedHandler",
    "ICommandDevice",
    "ICommandStage",
    "ICompareAndWrite",
    "ICopySource",
    "ICopyTarget",
    "IDeviceHandler",
    "IDividedDriver",
    "IExtents",
    "IFilter",
    "IGivenBuffers",
    "IIncomingPDUs",
    "IKnowsAsker",
    "IMediumIdentity",
    "IOpticalDrive",
    "IOutgoingPDUs",
    "IPDUTap",
    "IPrefetch",
    "IReadOnly",
    "IRemovableMedium",
    "IReporting",
    "IResize",
    "IResizeNotice",
    "ISessions",
    "ISpace",
    "ITapClosed",
    "ITapped",
    "ITargetDriver",
    "ITargetDriverInstance",
    "IUnmap",
    "IVolatile",
    "IWriteThrough",
    "IWriteZeroes",
    "LunSession",
    "MediumError",
    "Result",
    "asking",
    "carried",
    "command_priority",
    "current_asker",
]
