"""Figures for OpenTelemetry. The home of opentelemetry."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from allcores.monitoring.readings import METRICS, Histogram, Labels, Metric, Readings, added
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter


class OpenTelemetry(Readings):
    """An observer that shows pools to OpenTelemetry; one may watch any number of pools.

    Names begin with `allcores.`. Pools are told apart by the attribute `pool`, their name; give them different ones.
    What several that were made with one meter have seen is added up.
    Seconds per item come as counters, one per attribute `le` with the items that took at most so many seconds, since
    a histogram cannot be observed from outside.

    Args:
        meter: What the instruments are made with; None takes that of the global meter provider.

    Raises:
        ImportError: If opentelemetry is not installed.
    """

    @hiding
    def __init__(self, meter: Meter | None = None) -> None:
        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise ImportError("OpenTelemetry metrics need opentelemetry-api: pip install 'allcores[otel]'") from error
        super().__init__()
        with _lock:
            made = _instruments_of(meter, metrics)
            made.exporters = (*made.exporters, self)
        self._maps_taken = made.maps_taken

    def _map_took(self, seconds: float) -> None:
        self._maps_taken.record(seconds)


class _Instruments:
    """Those of a meter, which has one of a name: what all exporters that were made with it have seen is added up."""

    def __init__(self, meter: Meter) -> None:
        self.exporters: tuple[OpenTelemetry, ...] = ()
        for metric in METRICS:
            make: Any = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
            make(
                f"allcores.{metric.name}",
                callbacks=[self._callback(metric)],
                unit={"seconds": "s", "bytes": "By"}.get(metric.unit, "1"),
                description=metric.text,
            )
        meter.create_observable_counter(
            "allcores.items_by_seconds",
            callbacks=[self._by_seconds],
            description="Items that took at most `le` seconds",
        )
        self.maps_taken = meter.create_histogram("allcores.map_seconds", unit="s", description="How long maps took")

    def _callback(self, metric: Metric) -> Callable[[Any], Iterable[Any]]:
        from opentelemetry.metrics import Observation

        def observe(_: Any) -> list[Any]:
            sums: dict[Labels, float] = {}
            for labels, value in (sample for exporter in self.exporters for sample in exporter.samples(metric)):
                sums[labels] = sums.get(labels, 0.0) + value
            return [Observation(value, dict(labels)) for labels, value in sums.items()]

        return observe

    def _by_seconds(self, _: Any) -> list[Any]:
        from opentelemetry.metrics import Observation

        times: dict[Labels, list[Histogram]] = {}
        for labels, one in (each for exporter in self.exporters for each in exporter.items().items()):
            times.setdefault(labels, []).append(one)
        found = []
        for labels, several in times.items():
            histogram = added(several)
            sum_ = 0
            for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
                sum_ += count
                found.append(Observation(sum_, {**dict(labels), "le": bound}))
        return found


def _instruments_of(meter: Meter | None, metrics: Any) -> _Instruments:
    """Those of a meter; None: of the global meter provider. The lock is held."""
    global _of_provider
    if meter is None:
        # Before the program has set its provider each question gives another meter, and later all of these are one,
        # which has each instrument once: of the second and all others nothing would be seen.
        if _of_provider is None:
            _of_provider = _Instruments(metrics.get_meter("allcores"))
        return _of_provider
    made = _made.get(meter)
    if made is None:
        made = _made[meter] = _Instruments(meter)
    return made


_lock = threading.Lock()  # guards what was made
_of_provider: _Instruments | None = None
_made: weakref.WeakKeyDictionary[Meter, _Instruments] = weakref.WeakKeyDictionary()
