"""Whether what was found for a function still holds: pure, facts of then and of now in, sentences out."""

from __future__ import annotations

from typing import Any

from allcores.system.plain_record import record


@record
class Facts:
    """What a found setting depends on.

    Attributes:
        function: Module and qualified name.
        code: Digest of its code, and that of the program's own functions and classes that it names.
        python: Implementation and version.
        cores: The core budget.
        libraries: Name -> version, of installed libraries that the function names, and of allcores.
        machine: Architecture and model of the processor.
    """

    function: str
    code: str
    python: str
    cores: int
    libraries: dict[str, str]
    machine: str

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "function": self.function,
            "code": self.code,
            "python": self.python,
            "cores": self.cores,
            "libraries": dict(sorted(self.libraries.items())),
            "machine": self.machine,
        }


def facts_from(found: Any) -> Facts:
    """The facts in plain JSON.

    Raises:
        ValueError: They are none.
    """
    kinds = {"function": str, "code": str, "python": str, "cores": int, "libraries": dict, "machine": str}
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise ValueError("these are no facts")
    for name, kind in kinds.items():
        if type(found[name]) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    if not all(isinstance(each, str) for pair in found["libraries"].items() for each in pair):
        raise ValueError("libraries have names and versions")
    return Facts(**found)


def differences(kept: Facts, now: Facts) -> list[str]:
    """What has changed since, a clause each; empty if what was found holds.

    With another Python the code is another, too, as bytecode differs: then that is not told.
    """
    found = []
    if kept.function != now.function:
        found.append(f"it was found for {kept.function}, not for {now.function}")
    if kept.machine != now.machine:
        found.append(f"the machine was {kept.machine} and is {now.machine}")
    if kept.cores != now.cores:
        found.append(f"the core budget was {kept.cores} and is {now.cores}")
    if kept.python != now.python:
        found.append(f"Python was {kept.python} and is {now.python}")
    elif kept.code != now.code and kept.function == now.function:
        found.append("the function's code, or that of a function it calls, has changed")
    for name in sorted({*kept.libraries, *now.libraries}):
        old, new = kept.libraries.get(name), now.libraries.get(name)
        if old is not None and new is not None and old != new:
            found.append(f"{name} was {old} and is {new}")
        elif kept.code == now.code and old != new:
            # other code may name other libraries
            found.append(f"{name} was {old} and is not installed" if new is None else f"{name} was not there, is {new}")
    return found
