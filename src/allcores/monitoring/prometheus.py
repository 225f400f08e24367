"""Figures for Prometheus. The home of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allcores.monitoring.readings import ENDED, FAILURES, METRICS, Histogram, Readings
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Prometheus(Readings):
    """An observer that shows pools to Prometheus; one may watch any number of pools.

    Names begin with `allcores_`. Pools are told apart by the label `pool`, their name; give them different ones.

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
        self._registry.register(self)

    def close(self) -> None:
        """Show nothing any more."""
        self._registry.unregister(self)

    def describe(self) -> list[Any]:
        """Nothing: what there is, is known when it is asked for."""
        return []

    def collect(self) -> Iterator[Any]:
        """What prometheus_client asks for at each scrape."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for metric in METRICS:
            labels = ["pool", "kind"] if metric.name == "items" else ["pool"]
            if metric is FAILURES:
                labels = ["cause"]
            elif metric is ENDED:
                labels = []
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(f"allcores_{metric.name}", metric.text, labels=labels)
            for pairs, value in self.samples(metric):
                family.add_metric([text for _, text in pairs], value)
            yield family
        maps = HistogramMetricFamily("allcores_map_seconds", "How long maps took")
        maps.add_metric([], _buckets(found := self.maps()), found.total)
        yield maps
        items = HistogramMetricFamily("allcores_item_seconds", "How long items took", labels=["pool"])
        for pairs, found in self.items().items():
            items.add_metric([text for _, text in pairs], _buckets(found), found.total)
        yield items


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus has them: each bucket holds all those below it."""
    found, sum_ = [], 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        sum_ += count
        found.append((bound, float(sum_)))
    return found
