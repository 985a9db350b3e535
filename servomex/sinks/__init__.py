"""Sinks: where recordings are written, found by the suffix of a file or the scheme of a URL."""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.sinks.base import Sink as Sink
    from servomex.sinks.csv import CsvSink as CsvSink
    from servomex.sinks.files import FileSink as FileSink
    from servomex.sinks.influx import InfluxSink as InfluxSink
    from servomex.sinks.influx_config import InfluxConfig as InfluxConfig
    from servomex.sinks.jsonl import JsonlSink as JsonlSink
    from servomex.sinks.memory import InMemorySink as InMemorySink
    from servomex.sinks.mqtt import MqttSink as MqttSink
    from servomex.sinks.mqtt_config import MqttConfig as MqttConfig
    from servomex.sinks.opening import SinkOptions as SinkOptions
    from servomex.sinks.opening import check_targets as check_targets
    from servomex.sinks.opening import open_sink as open_sink
    from servomex.sinks.opening import options_of as options_of
    from servomex.sinks.opening import sink_class as sink_class
    from servomex.sinks.parquet import ParquetSink as ParquetSink
    from servomex.sinks.postgres import PostgresSink as PostgresSink
    from servomex.sinks.postgres_config import PostgresConfig as PostgresConfig
    from servomex.sinks.rotation import RotatingSink as RotatingSink
    from servomex.sinks.sqlite import SqliteSink as SqliteSink
else:
    __getattr__, __dir__ = hand_on(
        __name__,
        {
            "base": "Sink",
            "csv": "CsvSink",
            "files": "FileSink",
            "influx": "InfluxSink",
            "influx_config": "InfluxConfig",
            "jsonl": "JsonlSink",
            "memory": "InMemorySink",
            "mqtt": "MqttSink",
            "mqtt_config": "MqttConfig",
            "opening": "SinkOptions check_targets open_sink options_of sink_class",
            "parquet": "ParquetSink",
            "postgres": "PostgresSink",
            "postgres_config": "PostgresConfig",
            "rotation": "RotatingSink",
            "sqlite": "SqliteSink",
        },
    )
