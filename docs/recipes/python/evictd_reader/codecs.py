"""How a value becomes the bytes in Redis, and back."""

import json
import pickle
from typing import Any, Callable, NamedTuple


class Codec(NamedTuple):
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _bytes(value):
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected bytes of a function cached with BYTES, got {type(value).__name__}")
    return bytes(value)


# The default. Compact; None is 'null', so that a row that does not exist is cached too. What JSON changes (a tuple becomes a list)
# is changed for the caller that loads the value as well: all callers see one value.
JSON = Codec(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), json.loads)
TEXT = Codec(lambda value: value.encode(), lambda stored: stored.decode())
BYTES = Codec(_bytes, bytes)
# Whoever can write to this Redis can then run code in the reader: only where that is nobody else.
PICKLE = Codec(lambda value: pickle.dumps(value, pickle.HIGHEST_PROTOCOL), pickle.loads)
