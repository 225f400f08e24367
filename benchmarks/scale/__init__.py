"""Clusters: rows of real nodes (`nodes.py`), and a model of a driver with many of them, see `__main__.py`."""

from benchmarks.scale.nodes import rows

__all__ = ["rows"]
