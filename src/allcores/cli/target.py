"""Finds the function that `package.module:function` or `folder/work.py:function` names.

A script is imported as a module under its own name, with its folder on `sys.path`. Workers get a copy of
`sys.path`, so they find it in the same way, and nothing has to be pickled by value.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

from allcores.cli.exits import CommandError
from allcores.errors import AllcoresError, UsageError
from allcores.formatting import kind_text
from allcores.system import own_imports
from allcores.system.async_functions import is_async

#: what to write; shown wherever a name makes no sense
FORM = "write package.module:function, or path/to/script.py:function"


S = TypeVar("S")
F = TypeVar("F")


def resolve(name: str, *, folder: str | None = None) -> Callable[..., Any]:
    """The function called `name`; its module is imported.

    Args:
        name: "package.module:function", "path/to/script.py:function"; the function may be dotted (Class.method).
        folder: Where paths and modules are looked for; None: the working folder.

    Raises:
        CommandError: With one sentence, and the closest names that do exist.
    """
    found = resolve_any(name, folder=folder)
    if not callable(found):
        raise CommandError(f"{name} is {kind_text(found)}, not a function")
    function: Callable[..., Any] = found
    return function


def resolve_any(name: str, *, folder: str | None = None) -> Any:
    """The same for what need not be a function."""
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise CommandError(f"'{name}' names no function: {_form_for(name)}")
    if place.endswith(".py") or os.sep in place or "/" in place:
        module = _import_script(place if folder is None else os.path.join(folder, os.path.expanduser(place)))
    else:
        _put_on_path(os.getcwd() if folder is None else folder)
        module = _import_module(place)
    return _attribute(module, attribute, place)


def both(find_input: Callable[[], S], find_functions: Callable[[], F]) -> tuple[S, F]:
    """The input and the functions of a command; where both are wrong, both are told of at once.

    Raises:
        CommandError: The functions, an option, or both; UsageError: the input, or a setting, alone.
    """
    problem: CommandError | UsageError | None = None
    try:
        source = find_input()
    except (CommandError, UsageError) as error:
        problem = error
    try:
        functions = find_functions()
    except CommandError as error:
        if problem is None:
            raise
        raise CommandError(f"{error}; and {problem}", error.exit, details=error.details) from None
    except UsageError as error:
        if problem is None:
            raise
        raise CommandError(f"{error}; and {problem}") from None
    if problem is not None:
        raise problem
    return source, functions


def file_of(name: str) -> str | None:
    """The file that `name` is in, once it was resolved; None if there is none: it may be built in."""
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return os.path.expanduser(place)
    return getattr(sys.modules.get(place), "__file__", None)


def check_arguments(function: Callable[..., Any], name: str, counts: Iterable[int], what: str) -> None:
    """Raise CommandError for a function that can be called with none of these numbers of arguments, or is async.

    Args:
        function: The function.
        name: As it was asked for.
        counts: Numbers of arguments.
        what: These are.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C: it says so itself when called
    if is_async(function):
        raise CommandError(
            f"'{name}' is async, a call of it does nothing by itself: name a function that runs it, with asyncio.run,"
            " for one"
        )
    last: TypeError | None = None
    for count in counts:
        try:
            signature.bind(*range(count))
        except TypeError as error:
            last = error
        else:
            return
    if last is not None:
        raise CommandError(f"'{name}' has the signature {signature}, but is called with {what}: {last}")


def given_by(function: Callable[[], Any], name: str, what: str) -> Any:
    """What a function of the program gives, called without arguments.

    Args:
        function: The function.
        name: As it was asked for.
        what: That it gives, for the message.

    Raises:
        CommandError: It takes arguments, or has raised; AllcoresError: as it has raised it.
    """
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise CommandError(f"{name} is called without arguments, for the {what} that it gives: {error}") from None
    except ValueError:
        pass  # written in C: it says so itself
    try:
        return function()
    except AllcoresError:
        raise
    except SystemExit as error:
        raise CommandError(f"{name} called sys.exit({error.code!r}), and gave no {what}") from None
    except Exception as error:
        place = _own_frames(error)[-1:]
        where = f" at {place[0].filename}, line {place[0].lineno}" if place else ""
        raise CommandError(
            f"{name} failed{where}: {type(error).__name__}: {error}", details=_own_traceback(error)
        ) from None


def _form_for(name: str) -> str:
    module, dot, function = name.rpartition(".")
    if name.endswith(".py"):
        return f"which one? {name}:function"
    if os.path.isfile(name):
        return "it is a file, and the function comes first (work.py:function), the input behind it"
    if dot and module.replace(".", "").isidentifier() and function.isidentifier():
        return f"did you mean '{module}:{function}'?"
    return FORM


def _import_script(path: str) -> ModuleType:
    path = os.path.expanduser(path)
    if not os.path.exists(path):
        folder = os.path.dirname(path) or "."
        names = [name for name in _names_in(folder) if name.endswith(".py")]
        hint = _closest(os.path.basename(path), names)
        raise CommandError(f"there is no file {path}{hint}")
    stem = os.path.splitext(os.path.basename(path))[0]
    if not path.endswith(".py") or not os.path.isfile(path):
        raise CommandError(f"{path} is not a Python file: {FORM}")
    if "." in stem:
        raise CommandError(f"{path} cannot be imported, for its name has a dot in it: rename it")
    _put_on_path(os.path.dirname(os.path.abspath(path)))
    module = _import_module(stem, shown=path)
    found = getattr(module, "__file__", None)
    if found is None or not os.path.samefile(found, path):
        raise CommandError(f"{path} hides behind another module called '{stem}' that Python knows: rename it")
    return module


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _put_on_path(folder: str) -> None:
    """Make `folder` the first place where modules of the program are looked for."""
    own_imports.install()
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)


def _import_module(name: str, *, shown: str | None = None) -> ModuleType:
    shown = shown or name
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise CommandError(f"there is no module '{error.name}'{_closest_module(error.name)}") from None
        raise CommandError(_import_failure(shown, error), details=_own_traceback(error)) from None
    except SystemExit as error:
        raise CommandError(
            f"importing {shown} called sys.exit({error.code!r}): put what the script does by itself under"
            " if __name__ == '__main__':"
        ) from None
    except Exception as error:
        raise CommandError(_import_failure(shown, error), details=_own_traceback(error)) from None


def _import_failure(shown: str, error: Exception) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename or shown}, line {error.lineno}: {error.msg}"
    if isinstance(error, ImportError) and "attempted relative import" in str(error):
        what += " (a file of a package has to be named package.module:function, not by its path)"
    place = _own_frames(error)[-1:]
    where = f" at {place[0].filename}, line {place[0].lineno}" if place else ""
    return f"importing {shown} failed{where}: {what}"


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames outside this file and the import system."""
    ours = (__file__, importlib.__file__)
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if frame.filename not in ours and not frame.filename.startswith("<")]


def _own_traceback(error: Exception) -> str:
    frames = _own_frames(error)
    return "".join(traceback.format_list(frames)) if len(frames) > 1 else ""


def _attribute(module: ModuleType, dotted: str, place: str) -> Any:
    found: Any = module
    for step, name in enumerate(dotted.split(".")):
        owner = place if step == 0 else f"{place}:{'.'.join(dotted.split('.')[:step])}"
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = _closest(name, _callables(found))
            raise CommandError(f"{owner} has no function '{name}'{hint}") from None
    return found


def _callables(owner: Any) -> list[str]:
    # __dict__ first: dir() may be anything, and a module-level __getattr__ may import the world.
    names = getattr(owner, "__dict__", {})
    return [name for name, value in list(names.items()) if callable(value) and not name.startswith("__")]


def _closest_module(name: str) -> str:
    """The module that was probably meant, among the siblings of the one that does not exist."""
    package, _, last = name.rpartition(".")
    if not package:
        names = {module.name for module in pkgutil.iter_modules()} | set(sys.builtin_module_names)
        return _closest(name, names)
    parent = sys.modules.get(package)
    inside = [name for name, value in vars(parent).items() if isinstance(value, ModuleType)] if parent else []
    inside += [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]
    hint = _closest(last, inside)
    return hint.replace("'", f"'{package}.", 1) if hint else ""


def _closest(name: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, sorted(set(names)), n=1, cutoff=0.6)
    return f": did you mean '{matches[0]}'?" if matches else ""
