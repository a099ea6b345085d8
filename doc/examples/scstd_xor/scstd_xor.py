"""A filter that keeps every byte XORed with a key."""

from scstd.attributes import Attribute, Integer
from scstd.filters.base import Transforming

PARAMETERS = (Attribute("key", Integer(1, 255), 255, "What each byte is XORed with."),)


class XORed(Transforming):
    def __init__(self, inner, key):
        super().__init__(inner)
        self._table = bytes(byte ^ key for byte in range(256))

    def to_store(self, offset, data):
        return bytes(data).translate(self._table)

    from_store = to_store


def wrap(reactor, device, store, parameters):
    return XORed(store, parameters["key"])
