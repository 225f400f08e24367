"""One way of one work, in a process of its own: `python -m allcores.nlp.compare.child`.

A request on standard input, an answer on standard output.

The request is JSON: work, way, texts, workers, and the file for the results. The answer is the last line, JSON: seconds
from the beginning of the process's work (with its libraries not yet imported) to the first and to the last result.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any


def main() -> None:
    """See the module."""
    begun = perf_counter()
    request = json.load(sys.stdin)
    from allcores.nlp.compare.ways import ways_of
    from allcores.nlp.compare.works import work_named

    work = work_named(request["work"])
    way = next(each for each in ways_of(work) if each.name == request["way"])
    first: float | None = None
    results: list[dict[str, Any]] = []
    for result in way.run(work, request["texts"], request["workers"]):
        if first is None:
            first = perf_counter() - begun
        results.append(result)
    seconds = perf_counter() - begun
    with open(request["results"], "w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(result, sort_keys=True) + "\n")
    # Libraries print to standard output what is none of the answer.
    sys.stdout.write("\n" + json.dumps({"first_s": first or seconds, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
