"""What a pool does now: a progress bar, a live view, metrics for Prometheus and OpenTelemetry. The home of rich."""

from __future__ import annotations

from allcores.monitoring.live_view import LiveView
from allcores.progress.bar import ProgressBar

__all__ = ["LiveView", "ProgressBar"]
