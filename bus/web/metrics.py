"""The bus in numbers, for Prometheus: read from the store at each scrape, so all processes tell the same.

Totals are the durable counters that the ledger adds up in the transaction they count; they survive restarts and need
no sharing of memory between processes. Names and what to do about them: ``docs/metrics.md``.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bus.assembly import Bus
from bus.broker.nodes import look_at_nodes
from bus.bulkheads import BreakerState
from bus.ledger import BUCKETS_MS
from bus.worker import WorkStanding
from schemas.moment import utc_now

Totals = Mapping[tuple[str, str], int]

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


def metrics_text(bus: Bus, work: WorkStanding | None = None) -> bytes:
    """The exposition of this moment. ``work`` is how this process delivers, if it does."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_BusCollector(bus, work))
    return generate_latest(registry)


class _BusCollector(Collector):
    """Reads once for one scrape."""

    def __init__(self, bus: Bus, work: WorkStanding | None) -> None:
        self._bus = bus
        self._work = work

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        now = utc_now()
        started = time.perf_counter()
        totals = self._bus.ledger.totals()
        read_seconds = time.perf_counter() - started
        yield from _counters(totals)
        yield _histogram("lgsp_accept_seconds", "From arrival to the receipt on disk", totals, "accept")
        yield _histogram("lgsp_delivery_seconds", "One attempt of a delivery", totals, "deliver")
        yield _histogram("lgsp_commit_seconds", "One group of accepted messages, flush included", totals, "commit")
        yield GaugeMetricFamily("lgsp_store_read_seconds", "Reading the totals just now", value=read_seconds)
        free = shutil.disk_usage(self._bus.settings.home).free
        yield GaugeMetricFamily("lgsp_home_free_bytes", "Room left where the home folder lies", value=free)
        yield self._nodes()
        yield from self._broker()
        yield from self._deliverer()
        yield from self._queues(now)
        yield self._breakers()
        yield from self._evidence(now)
        yield from self._certificates(now)

    def _queues(self, now: datetime) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("lgsp_queue_messages", "Deliveries that wait for a system", labels=["system"])
        oldest = GaugeMetricFamily("lgsp_queue_oldest_seconds", "Age of the oldest of them", labels=["system"])
        for queue in self._bus.ledger.queues():
            waiting.add_metric([queue.system], queue.waiting)
            oldest.add_metric([queue.system], (now - queue.oldest) / _SECOND)
        yield waiting
        yield oldest
        states = GaugeMetricFamily("lgsp_deliveries", "Deliveries that have not ended well, by state", labels=["state"])
        for state, number in self._bus.ledger.unsettled().items():
            states.add_metric([state.value], number)
        yield states

    def _nodes(self) -> Metric:
        """As this process last saw the roll; nothing where it is on none."""
        living = GaugeMetricFamily("lgsp_nodes", "Processes of the bus that live", labels=["role", "version"])
        counted = Counter((node.role.value, node.version) for node in self._bus.cluster.living)
        for (role, version), number in sorted(counted.items()):
            living.add_metric([role, version], number)
        return living

    def _broker(self) -> Iterator[Metric]:
        """Nothing where the store is the queue."""
        urls = self._bus.settings.broker_urls
        if not urls:
            return
        up = GaugeMetricFamily("lgsp_broker_node_up", "1 when a node can be reached from here", labels=["node"])
        took = GaugeMetricFamily("lgsp_broker_connect_seconds", "How long a connection to it took", labels=["node"])
        for seen in look_at_nodes(urls):
            up.add_metric([seen.node], float(seen.reachable))
            took.add_metric([seen.node], seen.seconds)
        yield from (up, took)

    def _deliverer(self) -> Iterator[Metric]:
        """Only where this process delivers."""
        work = self._work
        if work is None:
            return
        told = [
            ("lgsp_deliveries_in_flight", "Deliveries under way in this process", work.in_flight),
            ("lgsp_relay_turn_age_seconds", "Since the relay's latest turn", work.turned_seconds_ago),
        ]
        if (broker := work.broker) is not None:
            told += [
                ("lgsp_broker_connected", "1 when this process is connected to the broker", broker.connected),
                ("lgsp_broker_blocked", "1 when the broker has asked for a pause", broker.blocked),
                ("lgsp_broker_unconfirmed", "References sent and not confirmed yet", broker.unconfirmed),
            ]
            if broker.confirm_seconds is not None:
                told.append(("lgsp_broker_confirm_seconds", "The latest batch's confirmation", broker.confirm_seconds))
        for name, help_text, value in told:
            yield GaugeMetricFamily(name, help_text, value=float(value))

    def _breakers(self) -> Metric:
        breakers = GaugeMetricFamily(
            "lgsp_breaker_state",
            "1 for the state that a system's circuit breaker has in this process",
            labels=["system", "state"],
        )
        for system, current in self._bus.bulkheads.all_states().items():
            for state in BreakerState:
                breakers.add_metric([system, state.value], float(state is current))
        return breakers

    def _evidence(self, now: datetime) -> Iterator[Metric]:
        with self._bus.store.reading() as connection:
            standing = self._bus.log.standing(connection)
        yield GaugeMetricFamily("lgsp_evidence_entries", "Entries of the evidence log", value=standing.size)
        yield GaugeMetricFamily("lgsp_evidence_sealed_entries", "Those under a checkpoint", value=standing.sealed)
        waited = (now - standing.waiting_since) / _SECOND if standing.waiting_since else 0.0
        yield GaugeMetricFamily("lgsp_evidence_unsealed_seconds", "Age of the first unsealed entry", value=waited)
        if standing.sealed_at is not None:
            age = (now - standing.sealed_at) / _SECOND
            yield GaugeMetricFamily("lgsp_checkpoint_age_seconds", "Age of the latest checkpoint", value=age)
        yield from self._timestamps(now)

    def _timestamps(self, now: datetime) -> Iterator[Metric]:
        """Nothing where no authority is asked."""
        if not self._bus.settings.timestamp_urls:
            return
        with self._bus.store.reading() as connection:
            standing = self._bus.log.stamp_standing(connection)
        waited = (now - standing.waiting_since) / _SECOND if standing.waiting_since else 0.0
        yield GaugeMetricFamily(
            "lgsp_evidence_unstamped_seconds", "Age of the first unstamped checkpoint", value=waited
        )
        if standing.stamped_at is not None:
            age = (now - standing.stamped_at) / _SECOND
            yield GaugeMetricFamily("lgsp_timestamp_age_seconds", "Age of the latest timestamp", value=age)

    def _certificates(self, now: datetime) -> Iterator[Metric]:
        left = GaugeMetricFamily(
            "lgsp_certificate_days_left", "Days until a key ends that is not revoked", labels=["system", "key_id"]
        )
        directory = self._bus.directory.current()
        for system in directory.systems.values():
            for held in system.certificates:
                if held.revoked_at is None and not system.suspended:
                    left.add_metric([system.code, held.key_id], (held.not_after - now) / _DAY)
        ours = self._bus.ring.find_key(self._bus.ring.current.key_id)
        if ours is not None:
            left.add_metric([ours.system, ours.key_id], (ours.not_after - now) / _DAY)
        yield left
        yield GaugeMetricFamily("lgsp_registry_revision", "Changes made to the registry", value=directory.revision)


def _counters(totals: Totals) -> Iterator[Metric]:
    accepted = CounterMetricFamily("lgsp_messages_accepted", "Messages recorded", labels=["service"])
    repeated = CounterMetricFamily("lgsp_messages_repeated", "Messages that were here before", labels=["service"])
    refused = CounterMetricFamily("lgsp_messages_refused", "Refusals kept as evidence", labels=["problem"])
    attempts = CounterMetricFamily("lgsp_delivery_attempts", "Attempts that ended, by outcome", labels=["outcome"])
    families = {"accepted": accepted, "repeated": repeated, "refused": refused}
    for (name, label), value in sorted(totals.items()):
        if name in families:
            families[name].add_metric([label], value)
    for outcome in ("delivered", "retried", "died"):
        attempts.add_metric([outcome], totals.get((outcome, ""), 0))
    yield from (accepted, repeated, refused, attempts)


def _histogram(name: str, help_text: str, totals: Totals, kind: str) -> Metric:
    """The ledger counts each duration in the one bucket that it falls into; Prometheus wants them added up."""
    counted: dict[str, int] = defaultdict(int)
    counted.update({label: value for (metric, label), value in totals.items() if metric == f"{kind}_ms"})
    buckets, below = [], 0
    for bound in BUCKETS_MS:
        below += counted[str(bound)]
        buckets.append((repr(bound / 1000), below))
    buckets.append(("+Inf", below + counted["+Inf"]))
    return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=totals.get((f"{kind}_us", ""), 0) / 1e6)
