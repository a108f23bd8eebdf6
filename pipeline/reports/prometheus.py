"""Write the last run's metrics for Prometheus' textfile collector: ``--metrics-prometheus``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

_GOOD = ("published", "unchanged")
_SUCCESS = "image_features_last_success_timestamp_seconds"
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
    "failed",
    "ignored",
)


def write_textfile(path: Path, line: Mapping[str, Any]) -> None:
    """Replace a file of Prometheus metrics, whole or not at all.

    The time of the last successful run is carried over from the old file. So an alarm can watch how
    long ago it was, whatever failed since. All metrics have the label ``output``.

    Args:
        path: The file.
        line: The metrics of the run, as in ``--metrics-json``.

    Raises:
        OSError: The file cannot be written.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    output = {"output": str(line["output"])}

    def gauge(name: str, text: str, values: Mapping[str, float], label: str) -> None:
        found = Gauge(f"image_features_{name}", text, ["output", label], registry=registry)
        for word, value in values.items():
            found.labels(**output, **{label: word}).set(value)

    ended = datetime.fromisoformat(line["time"]).timestamp()
    success = ended if line["state"] in _GOOD else _last_success(path, output)
    if success:
        text = "End of the last run that published, or had nothing to do; Unix time"
        Gauge(_SUCCESS, text, ["output"], registry=registry).labels(**output).set(success)
    text = "End of the last run; Unix time"
    Gauge("image_features_run_timestamp_seconds", text, ["output"], registry=registry).labels(
        **output
    ).set(ended)
    gauge("run_state", "How the last run ended", {line["state"]: 1}, "state")
    gauge(
        "images",
        "Images of the last run, by what became of them",
        {c: line[c] for c in _CLASSES},
        "class",
    )
    gauge("failures", "Failed images of the last run, by kind", line["failures_by_kind"], "kind")
    gauge("bytes", "Bytes of images read, and of parts written", _bytes(line), "direction")
    gauge("stage_seconds", "Time of the last run, by stage", line["seconds"], "stage")
    gauge(
        "worker_seconds",
        "Time of the last run's workers added up, by stage",
        line["worker_seconds"],
        "stage",
    )
    write_to_textfile(str(path), registry)


def _bytes(line: Mapping[str, Any]) -> dict[str, float]:
    return {direction: line[f"bytes_{direction}"] for direction in ("read", "written")}


def _last_success(path: Path, output: Mapping[str, str]) -> float | None:
    from prometheus_client.parser import text_string_to_metric_families

    with suppress(OSError, ValueError):
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
            for sample in family.samples:
                if sample.name == _SUCCESS and sample.labels == output:
                    return float(sample.value)
    return None
