"""Seeing while it runs: a progress bar, and a live view with a lane per worker. The home of rich."""

from __future__ import annotations

from allcores.progress.bar import ProgressBar
from allcores.progress.estimate import pace_text
from allcores.progress.live import LiveView

__all__ = ["LiveView", "ProgressBar", "pace_text"]
