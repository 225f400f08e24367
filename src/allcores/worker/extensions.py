"""What a task is told that imports a module which no other interpreter than the program's can load."""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: how Python says it
_REFUSAL = "does not support loading in subinterpreters"


def sentence(name: str) -> str:
    """Why a module cannot be had, and the way out."""
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"The module {name} cannot be loaded by backend='interpreters': its compiled code runs in a program's main "
        f"interpreter alone (Python {version}). Use backend='processes' for what needs {name.partition('.')[0]}."
    )


def explain_refusals() -> None:
    """From now on this interpreter's ImportErrors of such modules say so.

    They stay ImportErrors: libraries catch them where they can do without the module.
    """
    for loader in (SourceFileLoader, SourcelessFileLoader):
        loader.exec_module = _unwrapping(loader.exec_module)  # type: ignore[method-assign]
    ExtensionFileLoader.create_module = _explaining(ExtensionFileLoader.create_module)  # type: ignore[method-assign]
    BuiltinImporter.create_module = staticmethod(_explaining(BuiltinImporter.create_module))  # type: ignore[method-assign]


def _explaining(create: Callable[..., Any]) -> Callable[..., Any]:
    def create_module(*args: Any) -> Any:
        try:
            return create(*args)
        except ImportError as error:
            if _REFUSAL not in str(error):
                raise
            spec = args[-1]
            raise ImportError(sentence(spec.name), name=spec.name, path=spec.origin) from None

    return create_module


def _unwrapping(execute: Callable[..., None]) -> Callable[..., None]:
    def exec_module(*args: Any) -> None:
        try:
            execute(*args)
        except ImportError as error:
            refusal: BaseException | None = error
            while refusal is not None and not _says_so(refusal):
                refusal = refusal.__cause__ or refusal.__context__
            if not isinstance(refusal, ImportError) or refusal is error:
                raise
            # It says all that there is to say, whatever packages make of it.
            raise ImportError(refusal.msg, name=refusal.name, path=refusal.path) from None

    return exec_module


def _says_so(error: BaseException) -> bool:
    name = getattr(error, "name", None)
    return isinstance(error, ImportError) and isinstance(name, str) and error.msg == sentence(name)
