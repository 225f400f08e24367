"""What personal data looks like: patterns that find candidates, and checks of their digits.

Each pattern takes time in proportion to the text: no part of it can match the same characters in two ways.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Personal data: its type, and its characters from `start` to before `end`."""

    type: str
    start: int
    end: int


#: letters of scripts that are written without spaces: data stand right beside them, and do not go on in them
_JOINED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
#: a letter or digit with which data would go on, or _; the same without _
_WORD, _SIGN = rf"[^\W{_JOINED}]", rf"[^\W_{_JOINED}]"
#: no - before it, unless behind a letter of Hebrew, say, where it joins a short word to what follows
_NO_DASH = r"(?<!^-)(?<![\x00-\x7f]-)"
_DOMAIN = (
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
    rf"(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?!{_SIGN})|[^\W\d_]{{2,24}}(?![^\W_]))"
)
_MAILBOX = rf"(?:{_WORD}|[+%&-])(?:{_WORD}|[.+%&'-]){{0,63}}@{_DOMAIN}"
_EMAIL = re.compile(rf"(?<![+%-])(?<!{_WORD}){_MAILBOX}")
#: right behind another one and a dash
_NEXT_EMAIL = re.compile(_MAILBOX)
_JOINED_EMAIL = re.compile(rf"(?<![\w.+%-])(?:[\w+%-][\w.+%'-]{{0,62}})?[{_JOINED}]@{_DOMAIN}")
#: of an address: letters of scripts without spaces only where a part of it begins, for else the sentence goes on there
_IN_URL = rf"(?:[^\s<>\"'`{{}}|\\^{_JOINED}]|(?<=[/=_.%&?#+~-])[{_JOINED}]|(?<=[{_JOINED}])[{_JOINED}])"
_URL = re.compile(rf"(?<!{_SIGN})(?:(?:https?|ftp)://{_IN_URL}{{1,2000}}|www\.{_IN_URL}{{3,2000}})", re.IGNORECASE)
_IBAN = re.compile(
    rf"(?<!{_WORD})[A-Z]{{2}}[0-9]{{2}}(?:[ -]?[A-Z0-9]{{4}}){{2,7}}(?:[ -]?[A-Z0-9]{{1,3}})?(?!{_WORD})", re.IGNORECASE
)
_CARD = re.compile(rf"(?<![.+]){_NO_DASH}(?<!{_WORD})\d(?:[ -]?\d){{11,18}}(?!{_WORD})(?!\.\d)")
_DOTTED_CARD = re.compile(
    rf"(?<![.+]){_NO_DASH}(?<!{_WORD})(?:(?:\d{{4}}\.){{3}}\d{{4}}|\d{{4}}\.\d{{6}}\.\d{{4,5}})(?!{_WORD})(?!\.\d)"
)
_IP4 = re.compile(rf"(?<!\.)(?<!{_WORD})(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?!{_WORD})(?!\.\d)")
_IP6 = re.compile(
    rf"(?<![:.])(?<!{_WORD})(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}"
    rf"(?:(?:\d{{1,3}}\.){{3}}\d{{1,3}}|[0-9A-Fa-f]{{1,4}})?(?!{_WORD})(?!:)(?!\.\d)"
)
_PHONE = re.compile(
    rf"(?<![/+]){_NO_DASH}(?<!{_WORD})(?<!\d[.,:])"
    r"(?:\+\d{1,15}|\(\+?\d{1,5}\)[ ./-]{0,2}\d{1,14}|\d{2,5}(?=[ ./-])|00[1-9]\d{7,13}|0[1-9]\d{7,10})"
    rf"(?:(?:[ ./-]{{1,2}}|(?=\())(?:\(\d{{1,4}}\)[ ./-]{{0,2}})?\d{{1,14}}){{0,6}}"
    rf"(?: ?(?:x|ext\.?) ?\d{{1,6}})?(?!{_WORD})(?![.,:/]\d)",
    re.IGNORECASE,
)
#: a mobile number of China, which is written without signs, behind Chinese words
_MOBILE = re.compile(rf"(?:(?<=[\u3400-\u9fff])|(?<=[\u3400-\u9fff][ :：]))1[3-9]\d{{9}}(?!{_WORD})(?![.-]\d)")
_MOBILE_ALONE = re.compile(r"1[3-9]\d{9}")
_EXTENSION = re.compile(r" ?(?:x|ext)[. \d]*$", re.IGNORECASE)
_DATE = re.compile(
    r"\d{4}([-./ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([-./ ])(?:0?[1-9]|1[0-2])\2(?:\d{4}|\d\d)"
    r"|(?:0?[1-9]|1[0-2])([-./ ])(?:0?[1-9]|[12]\d|3[01])\3(?:\d{4}|\d\d)"
)

#: first digits -> how many there are (ISO/IEC 7812, as the networks use it)
_CARDS = {
    "34": (15,), "37": (15,), "35": (16, 17, 18, 19), "30": (14, 16, 19), "36": (14, 16, 19), "38": (14, 16, 19),
    "39": (14, 16, 19), "4": (13, 16, 19), "5": (16,), "2": (16,), "6": (12, 13, 14, 15, 16, 17, 18, 19),
    "81": (16, 17, 18, 19),
}  # fmt: skip
#: digits of a card at least
LEAST_CARD = 12
#: country -> characters of an IBAN (ISO 13616 registry)
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip


#: digits of an IBAN that is not in capitals; any that there is has more
LEAST_DIGITS = 10


def luhn(text: str) -> bool:
    """Whether the digits in `text` have the check digit of payment cards."""
    digits = [int(sign) for sign in text if sign.isdecimal()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + doubled) % 10 == 0


def is_card(text: str) -> bool:
    """Whether it can be a payment card's number: a network's first digits and length, and a right check digit."""
    # At once where that will do: a text of digits asks this eight times at each of them.
    plain = text.replace(" ", "").replace("-", "")
    digits = plain if plain.isascii() and plain.isdecimal() else "".join(str(int(s)) for s in text if s.isdecimal())
    lengths = _CARDS.get(digits[:2]) or _CARDS.get(digits[:1], ())
    return len(digits) in lengths and len(set(digits)) > 1 and luhn(digits)


def is_iban(text: str) -> bool:
    """Whether it is an IBAN: of its country's length, with right check digits."""
    plain = text.replace(" ", "").replace("-", "").upper()
    if len(plain) != _IBAN_LENGTHS.get(plain[:2], -1) or not plain.isascii():
        return False
    # Words in small letters may have the length and, one in a hundred, the check digits.
    if text != text.upper() and sum(map(str.isdecimal, plain)) < LEAST_DIGITS:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def is_ip(text: str) -> bool:
    """Whether it is an address of IPv4 or IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # Words of programs have the form, too: std::dec. Addresses without any digit are hardly ever given.
    return address.version == 4 or (len(text) > 3 and any(map(str.isdecimal, text)))


def is_phone(text: str) -> bool:
    """Whether it can be a telephone number: 7 to 15 digits, and no date; what is behind an x does not count."""
    text = _EXTENSION.sub("", text)
    digits = sum(map(str.isdecimal, text))
    if not 7 <= digits <= 15 or _DATE.fullmatch(text):
        return False
    if text.startswith(("+", "(", "0")) or _MOBILE_ALONE.fullmatch(text):
        return True
    groups = re.split(r"[ ./()-]+", text)
    # Without a sign at its start it needs the shape of one: 555-123-4567
    return len(groups) >= 3 and 9 <= digits <= 11 and len(groups[-1]) in (3, 4) and len(groups[0]) in (2, 3, 4)


def is_anything(text: str) -> bool:
    """For patterns that need no further check."""
    return True


#: in this order: what an earlier one has found is no longer there for a later one
KINDS: dict[str, tuple[tuple[re.Pattern[str], ...], Callable[[str], bool]]] = {
    "URL": ((_URL,), is_anything),
    "EMAIL": ((_EMAIL, _JOINED_EMAIL), is_anything),
    "IBAN": ((_IBAN,), is_iban),
    "CARD": ((_CARD, _DOTTED_CARD), is_card),
    "IP": ((_IP6, _IP4), is_ip),
    "PHONE": ((_PHONE, _MOBILE), is_phone),
}
#: between digits: dashes and spaces as word processors set them, one character each
_DASH = re.compile("(?<=[\\d)])[\u2010-\u2013\u2212](?=[\\d(])")
_SPACE = re.compile("(?<=[\\d)])[\u00a0\u2007-\u200a\u202f](?=[\\d(])")
#: digits of other scripts, one character each
_DIGIT = re.compile(r"(?![0-9])\d")
#: end punctuation, which is the sentence's and not the address's
_TAIL = ".,;:!?)]}»”’…。，！？）」』"


def find_spans(text: str, kinds: tuple[str, ...]) -> list[Span]:
    """Personal data in a text, in order; spans do not overlap.

    Args:
        kinds: Those of `KINDS` that are looked for.
    """
    if not text.isascii():
        # As long as before, so that places stay.
        text = _SPACE.sub(" ", _DASH.sub("-", _DIGIT.sub(_as_ascii, text)))
    found: list[Span] = []
    for kind in KINDS:
        if kind in kinds:
            patterns, holds = KINDS[kind]
            for pattern in patterns:
                more = [span for span in _candidates(kind, pattern, holds, text) if not overlaps(span, found)]
                # Both are in order, and put together in one pass.
                found = sorted(found + more, key=_start)
    return found


def _as_ascii(digit: re.Match[str]) -> str:
    return str(int(digit[0]))


def _candidates(kind: str, pattern: re.Pattern[str], holds: Callable[[str], bool], text: str) -> Iterator[Span]:
    if kind == "EMAIL" and "@" not in text:
        return
    place = 0
    while match := pattern.search(text, place):
        start, end = match.span()
        if kind == "URL":
            end = _url_end(text, start, end)
        if kind == "IBAN":
            end = _iban_end(text, start, end)
        if kind == "CARD":
            end = _card_end(text, start, end)
        if end > start and holds(text[start:end]):
            yield Span(kind, start, end)
            while kind == "EMAIL" and text[end : end + 1] == "-" and (match := _NEXT_EMAIL.match(text, end + 1)):
                end = match.end()
                yield Span(kind, *match.span())
            place = end
        else:
            # What is too long for a telephone number is another kind of number, and so is its end.
            place = end if kind == "PHONE" and sum(map(str.isdecimal, text[start:end])) > 15 else start + 1


def _url_end(text: str, start: int, end: int) -> int:
    """Where the address ends: what is the sentence's is not its own, nor is a bracket that was opened before it."""
    opened = text.count("(", start, end) - text.count(")", start, end)
    while end > start and text[end - 1] in _TAIL:
        if text[end - 1] == ")":
            if opened >= 0:
                break
            opened += 1
        end -= 1
    return end


def _card_end(text: str, start: int, end: int) -> int:
    """Where the card's number ends: a date or a code may stand behind it, with the same spaces as within it."""
    place = end
    while place - start >= LEAST_CARD:
        if is_card(text[start:place]):
            return place
        place = max(text.rfind(" ", start, place), text.rfind("-", start, place))
    return end


def _iban_end(text: str, start: int, end: int) -> int:
    """Where the IBAN that begins at `start` ends by its country's length; words may stand behind it."""
    wanted = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    signs = 0
    for place in range(start, end):
        signs += text[place] not in " -"
        if signs == wanted:
            return place + 1
    return end


def _start(span: Span) -> int:
    return span.start


def overlaps(span: Span, others: list[Span]) -> bool:
    """Whether a span has a character that one of the others has, too.

    Args:
        span: With at least one character.
        others: In order, of which none overlaps another: so only the last that begins before the span's end can.
    """
    place = bisect_left(others, span.end, key=_start)
    return place > 0 and others[place - 1].end > span.start


def add(span: Span, others: list[Span]) -> None:
    """Put a span among others, in order, unless it overlaps one of them."""
    if not overlaps(span, others):
        insort(others, span, key=_start)
