"""Vectors by sentence-transformers, where torch is installed; what is said where something is missing, everywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores import nlp
from allcores.errors import NotSupported, UsageError
from allcores.nlp.catalogue import STAGES, chosen
from allcores.nlp.stages import sentence_transformers as stage

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None or importlib.util.find_spec(stage.DEFAULT_MODEL) is None,
    reason="torch and sentence-transformers are not installed",
)
TEXTS = ["How do I reset my password?", "I forgot my password, what now?", "The weather is lovely today.", ""]


@needs_torch
def test_vectors_know_what_is_alike_in_any_number_of_workers() -> None:
    """Torch is loaded once for all: a thread that loading leaves would be a warning, and so an error here."""
    pipeline = nlp.chat_pipeline(["unicode", stage.NAME])
    one, two = (list(pipeline.imap([{"text": text} for text in TEXTS], workers=workers)) for workers in (1, 2))
    assert [row["error"] for row in one] == [None] * 4
    first, second, third, _ = (row["embedding"] for row in one)

    def dot(left: list[float], right: list[float]) -> float:
        return sum(x * y for x, y in zip(left, right, strict=True))

    assert len(first) == 384
    assert dot(first, first) == pytest.approx(1.0, abs=1e-5)
    assert dot(first, second) > dot(first, third) + 0.3
    for row, other in zip(one, two, strict=True):
        assert row["embedding"] == pytest.approx(other["embedding"], abs=1e-5)


@needs_torch
def test_a_vector_does_not_depend_on_the_texts_beside_it() -> None:
    """They are padded to the length of the longest, which the model passes over."""
    texts = [*TEXTS, "and so on " * 60]
    encoder = stage.SentenceEncoder(None, None, 1)
    for text, vector in zip(texts, encoder(texts), strict=True):
        assert list(vector) == pytest.approx(list(encoder([text])[0]), abs=1e-5)


@needs_torch
def test_a_text_is_cut_and_a_folder_that_is_no_model_is_said(tmp_path: Path) -> None:
    encoder = stage.SentenceEncoder(None, 8, 1)
    assert list(encoder(["word " * 50])[0]) == list(encoder(["word " * 90])[0])
    (tmp_path / stage.FILE).write_text("[1]")
    with pytest.raises(UsageError, match="is no model that can be loaded"):
        stage.SentenceEncoder(str(tmp_path), None, 1)


@pytest.mark.quick
def test_a_model_is_found_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "model"
    deep.mkdir(parents=True)
    (deep / stage.FILE).write_text("[]")
    assert stage.find_model(str(tmp_path)) == str(deep)
    for name in ("nobody/all-MiniLM-L6-v2", "json", "not_installed_at_all"):
        with pytest.raises(UsageError, match=r"is no folder and no installed package with a modules\.json"):
            stage.find_model(name)
    monkeypatch.setattr(stage, "package_folder", lambda name: None)
    with pytest.raises(NotSupported, match=r"pip install 'allcores\[sentence-transformers\]'"):
        stage.find_model(None)


@pytest.mark.quick
def test_it_takes_the_place_of_the_other_stage() -> None:
    with pytest.raises(UsageError, match="'sentence-transformers' is there in the place of 'embedding'"):
        chosen(["unicode", "embedding", stage.NAME], {})
    assert STAGES[stage.NAME].fields == STAGES["embedding"].fields


@pytest.mark.quick
def test_how_the_library_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's threads limited, no network, no bar and no thread for it, and few texts at once."""
    asked: list[Any] = []
    bar = SimpleNamespace(monitor_interval=10)
    (tmp_path / stage.FILE).write_text("[]")

    class Model:
        max_seq_length = 256

        def __init__(self, folder: str, **options: Any) -> None:
            asked.append((folder, options, bar.monitor_interval))

        def encode(self, texts: list[str], **options: Any) -> list[list[float]]:
            asked.append((texts, options))
            return [[1.0]]

    modules = {
        "sentence_transformers": SimpleNamespace(SentenceTransformer=Model),
        "tqdm": SimpleNamespace(tqdm=bar),
        "torch": SimpleNamespace(set_num_threads=lambda count: asked.append(count)),
        "transformers": SimpleNamespace(
            utils=SimpleNamespace(logging=SimpleNamespace(disable_progress_bar=lambda: asked.append("no bar")))
        ),
    }
    monkeypatch.setattr(stage, "library", lambda name, **_: modules[name])
    assert stage.SentenceEncoder(str(tmp_path), None, 1)(("hello",)) == [[1.0]]
    assert asked == [
        1,
        "no bar",
        (str(tmp_path), {"device": "cpu", "local_files_only": True}, 0),
        (["hello"], {"batch_size": stage.AT_ONCE, "show_progress_bar": False, "normalize_embeddings": True}),
    ]
    assert bar.monitor_interval == 10
