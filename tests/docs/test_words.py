"""One thing has one word (docs/glossary.md): words that were given up do not come back, in code, docs or messages.

Names that are on disk stay: tables, and the rows of a timeline file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from tests.docs.pages import ROOT

FOLDERS = ("src", "docs", "tests", "examples", "benchmarks")
PAGES = ("README.md", "CONTRIBUTING.md", "Makefile", "mkdocs.yml", "pyproject.toml")

#: they name the old words
OLD = ("tests/docs/test_words.py", "docs/glossary.md")

#: what is refused anywhere, also as a part of a name -> what to say
REFUSED = {
    r"dispatchers?": "scheduler",
    r"rosters?|ledgers?": "workers, settlement",
    r"desks?|crews?": "WorkerState, WorkerTable",
    r"mail_?rooms?": "receiver",
    r"freights?|parcels?": "ParentMemory, BufferedPickle",
    r"obituar(?:y|ies)|bury|buries|buried": "exit report, reap",
    r"doom(?:s|ed)?|still_?born": "termination, failed start",
    r"innocents?|blam(?:e|ed|es|ing)": "unattributed, charged",
    r"culprits?": "the item, or the part, at fault",
    r"glances?|chronicles?|valves?": "WorkerProgress, ActivityBatcher, AdmissionControl",
    r"watchm[ae]n": "watchdog",
    r"errands?|guests?": "say what it does",
    r"anatomy": "object_graph",
    r"flows?": "map, MapState",
    r"(?:put|puts|putting)[ _-]backs?": "requeued",
    r"postpone[sd]?": "preempted",
    r"(?:take|takes|taken|taking|took)[ _-]back": "stolen; for memory: given back",
    r"lanes?": "worker",
}
#: what is refused besides in src and docs, where tests may say it in plain English
REFUSED_IN_PRODUCT = {
    r"somebody|anybody|everybody": "the process, thread, user or caller",
    r"verbs?": "method, function",
    r"news": "event",
}
#: where one of them is another library's name, on disk, or a lane of a chart
ALLOWED = {
    "src/allcores/timeline/": r"flows?|lanes?",  # rows of the file, and the chart of workers
    "src/allcores/transport/wrappers.py": r"dispatchers?",  # functools.singledispatchmethod.dispatcher
    "src/allcores/cache/code.py": r"dispatchers?",  # the same
    "tests/unit/test_timeline.py": r"flows?|lanes?",
    "tests/process/test_timeline.py": r"lanes?",
    "tests/journeys/test_report.py": r"lanes?",
    "docs/howto/report.md": r"lanes?",
    "docs/design/constants.md": r"lanes?",
    "docs/timeline-format.md": r"flows?|lanes?",
}


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])", re.IGNORECASE)


_WORDS = _pattern(REFUSED)
_WORDS_IN_PRODUCT = _pattern([*REFUSED, *REFUSED_IN_PRODUCT])


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of all that is written by hand."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".html", ".css") and path.is_file():
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for page in PAGES:
        yield page, (ROOT / page).read_text(encoding="utf-8")


def old_words(text: str, pattern: re.Pattern[str] = _WORDS) -> list[str]:
    """The refused words in a text: in its prose, and in names whatever they are joined with."""
    # CamelCase falls apart at its capitals, and `_` counts as a space does.
    return [found[0] for found in pattern.finditer(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text))]


def test_no_word_that_was_given_up() -> None:
    """A glossary that nobody has to keep to is a list of synonyms."""
    found = []
    for file, text in texts():
        if file in OLD:
            continue
        allowed = next((words for place, words in ALLOWED.items() if file.startswith(place)), "(?!)")
        pattern = _WORDS_IN_PRODUCT if file.startswith(("src/", "docs/")) else _WORDS
        for number, line in enumerate(text.splitlines(), 1):
            words = old_words(line, pattern)
            found += [f"{file}:{number}: {word}" for word in words if not re.fullmatch(allowed, word, re.I)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "the Dispatcher",
        "map_flow",
        "FlowStarted",
        "_put_back",
        "put back",
        "taken back",
        "take_postponed",
        "MOST_LANES",
    ],
)
def test_they_are_found_in_prose_and_in_names(text: str) -> None:
    assert old_words(text)


@pytest.mark.parametrize("text", ["workflow", "overflow", "planes", "turn it back", "blameless", "scheduler"])
def test_other_words_may_contain_them(text: str) -> None:
    assert old_words(text) == []
