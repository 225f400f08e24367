"""The code to paste: a program that runs the function as recommended."""

from __future__ import annotations

from dataclasses import dataclass

from allcores.advisor.model.decision import Setting


@dataclass(frozen=True, slots=True)
class Names:
    """How a program gets at the function and its items.

    Attributes:
        function: Its name in the code.
        imports: Lines that import it; none where it is there already.
        items: Lines that make `items`; none where they are there already.
    """

    function: str
    imports: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Common:
    """An object that is in every item.

    Attributes:
        kind: Of the items: "tuple", "list" or "dict".
        place: How an expression gets at it in an item: "[1]", "['text']".
    """

    kind: str
    place: str


#: kind of the items -> one that has `shared` in the place of `common`
_WITH_SHARED = {
    "tuple": "tuple(shared if part is common else part for part in item)",
    "list": "[shared if part is common else part for part in item]",
    "dict": "{key: shared if part is common else part for key, part in item.items()}",
}


def code_for(
    setting: Setting, names: Names, *, common: Common | None = None, library: str = "", in_order: bool = True
) -> str:
    """Lines of Python, with a newline at the end.

    Args:
        setting: What is recommended.
        names: How to get at the function and the items.
        common: The object in every item that is to be shared; None.
        library: The library's own way, an expression, for a setting that is that.
        in_order: `items[0]` is the first of them; of a generator, a set or a dict it is not.
    """
    lines = [*names.imports]
    own = setting.pattern == "library" and setting.workers > 1
    if setting.workers > 1 and not own:
        lines = ["import allcores", *lines]
    if lines:
        lines.append("")
    lines += names.items
    if own:
        lines.append(f"results = {library}")
        return "\n".join(lines) + "\n"
    if setting.workers == 1:
        lines.append(f"results = [{names.function}(item) for item in items]")
        return "\n".join(lines) + "\n"
    if not (in_order or names.items) and (setting.preload or (setting.share and common is not None)):
        lines.append("items = list(items)  # the first of them is needed before the others")
    options = [f"workers={setting.workers}"]
    if setting.pattern == "threads":
        options.append('backend="threads"')
    if setting.preload:
        lines += [
            "",
            "first = items[0]",
            "",
            "def load():",
            f"    {names.function}(first)  # once for all workers, for what it loads",
            "",
        ]
        options.append("preload=load")
    chunk = "" if setting.chunk is None or setting.pattern == "threads" else f", chunk={setting.chunk}"
    lines.append(f"with allcores.Pool({', '.join(options)}) as pool:")
    if common is not None and setting.share:
        lines.append(f"    common = items[0]{common.place}  # what is in every item")
        lines.append("    shared = pool.share(common)")
        lines.append(f"    items = [{_WITH_SHARED[common.kind]} for item in items]")
    lines.append(f"    results = pool.map({names.function}, items{chunk})")
    return "\n".join(lines) + "\n"
