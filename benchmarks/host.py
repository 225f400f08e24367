"""The program that holds one contender: reads requests as lines of JSON, answers in lines of JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from benchmarks.contenders import CONTENDERS


def main() -> None:
    """`python -m benchmarks.host CONTENDER WORKERS`"""
    # What a worker prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    contender = CONTENDERS[sys.argv[1]](int(sys.argv[2]))
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        module, _, name = request["function"].partition(":")
        try:
            function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
            answer = {"value": function(contender, **request["arguments"])}
        except Exception as error:
            if os.environ.get("BENCHMARKS_STDERR"):
                import traceback

                traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        answers.write(json.dumps(answer).encode() + b"\n")
    contender.close()


if __name__ == "__main__":
    main()
