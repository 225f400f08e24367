"""Files of chat as the source of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from allcores.errors import UsageError
from allcores.nlp.reading.files import FORMATS, ChatFormat, format_of, read_file
from allcores.nlp.reading.formats import NAMES
from allcores.nlp.reading.items import Item, record_of
from allcores.nlp.reading.names import file_names
from allcores.nlp.records import Record
from allcores.sources.file_names import all_inside, has_wildcard
from allcores.sources.files import Files
from allcores.sources.text import STDIN, check_readable


class ChatSource:
    """The messages of files, in order: a record for each, also for what cannot be read.

    JSON Lines of messages, of OpenAI's `messages` and of ShareGPT's `conversations` (a line may be any of them, and
    ConvoKit's utterances are messages), the same as JSON, CSV, TSV, and plain text with a message a line; each also as
    .gz, .bz2, .xz or .zst. A line that is none of this is a record without text whose `error` says why.

    Args:
        paths: A file, a pattern (`chat/*.jsonl`), or several of them; "-" is standard input.
        format: None goes by the suffixes.
        names: Names of columns or fields, where they are not the usual ones: {"text": "msg"}.

    Raises:
        UsageError: For a file that is not there, or a format that is none.
    """

    #: see `sources.chain.begins_anew`
    begins_anew = True

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        format: ChatFormat | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        if format is not None and format not in FORMATS:
            raise UsageError(f"format={format!r} must be one of {', '.join(FORMATS)}")
        for name in names or ():
            if name not in NAMES:
                raise UsageError(f"{name!r} is no field that is read: there are {', '.join(NAMES)}")
        given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.paths = [path for each in given for path in _expanded(os.fspath(each))]
        self.files = file_names(self.paths)
        for path in self.paths:
            if path != STDIN and os.path.isdir(path):
                raise UsageError(f"{path} is a folder: for the files in it, write '{all_inside(path)}'")
            check_readable(path)
        self.formats = [format or format_of(path) for path in self.paths]
        self.names = None if names is None else dict(names)

    def describe(self) -> dict[str, str]:
        """What makes it the same input, for a run that is resumed."""
        paths = ", ".join(path if path == STDIN else os.path.abspath(path) for path in self.paths)
        names = "" if self.names is None else ", ".join(f"{field}={name}" for field, name in sorted(self.names.items()))
        return {"paths": paths, "formats": ", ".join(self.formats), "names": names}

    def __iter__(self) -> Iterator[Record]:
        for item in ChatItems(self):
            yield record_of(item, self.names)


class ChatItems:
    """The messages of a source as items (see `reading.items`): most of them are read by the workers.

    Attributes:
        path: Of the file, if it is one: then whether it is the same can be told without reading it.
        paths: Of all files, for who looks whether an output would replace an input.
    """

    #: see `sources.chain.begins_anew`
    begins_anew = True

    def __init__(self, source: ChatSource) -> None:
        self.source = source
        self.path = source.paths[0] if len(source.paths) == 1 else None
        self.paths = source.paths

    def describe(self) -> dict[str, str]:
        """See `ChatSource.describe`."""
        return self.source.describe()

    def __iter__(self) -> Iterator[Item]:
        source = self.source
        for path, format, name in zip(source.paths, source.formats, source.files, strict=True):
            yield from read_file(path, format, source.names, name)


def _expanded(path: str) -> list[str]:
    if path == STDIN or os.path.lexists(path) or not has_wildcard(path):
        return [path]
    return list(Files(path))
