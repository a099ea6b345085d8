"""
A target driver: lines of hex on a TCP port.

    login INITIATOR TARGET         ok, or: refused
    TAG LUN CDB [DATA-OUT]         TAG STATUS SENSE DATA-IN     (a field is - if empty)
    abort TAG                      abort TAG
    reset LUN                      reset LUN FUNCTION_COMPLETE

Answers come in the order in which commands end.  What is no such line ends the session.
"""

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from scstd.attributes import Attribute, Effect, Flag, Integer, Text
from scstd.drivers.addresses import address_name
from scstd.drivers.base import BaseDriver
from scstd.drivers.session import DriverSession
from scstd.scsi.sam import TaskManagementFunction

ATTRIBUTES = (
    Attribute(
        "enabled", Flag(), False, "Let initiators in.", effect=Effect.LIVE, marked=False
    ),
)
TARGET_ATTRIBUTES = (
    Attribute("greeting", Text(80), "ok", "What a login is told.", effect=Effect.LOGIN),
    Attribute(
        "MaxCommands", Integer(1, 4096), 64, "Under way at once.", effect=Effect.LIVE
    ),
)


class LinesProtocol(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 22
    session = None

    def lineReceived(self, line):  # noqa: N802 - Twisted's name
        try:
            word, *rest = line.decode("ascii").split()
            if self.session is None:
                self.login(word, *rest)
            elif word == "abort":
                self.session.abort(int(rest[0]), lambda: self.say("abort", rest[0]))
            elif word == "reset":
                self.session.manage(
                    TaskManagementFunction.LOGICAL_UNIT_RESET,
                    int(rest[0]) << 48,
                    lambda response: self.say("reset", rest[0], response.name),
                )
            else:
                self.command(int(word), *rest)
        except (ValueError, TypeError, IndexError) as error:
            self.connectionLost(error)

    def login(self, word, initiator, name):
        driver = self.factory.driver
        target = driver.visible(name, initiator)
        if word != "login" or target is None:
            self.say("refused")
            self.transport.loseConnection()
            return
        self.settings = driver.targets[name].values
        self.session = DriverSession(
            driver,
            target,
            initiator,
            close=self.transport.loseConnection,
            peer=address_name(self.transport.getPeer()),
            portal=address_name(self.transport.getHost()),
        )
        self.say(self.settings["greeting"])

    def command(self, tag, lun, cdb, data="-"):
        if len(self.session.tasks) >= self.settings["MaxCommands"]:
            self.say(tag, "28", "-", "-")  # TASK SET FULL
            return
        self.session.command(
            tag,
            int(lun) << 48,
            bytes.fromhex(cdb),
            self.answer,
            data=b"" if data == "-" else bytes.fromhex(data),
        )

    def answer(self, task):
        data = bytes(task.data_in)
        self.say(
            task.tag, f"{task.status:02x}", task.sense.hex() or "-", data.hex() or "-"
        )

    def say(self, *words):
        self.sendLine(" ".join(map(str, words)).encode())

    def connectionLost(self, reason):
        if self.session is None:
            self.transport.loseConnection()
        else:
            self.session.end(str(getattr(reason, "value", reason)))


class LinesDriver(BaseDriver):
    scheme = "lines"

    def __init__(self, reactor, settings):
        super().__init__(reactor, settings)
        self.factory = Factory.forProtocol(LinesProtocol)
        self.factory.driver = self


def open(reactor, settings):
    return LinesDriver(reactor, dict(settings))
