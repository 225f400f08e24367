"""The code to paste: a program that uses what was found."""

from __future__ import annotations

from allcores.advisor.model.code import Names, code_for
from allcores.advisor.model.decision import Setting
from allcores.tuned.setting import PoolSetting


def code_for_tuned(setting: PoolSetting, names: Names, *, kept: bool) -> str:
    """Lines of Python, with a newline at the end; of a loop, or of something that was not kept, without `tuned`."""
    if setting.backend == "serial" or not kept:
        return code_for(Setting(setting.backend, setting.workers, setting.chunk), names)
    lines = ["import allcores", *names.imports, "", *names.items]
    lines.append(f"with allcores.Pool(tuned={names.function}) as pool:  # {setting.text}")
    lines.append(f"    results = pool.map({names.function}, items)")
    return "\n".join(lines) + "\n"
