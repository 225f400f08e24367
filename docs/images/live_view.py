"""Makes docs/images/live-view.svg: the live view in the middle of a real run. Run it on a machine without other work.

python docs/images/live_view.py
"""

import io
import re
import sys
import threading
from pathlib import Path

from rich.console import Console

import allcores
from allcores.monitoring import LiveView
from allcores.monitoring.live_lines import panel
from allcores.monitoring.live_view import styled

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from source_measures import measure, standard_library  # noqa: E402  (it is not installed)

#: columns, and seconds of the run at which the picture is taken
WIDTH, AFTER_S = 100, 15.0


def main() -> None:
    # As on a terminal, which nobody sees: the view looks at cores and memory only while it draws.
    view = LiveView(console=Console(file=io.StringIO(), force_terminal=True, width=WIDTH))
    paths = [str(path) for path in standard_library()]
    due = threading.Event()
    seen = None
    with allcores.Pool(observers=[view], name="modules") as pool:
        timer = threading.Timer(AFTER_S, due.set)
        timer.start()
        for _ in pool.outcomes(measure, paths):
            if due.is_set():
                seen = view.view()
                break
        timer.cancel()
    if seen is None:
        sys.exit("The run ended before the picture was taken.")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print("[bold green]$[/] allcores run measure.py:measure lib/ -o measures.jsonl --on-error skip")
    console.print(styled(panel(seen, WIDTH, 8)))
    drawing = console.export_svg(title="allcores")
    # Fonts of the reader's machine: a picture fetches nothing.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    (ROOT / "docs" / "images" / "live-view.svg").write_text(drawing)


if __name__ == "__main__":
    main()
