"""What is counted, and how Prometheus reads it.

The hot path adds to plain lists; the names and the text format are made when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from capsa.errors import NotFound

if TYPE_CHECKING:
    from capsa.decisions import Store

#: Upper ends of the steps in which durations are counted, in seconds.
STEPS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)


class Meter:
    """Requests by operation and status, and how long they took."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], int] = {}
        self._steps: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        #: Connections that are open, and that were turned away because too many were.
        self.connections = 0
        self.turned_away = 0

    def count(self, name: str, status: int, seconds: float) -> None:
        """Counts one request."""
        key = name, status
        self._requests[key] = self._requests.get(key, 0) + 1
        steps = self._steps.get(name)
        if steps is None:
            steps = self._steps[name] = [0] * (len(STEPS_S) + 1)
            self._seconds[name] = 0.0
        steps[bisect_left(STEPS_S, seconds)] += 1
        self._seconds[name] += seconds

    def collect(self) -> Iterator[Metric]:
        """What was counted."""
        requests = CounterMetricFamily("capsa_requests", "Requests.", labels=["operation", "status"])
        for (name, status), count in sorted(self._requests.items()):
            requests.add_metric([name, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "capsa_request_seconds", "Seconds from a request's head to its answer.", labels=["operation"]
        )
        for name, steps in sorted(self._steps.items()):
            total, buckets = 0, []
            for upper, count in zip([*STEPS_S, float("inf")], steps, strict=True):
                total += count
                buckets.append((f"{upper:g}" if upper != float("inf") else "+Inf", total))
            seconds.add_metric([name], buckets, sum_value=self._seconds[name])
        yield seconds
        yield GaugeMetricFamily("capsa_connections", "Connections that are open.", value=self.connections)
        yield CounterMetricFamily(
            "capsa_connections_turned_away", "Connections above the limit.", value=self.turned_away
        )


def exposition(meter: Meter, store: Store | None) -> bytes:
    """Everything in Prometheus's text format.

    Args:
        meter: What the server counted.
        store: What is served, capsule by capsule; ``None`` for who has no key, and while it is being opened.
    """
    registry = CollectorRegistry()
    registry.register(_Collected(meter.collect()))
    if store is not None:
        registry.register(_Collected(_capsules(store)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _capsules(store: Store) -> Iterator[Metric]:
    labels = ["tenant", "job", "capsule"]
    decisions = CounterMetricFamily("capsa_decisions", "Decisions that were recorded.", labels=labels)
    feedback = CounterMetricFamily(
        "capsa_feedback", "Feedback by what became of it.", labels=[*labels, "status"]
    )
    waiting = GaugeMetricFamily("capsa_feedback_pending", "Decisions that await feedback.", labels=labels)
    contexts = GaugeMetricFamily("capsa_contexts", "Context keys that are held.", labels=labels)
    places = store.places()
    for place in places:
        with suppress(NotFound):
            # Otherwise it was deleted meanwhile.
            counts = store.counts(place)
            decisions.add_metric(place, counts["decisions"])
            waiting.add_metric(place, counts["waiting"][0])
            contexts.add_metric(place, counts["contexts"][0])
            for status, count in counts["feedback"].items():
                if isinstance(count, int):
                    feedback.add_metric([*place, status], count)
    yield from (decisions, feedback, waiting, contexts)
    calls = CounterMetricFamily(
        "capsa_invocations",
        "Calls of tools: answered, or breached, which were denied something or broke a limit.",
        labels=[*labels, "status"],
    )
    tools = store.tool_places()
    for place in tools:
        with suppress(NotFound):
            for status, count in store.call_counts(place).items():
                calls.add_metric([*place, status], count)
    yield calls
    yield GaugeMetricFamily("capsa_capsules", "Capsules that are installed.", value=len(places) + len(tools))
