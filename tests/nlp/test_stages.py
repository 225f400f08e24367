"""Golden rows of each stage, in several languages and scripts, with the text that is odd in each."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import math
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.installed import needed

from allcores.errors import NotSupported, UsageError
from allcores.nlp import Field, Stage, libraries, redact
from allcores.nlp.catalogue import STAGES, chosen, columns
from allcores.nlp.records import TYPES, fitting, new_record
from allcores.nlp.rows import RowFunction, load_stages
from allcores.nlp.stages.annotation import cut
from allcores.nlp.stages.tokens import Splitter
from allcores.transport import process_role

needed("spacy")


def rows(texts: Sequence[str | None], names: Sequence[str | Stage], **options: dict[str, Any]) -> list[dict[str, Any]]:
    """What stages make of texts, without the fields of reading."""
    stages = chosen(names, options)
    records = [new_record("f", number, text=text) for number, text in enumerate(texts, 1)]
    read = {*records[0], "_seconds"} - {"text", "error"}
    return [
        {name: value for name, value in row.items() if name not in read and value is not None and name != "text"}
        for row in RowFunction(stages)(load_stages(stages), records)
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("", ""),
        (" \t two   spaces \n\n  and lines\r\nhere ", "two spaces\nand lines\nhere"),
        ("schÃ¶n &amp; gut", "schön & gut"),  # mojibake, an entity
        ("cafe\u0301", "café"),  # a combining mark
        ("ﬁne Ｆｕｌｌ ½", "fine Full 1⁄2"),  # a ligature, full width, a fraction
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("👩\u200d👩\u200d👧 ok", "👩\u200d👩\u200d👧 ok"),  # joiners of an emoji stay
        ("می\u200cخواهم", "می\u200cخواهم"),  # and so does Persian's non-joiner
        ("\u202bשלום\u202c", "שלום"),  # embeddings of direction
        ("half \ud83d pair", "half \ufffd pair"),
        ("nul\x00 bell\x07", "nul bell"),
        ("क्षि", "क्षि"),
        ("한국어", "한국어"),  # jamo that are joined
    ],
)
@pytest.mark.quick
def test_unicode(text: str, wanted: str) -> None:
    assert [row["text_norm"] for row in rows([text], ["unicode"])] == [wanted]


@pytest.mark.quick
def test_unicode_forms() -> None:
    assert rows(["ｆ e\u0301"], ["unicode"], unicode={"form": "NFC"})[0]["text_norm"] == "f é"  # ftfy widens nothing
    assert (
        rows(["½ e\u0301 Ã¶"], ["unicode"], unicode={"form": "none", "repair": False})[0]["text_norm"] == "½ e\u0301 Ã¶"
    )
    with pytest.raises(UsageError, match=r"form='NFX' must be one of NFKC, NFC, none"):
        rows(["x"], ["unicode"], unicode={"form": "NFX"})


def test_languages_and_what_is_too_short_to_tell() -> None:
    texts = [
        "Hello there, how are you today?", "Guten Morgen, wie geht es dir heute?", "Bonjour, comment ça va ?",
        "¿Dónde está la biblioteca, por favor?", "שלום עולם, מה שלומך היום?", "مرحبا، كيف حالك اليوم؟",
        "你好，今天天气怎么样？", "今日はいい天気ですね", "Привет, как дела?", "ok", "", "😀😀😀😀", "12345 67890",
        "👩‍👧 I love it so much",
    ]  # fmt: skip
    found = [row["lang"] for row in rows(texts, ["unicode", "lang"])]
    assert found == ["en", "de", "fr", "es", "he", "ar", "zh", "ja", "ru", *["unknown"] * 4, "en"]


def test_languages_of_a_corpus() -> None:
    """At least 98 of 100 lines of five languages, of 20 characters or more."""
    folder = libraries.package_folder("chatterbot_corpus")
    assert folder is not None
    yaml = pytest.importorskip("yaml")
    told = right = 0
    for name, lang in (("english", "en"), ("german", "de"), ("spanish", "es"), ("italian", "it"), ("turkish", "tr")):
        texts: set[str] = set()
        for path in sorted(Path(folder, "data", name).glob("*.yml")):
            talks = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["conversations"]
            texts |= {str(text) for talk in talks for text in talk if len(str(text)) >= 20}
        found = [row["lang"] for row in rows(sorted(texts)[:200], ["unicode", "lang"])]
        told += len(found)
        right += found.count(lang)
    assert told > 800 and right / told >= 0.98


def test_words_and_sentences_refer_to_the_normalised_text() -> None:
    (row,) = rows(["  Dr. Smith isn't here!  It's 5\u00a0p.m.  "], ["unicode", "tokens"])
    assert row["text_norm"] == "Dr. Smith isn't here! It's 5 p.m."
    assert row["tokens"] == ["Dr.", "Smith", "is", "n't", "here", "!", "It", "'s", "5", "p.m."]
    for token, start in zip(row["tokens"], row["token_starts"], strict=True):
        assert row["text_norm"][start : start + len(token)] == token
    parts = [row["text_norm"][part["start"] : part["end"]] for part in row["sentences"]]
    assert parts == ["Dr. Smith isn't here!", "It's 5 p.m."]


def test_words_of_many_scripts() -> None:
    texts = ["שלום עולם!", "مرحبا، كيف حالك؟", "नमस्ते दुनिया", "你好世界", "naïve café 👍🏽", ""]
    found = [row["tokens"] for row in rows(texts, ["unicode", "lang", "tokens"])]
    assert found[0] == ["שלום", "עולם", "!"]
    assert found[1][-1] == "؟" and "كيف" in found[1]
    assert found[2] == ["नमस्ते", "दुनिया"]
    assert "".join(found[3]) == "你好世界"
    assert found[4][:2] == ["naïve", "café"]
    assert found[5] == []


def test_lemmas_parts_of_speech_and_entities() -> None:
    (row, german, empty) = rows(
        ["Two mice were running from Alice Cooper in Paris.", "Die Mäuse liefen durch den Garten.", ""],
        ["unicode", "lang", "lemmas"],
    )
    assert row["lemmas"][:5] == ["two", "mouse", "be", "run", "from"]
    assert row["pos"][:4] == ["NUM", "NOUN", "AUX", "VERB"]
    assert len(row["tokens"]) == len(row["lemmas"]) == len(row["pos"]) == len(row["token_starts"])
    ents = [(ent["type"], row["text_norm"][ent["start"] : ent["end"]]) for ent in row["ents"]]
    assert ents == [("CARDINAL", "Two"), ("PERSON", "Alice Cooper"), ("GPE", "Paris")]
    assert "lemmas" not in german, "the model is English"
    assert empty["lemmas"] == empty["ents"] == []


def test_rules_of_languages_are_made_once_for_all() -> None:
    assert set(Splitter("en", "nl,de").rules) == {"en", "nl", "de"}
    assert set(Splitter("en", ["en"]).rules) == {"en"}
    assert set(Splitter("no", ["no"]).rules) == {"nb"}  # so spaCy calls what the stage `lang` calls no
    with pytest.raises(UsageError, match="'klingon' is none whose rules spaCy has"):
        Splitter("en", ["klingon"])


def test_a_long_text_goes_to_the_model_in_parts() -> None:
    text = "Alice went to Paris. " * 200
    one, parts = (rows([text], ["unicode", "lemmas"], lemmas={"max_chars": size})[0] for size in (50_000, 1_000))
    assert one["tokens"] == parts["tokens"] and one["token_starts"] == parts["token_starts"]
    assert len(parts["ents"]) > 300
    assert all(parts["text_norm"][ent["start"] : ent["end"]].strip() for ent in parts["ents"])


@pytest.mark.quick
@pytest.mark.parametrize("text", ["", "a", "one two three four five", "x" * 50, "ab " * 30])
def test_parts_make_the_whole(text: str) -> None:
    parts = list(cut(text, 10))
    assert "".join(part for _, part in parts) == text
    assert all(text[start : start + len(part)] == part and len(part) <= 10 for start, part in parts)


def test_token_ids_are_those_of_the_model_without_padding() -> None:
    first, second, long = rows(["Hello world!", "", "word " * 600], ["unicode", "ids"])
    assert first["input_ids"] == [101, 7592, 2088, 999, 102]
    assert second["input_ids"] == [101, 102]
    assert len(long["input_ids"]) == 602


def test_sentiment_of_english_alone() -> None:
    texts = [
        "I love this, it is wonderful!",
        "I hate this. Terrible.",
        "Das ist ganz wunderbar, vielen Dank euch allen",
        "",
    ]
    found: list[Any] = [row.get("sentiment") for row in rows(texts, ["unicode", "lang", "sentiment"])]
    assert found[0] > 0.7 and found[1] < -0.7
    assert found[2:] == [None, 0.0]


def test_intents_are_the_same_however_they_are_asked_for() -> None:
    texts = [
        "hello",
        "My computer shows a blue screen, what can I do?",
        "Do you know any good jokes?",
        "What is money?",
    ]
    together = rows(texts, ["unicode", "intent"])
    assert together == [row for text in texts for row in rows([text], ["unicode", "intent"])]
    assert together[3]["intent"] == "money"
    assert all(0 < row["intent_score"] <= 1 for row in together)


def test_intents_of_examples_of_your_own(tmp_path: Any) -> None:
    path = tmp_path / "intents.csv"
    path.write_text("text,intent\n" + "".join(f"please refund {n},refund\nhello {n},greeting\n" for n in range(20)))
    found = rows(["I want a refund", "hello!"], ["unicode", "intent"], intent={"examples": str(path)})
    assert [row["intent"] for row in found] == ["refund", "greeting"]
    path.write_text("text,intent\nhello,greeting\n")
    with pytest.raises(UsageError, match="fewer than two intents"):
        rows(["x"], ["unicode", "intent"], intent={"examples": str(path)})
    compressed = tmp_path / "intents.csv.gz"
    long = "please " * 30_000  # more than the csv module takes by itself
    compressed.write_bytes(gzip.compress(f"\ufefftext,intent\n{long}refund,refund\nhello,greeting\n".encode()))
    found = rows(["hello", "a refund please"], ["unicode", "intent"], intent={"examples": str(compressed)})
    assert [row["intent"] for row in found] == ["greeting", "refund"]
    twice = tmp_path / "intents.jsonl"
    twice.write_text('{"text": "hello", "intent": "greeting", "intent": "refund"}\n')
    with pytest.raises(UsageError, match=r"line 1: .*the name 'intent' occurs twice"):
        rows(["x"], ["unicode", "intent"], intent={"examples": str(twice)})
    path.write_text("text,label\nhello,greeting\n")
    with pytest.raises(UsageError, match="record 2: an example needs `text` and `intent`"):
        rows(["x"], ["unicode", "intent"], intent={"examples": str(path)})


@pytest.mark.quick
@pytest.mark.parametrize(
    ("stage", "option"),
    [(stage.name, name) for stage in STAGES.values() for name, default in stage.options.items() if default == ()]
    + [("pii", "kinds"), ("presidio", "entities"), ("intent", "languages"), ("sentiment", "languages")],
)
def test_a_text_is_a_list_where_there_is_to_be_one(stage: str, option: str) -> None:
    """As `--set` gives it; its letters would be languages that no text is in, without a word."""
    (made,) = chosen([stage], {stage: {option: "en, fr"}})
    assert made.options[option] == ("en", "fr")
    assert chosen([stage], {stage: {option: ["en"]}})[0].options[option] == ["en"]


@pytest.mark.parametrize(
    ("stage", "option", "value", "said"),
    [
        ("tokens", "default", "qq", "no rules for default='qq': give a code like en"),
        ("tokens", "default", 5, "no rules for default=5: give a code like en"),
        ("lemmas", "max_chars", 5_000.5, "max_chars=5000.5 must be a whole number, 1,000 or more"),
        ("pii", "key_file", 5, "key_file=5 must be a text"),
        ("pii", "kinds", [], "there are no kinds, so it would find nothing: name some, or leave the stage out"),
        ("pii", "kinds", "", "stage .pii.: there are no kinds"),
        ("sentiment", "languages", [], "stage .sentiment.: there are no languages"),
        ("intent", "languages", "", "stage .intent.: there are no languages"),
        ("pii", "key_env", True, "key_env=True must be a text"),
        ("sentiment", "languages", [1], "languages is .1., and must be a list of texts"),
        ("embedding", "max_tokens", 1.5, "max_tokens=1.5 must be a whole number, 3 or more"),
        ("lang", "threshold", 50, "threshold=50 must lie between 0 and 1"),
        ("lang", "threshold", math.nan, "threshold=nan must lie between 0 and 1"),
        ("lang", "min_letters", -1, "min_letters=-1 must be a whole number, 0 or more"),
    ],
)
def test_options_of_another_kind_are_refused(stage: str, option: str, value: Any, said: str) -> None:
    """Once, when models are loaded, and not in the error of each row."""
    with pytest.raises(UsageError, match=said):
        chosen([stage], {stage: {option: value}})[0].loaded()


@pytest.mark.quick
def test_a_name_alone_is_not_its_letters() -> None:
    assert [stage.name for stage in chosen("unicode,pii", {})] == ["unicode", "pii"]
    assert Stage("x", each=dict, gives={"y": "string"}, takes="tokens").takes == ("tokens",)
    assert redact("bob@example.com, 10.0.0.1", kinds="EMAIL") == "[EMAIL], 10.0.0.1"


def test_embeddings_know_what_is_alike_and_do_not_depend_on_their_neighbours() -> None:
    texts = ["How do I reset my password?", "I forgot my password, what now?", "The weather is lovely today.", ""]
    found = [row["embedding"] for row in rows(texts, ["unicode", "embedding"])]
    assert {len(vector) for vector in found} == {384}

    def dot(one: list[float], other: list[float]) -> float:
        return sum(x * y for x, y in zip(one, other, strict=True))

    assert dot(found[0], found[0]) == pytest.approx(1.0, abs=1e-5)
    assert dot(found[0], found[1]) > dot(found[0], found[2]) + 0.3
    assert rows([texts[1]], ["unicode", "embedding"])[0]["embedding"] == found[1]


def test_a_model_that_does_not_take_so_many_tokens_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Each long text would be a row with an error of the library, and a line in red on standard error."""
    with pytest.raises(UsageError, match=r"model.onnx fails for a text of 1,000 tokens: max_tokens has to be smaller"):
        chosen(["embedding"], {"embedding": {"max_tokens": 1_000}})[0].loaded()
    assert chosen(["embedding"], {"embedding": {"max_tokens": 512}})[0].loaded()("word " * 600).shape == (384,)
    assert capfd.readouterr().err == ""


def test_conversations_in_order() -> None:
    stage = STAGES["conversation"]
    assert stage.in_order is not None
    watcher = stage.in_order()
    records: list[dict[str, Any]] = [
        {"id": "1", "conversation_id": "a", "timestamp": 10.0},
        {"id": "2", "conversation_id": "b", "timestamp": 11.0},
        {"id": "3", "conversation_id": "a", "timestamp": 25.5},
        {"id": "4", "conversation_id": "a", "reply_to": "1", "timestamp": 40.0},
        {"id": "5", "conversation_id": "a"},
        {"id": "6"},
    ]
    for number, record in enumerate(records):
        watcher.see(number, record)
        watcher.fill(number, record)
    assert [(each.get("turn"), each.get("reply_to"), each.get("response_s")) for each in records] == [
        (0, None, None), (0, None, None), (1, "1", 15.5), (2, "1", 30.0), (3, "4", None), (None, None, None),
    ]  # fmt: skip


def answered(records: list[dict[str, Any]], *, whole: bool) -> list[tuple[Any, Any]]:
    """What each message answers, and how fast; `whole`: as in a file, all are seen before one is written."""
    stage = STAGES["conversation"]
    assert stage.in_order is not None
    watcher = stage.in_order()
    for number, record in enumerate(records):
        watcher.see(number, record)
        if not whole:
            watcher.fill(number, record)
    if whole:
        for number, record in enumerate(records):
            watcher.fill(number, record)
    return [(each.get("reply_to"), each.get("response_s")) for each in records]


def thread() -> list[dict[str, Any]]:
    """Answers that stand before what they answer, and the first message in their midst, as ConvoKit has it."""
    return [
        {"id": "3", "conversation_id": "1", "reply_to": "2", "timestamp": 130.0},
        {"id": "1", "conversation_id": "1"},
        {"id": "2", "conversation_id": "1", "reply_to": "1", "timestamp": 110.0},
        {"id": "4", "conversation_id": "1", "reply_to": "4", "timestamp": 140.0},
    ]


def test_answers_that_stand_before_what_they_answer() -> None:
    """In a file the time is known all the same; and the first message answers none, least of all its own answer."""
    assert answered(thread(), whole=True) == [("2", 20.0), (None, None), ("1", None), ("4", None)]
    assert answered(thread(), whole=False) == [("2", None), (None, None), ("1", None), ("4", None)]


def test_no_message_answers_one_that_was_written_later() -> None:
    newest_first = [
        {"id": name, "conversation_id": "a", "timestamp": time}
        for name, time in (("3", 30.0), ("2", 20.0), ("1", 10.0), ("0", None), ("4", 40.0), ("5", 40.0))
    ]
    wanted = [(None, None), (None, None), (None, None), ("1", None), ("0", None), ("4", 0.0)]
    assert answered(newest_first, whole=True) == wanted


# --- what stages are held to ---


def raise_for_x(record: dict[str, Any]) -> dict[str, Any]:
    if record["text_norm"] == "x":
        raise ValueError("no x, please")
    return {"length": len(record["text_norm"])}


def batch_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [raise_for_x(record) for record in records]


@pytest.mark.quick
@pytest.mark.parametrize("how", [{"each": raise_for_x}, {"batch": batch_of}], ids=["each", "batch"])
def test_a_stage_that_fails_costs_its_own_field_of_that_row(how: Any) -> None:
    stage = Stage("mine", **how, gives={"length": "int32"})
    assert rows(["ab", "x", "abc", None], ["unicode", stage, "pii"], pii={"kinds": ("URL",)}) == [
        {"text_norm": "ab", "length": 2, "pii": [], "text_redacted": "ab"},
        {"text_norm": "x", "error": "mine: ValueError: no x, please", "pii": [], "text_redacted": "x"},
        {"text_norm": "abc", "length": 3, "pii": [], "text_redacted": "abc"},
        {},
    ]


class TimeIsUp(Exception):
    pass


def interrupted(record: dict[str, Any]) -> dict[str, Any]:
    """A signal comes while the stage is at work."""
    signal.raise_signal(signal.SIGUSR1)
    return {"length": 1}


def all_interrupted(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [interrupted(record) for record in records]


@pytest.mark.quick
@pytest.mark.parametrize("how", [{"each": interrupted}, {"batch": all_interrupted}], ids=["each", "batch"])
def test_what_a_handler_raises_is_no_error_of_a_row(how: Any) -> None:
    """A time limit of the program, whose stages run in it."""

    def handler(number: int, frame: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeIsUp):
            rows(["one", "two"], ["unicode", Stage("mine", **how, gives={"length": "int32"})])
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"length": "3"}, "TypeError: field 'length' holds whole numbers, not str"),
        ({"length": 1 << 40}, "ValueError: field 'length' holds int32, and 1099511627776 is out of its range"),
        ({"size": 3}, "ValueError: field 'size' is not among those that the stage gives: length"),
        (7, "TypeError: a stage returns a dict of the fields it gives, not int"),
    ],
)
def test_what_a_stage_gives_is_checked(value: Any, error: str) -> None:
    stage = Stage("mine", each=lambda record: value, gives={"length": "int32"})
    assert rows(["ab"], ["unicode", stage]) == [{"text_norm": "ab", "error": f"mine: {error}"}]


@pytest.mark.quick
def test_a_batch_of_the_wrong_length_is_an_error() -> None:
    stage = Stage("mine", batch=lambda records: [{"length": 1}] * 3, gives={"length": "int32"})
    assert rows(["a"], ["unicode", stage])[0]["error"] == "mine: ValueError: the stage got 1 records and returned 3"


@pytest.mark.quick
def test_personal_data_are_withheld_where_the_stage_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> dict[str, Any]:
        raise RuntimeError("out of order")

    stage = Stage(
        "pii", each=broken, gives=STAGES["pii"].gives, options={"replace": True}, withholds=STAGES["pii"].withholds
    )
    (row,) = rows(["a@b.com"], ["unicode", stage, "tokens"])
    assert row == {"error": "pii: RuntimeError: out of order"}


@pytest.mark.parametrize("replace", [True, False])
def test_personal_data_are_not_in_the_error_of_a_stage_before(replace: bool) -> None:
    """What an exception says may be the text."""

    def broken(record: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(record["text_norm"])

    before, behind = (Stage(name, each=broken, gives={"field": "string"}) for name in ("before", "behind"))
    (row,) = rows(["a@b.com"], ["unicode", before, "pii", behind], pii={"replace": replace})
    text = "[EMAIL]" if replace else "a@b.com"
    told = "" if replace else ": a@b.com"
    assert row["error"] == f"before: ValueError{told}; behind: ValueError: {text}"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a b", "each": len, "gives": {"x": "string"}}, "cannot be the name of a stage"),
        ({"name": "a", "gives": {"x": "string"}}, "does nothing"),
        ({"name": "a", "each": len, "batch": len, "gives": {"x": "string"}}, "has each= and batch="),
        ({"name": "a", "each": len}, "gives no field"),
        ({"name": "a", "each": len, "gives": {"x": "text"}}, "'text' is no type: one of string"),
        ({"name": "a", "each": len, "gives": {"_x": "string"}}, "cannot be the name of a field"),
    ],
)
def test_stages_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Stage(**given)


@pytest.mark.quick
def test_choices_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="there is no stage 'lemma': there are unicode, lang"):
        chosen(["lemma"], {})
    with pytest.raises(UsageError, match="the stage 'lang' is there twice"):
        chosen(["lang", "lang"], {})
    with pytest.raises(UsageError, match="stage 'lang' has no option 'min': it has threshold, min_letters"):
        chosen(["lang"], {"lang": {"min": 3}})
    with pytest.raises(UsageError, match=r"the options of the stage 'lang' are 5; write them by name"):
        chosen(["lang"], {"lang": 5})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"options=\['lang'\] must be by the names of stages"):
        chosen(["lang"], ["lang"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="options for a stage 'nothing'"):
        chosen(["lang"], {"nothing": {}})
    for order in (["pii", "unicode"], ["lang", "unicode", "pii"], ["pii", "tokens", "unicode"]):
        # Each row would be passed over, and written as it was read.
        with pytest.raises(UsageError, match="takes text_norm, which 'unicode' gives behind it: put 'unicode' before"):
            chosen(order, {"pii": {"replace": True}})
    mine = Stage("mine", each=raise_for_x, takes=("tokens",), gives={"length": "int32"})
    with pytest.raises(UsageError, match="'mine' takes tokens, which 'tokens' gives behind it"):
        chosen(["unicode", mine, "tokens"], {})
    chosen([mine], {})  # rows of a table have tokens already
    for name, field in (("conversation", "turn"), ("duplicates", "dup_of")):
        behind = Stage("mine", each=raise_for_x, takes=(field,), gives={"length": "int32"})
        with pytest.raises(UsageError, match=f"'mine' takes {field}, which '{name}' fills behind all stages"):
            chosen(["unicode", name, behind], {})
    with pytest.raises(UsageError, match="'tokens' stands before 'pii', which is to leave no personal data in the row"):
        chosen(["unicode", "tokens", "pii"], {"pii": {"replace": True}})
    chosen(["unicode", "tokens", "pii", "lemmas"], {})
    with pytest.raises(UsageError, match="'lang' is string in one stage and int32 in another"):
        columns([Stage("mine", each=raise_for_x, gives={"lang": "int32"})])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("string", "a\ud800", "a\ufffd"), ("int32", True, TypeError), ("int64", 1 << 63, ValueError),
        ("bool", 1, TypeError),
        ("float32", "1", TypeError), ("float64", float("nan"), ValueError), ("float32", 2, 2.0), ("bool", False, False),
        ("list<string>", ["a"], ["a"]), ("list<string>", "ab", TypeError), ("list<int32>", (1, 2), [1, 2]),
        ("spans", [{"type": "A", "start": 0, "end": 1}], [{"type": "A", "start": 0, "end": 1}]),
        ("spans", [{"start": 0, "end": 1}], TypeError), ("ranges", [{"start": 0, "end": 1}], [{"start": 0, "end": 1}]),
        ("list<float32>", [1, None], [1.0, None]),
    ],
)  # fmt: skip
def test_values_as_columns_hold_them(kind: Any, value: Any, wanted: Any) -> None:
    assert kind in TYPES
    if isinstance(wanted, type):
        with pytest.raises(wanted):
            fitting(Field("x", kind), value)
    else:
        assert fitting(Field("x", kind), value) == wanted


@pytest.mark.quick
def test_a_library_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(NotSupported, match=r"repairing Unicode needs ftfy: pip install 'allcores\[nlp\]'"):
        rows(["x"], ["unicode"])


@pytest.mark.quick
def test_what_is_kept_out_is_as_if_not_installed_and_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who imports it, and for who asks whether it is there; finders may come and go meanwhile."""

    class Finder:
        def find_spec(self, *_: Any) -> None:
            return None

    before, gone, new = list(sys.meta_path), Finder(), Finder()
    monkeypatch.setattr(sys, "meta_path", [gone, *before])
    monkeypatch.setattr(process_role, "is_worker", lambda: True)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    monkeypatch.delitem(sys.modules, "vaderSentiment", raising=False)
    with libraries.kept_out("wave"), libraries.kept_out("vaderSentiment"):
        with pytest.raises(ModuleNotFoundError, match="No module named 'wave'"):
            __import__("wave")
        assert importlib.util.find_spec("wave") is None
        assert importlib.util.find_spec("colorsys") is not None
        assert importlib.metadata.version("pytest")
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("vaderSentiment")
        sys.meta_path.remove(gone)
        sys.meta_path.append(new)
    assert sys.meta_path == [*before, new]
    assert __import__("wave").__name__ == "wave"


def test_a_model_of_spacy_from_a_folder(tmp_path: Path) -> None:
    """As people bring one of their own: its entities, in its language."""
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("de")
    model.add_pipe("entity_ruler").add_patterns([{"label": "BOAT", "pattern": "Seeadler"}])
    model.to_disk(tmp_path / "model")
    texts = ["Die Seeadler ist ein schönes altes Schiff.", "This is an English sentence about the Seeadler."]
    options = {"lemmas": {"model": str(tmp_path / "model")}}
    german, english = rows(texts, ["unicode", "lang", "lemmas"], **options)
    assert german["tokens"] == ["Die", "Seeadler", "ist", "ein", "schönes", "altes", "Schiff", "."]
    assert german["ents"] == [{"type": "BOAT", "start": 4, "end": 12}]
    assert "ents" not in english, "the model is for German"


def test_a_model_that_needs_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """A component of a library that is not installed, say: spaCy says so in an error with lists of what there is."""
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "model")
    config = tmp_path / "model" / "config.cfg"
    text = config.read_text().replace("pipeline = []", 'pipeline = ["curious"]')
    config.write_text(text.replace("[components]", '[components]\n\n[components.curious]\nfactory = "curious"\n'))
    with pytest.raises(UsageError, match=r"the model '.*model' cannot be loaded: ValueError: \[E002\]") as found:
        STAGES["lemmas"].with_options({"model": str(tmp_path / "model")}).loaded()
    assert "\n" not in str(found.value) and len(str(found.value)) < 800


def test_an_embedding_model_with_other_inputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and not in the error of each row."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # before it is imported, as the stage does
    onnx = pytest.importorskip("onnxruntime")
    asked = [SimpleNamespace(name=name) for name in ("input_ids", "position_ids")]
    monkeypatch.setattr(onnx, "InferenceSession", lambda *_, **__: SimpleNamespace(get_inputs=lambda: asked))
    with pytest.raises(UsageError, match="also takes position_ids, which texts do not have"):
        STAGES["embedding"].loaded()


def test_a_norwegian_model_gets_norwegian_texts(tmp_path: Path) -> None:
    """Their language is no to the stage `lang`, and nb to spaCy."""
    spacy = pytest.importorskip("spacy")
    spacy.blank("nb").to_disk(tmp_path / "model")
    texts = ["Hvorfor er det så dyrt å bo i Oslo nå for tiden?", "This is a plain English sentence."]
    for languages in ((), ("no",), ("nb",)):
        options = {"lemmas": {"model": str(tmp_path / "model"), "languages": languages}}
        norwegian, english = rows(texts, ["unicode", "lang", "lemmas"], **options)
        assert (norwegian["lang"], norwegian["tokens"][:2]) == ("no", ["Hvorfor", "er"])
        assert "tokens" not in english


@pytest.mark.quick
def test_options_of_a_stage_that_is_not_chosen_are_told() -> None:
    """Who sets pii.replace and leaves out pii has personal data in the rows."""
    with pytest.warns(RuntimeWarning, match="the options of the stage 'pii' do nothing, .* among the stages: unicode$"):
        chosen(["unicode"], {"pii": {"replace": True}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen(["unicode"], {"pii": {}})
        chosen(["unicode", "pii"], {"pii": {"replace": True}})
        chosen(["unicode"], {"pii": {"replace": True}}, spared={"pii"})
