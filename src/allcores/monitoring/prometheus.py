"""Figures for Prometheus. The home of prometheus_client."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from allcores.monitoring.readings import ENDED, FAILURES, METRICS, Histogram, Labels, Readings, added
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Prometheus(Readings):
    """An observer that shows pools to Prometheus; one may watch any number of pools.

    Names begin with `allcores_`. Pools are told apart by the label `pool`, their name; give them different ones. What
    several of one registry have seen is added up, until they are closed.

    Args:
        registry: Where it registers; None is the one that `prometheus_client.start_http_server` serves.

    Raises:
        ImportError: If prometheus_client is not installed.
    """

    @hiding
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ImportError("Prometheus metrics need prometheus_client: pip install 'allcores[metrics]'") from error
        super().__init__()
        self._registry = prometheus_client.REGISTRY if registry is None else registry
        with _lock:
            registered = _registered.get(self._registry)
            if registered is None:
                registered = _Registered()
                self._registry.register(registered)
                _registered[self._registry] = registered
            registered.exporters = (*registered.exporters, self)

    def close(self) -> None:
        """Show nothing any more; idempotent."""
        with _lock:
            registered = _registered.get(self._registry)
            if registered is None or self not in registered.exporters:
                return
            registered.exporters = tuple(each for each in registered.exporters if each is not self)
            if not registered.exporters:
                del _registered[self._registry]
                self._registry.unregister(registered)


class _Registered:
    """What a registry knows: one for all exporters, for a name may be there once."""

    def __init__(self) -> None:
        self.exporters: tuple[Prometheus, ...] = ()

    def describe(self) -> list[Any]:
        """Nothing: what there is, is known when it is asked for."""
        return []

    def collect(self) -> Iterator[Any]:
        """What prometheus_client asks for at each scrape."""
        exporters = self.exporters
        return _families(exporters) if exporters else iter(())  # the last one was closed meanwhile


_lock = threading.Lock()  # guards what is registered
_registered: weakref.WeakKeyDictionary[CollectorRegistry, _Registered] = weakref.WeakKeyDictionary()


def _families(exporters: Sequence[Readings]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for metric in METRICS:
        labels = ["pool", "kind"] if metric.name == "items" else ["pool"]
        if metric is FAILURES:
            labels = ["cause"]
        elif metric is ENDED:
            labels = []
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = make(f"allcores_{metric.name}", metric.text, labels=labels)
        sums: dict[Labels, float] = {}
        for pairs, value in (sample for exporter in exporters for sample in exporter.samples(metric)):
            sums[pairs] = sums.get(pairs, 0.0) + value
        for pairs, value in sums.items():
            family.add_metric([text for _, text in pairs], value)
        yield family
    maps = HistogramMetricFamily("allcores_map_seconds", "How long maps took")
    found = added([exporter.maps() for exporter in exporters])
    maps.add_metric([], _buckets(found), found.total)
    yield maps
    items = HistogramMetricFamily("allcores_item_seconds", "How long items took", labels=["pool"])
    times: dict[Labels, list[Histogram]] = {}
    for pairs, one in (each for exporter in exporters for each in exporter.items().items()):
        times.setdefault(pairs, []).append(one)
    for pairs, several in times.items():
        found = added(several)
        items.add_metric([text for _, text in pairs], _buckets(found), found.total)
    yield items


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus has them: each bucket holds all those below it."""
    found, sum_ = [], 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        sum_ += count
        found.append((bound, float(sum_)))
    return found
