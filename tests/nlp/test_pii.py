"""Personal data: what is found and what is not, in which characters, and the way back with the key."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import UsageError
from allcores.nlp import redact, restore
from allcores.nlp.stages import pii_patterns
from allcores.nlp.stages.pii import load_key, load_scrubber, scrub
from allcores.nlp.stages.pii_patterns import KINDS, Span, find_spans, is_card, is_iban, luhn

pytestmark = pytest.mark.quick

ALL = tuple(KINDS)
KEY = b"0123456789abcdef0123456789abcdef"


def found(text: str) -> list[tuple[str, str]]:
    return [(span.type, text[span.start : span.end]) for span in find_spans(text, ALL)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mail bob.smith+x@mail.example.co.uk, please", [("EMAIL", "bob.smith+x@mail.example.co.uk")]),
        ("Grüße an müller@büro.de!", [("EMAIL", "müller@büro.de")]),
        ("see https://example.com/a?b=(c). Or www.example.org/x,", [
            ("URL", "https://example.com/a?b=(c)"), ("URL", "www.example.org/x")]),
        ("https://bob@example.com/ is one", [("URL", "https://bob@example.com/")]),
        ("card 4111 1111 1111 1111 ok", [("CARD", "4111 1111 1111 1111")]),
        ("card 4111-1111-1111-1112 no", []),
        ("4111.1111.1111.1111, 3714.496353.98431, not 4111.1111.1111.1112, not 5.500000000000004", [
            ("CARD", "4111.1111.1111.1111"), ("CARD", "3714.496353.98431")]),
        ("IBAN DE89 3704 0044 0532 0130 00 and more", [("IBAN", "DE89 3704 0044 0532 0130 00")]),
        ("IBAN GB82WEST12345698765432.", [("IBAN", "GB82WEST12345698765432")]),
        ("IBAN DE88 3704 0044 0532 0130 00", []),
        ("from 192.168.1.254 to 2001:db8::8a2e:370:7334", [
            ("IP", "192.168.1.254"), ("IP", "2001:db8::8a2e:370:7334")]),
        ("::ffff:192.0.2.1, [::ffff:10.0.0.1]:80, 64:ff9b::198.51.100.7, at 10:20:10.0.0.9", [
            ("IP", "::ffff:192.0.2.1"), ("IP", "::ffff:10.0.0.1"), ("IP", "64:ff9b::198.51.100.7"),
            ("IP", "10.0.0.9")]),
        ("not ::ffff:256.0.0.1, not 2001:db8::256.1.1.1", []),
        ("abc::def and face::add are code, fe80::1%eth0 is not", [("IP", "fe80::1")]),
        ("not 999.1.1.1, not 1.2.3.4.5, not 12:30:45", []),
        ("call +49 (0)30 1234567 or (555) 123-4567", [
            ("PHONE", "+49 (0)30 1234567"), ("PHONE", "(555) 123-4567")]),
        ("call 555-123-4567 or 030/1234567", [("PHONE", "555-123-4567"), ("PHONE", "030/1234567")]),
        ("טלפון +972-3-1234567 שלום", [("PHONE", "+972-3-1234567")]),
        ("on 2026-01-31 or 31.01.2026 I paid 1,234,567.89 for 1000000", []),
        ("version 1.10.2, room 101, 3-4 people, 10/12", []),
        ("4111 1111 1111 1111 12/27 123, 4111-1111-1111-1111-123", [
            ("CARD", "4111 1111 1111 1111"), ("CARD", "4111-1111-1111-1111")]),
        ("4111111111111111,12/27,123", [("CARD", "4111111111111111")]),
        ("رقمي ٠٥٠١٢٣٤٥٦٧، ۰۹۱۲۳۴۵۶۷۸۹", [("PHONE", "٠٥٠١٢٣٤٥٦٧"), ("PHONE", "۰۹۱۲۳۴۵۶۷۸۹")]),
        ("٤١١١ ١١١١ ١١١١ ١١١١ from १९२.१६८.१.१", [("CARD", "٤١١١ ١١١١ ١١١١ ١١١١"), ("IP", "१९२.१६८.१.१")]),
        ("电话是13812345678吗, 手机：13912345678, 订单 138123456789, code 13812345678", [
            ("PHONE", "13812345678"), ("PHONE", "13912345678")]),
        ("+1-800-555-0199x123, 555-123-4567 ext. 123456; 030 1234567 x2", [
            ("PHONE", "+1-800-555-0199x123"), ("PHONE", "555-123-4567 ext. 123456"), ("PHONE", "030 1234567 x2")]),
        ("id,4111111111111111 5500000000000004", [("CARD", "4111111111111111"), ("CARD", "5500000000000004")]),
        ("Tel:030 1234567, Tel.030/1234567 phone:555-123-4567; tel:+49301234567", [
            ("PHONE", "030 1234567"), ("PHONE", "030/1234567"), ("PHONE", "555-123-4567"), ("PHONE", "+49301234567")]),
        ("0612345678 ou 06.12.34.56.78, 07700900123, 0041446681800", [
            ("PHONE", "0612345678"), ("PHONE", "06.12.34.56.78"), ("PHONE", "07700900123"),
            ("PHONE", "0041446681800")]),
        ("at 12:30 1234, 1,234 567 8901, order 00012345678, 0.0612345678", []),
        ("write to...bob@example.com _ann@example.org_ (eve@example.net- he)", [
            ("EMAIL", "to...bob@example.com"), ("EMAIL", "_ann@example.org"), ("EMAIL", "eve@example.net")]),
        ("ann@example.com-bob@example.com, eve@example.com_x", [
            ("EMAIL", "ann@example.com"), ("EMAIL", "bob@example.com"), ("EMAIL", "eve@example.com")]),
        (f"{'a.' * 40}bob@example.com and .ann@example.com", [
            ("EMAIL", f"{'a.' * 30}bob@example.com"), ("EMAIL", "ann@example.com")]),
        ("a&b@example.com, bob@example.xn--p1ai, иван@пример.рф, 王伟@例子.中国", [
            ("EMAIL", "a&b@example.com"), ("EMAIL", "bob@example.xn--p1ai"), ("EMAIL", "иван@пример.рф"),
            ("EMAIL", "王伟@例子.中国")]),
        ("030–1234567, 555‑123‑4567, 4111\u00a01111\u202f1111 1111; in 2019–2024, 31–12–2024", [
            ("PHONE", "030–1234567"), ("PHONE", "555‑123‑4567"), ("CARD", "4111\u00a01111\u202f1111 1111")]),
        ("ל-050-1234567 ב-4111111111111111", [("PHONE", "050-1234567"), ("CARD", "4111111111111111")]),
        ("no-050-1234567, -050-1234567, x-4111111111111111", []),
        ("(see https://x.com/a_(b)) _https://x.com/c_", [("URL", "https://x.com/a_(b)"), ("URL", "https://x.com/c_")]),
        ("请看https://example.com/a谢谢,再见 https://zh.wikipedia.org/wiki/北京,很好", [
            ("URL", "https://example.com/a"), ("URL", "https://zh.wikipedia.org/wiki/北京")]),
        ("https://例子.中国/新闻?城市=上海。谢谢 https://example.com/a를 www.example.co.jp/bです", [
            ("URL", "https://例子.中国/新闻?城市=上海"), ("URL", "https://example.com/a"),
            ("URL", "www.example.co.jp/b")]),
        ("de89 3704 0044 0532 0130 00 or DE89-3704-0044-0532-0130-00", [
            ("IBAN", "de89 3704 0044 0532 0130 00"), ("IBAN", "DE89-3704-0044-0532-0130-00")]),
        ("", []),
    ],
)  # fmt: skip
def test_what_is_found(text: str, wanted: list[tuple[str, str]]) -> None:
    assert found(text) == wanted


@pytest.mark.parametrize(
    ("before", "after"), [("我的是", "谢谢你" * 20), ("電話は", "までどうぞ"), ("ติดต่อ", "นะครับ"), ("이메일은", "으로")]
)
@pytest.mark.parametrize(
    "item",
    [
        "bob@example.com",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "192.168.1.254",
        "2001:db8::1",
        "+86 138 1234 5678",
        "03-1234-5678",
    ],
)
def test_data_in_scripts_without_spaces(before: str, item: str, after: str) -> None:
    """There letters stand right before and behind them."""
    assert [text for _, text in found(before + item + after)] == [item]
    assert [text for _, text in found(f"{before}https://example.com/a {after}")] == ["https://example.com/a"]


def test_check_digits() -> None:
    assert luhn("79927398713") and not luhn("79927398710")
    assert is_card("5500 0000 0000 0004") and not is_card("0000 0000 0000 0000")
    assert is_iban("FR14 2004 1010 0505 0001 3M02 606") and not is_iban("XX14 2004 1010 0505 0001 3M02 606")


def planted(source: random.Random) -> tuple[str, str]:
    """(kind, text) of a valid item."""
    kind = source.choice(ALL)

    def digits(count: int) -> str:
        return "".join(source.choice("0123456789") for _ in range(count))

    match kind:
        case "EMAIL":
            name, host = source.choice(["ann", "j.doe", "x_1"]), source.choice(["a.com", "mail-b.org", "b.co.uk"])
            return kind, f"{name}{digits(2)}@{host}"
        case "URL":
            return kind, f"{source.choice(['http://', 'https://', 'www.'])}site{digits(2)}.com/p{digits(3)}?q=1"
        case "IP":
            four = ".".join(str(source.randrange(256)) for _ in range(4))
            return kind, source.choice([four, f"fe80::{digits(2)}:ab{digits(2)}"])
        case "PHONE":
            plain = [f"(212) 555-{digits(4)}", f"212-555-{digits(4)}"]
            return kind, source.choice([f"+1 {digits(3)} 555 {digits(4)}", f"+49 30 {digits(7)}", *plain])
        case "CARD":
            start = "4" + digits(14)
            number = next(start + last for last in "0123456789" if luhn(start + last))
            parts = " ".join(number[place : place + 4] for place in range(0, 16, 4))
            return kind, source.choice([number, parts])
    start = digits(18)
    return kind, next(f"DE{check:02}{start}" for check in range(2, 99) if is_iban(f"DE{check:02}{start}"))


def test_a_thousand_planted_items_are_all_found_and_come_back() -> None:
    """No leak in the kinds that are claimed, each with its own type, and the key gives the text back."""
    source = random.Random(5)
    for _ in range(1_000):
        kind, item = planted(source)
        before, after = source.choice(["Hi, this is", "Bonjour", "שלום", "你好"]), source.choice(["ok?", "bye", "。"])
        text = f"{before} {item} {after}"
        assert found(text) == [(kind, item)], text
        hidden = redact(text, key=KEY)
        assert item not in hidden
        assert restore(hidden, key=KEY) == text


def test_spans_and_redacted_text_fit_the_normalised_text() -> None:
    scrubber = load_scrubber(ALL, None, None, False)
    row = scrub(scrubber, {"text_norm": "a@b.com, +49 30 1234567"})
    assert row == {
        "pii": [{"type": "EMAIL", "start": 0, "end": 7}, {"type": "PHONE", "start": 9, "end": 23}],
        "text_redacted": "[EMAIL], [PHONE]",
    }


def test_replaced_text_has_spans_of_its_placeholders() -> None:
    scrubber = load_scrubber(ALL, None, None, True)
    row = scrub(scrubber, {"text_norm": "a@b.com, +49 30 1234567 x"})
    assert row["text"] == row["text_norm"] == row["text_redacted"] == "[EMAIL], [PHONE] x"
    assert [row["text_norm"][span["start"] : span["end"]] for span in row["pii"]] == ["[EMAIL]", "[PHONE]"]


def test_one_key_gives_one_placeholder_and_another_key_is_refused() -> None:
    one, two = redact("a@b.com", key=KEY), redact("write to a@b.com", key=KEY)
    assert two.endswith(one)
    assert redact("a@b.com", key=KEY[::-1]) != one
    with pytest.raises(UsageError, match="another key, or changed"):
        restore(one, key=KEY[::-1])
    changed = one[:-3] + ("A" if one[-3] != "A" else "B") + one[-2:]
    with pytest.raises(UsageError, match="another key, or changed"):
        restore(changed, key=KEY)
    with pytest.raises(UsageError, match="16 to 64 bytes, and this one 3"):
        redact("a@b.com", key=b"abc")
    with pytest.raises(UsageError, match="knows no 'NAME'"):
        redact("x", kinds=["NAME"])
    with pytest.raises(UsageError, match="there are no kinds"):
        redact("a@b.com", kinds=[])


def test_the_key_comes_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PII_KEY", KEY.decode())
    assert load_scrubber(ALL, None, "PII_KEY", False).key == KEY
    monkeypatch.delenv("PII_KEY")
    with pytest.raises(UsageError, match="the environment has no PII_KEY"):
        load_scrubber(ALL, None, "PII_KEY", False)
    with pytest.raises(UsageError, match="cannot read the key in /nowhere"):
        load_scrubber(ALL, "/nowhere", None, False)


def test_half_of_a_surrogate_pair_comes_back() -> None:
    """As texts have it that come from JSON; a pipeline replaces it, who calls `redact` has not."""
    text = "see https://example.com/\ud83d"
    hidden = redact(text, key=KEY)
    assert hidden.startswith("see [URL:") and restore(hidden, key=KEY) == text


@given(st.text(max_size=200))
def test_any_text_comes_back(text: str) -> None:
    assert restore(redact(text, key=KEY), key=KEY) == text


@pytest.mark.parametrize(
    "text", ["see [ISSUE:abcdefghijklmnopqrstuvwxyz] of a@b.com", "[EMAIL:" + 30 * "A" + "] +49 30 1234567"]
)
def test_text_that_looks_like_a_placeholder_comes_back(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a placeholder of another key, and nothing of the text could be had."""
    hidden = redact(text, key=KEY)
    assert "[TEXT:" in hidden and restore(hidden, key=KEY) == text
    assert redact(hidden, key=KEY) == hidden
    monkeypatch.setenv("PII_KEY", KEY.decode())
    scrubber = load_scrubber(ALL, None, "PII_KEY", True)
    row = scrub(scrubber, {"text_norm": text})
    assert row["text"] == hidden
    (span,) = row["pii"]
    assert restore(hidden[span["start"] : span["end"]], key=KEY) in text
    assert redact(text, kinds=["IP"]) == text


@pytest.mark.parametrize(
    "part", ["1", "1 ", "1-1", "a", "a@", "+1-", "DE12 ", "1:", "1.", "www.", "a.a@", "(1)", "http://"]
)
def test_no_pattern_runs_away(part: str) -> None:
    """Processor time grows with the length, not with its square: 16 times the text, well below 256 times the time."""

    def seconds(length: int) -> float:
        started = time.process_time()
        find_spans(part * (length // len(part)), ALL)
        return time.process_time() - started

    seconds(1_000)
    short, long = seconds(10_000), seconds(160_000)
    assert long < 0.05 or long < 80 * max(short, 0.001)


def test_many_kinds_in_one_text_are_compared_with_their_neighbours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span is not compared with all that were found before: its start is looked up, as in a telephone book."""
    looks = 0

    def counted(span: Span) -> int:
        nonlocal looks
        looks += 1
        return span.start

    monkeypatch.setattr(pii_patterns, "_start", counted)
    part = "see https://example.org/a or 192.168.17.23, write to ann@example.org "
    count = 2_000
    found = find_spans(part * count, ALL)
    assert Counter(span.type for span in found) == {"URL": count, "IP": count, "EMAIL": count}
    assert found == sorted(found, key=lambda span: span.start)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    assert looks < len(found) * 100


def test_a_span_is_put_in_its_place_unless_it_overlaps() -> None:
    found = [Span("URL", 5, 9), Span("IP", 20, 25)]
    for start, end in [(0, 5), (9, 12), (8, 10), (4, 6), (6, 8), (0, 30), (25, 26), (19, 20), (24, 25)]:
        pii_patterns.add(Span("X", start, end), found)
    assert [(span.start, span.end) for span in found] == [(0, 5), (5, 9), (9, 12), (19, 20), (20, 25), (25, 26)]


def test_texts_without_personal_data_have_hardly_any_found() -> None:
    """Documentation, dialogues and a lexicon of words with numbers: 1.7 million characters that packages bring."""
    texts = list(topics.values())
    for package, pattern in (("chatterbot_corpus", "**/*.yml"), ("vaderSentiment", "*.txt")):
        folder = Path(pytest.importorskip(package).__file__).parent
        for path in sorted(folder.glob(pattern)):
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    assert sum(map(len, texts)) > 1_000_000
    false = [(span.type, text[span.start : span.end]) for text in texts for span in find_spans(text, ALL)]
    kinds = Counter(kind for kind, _ in false)
    assert not {"CARD", "IBAN", "IP"} & set(kinds), false
    assert kinds["PHONE"] <= 5, false
    # These are there: addresses of examples, and of the authors of a corpus.
    assert kinds["URL"] + kinds["EMAIL"] <= 30, false


@pytest.mark.parametrize(
    ("name", "said"), [("empty", "is empty"), ("gone", "No such file"), ("nul\0", "embedded null")]
)
def test_a_key_that_is_none_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """With an empty one anybody could tell what a placeholder stands for."""
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(UsageError, match=said):
        load_key("pii", str(tmp_path / name), None)
