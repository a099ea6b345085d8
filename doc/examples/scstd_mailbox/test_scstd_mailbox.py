"""The contract of a device that takes whole commands."""

from scstd_mailbox import Mailbox
from twisted.trial.unittest import TestCase

from scstd.testing.device_contract import CommandDeviceContract


class MailboxTests(CommandDeviceContract, TestCase):
    async def open(self):
        return Mailbox()
