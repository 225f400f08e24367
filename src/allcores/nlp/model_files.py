"""Models that are made here once: arrays kept in the user's cache, each file whole or not there."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable
from typing import Any

from allcores.nlp.libraries import library
from allcores.system import own_files


def models_folder() -> str:
    """Where they are kept: in $ALLCORES_HOME, $XDG_CACHE_HOME, or ~/.cache."""
    if home := os.environ.get("ALLCORES_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "models")
    place = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # as the XDG specification asks for
        place = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(place, "allcores", "models")


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The arrays that are kept under a name, which says all that they come from; made and kept if they are not there.

    A folder that cannot be written, or a file that cannot be read, costs the time to make them again and nothing else.
    """
    numpy = library("numpy", extra="nlp", use="keeping models")
    path = os.path.join(models_folder(), name)
    try:
        if own_files.why_not_trusted(path) is None:
            with open(path, "rb") as raw, numpy.load(raw, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
    except Exception:  # what NumPy and zipfile raise for a file that is damaged is of many types
        pass
    arrays = make()
    data = io.BytesIO()
    numpy.savez(data, **arrays)
    partial = f"{path}.{secrets.token_hex(8)}"
    try:
        own_files.make_folders(os.path.dirname(path))
        try:
            with open(own_files.create(partial), "wb") as file:
                file.write(data.getvalue())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            own_files.remove_own_file(partial)
            raise
    except OSError:
        pass
    return arrays
