"""Works over messages: allcores beside a loop, and beside the libraries' own ways of using several cores.

Each measurement is a program of its own, from its imports to the last result, models loaded: what a user waits for.
`allcores chat compare` does the same with messages of one's own.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

if TYPE_CHECKING:
    from allcores.nlp.compare.ways import Way
    from allcores.nlp.compare.works import Work

WORKERS = 2
#: messages of each work, in full and with --quick
SIZES = {
    "lemmas": (3_000, 60),
    "tokens": (20_000, 60),
    "text": (40_000, 60),
    "ids": (80_000, 60),
    "embedding": (1_500, 20),
    "sentence-transformers": (1_500, 20),
}
NEEDED = ("chatterbot_corpus", "ftfy", "onnxruntime", "spacy", "tokenizers", "vaderSentiment", "yaml")


def messages(count: int) -> list[str]:
    """Utterances of the English part of chatterbot-corpus, shuffled; with a number each from the second turn on."""
    from allcores.nlp.stages.intent import corpus_examples

    texts = [text for text, _ in corpus_examples()]
    random.Random(0).shuffle(texts)
    return [
        texts[place % len(texts)] + (f" ({place // len(texts)})" if place >= len(texts) else "")
        for place in range(count)
    ]


def rows(settings: Settings) -> list[Row]:
    """`nlp-lemmas`, `nlp-tokens`, `nlp-text`, `nlp-ids`, `nlp-embedding`; `nlp-sentence-transformers` where it is."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        settings.say(f"nlp: needs {', '.join(missing)}; skipped")
        return []
    from allcores.nlp.compare.works import WORKS

    found = []
    for work in WORKS.values():
        if not settings.wants("nlp", f"nlp-{work.name}"):
            continue
        # Not among NEEDED: torch is large, and no other row needs it.
        if work.name == "sentence-transformers" and importlib.util.find_spec("sentence_transformers") is None:
            settings.say(f"nlp-{work.name}: needs sentence-transformers; skipped")
            continue
        found.append(_row(settings, work))
    return found


def _row(settings: Settings, work: Work) -> Row:
    from allcores.nlp.compare.ways import LOOP, OURS, ways_of

    count = settings.size(*SIZES[work.name])
    texts = messages(count)
    row = Row(
        f"nlp-{work.name}",
        f"{work.about[0].upper()}{work.about[1:]}, {count:,} messages",
        "seconds",
        f"{WORKERS} workers; each way in a program of its own, from its imports to the last result.",
    )
    ways = {way.name: way for way in ways_of(work)}
    with tempfile.TemporaryDirectory() as folder:
        measures: dict[str, Callable[[], float]] = {}
        for name, way in ways.items():
            if not way.is_installed:
                row.notes[name] = "not installed"
            elif settings.wanted is None or name in (LOOP, OURS) or name in settings.wanted:
                measures[name] = partial(_seconds, work, way, texts, Path(folder, f"{len(measures)}.jsonl"))
        in_turn(row, measures, settings.rounds, settings, shuffled=True)
    own = [name for _, name in work.own]
    if work.name == "lemmas":
        row.judge(f"{own[0]} over allcores", row.ratios(own[0], OURS), least=1.35)
        row.judge("the loop over allcores", row.ratios(LOOP, OURS), least=1.85)
    elif work.name == "tokens":
        row.judge(f"{own[0]} over allcores", row.ratios(own[0], OURS), least=5.0)
        row.judge("the loop over allcores", row.ratios(LOOP, OURS), least=1.0)
    elif work.name == "text":
        row.judge("the loop over allcores", row.ratios(LOOP, OURS), least=1.9)
        row.judge("datasets.map over allcores", row.ratios("datasets.map(num_proc=…)", OURS), least=1.3)
    else:
        for name in own:
            row.judge(f"{name} over allcores", row.ratios(name, OURS), least=0.95 if work.name == "ids" else 1.0)
    return row


def _seconds(work: Work, way: Way, texts: list[str], results: Path) -> float:
    from allcores.nlp.compare.measure import run_once

    return run_once(work, way, texts, WORKERS, results).seconds
