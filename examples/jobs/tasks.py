"""The demo's four tasks: ordinary functions with `@task`, run by the supervisor and never by a web server.

allcores serve examples/jobs/tasks.py        # or `make web`, with pages of its own
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allcores.jobs import RunningJob, UploadedFile, task

sys.path.append(str(Path(__file__).resolve().parent.parent))  # source_measures.py, a neighbour of this folder

from source_measures import Measures, measure, standard_library


@task(timeout=600, retries=2)
def count_primes(n: int = 100_000) -> int:
    """Count the primes below n, by trial division: slow on purpose, on one core."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, n))


@task(timeout=3600)
def hash_stream(job: RunningJob, records: int = 20_000) -> dict[str, Any]:
    """Hash a stream of records, on all cores: a run, which goes on where it was if it is interrupted."""
    sink = job.result_path("hashes.jsonl")
    done = job.run(digest, Records(records), sink)
    together = hashlib.sha256()
    with open(sink, encoding="utf-8") as file:
        for line in file:
            together.update(json.loads(line).encode())
    return {"records": done.ok, "together": together.hexdigest()}


class Records:
    """The stream: made as it is read, so it could be larger than memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        return (f"record {number} " * 50 for number in range(self.count))


def digest(record: str) -> str:
    """SHA-256 of a record, hashed 500 times over."""
    data = record.encode()
    for _ in range(500):
        data = hashlib.sha256(data).digest()
    return data.hex()


@task(timeout=600)
def thumbnails(job: RunningJob, pictures: list[UploadedFile], size: int = 256) -> list[dict[str, Any]]:
    """Make a small picture of each uploaded one. A file that is no picture fails by itself, and is named."""
    wanted: list[dict[str, Any]] = [
        {"source": picture.path, "target": job.result_path(f"{number}-{_file_name(picture.name)}.png"), "size": size}
        for number, picture in enumerate(pictures, 1)
    ]
    job.run(shrink, wanted, job.result_path("thumbnails.jsonl"), on_error="record")
    with open(job.result_path("thumbnails.jsonl"), encoding="utf-8") as file:
        outcomes = [json.loads(line) for line in file]
    made = []
    for picture, each, outcome in zip(pictures, wanted, outcomes, strict=True):
        if outcome["kind"] == "ok":
            made.append({"picture": picture.name, "file": os.path.basename(each["target"]), **outcome["value"]})
        else:
            made.append({"picture": picture.name, "error": f"{outcome['error']}: {outcome['message']}"})
    return made


def shrink(wanted: dict[str, Any]) -> dict[str, int]:
    """Write one thumbnail; its width and height. A picture that would unpack to more than 50 megapixels is refused."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = 25_000_000  # an error above twice as many
    with Image.open(wanted["source"]) as picture:
        picture.thumbnail((wanted["size"], wanted["size"]))
        picture.convert("RGBA").save(wanted["target"], "PNG")
        return {"width": picture.width, "height": picture.height}


def _file_name(name: str) -> str:
    """What is harmless of a name that a person gave."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", os.path.splitext(os.path.basename(name))[0])[:60] or "picture"


@task(timeout=3600)
def measure_standard_library(job: RunningJob, modules: int = 200) -> dict[str, Any]:
    """Measure modules of Python's standard library on all cores: lines, functions, complexity."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [str(path) for path in standard_library(root)]
    chosen = [paths[number * len(paths) // modules] for number in range(min(modules, len(paths)))]
    sink = job.result_path("measures.jsonl")
    done = job.run(measure, chosen, sink, on_error="skip")
    with open(sink, encoding="utf-8") as file:
        measured: list[Measures] = [json.loads(line) for line in file]
    worst = sorted(measured, key=lambda one: one["complexity"], reverse=True)[:10]
    return {
        "modules": done.ok,
        "not_python": done.failed,
        "code_lines": sum(one["code_lines"] for one in measured),
        "functions": sum(one["functions"] for one in measured),
        "most_complex": [
            {
                "module": str(Path(one["path"]).relative_to(root)),
                "complexity": one["complexity"],
                "function": one["worst_function"],
            }
            for one in worst
        ],
    }
