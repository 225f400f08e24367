"""A model of one driver with many nodes: what it costs here, what follows from it, and whether real runs are so.

python -m benchmarks.scale measure     measures the constants on this machine, into measured.json; some minutes
python -m benchmarks.scale check       real runs with 2 to 16 workers beside the model, into checked.json; a minute
python -m benchmarks.scale answers     tables and pictures of docs/design/scale.md, from these two files; seconds
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.scale import answers, check, measure  # noqa: E402  (the path must be set first)
from benchmarks.scale.costs import CHECKED, MEASURED  # noqa: E402


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "check", "answers"))
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured (default 5)")
    options = parser.parse_args()
    if options.what == "measure":
        facts = measure.measure(options.rounds, _say)
        measure.keep(facts, MEASURED)
        print("\n".join(measure.table(facts)))
    elif options.what == "check":
        facts = check.check(options.rounds, _say)
        measure.keep(facts, CHECKED)
        print("\n".join(check.table(facts)))
    else:
        for path in answers.write(ROOT / "docs"):
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
