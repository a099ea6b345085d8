"""A processor device (SPC-2, RECEIVE and SEND): a message sent is received once."""

from collections import deque

from zope.interface import implementer

from scstd.interfaces import CommandAnswer, ICommandDevice

PARAMETERS = ()

PROCESSOR = 0x03
CHECK_CONDITION = 0x02
ILLEGAL_REQUEST = 0x05
IDENTITY = bytes((PROCESSOR, 0, 6, 2, 31, 0, 0, 2)) + b"SCSTD   MAILBOX         1   "


def failed(key, asc):
    sense = bytes((0x70, 0, key, *bytes(4), 10, *bytes(4), asc >> 8, asc & 0xFF))
    return CommandAnswer(CHECK_CONDITION, sense + bytes(4))


@implementer(ICommandDevice)
class Mailbox:
    device_type = PROCESSOR

    def __init__(self):
        self.messages = deque(maxlen=1000)

    def execute(self, cdb, data_out, data_in_length, asker):
        command = COMMANDS.get(cdb[0])
        if command is None:
            return failed(ILLEGAL_REQUEST, 0x2000)  # INVALID COMMAND OPERATION CODE
        return command(self, cdb, bytes(data_out), data_in_length)

    def ready(self, cdb, data, most):
        return CommandAnswer()

    def inquiry(self, cdb, data, most):
        if cdb[1] & 1:
            return failed(ILLEGAL_REQUEST, 0x2400)  # INVALID FIELD IN CDB
        return CommandAnswer(
            data_in=IDENTITY[: min(most, int.from_bytes(cdb[3:5], "big"))]
        )

    def send(self, cdb, data, most):
        if len(data) != int.from_bytes(cdb[2:5], "big"):
            return failed(ILLEGAL_REQUEST, 0x2400)
        self.messages.append(data)
        return CommandAnswer()

    def receive(self, cdb, data, most):
        most = min(most, int.from_bytes(cdb[2:5], "big"))
        return CommandAnswer(
            data_in=self.messages.popleft()[:most] if self.messages else b""
        )

    def abort(self, asker):
        pass

    def reset(self):
        self.messages.clear()

    def close(self):
        pass


COMMANDS = {
    0x00: Mailbox.ready,
    0x08: Mailbox.receive,
    0x0A: Mailbox.send,
    0x12: Mailbox.inquiry,
}


def open(reactor, device, parameters):
    return Mailbox()
