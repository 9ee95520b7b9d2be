"""Figures in the text format of Prometheus. It needs prometheus-client, and imports it only when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from heirflow.status.figures import MEANINGS, Figure
from heirflow.text import printable

if TYPE_CHECKING:
    from prometheus_client import Metric


def exposition(figures: Iterable[Figure]) -> str:
    """The figures in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    families: dict[str, GaugeMetricFamily] = {}
    for name, labels, value in figures:
        if name not in families:
            families[name] = GaugeMetricFamily(name, MEANINGS[name], labels=list(labels))
        families[name].add_metric([printable(text) for text in labels.values()], float(value))

    class Found(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from families.values()

    registry = CollectorRegistry()
    registry.register(Found())
    return generate_latest(registry).decode()
