"""Chat and text: from files of messages to a table of features, on all cores.

    from allcores import nlp
    nlp.chat_pipeline().run("messages.jsonl", "features.parquet")

The same at the shell is `allcores chat preprocess`. Needs the extra `nlp`; the stages `ids` and `embedding` need
`embeddings`, `presidio` and `sentence-transformers` the extras of their names. Names are loaded when they are
first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.nlp.conversion import Converted, convert
    from allcores.nlp.offsets import raw_range, raw_spans
    from allcores.nlp.pipeline import ChatPipeline, ChatResult, chat_pipeline
    from allcores.nlp.planning import ThreadPlan
    from allcores.nlp.reading.source import ChatSource
    from allcores.nlp.records import Field
    from allcores.nlp.stage import InOrder, Stage
    from allcores.nlp.stages.pii import redact, restore
    from allcores.nlp.summary import ChatSummary

_HOMES = {
    "ChatPipeline": "pipeline",
    "ChatResult": "pipeline",
    "ChatSummary": "summary",
    "chat_pipeline": "pipeline",
    "ChatSource": "reading.source",
    "Converted": "conversion",
    "ThreadPlan": "planning",
    "convert": "conversion",
    "Field": "records",
    "InOrder": "stage",
    "Stage": "stage",
    "raw_range": "offsets",
    "raw_spans": "offsets",
    "redact": "stages.pii",
    "restore": "stages.pii",
}

__all__ = [
    "ChatPipeline",
    "ChatResult",
    "ChatSource",
    "ChatSummary",
    "Converted",
    "Field",
    "InOrder",
    "Stage",
    "ThreadPlan",
    "chat_pipeline",
    "convert",
    "raw_range",
    "raw_spans",
    "redact",
    "restore",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
