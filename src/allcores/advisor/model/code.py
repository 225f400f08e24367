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


def code_for(setting: Setting, names: Names, *, common: bool = False, library: str = "") -> str:
    """Lines of Python, with a newline at the end.

    Args:
        setting: What is recommended.
        names: How to get at the function and the items.
        common: There is an object in every item that is to be shared.
        library: The library's own way, an expression, for a setting that is that.
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
    options = [f"workers={setting.workers}"]
    if setting.pattern == "threads":
        options.append('backend="threads"')
    if setting.preload:
        lines += [
            "",
            "def load():",
            f"    {names.function}(items[0])  # once for all workers, for what it loads",
            "",
        ]
        options.append("preload=load")
    chunk = "" if setting.chunk is None or setting.pattern == "threads" else f", chunk={setting.chunk}"
    lines.append(f"with allcores.Pool({', '.join(options)}) as pool:")
    if common and setting.share:
        lines.append("    shared = pool.share(common)  # what is in every item: put `shared` in its place")
        lines.append("    items = [tuple(shared if part is common else part for part in item) for item in items]")
    lines.append(f"    results = pool.map({names.function}, items{chunk})")
    return "\n".join(lines) + "\n"
