"""Sizes, times, paces, counts and addresses as people read them: one way for messages, views, reports and the shell."""

from __future__ import annotations

import re
import time


def size_text(size: int) -> str:
    """A size: "7.9 GB". Units are powers of 1024, as those who write 8 * 1024**3 expect."""
    if size < 1024:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("KB", "MB", "GB", "TB"):
        amount /= 1024
        # 1023.95 would be shown as 1024.
        if amount < 1023.95 or unit == "TB":
            break
    return f"{amount:.1f}".removesuffix(".0") + f" {unit}"


def seconds_text(seconds: float) -> str:
    """How long something took: "0.42 s", "12.3 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def precise_seconds_text(seconds: float) -> str:
    """The same with three digits and the unit that fits: "850 ns", "1.41 ms", "12.3 s", "3 min 05 s"."""
    if seconds >= 60:
        return seconds_text(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size * 0.9995:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def clock_text(seconds: float) -> str:
    """A time that runs: "0.4 s", "12 s", "3:05", "2:10:00"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{int(seconds)} s" if seconds < 60 else _clock(int(seconds))


def moment_text(seconds: float) -> str:
    """A time, from seconds since 1970, as this machine's clock shows it: "2026-11-28 23:05:30"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def axis_text(seconds: float) -> str:
    """A time on an axis: "0", "20 ms", "1.5 s", "12:30", "2:05:00"."""
    if seconds == 0:
        return "0"
    if seconds >= 60:
        return _clock(round(seconds))
    unit, size = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s * 0.9995), ("µs", 1e-6))
    return f"{seconds / size:.3g} {unit}"


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def pace_text(items_per_second: float) -> str:
    """A pace: "1,234 items/s", or "4.2 s/item" when it is slow."""
    if items_per_second >= 10:
        return f"{items_per_second:,.0f} items/s"
    if items_per_second >= 1:
        return f"{items_per_second:.1f} items/s"
    return f"{1 / items_per_second:,.1f} s/item" if items_per_second > 0 else "0 items/s"


def percent_text(part: float) -> str:
    """A share in percent, with a digit behind the point where it is small: "0 %", "0.4 %", "97 %"."""
    return f"{part:.1f} %" if 0 < part < 10 else f"{part:.0f} %"


def items_text(first: int, count: int) -> str:
    """Items by their places, as an error or a view names them: "items[7]", or "items[7:71]" for a batch of 64."""
    return f"items[{first}]" if count == 1 else f"items[{first}:{first + count}]"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: "1 worker", "1,234 workers". plural: where it is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def error_text(error: BaseException) -> str:
    """`str(error)`, whatever its `__str__` does."""
    try:
        return str(error)
    except BaseException as inner:
        return f"<its message could not be formatted: {type(inner).__name__}>"


def repr_text(value: object) -> str:
    """`repr(value)`, whatever its `__repr__` does."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__}, whose repr() raised {type(error).__name__}>"


def kind_text(value: object) -> str:
    """What a value is, with its article: "an int", "a list"."""
    return with_article(type(value).__qualname__)


def with_article(noun: str) -> str:
    """A noun with "a" or "an"."""
    return f"{'an' if noun[:1].lower() in 'aeio' or noun == 'ndarray' else 'a'} {noun}"


def without_passwords(url: str) -> str:
    """The address of a database as it may be shown and written down: `***` in the place of a password.

    That is what stands before the host, and has all characters but @, and what an option behind the address has.
    """
    url = re.sub(r"(://[^:/]*):[^@]*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&]*", r"\1***", url)
