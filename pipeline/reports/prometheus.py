"""Write the last run's metrics for Prometheus' textfile collector: ``--metrics-prometheus``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

_GOOD = ("published", "unchanged")
_SUCCESS = "last_success_timestamp_seconds"
_CLASSES = (
    "listed",
    "new",
    "changed",
    "unchanged",
    "retried",
    "still_failed",
    "removed",
    "kept",
    "embedded",
    "reused",
    "relabelled",
    "failed",
    "ignored",
)


def write_textfile(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a file of Prometheus metrics, whole or not at all.

    The time of the last successful run is carried over from the old file. So an alarm can watch how
    long ago it was, whatever failed since. All metrics have the label ``output``, and those of a
    run with several backbones the label ``table``.

    Args:
        path: The file.
        lines: The metrics of the run, as in ``--metrics-json``: a line for each backbone.

    Raises:
        OSError: The file cannot be written.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    own = [name for name in ("output", "table") if name in lines[0]]
    gauges: dict[str, Gauge] = {}

    def gauge(name: str, text: str, line: Mapping[str, Any], values: Mapping[str, float],
              label: str = "") -> None:  # fmt: skip
        names = [*own, *([label] if label else [])]
        if name not in gauges:
            gauges[name] = Gauge(f"image_features_{name}", text, names, registry=registry)
        for word, value in values.items():
            words = {name: str(line[name]) for name in own} | ({label: word} if label else {})
            gauges[name].labels(**words).set(value)

    for line in lines:
        success = _last_success(path, {name: str(line[name]) for name in own}, line)
        _fill(gauge, line, success)
    write_to_textfile(str(path), registry)


def _fill(gauge: Callable[..., None], line: Mapping[str, Any], success: float | None) -> None:
    """Set all metrics of one backbone."""
    text = "End of the last run that published, or had nothing to do; Unix time"
    if success:
        gauge(_SUCCESS, text, line, {"": success})
    gauge("run_timestamp_seconds", "End of the last run; Unix time", line, {"": _ended(line)})
    gauge("run_state", "How the last run ended", line, {line["state"]: 1}, "state")
    classes = {name: line[name] for name in _CLASSES}
    gauge("images", "Images of the last run, by what became of them", line, classes, "class")
    failures = line["failures_by_kind"]
    gauge("failures", "Failed images of the last run, by kind", line, failures, "kind")
    read_written = "Bytes of images read, and of parts written"
    gauge("bytes", read_written, line, _bytes(line), "direction")
    gauge("stage_seconds", "Time of the last run, by stage", line, line["seconds"], "stage")
    workers = "Time of the last run's workers added up, by stage"
    gauge("worker_seconds", workers, line, line["worker_seconds"], "stage")


def _ended(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _bytes(line: Mapping[str, Any]) -> dict[str, float]:
    return {direction: line[f"bytes_{direction}"] for direction in ("read", "written")}


def _last_success(path: Path, labels: Mapping[str, str], line: Mapping[str, Any]) -> float | None:
    """Return the end of this run if it was a success, or else that of the last one that was."""
    if line["state"] in _GOOD:
        return _ended(line)
    from prometheus_client.parser import text_string_to_metric_families

    with suppress(OSError, ValueError):
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
            for sample in family.samples:
                if sample.name == f"image_features_{_SUCCESS}" and sample.labels == labels:
                    return float(sample.value)
    return None
