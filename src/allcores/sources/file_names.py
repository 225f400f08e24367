"""Files that match a pattern such as `src/**/*.py`, found lazily and in a fixed order.

Why not `glob.iglob`: its order is the file system's, so an item's index would differ from machine to
machine, and sorting everything would mean holding everything. Here each folder is listed, sorted and
left again: memory is one folder's names per level.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Callable, Iterator

from allcores.system import deferral

_WILDCARD = re.compile(r"[*?\[]")
#: a character that `escaped` has made stand for itself
_ESCAPED = re.compile(r"\[([*?\[])\]")
#: stands for any number of folders, also none
_DEEP = "**"


class PatternError(ValueError):
    """The pattern makes no sense; the message says why."""


def has_wildcard(pattern: str) -> bool:
    """True if the pattern may match more than one name."""
    return _WILDCARD.search(pattern) is not None


def escaped(path: str) -> str:
    """The pattern that matches this path alone."""
    return _WILDCARD.sub(r"[\g<0>]", path)


def all_inside(folder: str) -> str:
    """The pattern of all files in a folder and the folders in it."""
    return os.path.join(escaped(folder), "**", "*")


def matching_files(pattern: str) -> Iterator[str]:
    """Paths of the files (not folders) that match, each once, sorted within each folder.

    `*` and `?` and `[…]` match within a name, `**` alone between slashes matches any folders. A name that
    starts with a dot is matched only by a pattern that does. Linked files are found, linked folders are not
    entered by `**` (they may lead in circles), and a link that leads nowhere is a file. What is there under
    the very name that stands in the pattern (`data [final].txt`) is meant, unless the pattern matches that name, too.

    Raises:
        OSError: If a folder that has to be listed can't be.
        PatternError: For an empty pattern or a part like `a**`.
    """
    folder, parts = _split(pattern)
    if parts:
        yield from _walk(folder, _closed(parts, {0}), parts, [_matcher(part) for part in parts])
    elif os.path.lexists(folder) and not os.path.isdir(folder):
        yield folder


def would_match(pattern: str, path: str) -> bool:
    """True if a file of the absolute path `path`, were it there, would match the pattern."""
    try:
        folder, parts = _split(pattern)
        real = os.path.realpath(folder or ".")
    except (OSError, ValueError):
        return False
    if not parts:
        return real == path
    above = real.rstrip(os.sep) + os.sep
    if not path.startswith(above):
        return False
    *folders, name = path[len(above) :].split(os.sep)
    matchers = [_matcher(part) for part in parts]
    places = _closed(parts, {0})
    for each in folders:
        inside = {place for place in places if parts[place] == _DEEP and not each.startswith(".")}
        inside |= {place + 1 for place in places if parts[place] != _DEEP and matchers[place](each)}
        places = _closed(parts, {place for place in inside if place < len(parts)})
    return any(place == len(parts) - 1 and parts[place] != _DEEP and matchers[place](name) for place in places)


def _split(pattern: str) -> tuple[str, list[str]]:
    """The folder in which looking begins ("" is the current one), and the parts of the pattern below it."""
    if not pattern:
        raise PatternError("the pattern is empty: write one like 'src/**/*.py'")
    drive, rest = os.path.splitdrive(os.path.expanduser(pattern))
    parts = [part for part in re.split(r"[\\/]" if os.sep == "\\" else "/", rest) if part not in ("", ".")]
    for part in parts:
        if _DEEP in part and part != _DEEP:
            advice = "** must stand alone between slashes, like 'src/**/*.py'"
            raise PatternError(f"'{part}' in '{pattern}': {advice}")
    folder = drive + (os.sep if rest[:1] in ("/", os.sep) else "")
    # Not listed: one may be allowed to enter a folder, but not to list it.
    while parts and (name := _literal(folder, parts[0])) is not None:
        folder = os.path.join(folder, name)
        del parts[0]
    if parts and parts[-1] == _DEEP:
        parts.append("*")
    return folder, parts


def _walk(
    folder: str, places: frozenset[int], parts: list[str], matchers: list[Callable[[str], bool]]
) -> Iterator[str]:
    """Files below `folder` ("" is the current one).

    Args:
        places: Parts of the pattern that the folder's names may match. All at once, as in a Thompson automaton, so that
            a path which matches in two ways (`**/a/**/b` has such) is found once.
    """
    open_folders = [(folder, places, iter(_listed(folder)))]
    while open_folders:
        folder, places, entries = open_folders[-1]
        for entry in entries:
            found, inside = False, set[int]()
            for place in places:
                if parts[place] == _DEEP:
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        inside.add(place)
                elif matchers[place](entry.name):
                    if place + 1 < len(parts):
                        inside.add(place + 1)
                    else:
                        found = not _is_folder(entry)
            path = os.path.join(folder, entry.name)
            if found:
                yield path
            elif inside and _is_folder(entry):
                open_folders.append((path, _closed(parts, inside), iter(_listed(path))))
                break
        else:
            open_folders.pop()


def _literal(folder: str, part: str) -> str | None:
    """The name that a part of a pattern stands for, if it is one name only; None if it has to be looked for."""
    if not has_wildcard(_ESCAPED.sub("", part)):
        return _ESCAPED.sub(r"\1", part)
    if part != _DEEP and not _matcher(part)(part) and os.path.lexists(os.path.join(folder, part)):
        return part
    return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also through a link. One that leads in a circle, or to where nobody may look, is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if deferral.raised_by_handler(error):
            raise
        return False


def _closed(parts: list[str], places: set[int]) -> frozenset[int]:
    """`places` and, since `**` may stand for no folder at all, those behind each `**`."""
    closed = set(places)
    for place in range(len(parts) - 1):
        if place in closed and parts[place] == _DEEP:
            closed.add(place + 1)
    return frozenset(closed)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []  # gone since it was listed, or a literal part that does not exist: nothing matches
    except OSError as error:
        if error.errno == errno.ELOOP:
            return []  # a link to itself: no folder, as above
        raise


def _matcher(part: str) -> Callable[[str], bool]:
    fits = re.compile(fnmatch.translate(os.path.normcase(part))).match
    dotted = part.startswith(".")
    return lambda name: (dotted or not name.startswith(".")) and fits(os.path.normcase(name)) is not None
