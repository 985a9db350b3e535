"""What Prometheus scrapes. What is stale has no series, and none carries a timestamp."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from servomex.enums import Quality
from servomex.units import Unit, UnitKind, convert
from servomex.views.board import AnalyserView, ChannelView
from servomex.views.looks import STATES
from servomex.views.web.gate import Counts
from servomex.views.web.live import Live

_CHANNEL = ("analyser", "channel", "gas")
PERCENT_PER_RATIO = 100


def metrics_text(live: Live, counts: Counts) -> tuple[str, bytes]:
    """Return the metrics of this moment: the type of their text, and the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(live, counts))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Collector(Collector):
    def __init__(self, live: Live, counts: Counts) -> None:
        self._live = live
        self._counts = counts

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        views = self._live.board.view()
        yield from _of_channels([(view.name, channel) for view in views for channel in view.channels])
        yield from _of_analysers(views)
        yield GaugeMetricFamily(
            "servomex_web_clients", "Open streams of events of the page.", self._counts.clients
        )
        yield CounterMetricFamily(
            "servomex_web_clients_dropped", "Clients that were dropped as they did not read.", self._counts.dropped
        )
        yield CounterMetricFamily(
            "servomex_web_requests_refused",
            "Requests that were refused as there were too many clients.",
            self._counts.refused,
        )
        yield GaugeMetricFamily("servomex_web_rows_held", "Rows that are held for the page.", self._live.rows)


def _of_channels(channels: list[tuple[str, ChannelView]]) -> Iterator[Metric]:
    value = GaugeMetricFamily(
        "servomex_channel_value", "Value in its unit; absent when bad or stale.", labels=[*_CHANNEL, "unit"]
    )
    ratio = GaugeMetricFamily(
        "servomex_channel_concentration_ratio",
        "Concentration from 0 to 1; absent when bad or stale.",
        labels=_CHANNEL,
    )
    quality = GaugeMetricFamily(
        "servomex_channel_quality", "1 for the quality that the channel has.", labels=[*_CHANNEL, "quality"]
    )
    state = GaugeMetricFamily(
        "servomex_channel_state", "1 for each state that is raised.", labels=[*_CHANNEL, "state"]
    )
    for analyser, channel in channels:
        if channel.stale:
            continue
        reading = channel.reading
        labels = [analyser, str(reading.channel), reading.name or ""]
        if reading.value is not None and reading.quality is not Quality.BAD:
            value.add_metric([*labels, reading.unit_text], reading.value)
            if reading.unit.kind is UnitKind.CONCENTRATION:
                percent = convert(reading.value, reading.unit, Unit.PERCENT)
                ratio.add_metric(labels, float(f"{percent / PERCENT_PER_RATIO:.12g}"))
        for known in Quality:
            quality.add_metric([*labels, known.value], reading.quality is known)
        for item in STATES:
            state.add_metric([*labels, item.word], item.word in reading.status.words)
    yield from (value, ratio, quality, state)


def _of_analysers(views: tuple[AnalyserView, ...]) -> Iterator[Metric]:
    at = GaugeMetricFamily(
        "servomex_frame_timestamp_seconds", "When the newest reading arrived, in Unix time.", labels=["analyser"]
    )
    up = GaugeMetricFamily("servomex_up", "1 while the readings of the analyser are current.", labels=["analyser"])
    info = InfoMetricFamily("servomex_analyser", "How the analyser is read.", labels=["analyser"])
    taken = CounterMetricFamily("servomex_readings", "Readings by their result.", labels=["analyser", "result"])
    for view in views:
        summary = view.figures.summary
        if view.channels and not view.stale:
            newest = max(channel.reading.received_at for channel in view.channels)
            at.add_metric([view.name], newest.timestamp())
        up.add_metric([view.name], not view.stale)
        info.add_metric([view.name], {"port": view.where, "mode": view.figures.mode})
        taken.add_metric([view.name, "good"], max(0, summary.samples_emitted - summary.errors))
        taken.add_metric([view.name, "failed"], summary.errors)
        taken.add_metric([view.name, "late"], summary.samples_late)
    yield from (at, up, info, taken)
