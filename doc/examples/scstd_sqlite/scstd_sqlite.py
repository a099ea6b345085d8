"""A disk in a SQLite database: a row for each block that was ever written."""

import sqlite3

from zope.interface import implementer

from scstd.attributes import Attribute, Size, Text
from scstd.blocking import Lane
from scstd.interfaces import IBackstore

PARAMETERS = (
    Attribute("database", Text(), None, "The SQLite file.", required=True),
    Attribute("size", Size(4096), 1 << 30, "Capacity."),
)


@implementer(IBackstore)
class SQLiteStore:
    block_size = 4096

    def __init__(self, reactor, database, size):
        self.size = size // 4096 * 4096
        self._lane = Lane(reactor, "sqlite")
        self._db = sqlite3.connect(database, check_same_thread=False)
        self._db.execute("CREATE TABLE IF NOT EXISTS b (n INTEGER PRIMARY KEY, d BLOB)")

    def read(self, offset, length):
        return self._lane.call(self._read, offset // 4096, length // 4096)

    def _read(self, first, count):
        data = bytearray(count * 4096)
        rows = "SELECT n, d FROM b WHERE n BETWEEN ? AND ?"
        for n, block in self._db.execute(rows, (first, first + count - 1)):
            data[(n - first) * 4096 : (n - first + 1) * 4096] = block
        return data

    def write(self, offset, data, fua):
        blocks = [
            ((offset + at) // 4096, bytes(data[at : at + 4096]))
            for at in range(0, len(data), 4096)
        ]
        return self._lane.call(self._write, blocks, fua)

    def _write(self, blocks, fua):
        self._db.executemany("REPLACE INTO b VALUES (?, ?)", blocks)
        if fua:
            self._db.commit()

    def flush(self):
        return self._lane.call(self._db.commit)

    def close(self):
        self._lane.call(self._db.commit)
        return self._lane.close().addCallback(lambda _: self._db.close())


def open(reactor, device, parameters):
    return SQLiteStore(reactor, parameters["database"], parameters["size"])
