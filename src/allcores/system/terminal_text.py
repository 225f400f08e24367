"""Text for terminals: characters that command a terminal, rather than being shown by it, are written as escapes.

Names of files and types, items, messages of exceptions: their characters are chosen by others. Some begin commands to
the terminal (set its title, write to the clipboard, answer as if typed), others reverse the order in which text is
shown. All text that allcores shows passes one of these functions on its last step.
"""

from __future__ import annotations

import re

#: C0 controls without tabulator and newline, DEL, C1 controls; marks that change the direction of writing; separators
#: of lines and paragraphs; byte order mark, annotations, tags; halves of surrogate pairs, written as any byte
_COMMANDS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_COMMANDS}]")
_IN_LINE = re.compile(f"[\t\n{_COMMANDS}]")
_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def safe_text(text: str) -> str:
    r"""`text` with commands to a terminal as escapes (`\x1b`); tabulators and newlines stay."""
    return _IN_TEXT.sub(_escape, text)


def safe_line(text: str) -> str:
    r"""The same in one line: newlines and tabulators are escapes, too."""
    return _IN_LINE.sub(_escape, text)


def safe_json(text: str) -> str:
    r"""JSON of the same value, in which no character commands a terminal: they are `\u001b` and the like."""
    return _IN_TEXT.sub(_json_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    named = _NAMES.get(character)
    if named is not None:
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
