"""The figures of a mount as Prometheus wants them, by its own library `prometheus_client`.

Names and units follow its conventions. Nothing is told of users, files or volumes: whoever can
reach the endpoint may read it. `scraping` has the endpoint.
Source: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from afsfuse import version
from afsfuse.fileserver.figures import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from afsfuse.control.statistics import MountStatistics

Figure = tuple[str, str, float]


class Figures:
    """A collector of one mount."""

    def __init__(self, statistics: Callable[[], MountStatistics]) -> None:
        """`statistics` takes a picture."""
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """All that is told, of one moment."""
        now = self._statistics()
        build = InfoMetricFamily("afsfuse_build", "The program that runs.")
        build.add_metric([], {"version": version()})
        yield build
        for name, text, value in _counters(now):
            yield CounterMetricFamily(name, text, value)
        for name, text, value in _gauges(now):
            yield GaugeMetricFamily(name, text, value)
        yield from _chunks(now)
        yield from _operations(now)
        yield from _packets(now)
        yield from _servers(now)


def exposition(registry: CollectorRegistry, accepted: str) -> tuple[bytes, str]:
    """All metrics, and their content type, in the form that an Accept header asks for."""
    encode, content_type = choose_encoder(accepted)
    return encode(registry), content_type


def registry_of(statistics: Callable[[], MountStatistics]) -> CollectorRegistry:
    """A registry with the figures of one mount, and with nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(statistics))
    return registry


def _counters(now: MountStatistics) -> list[Figure]:
    cache, requests, disk = now.cache, now.requests, now.cache.disk
    return [
        ("afsfuse_requests_at_once_total", "Requests of the kernel answered without waiting.",
         requests.at_once),
        ("afsfuse_requests_total", "Requests of the kernel that were answered.",
         requests.at_once + requests.answered),
        ("afsfuse_requests_refused_total", "Requests refused since too many waited.",
         requests.refused),
        ("afsfuse_request_wait_seconds_total", "Time for which requests waited, together.",
         requests.seconds),
        ("afsfuse_read_bytes_total", "Bytes of files that readers were given.", cache.read_bytes),
        ("afsfuse_fetched_bytes_total", "Bytes of files that came from servers.",
         cache.fetched_bytes),
        ("afsfuse_written_bytes_total", "Bytes that writers gave.", cache.written_bytes),
        ("afsfuse_stored_bytes_total", "Bytes that were stored on servers.", cache.stored_bytes),
        ("afsfuse_store_failures_total", "Stores that failed; each is tried again.",
         cache.store_failures),
        ("afsfuse_store_conflicts_total", "Times that another client stored in between.",
         cache.store_conflicts),
        ("afsfuse_status_fetches_total", "Statuses that were asked for.", cache.status_fetches),
        ("afsfuse_directory_fetches_total", "Directories that were fetched.",
         cache.directory_fetches),
        ("afsfuse_promises_broken_total", "Callback promises that servers took back.",
         cache.breaks),
        ("afsfuse_disk_written_bytes_total", "Bytes written to the cache on disk.", disk.written),
        ("afsfuse_disk_dropped_chunks_total", "Chunks that the disk had no time or room for.",
         disk.dropped),
        ("afsfuse_disk_damaged_total", "Times that the disk gave back something else.",
         disk.damaged),
    ]  # fmt: skip


def _gauges(now: MountStatistics) -> list[Figure]:
    cache, requests, disk = now.cache, now.requests, now.cache.disk
    return [
        ("afsfuse_uptime_seconds", "Since the daemon's start.", now.uptime),
        ("afsfuse_requests_waiting", "Requests of the kernel without an answer.",
         requests.waiting),
        ("afsfuse_request_longest_wait_seconds", "Age of the oldest of these.", requests.longest),
        ("afsfuse_operations_running", "Operations at file servers under way.", now.running),
        ("afsfuse_memory_bytes", "Bytes of file data in memory.", cache.data_bytes),
        ("afsfuse_memory_limit_bytes", "Bytes of file data that may be in memory.",
         cache.data_limit),
        ("afsfuse_dirty_bytes", "Bytes written and not stored yet.", cache.dirty_bytes),
        ("afsfuse_dirty_limit_bytes", "Bytes that may be written and not stored.",
         cache.dirty_limit),
        ("afsfuse_disk_bytes", "Bytes that the cache on disk takes.", disk.used),
        ("afsfuse_disk_limit_bytes", "Bytes that it may take.", disk.limit),
        ("afsfuse_vnodes", "Files and directories of which something is known.", cache.vnodes),
        ("afsfuse_nodes", "Inodes that the kernel knows.", now.vfs.nodes.nodes),
        ("afsfuse_open_files", "Files that are open.", now.vfs.open_files),
        ("afsfuse_connections", "Rx connections to servers.", now.network.client_connections),
        ("afsfuse_calls_active", "Rx calls under way, both ways.", now.network.active_calls),
        ("afsfuse_calls_waiting", "Rx calls that wait for a channel.", now.network.waiting_calls),
    ]  # fmt: skip


def _chunks(now: MountStatistics) -> Iterable[Metric]:
    """Where what readers wanted was found."""
    chunks = CounterMetricFamily(
        "afsfuse_chunks_read_total",
        "Chunks of file data that readers wanted, by where they were found.",
        labels=["found"],
    )
    cache = now.cache
    for found, count in (
        ("memory", cache.chunk_hits),
        ("disk", cache.disk_hits),
        ("server", cache.chunk_misses),
        ("on_the_way", cache.chunk_waits),
    ):
        chunks.add_metric([found], count)
    yield chunks


def _operations(now: MountStatistics) -> Iterable[Metric]:
    """How long operations at file servers take, and how many fail."""
    lasted = HistogramMetricFamily(
        "afsfuse_operation_duration_seconds",
        "How long operations at file servers took, repetitions and waiting included.",
        labels=["operation"],
    )
    failed = CounterMetricFamily(
        "afsfuse_operation_failures_total",
        "Operations at file servers that ended with an error.",
        labels=["operation"],
    )
    for operation in now.operations:
        count, buckets = 0, []
        for bound, number in zip((*BOUNDS, "+Inf"), operation.durations, strict=True):
            count += number
            buckets.append((str(bound), count))
        lasted.add_metric([operation.name], buckets, operation.seconds)
        failed.add_metric([operation.name], operation.failures)
    yield lasted
    yield failed


def _packets(now: MountStatistics) -> Iterable[Metric]:
    network = now.network
    packets = CounterMetricFamily(
        "afsfuse_packets_total", "Rx packets by direction and type.", labels=["direction", "type"]
    )
    for direction, counted in (("received", network.received), ("sent", network.sent)):
        for kind, count in counted.items():
            if count:
                packets.add_metric([direction, kind.name.lower()], count)
    yield packets
    dropped = CounterMetricFamily(
        "afsfuse_packets_dropped_total", "Rx packets without effect, by reason.", labels=["reason"]
    )
    for reason, count in network.drops.items():
        dropped.add_metric([reason.name.lower()], count)
    yield dropped
    refused = CounterMetricFamily(
        "afsfuse_refused_total", "What servers and the DNS said and cannot be.", labels=["kind"]
    )
    for what, count in now.refused.items():
        refused.add_metric([what.name.lower()], count)
    yield refused
    yield CounterMetricFamily(
        "afsfuse_packets_resent_total", "DATA packets that were sent again.", network.resent
    )


def _servers(now: MountStatistics) -> Iterable[Metric]:
    up = GaugeMetricFamily(
        "afsfuse_server_up", "Whether a file server answers.", labels=["cell", "server"]
    )
    rtt = GaugeMetricFamily(
        "afsfuse_server_rtt_seconds", "Round trip to a file server.", labels=["cell", "server"]
    )
    waiting = GaugeMetricFamily(
        "afsfuse_server_operations_waiting", "Operations that wait for a file server.",
        labels=["cell", "server"],
    )  # fmt: skip
    for server in now.servers:
        labels = [server.cell, server.used or server.uuid]
        up.add_metric(labels, float(server.up))
        waiting.add_metric(labels, now.waiting.get(server.uuid, 0))
        if server.rtt is not None:
            rtt.add_metric(labels, server.rtt)
    yield from (up, rtt, waiting)
