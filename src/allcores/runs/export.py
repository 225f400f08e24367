"""The outcomes of a run as far as there are any, for a sink of any kind: the way out of one that cannot be published.

Nothing of the run changes, and nothing of it has to be whole: what is damaged or missing is left out and counted.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allcores.errors import JournalError, UsageError
from allcores.runs.directory import LOG, find_folder, unless_removed
from allcores.runs.index import NotBegun, RunIndex
from allcores.runs.outcome_log import Damaged, Log, Record, Row
from allcores.sinks.base import Block, Lost, WholeSink
from allcores.sinks.destination import check_file_survives, check_inputs_survive
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.json_text import to_json
from allcores.sinks.many_rows import is_many, looks_many, unfolded
from allcores.sources.files import Files
from allcores.sources.text import STDIN
from allcores.system import deferral


@dataclass(slots=True)
class Exported:
    """What an export came to.

    Attributes:
        ok: Items with such an outcome.
        failures: Items with such an outcome.
        missing: Items whose outcome is there no more.
        whole: False if the catalogue cannot be read, so that nobody knows what else there was, and failures are not
            known.
    """

    ok: int = 0
    failures: int = 0
    missing: int = 0
    whole: bool = True


def export(runs: str, name: str, sink: WholeSink, *, side: int = 0) -> Exported:
    """Write all outcomes of a run that there are to `sink`, in input order where that is known.

    Args:
        runs: The folder of runs.
        name: The run, which may be at work.
        sink: Where to; it need not be of the run's kind.
        side: Of a run with several outputs, whose rows: 0 is the first output, its sides are numbered from 1 on.

    Raises:
        RunNotFound: There is no such run.
        UsageError: The sink cannot take the values, or would replace the journal or an input of the run.
        JournalError: The log cannot be read, or the output not be written.
    """
    folder = find_folder(runs, name)
    place = os.path.realpath(sink.path)
    if os.path.commonpath([os.path.realpath(runs), place]) == os.path.realpath(runs):
        raise UsageError(f"{sink.path} is among the journals, which stay as they are: choose another output")
    with contextlib.ExitStack() as stack:
        with unless_removed(folder, name):
            try:
                log = Log(os.path.join(folder, LOG), 0, writable=False)
            except FileNotFoundError:
                raise JournalError(f"run {name} has no outcomes yet", run=name) from None
            except OSError as error:
                raise JournalError(f"cannot read the log of run {name}: {error.strerror}", run=name) from None
        stack.callback(log.close)
        from_files, found = False, Exported()
        many: bool | None = None
        try:
            with unless_removed(folder, name):
                run_index = RunIndex(folder)
                stack.callback(run_index.close)
                run_index.hold()
                run_row = run_index.run_row()
            _check_inputs_survive(sink.path, run_row.identity.get("source") or {})
            described = run_row.identity.get("sink") or {}
            many = is_many(described)
            if side and f"side {side}" not in described:
                raise UsageError(f"run {name} has no side {side}: {_sides(described)}")
            described = described[f"side {side}"] if side else described
            from_files = described.get("kind") == FolderOfFiles.__name__
            found_places = run_index.places()
            placed = [(0, 1 << 62, 0)] if found_places is None else list(found_places)
            for _ in run_index.records():
                pass
            for _ in run_index.failures():
                pass
        except NotBegun:
            raise JournalError(f"run {name} has no outcomes yet", run=name) from None
        except JournalError:
            found.whole = False

        def counted() -> Iterator[Block | Lost]:
            found.ok = found.failures = found.missing = 0
            given = _entries(run_index, log, placed, found) if found.whole else map(_block, _scanned(log))
            for entry in given:
                if isinstance(entry, Block):
                    found.ok += entry.count
                else:
                    found.failures += 1
                yield entry

        if many is None:  # without a catalogue the lines alone tell what they are
            many = any(looks_many(record.lines) for record in _scanned(log))
        each = unfolded(counted, side, sink) if many else counted

        def entries() -> Iterator[Block | Lost]:
            for entry in each():
                if isinstance(entry, Block):
                    entry = _converted(entry, from_files, isinstance(sink, FolderOfFiles))
                yield entry

        try:
            sink.publish(entries, mark=secrets.token_hex(4), sync=True)
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            raise JournalError(f"cannot write {sink.path}: {error.strerror or error}", run=name) from error
    return found


def _check_inputs_survive(path: str, source: dict[str, Any]) -> None:
    """Raise UsageError if writing `path` would change a file that the run has read, as far as its catalogue tells."""
    for name in source.get("files") or ():
        check_file_survives(path, name, f"an input of the run ({name})")
    for part in source.get("parts") or ():
        if isinstance(part.get("pattern"), str):
            check_inputs_survive(path, Files(part["pattern"]))
        elif isinstance(part.get("path"), str) and part["path"] != STDIN:
            check_file_survives(path, part["path"], f"an input of the run ({part['path']})")


def _sides(described: dict[str, Any]) -> str:
    sides = [name for name, value in described.items() if isinstance(value, dict)]
    return f"it has {' and '.join(sides)}" if sides else "it has one output"


def _entries(
    run_index: RunIndex, log: Log, places: list[tuple[int, int, int]], found: Exported
) -> Iterator[Block | Lost]:
    """What can be read, by position in the input if that was read to its end, else by place in the journal."""
    for position, count, slot in places:
        failures = run_index.failures(after=slot - 1)
        failure = next(failures, None)
        for row in run_index.records(after=_first_record(run_index, slot) - 1):
            if row.start >= slot + count:
                break
            while failure is not None and failure.slot < row.start:
                yield Lost(position + failure.slot - slot, _moved(failure.record, position + failure.slot - slot))
                failure = next(failures, None)
            first, last = max(0, slot - row.start), min(row.count, slot + count - row.start)
            try:
                record = log.read(row)
            except (Damaged, OSError):
                found.missing += last - first
                continue
            lines = record.lines.split(b"\n")[first:last]
            details = None if record.details is None else record.details[first:last]
            yield Block(position + row.start + first - slot, last - first, b"\n".join(lines) + b"\n", details)
        while failure is not None and failure.slot < slot + count:
            yield Lost(position + failure.slot - slot, _moved(failure.record, position + failure.slot - slot))
            failure = next(failures, None)


def _first_record(run_index: RunIndex, slot: int) -> int:
    row = run_index.record_of(slot)
    return slot if row is None else row.start


def _moved(record: str, position: int) -> dict[str, object]:
    return {**json.loads(record), "index": position}


def _scanned(log: Log) -> Iterator[Record]:
    """Records of a log without a catalogue; a later one of the same items counts."""
    last: dict[int, Row] = {row.start: row for row in log.scan()}
    end = 0
    for start in sorted(last):
        if start >= end:
            with contextlib.suppress(Damaged, OSError):
                yield log.read(last[start])
                end = start + last[start].count


def _block(record: Record) -> Block:
    return Block(record.start, record.count, record.lines, record.details)


def _converted(block: Block, from_files: bool, to_files: bool) -> Block:
    """Values as the other kind of sink has them: texts of files as rows, and rows as the texts of files."""
    if from_files == to_files:
        return block
    lines = []
    for offset, line in enumerate(block.lines.split(b"\n")[: block.count]):
        value = json.loads(line)
        if from_files:
            name, content = value
            raw = binascii.a2b_base64(content)
            try:
                text = {"text": raw.decode()}
            except UnicodeDecodeError:
                text = {"base64": base64.b64encode(raw).decode("ascii")}
            converted = to_json({"name": name or f"{block.start + offset:08}", **text})
        else:
            text_of = value if isinstance(value, str) else to_json(value)
            converted = json.dumps([None, base64.b64encode(text_of.encode("utf-8", "surrogateescape")).decode("ascii")])
        lines.append(converted)
    return Block(block.start, block.count, ("\n".join(lines) + "\n").encode(), block.details)
