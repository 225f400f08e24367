"""Results as bytes that outlive their program: classes of a script are in them by name, and are found again by it.

On the way from a worker to its program they have a token besides, which another program does not know.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from allcores.system import deferral, main_module
from allcores.transport import origins, process_role
from allcores.transport.pickling import PROTOCOL, cloud_dumps

_NAMED = (*(name.encode() for name in main_module.NAMES), b"allcores.transport.origins")


def dump(value: Any) -> bytes:
    """Bytes of a result.

    Raises:
        Exception: What pickling raises: it cannot be kept.
    """
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception as error:
        if deferral.raised_by_handler(error) or not process_role.is_worker():
            raise
        # A worker has no `__main__` of its own; it knows what its copies are called there.
        return cloud_dumps(value, to_parent=True)


def load(data: bytes) -> Any:
    """A result again.

    Raises:
        Exception: It cannot be read here: what it is made of is not there, for one.
    """
    if any(name in data for name in _NAMED):
        return _Unpickler(io.BytesIO(data)).load()
    return pickle.loads(data)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in main_module.NAMES:
            return origins.named_here(module, name)
        if (module, name) == (origins.named.__module__, origins.named.__qualname__):
            return _named
        return super().find_class(module, name)


def _named(module: str, qualname: str, token: str, is_class: bool) -> Any:
    return origins.named_here(module, qualname)
