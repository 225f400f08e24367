"""allcores.metrics, against the real libraries."""

from __future__ import annotations

import gc
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.process import scripts

from allcores import Pool, Retry, metrics
from allcores.monitoring.readings import ITEMS
from allcores.outcome import Kind

pytest.importorskip("opentelemetry.sdk")


def fail(number: int) -> int:
    if number % 4 == 0:
        raise LookupError(number)
    return number


def scrape(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) -> value, as a Prometheus server reads it."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_pools_did() -> None:
    registry = CollectorRegistry()
    exporter = metrics.Prometheus(registry)
    with Pool(backend="serial", observers=[exporter], name="crawl") as pool:
        list(pool.outcomes(fail, range(20)))
        found = scrape(registry)
        assert found["allcores_items_total", (("kind", "ok"), ("pool", "crawl"))] == 15
        assert found["allcores_items_total", (("kind", "failed"), ("pool", "crawl"))] == 5
        assert found["allcores_failures_total", (("cause", "LookupError"),)] == 5
        assert found["allcores_workers", (("pool", "crawl"),)] == 1
        assert found["allcores_map_seconds_count", ()] == 1
        assert found["allcores_item_seconds_count", (("pool", "crawl"),)] == 20
        assert found["allcores_item_seconds_bucket", (("le", "+Inf"), ("pool", "crawl"))] == 20
    exporter.close()
    assert scrape(registry) == {}


def test_a_reading_that_comes_back_late_does_not_undo_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that ask at a time; after the pool's end nobody would correct it."""
    exporter = metrics.Prometheus(CollectorRegistry())
    asked, may = threading.Event(), threading.Event()
    item_times = Pool.item_times

    def slow(pool: Pool) -> list[tuple[float, int]]:
        found = item_times(pool)
        if threading.current_thread() is early:
            asked.set()
            assert may.wait(60)
        return found

    early = threading.Thread(target=lambda: exporter.samples(ITEMS))
    with Pool(backend="serial", observers=[exporter], name="crawl") as pool:
        pool.map(abs, range(10))
        monkeypatch.setattr(Pool, "item_times", slow)
        early.start()
        assert asked.wait(60)
        pool.map(abs, range(10))
    del pool
    may.set()
    early.join()
    gc.collect()
    assert dict(exporter.samples(ITEMS))[("pool", "crawl"), ("kind", "ok")] == 20
    (histogram,) = exporter.items().values()
    assert sum(histogram.counts) == 20
    exporter.close()


def test_counters_outlive_their_pool_and_gauges_do_not() -> None:
    registry = CollectorRegistry()
    exporter = metrics.Prometheus(registry)
    for _ in range(2):
        with Pool(1, observers=[exporter], name="crawl") as pool:
            pool.map(abs, range(10))
        del pool
    found = scrape(registry)
    assert found["allcores_items_total", (("kind", "ok"), ("pool", "crawl"))] == 20
    assert found["allcores_workers_started_total", (("pool", "crawl"),)] == 2
    assert found["allcores_workers_ended_total", ()] == 2
    assert found["allcores_workers", (("pool", "crawl"),)] == 0


@pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
def test_calls_outlive_their_pool(backend: Any) -> None:
    """Those of `submit`, which are in no map, whose end would be told."""
    registry = CollectorRegistry()
    with Pool(2, backend=backend, observers=[metrics.Prometheus(registry)], name="crawl") as pool:
        assert [call.result() for call in [pool.submit(abs, number) for number in range(5)]] == list(range(5))
    del pool
    gc.collect()
    found = scrape(registry)
    assert found["allcores_items_total", (("kind", "ok"), ("pool", "crawl"))] == 5
    assert found["allcores_item_seconds_count", (("pool", "crawl"),)] == 5


def test_seconds_of_items_that_were_ended_are_counted() -> None:
    """Those that a deadline, or the end of their worker, ended: count and sum of the histogram are of the same ones."""
    registry = CollectorRegistry()
    with Pool(1, observers=[metrics.Prometheus(registry)], name="crawl") as pool:
        outcomes = list(pool.outcomes(time.sleep, [60], timeout=0.3, retries=Retry(1, on_timeout=True)))
        assert [outcome.kind for outcome in outcomes] == [Kind.TIMED_OUT]
        assert pool.statistics().busy_seconds >= 0.6
    found = scrape(registry)
    assert found["allcores_item_seconds_count", (("pool", "crawl"),)] == 2
    assert found["allcores_item_seconds_sum", (("pool", "crawl"),)] >= 0.6
    assert found["allcores_item_seconds_bucket", (("le", "0.1"), ("pool", "crawl"))] == 0


def test_several_exporters_of_one_registry_are_added_up() -> None:
    """One for each pool, as a function may make them that is called again and again: each name is there once."""
    registry = CollectorRegistry()
    exporters = []
    for name in ("crawl", "crawl", "parse"):
        exporters.append(metrics.Prometheus(registry))
        with Pool(backend="serial", observers=[exporters[-1]], name=name) as pool:
            list(pool.outcomes(fail, range(8)))
    text = generate_latest(registry).decode()
    assert text.count("# TYPE allcores_items_total counter") == 1
    found = scrape(registry)
    assert found["allcores_items_total", (("kind", "ok"), ("pool", "crawl"))] == 12
    assert found["allcores_items_total", (("kind", "ok"), ("pool", "parse"))] == 6
    assert found["allcores_failures_total", (("cause", "LookupError"),)] == 6
    assert found["allcores_map_seconds_count", ()] == 3
    assert found["allcores_item_seconds_count", (("pool", "crawl"),)] == 16
    exporters[2].close()
    exporters[2].close()
    assert ("allcores_items_total", (("kind", "ok"), ("pool", "parse"))) not in scrape(registry)
    exporters[0].close()
    exporters[1].close()
    assert scrape(registry) == {}
    metrics.Prometheus(registry).close()


def test_causes_are_bounded() -> None:
    """A program may raise any number of classes; a label may not have any number of values."""
    registry = CollectorRegistry()
    with Pool(backend="serial", observers=[metrics.Prometheus(registry)]) as pool:
        list(pool.outcomes(raise_one_of_many, range(200)))
    causes = {labels[0][1] for name, labels in scrape(registry) if name == "allcores_failures_total"}
    assert len(causes) == 51
    assert "other" in causes


def raise_one_of_many(number: int) -> None:
    raise type(f"Error{number}", (Exception,), {})


def test_opentelemetry_reads_what_pools_did() -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    exporter = metrics.OpenTelemetry(provider.get_meter("test"))
    with Pool(backend="serial", observers=[exporter], name="crawl") as pool:
        list(pool.outcomes(fail, range(20)))
        points: dict[str, list[Any]] = {}
        data = reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            points[metric.name] = list(metric.data.data_points)
    kinds = {point.attributes["kind"]: point.value for point in points["allcores.items"]}
    assert (kinds["ok"], kinds["failed"]) == (15, 5)
    assert [(dict(point.attributes), point.value) for point in points["allcores.failures"]] == [
        ({"cause": "LookupError"}, 5)
    ]
    assert points["allcores.map_seconds"][0].count == 1
    assert {p.attributes["le"]: p.value for p in points["allcores.items_by_seconds"]}["+Inf"] == 20
    provider.shutdown()


def test_several_exporters_of_one_meter_are_added_up() -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    for _ in range(2):
        exporter = metrics.OpenTelemetry(provider.get_meter("test"))
        with Pool(backend="serial", observers=[exporter], name="crawl") as pool:
            list(pool.outcomes(fail, range(20)))
    data = reader.get_metrics_data()
    assert data is not None
    found: dict[str, list[Any]] = {
        metric.name: list(metric.data.data_points) for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert {point.attributes["kind"]: point.value for point in found["allcores.items"]}["ok"] == 30
    assert [point.value for point in found["allcores.failures"]] == [10]
    assert found["allcores.map_seconds"][0].count == 2
    assert {p.attributes["le"]: p.value for p in found["allcores.items_by_seconds"]}["+Inf"] == 40
    provider.shutdown()


PROVIDER_SET_LATER = """
import allcores
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

early = [allcores.metrics.OpenTelemetry() for _ in range(2)]
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
for observer, name in zip([*early, allcores.metrics.OpenTelemetry()], ["one", "two", "three"]):
    with allcores.Pool(backend="serial", observers=[observer], name=name) as pool:
        pool.map(abs, range(10))
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    if metric.name == "allcores.items":
        print(sorted(point.attributes["pool"] for point in metric.data.data_points if point.value == 10))
"""


def test_exporters_that_were_made_before_the_provider_was_set(tmp_path: Path) -> None:
    """Modules make theirs as they are imported, and the program sets its provider later: all are seen."""
    done = scripts.run(PROVIDER_SET_LATER, tmp_path)
    assert (done.out, done.err) == ("['one', 'three', 'two']\n", "")


@pytest.mark.parametrize(
    ("library", "exporter", "extra"),
    [("prometheus_client", "Prometheus", "metrics"), ("opentelemetry", "OpenTelemetry", "otel")],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, library: str, exporter: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'allcores\[{extra}\]'"):
        getattr(metrics, exporter)()


def test_there_is_nothing_else_in_there() -> None:
    with pytest.raises(AttributeError, match="Graphite"):
        metrics.Graphite  # noqa: B018


def test_pools_that_run_at_the_same_time_number_their_maps_alike() -> None:
    registry = CollectorRegistry()
    exporter = metrics.Prometheus(registry)
    with Pool(backend="serial", observers=[exporter]) as one, Pool(backend="serial", observers=[exporter]) as other:
        stream = one.imap(abs, range(3))
        next(stream)
        other.map(abs, range(3))
        list(stream)
    assert scrape(registry)["allcores_map_seconds_count", ()] == 2


def test_pools_that_are_gone_take_no_room() -> None:
    registry = CollectorRegistry()
    exporter = metrics.Prometheus(registry)
    for _ in range(5):
        with Pool(backend="serial", observers=[exporter], name="crawl") as pool:
            pool.map(abs, range(10))
        del pool
    gc.collect()
    for _ in range(2):
        found = scrape(registry)
        assert found["allcores_items_total", (("kind", "ok"), ("pool", "crawl"))] == 50
        assert found["allcores_item_seconds_count", (("pool", "crawl"),)] == 50
        assert found["allcores_workers", (("pool", "crawl"),)] == 0
    assert len(exporter._pools) == 1
