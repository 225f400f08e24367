"""Duplicates: exact and near, against every pair compared by force, in any order of the input."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from allcores.errors import UsageError
from allcores.nlp.stages import duplicates
from allcores.nlp.stages.duplicates import DUPLICATES, Groups, Sketcher, sketch
from allcores.nlp.watching import watchers

pytestmark = pytest.mark.quick
pytest.importorskip("rensa")

SENTENCE = "the a ship sails over many cold seas with its old captain and no map at night while stars are far"
WORDS = SENTENCE.split(" ")


def groups(texts: Sequence[str], threshold: float = 0.8, near: bool = True) -> list[tuple[str | None, str | None]]:
    """(dup_of, dup_kind) of each text; its id is the text's place."""
    sketcher, found = Sketcher(threshold, 5, near), Groups(threshold, 5, near)
    rows: list[dict[str, str | None]] = [{"id": str(number), "text_norm": text} for number, text in enumerate(texts)]
    for position, row in enumerate(rows):
        row.update(sketch(sketcher, row))
        found.see(position, row)
    for position, row in enumerate(rows):
        found.fill(position, row)
        assert not [name for name in row if name.startswith("_")], "sketches are not written"
    return [(row.get("dup_of"), row.get("dup_kind")) for row in rows]


def messages(seed: int, count: int) -> list[str]:
    """Sentences, and slightly changed copies of some of them."""
    source = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        if texts and source.random() < 0.4:
            words = source.choice(texts).split()
            for _ in range(source.choice([0, 1, 1, 2])):
                words[source.randrange(len(words))] = source.choice(WORDS)
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(source.choices(WORDS, k=source.randrange(8, 30))))
    return texts


def shingles(text: str) -> set[str]:
    folded = " ".join(text.casefold().split())
    return {folded[start : start + 5] for start in range(max(1, len(folded) - 4))}


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def test_exact_ones_differ_in_case_and_white_space_alone() -> None:
    assert groups(["Hello there", "hello   THERE", "Hello, there!", "", ""], near=False) == [
        (None, None), ("0", "exact"), (None, None), (None, None), (None, None),
    ]  # fmt: skip


def test_the_first_of_a_group_is_named_also_when_a_later_one_joins_two() -> None:
    base = "we will meet at the old harbour at eight in the evening on friday"
    one, two = f"{base} with ann and bob", f"{base} with eve and dan"
    between = f"{base} with ann and dan"
    found = groups([one, two, between], threshold=0.78)
    assert found == [(None, None), ("0", "near"), ("0", "near")]
    assert jaccard(shingles(one), shingles(two)) < 0.78 <= jaccard(shingles(one), shingles(between))


def test_nearly_all_pairs_are_found_and_none_is_by_chance() -> None:
    """Recall of at least 0.95 and precision of at least 0.98, of pairs, against brute force."""
    texts = messages(1, 400)
    sets = [shingles(text) for text in texts]
    parents = list(range(len(texts)))

    def root(number: int) -> int:
        while parents[number] != number:
            number = parents[number]
        return number

    for one in range(len(texts)):
        for other in range(one):
            if jaccard(sets[one], sets[other]) >= 0.8:
                first, second = sorted((root(one), root(other)))
                parents[second] = first
    wanted = [root(number) for number in range(len(texts))]
    found = [number if name is None else int(name) for number, (name, _) in enumerate(groups(texts))]
    pairs = [(one, other) for one in range(len(texts)) for other in range(one)]
    true = {pair for pair in pairs if wanted[pair[0]] == wanted[pair[1]]}
    ours = {pair for pair in pairs if found[pair[0]] == found[pair[1]]}
    assert len(true) > 100
    assert len(true & ours) / len(true) >= 0.95
    assert len(true & ours) / len(ours) >= 0.98


def together(order: Sequence[str]) -> set[frozenset[str]]:
    """The texts of each group."""
    roots: dict[str, set[str]] = {}
    for number, (name, _) in enumerate(groups(order)):
        roots.setdefault(name or str(number), set()).add(order[number])
    return {frozenset(members) for members in roots.values()}


def test_groups_are_the_same_in_any_order() -> None:
    texts = list(dict.fromkeys(messages(2, 300)))
    wanted = together(texts)
    assert any(len(members) > 1 for members in wanted)
    for seed in range(3):
        mixed = texts[:]
        random.Random(seed).shuffle(mixed)
        assert together(mixed) == wanted


def test_many_copies_of_a_template_are_one_group_in_any_order() -> None:
    """Three times more of them than a new one is compared with."""
    texts = [
        f"your order number {n} has left our house today and will be at your door tomorrow at noon" for n in range(600)
    ]
    for seed in range(2):
        random.Random(seed).shuffle(texts)
        found = groups(texts)
        assert found[0] == (None, None)
        assert set(found[1:]) == {("0", "near")}


def test_whom_a_message_of_a_crowded_band_is_compared_with_does_not_depend_on_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some variants of a template are near, others are not, and more share a band than are compared with each other."""
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 10)
    source = random.Random(7)
    template = f"{SENTENCE} so please be at your door at noon to sign for it".split(" ")
    texts = []
    for _ in range(400):
        words = template[:]
        for _ in range(source.choice([1, 2, 3])):
            words[source.randrange(len(words))] = "".join(source.choices("abcdefghij", k=5))
        texts.append(" ".join(words))
    texts = list(dict.fromkeys(texts))
    found = []
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        found.append(together(texts))
    assert all(each == found[0] for each in found)
    assert 1 < len(found[0]) < len(texts)


def test_scripts_without_spaces_and_short_texts() -> None:
    found = groups(
        [
            "今日はとても良い天気ですね、散歩に行きましょう",
            "今日はとても良い天気ですね、散歩に行きましょうよ",
            "ok",
            "ok!",
            "👍",
            "👍",
        ]
    )
    assert found == [(None, None), ("0", "near"), (None, None), (None, None), (None, None), ("4", "exact")]


def test_a_million_copies_of_a_template_are_compared_with_few() -> None:
    count = 1_500  # several times more than a new one is compared with
    found = groups(
        [f"your order number {number:06} was sent to you today and will be there soon" for number in range(count)]
    )
    assert sum(kind == "near" for _, kind in found) > 0.9 * count


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 0.0), ("threshold", 1.5), ("threshold", math.nan), ("shingle", 0), ("shingle", 2.5)],
)
def test_options_that_make_no_sense(name: str, value: float) -> None:
    """Before a message is read, where models are loaded as where messages are seen in order."""
    stage = DUPLICATES.with_options({name: value})
    with pytest.raises(UsageError, match=f"stage 'duplicates': {name}="):
        stage.loaded()
    with pytest.raises(UsageError, match=f"stage 'duplicates': {name}="):
        watchers([stage])
