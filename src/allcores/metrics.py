"""Figures of pools for monitoring: an observer per system, `Prometheus` and `OpenTelemetry`.

    with allcores.Pool(observers=[allcores.metrics.Prometheus()]) as pool: ...

Both read what the pool counts anyway at the moment they are asked; the work pays nothing for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.monitoring.opentelemetry import OpenTelemetry
    from allcores.monitoring.prometheus import Prometheus

__all__ = ["OpenTelemetry", "Prometheus"]

_HOMES = {"OpenTelemetry": "opentelemetry", "Prometheus": "prometheus"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'allcores.metrics' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"allcores.monitoring.{_HOMES[name]}"), name)
