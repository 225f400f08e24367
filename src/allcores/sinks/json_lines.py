"""A sink that is a file with a line of JSON for each item."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from allcores.outcome import Kind
from allcores.sinks.base import Block, Entries
from allcores.sinks.destination import check_file
from allcores.sinks.json_text import JsonFunction, to_json
from allcores.sinks.publishing import published


class JsonLinesFile:
    """A file with a line of JSON for each item.

    Args:
        records: A full record for each item rather than the value alone; with `on_error="record"` also for one that
            failed. A suffix of compression (.gz, .zst …) is obeyed.
    """

    looks_twice = False

    def __init__(self, path: str | os.PathLike[str], *, records: bool = False) -> None:
        self.path = os.fspath(path)
        self.records = records

    @property
    def wants_details(self) -> bool:
        return self.records

    @property
    def takes_failures(self) -> bool:
        return self.records

    def describe(self) -> dict[str, Any]:
        return {"kind": "JsonLinesFile", "path": os.path.abspath(self.path), "records": self.records}

    def check(self) -> None:
        check_file(self.path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., str]:
        return JsonFunction(function)

    def publish(self, entries: Entries, *, mark: str, sync: bool) -> None:
        with published(self.path, mark=mark, sync=sync) as file:
            for entry in entries():
                if isinstance(entry, Block):
                    file.write(b"".join(_records(entry)) if self.records else entry.lines)
                elif self.records:
                    file.write(to_json(entry.record).encode() + b"\n")


def _records(block: Block) -> Iterator[bytes]:
    details = block.details or [(1, -1, 0.0)] * block.count
    for offset, (value, (attempts, worker, seconds)) in enumerate(zip(block.lines.split(b"\n"), details, strict=False)):
        facts = {"attempts": attempts, "seconds": round(seconds, 6), "worker": None if worker < 0 else worker}
        head = f'{{"index": {block.start + offset}, "kind": "{Kind.OK.value}", "value": '
        yield head.encode() + value + b", " + json.dumps(facts)[1:].encode() + b"\n"
