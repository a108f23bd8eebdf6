"""Estimate the requests, machines, time and cost of a run: ``--dry-run``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.diagnostics import prices
from pipeline.reports.text import size_text
from pipeline.runners.cluster import parse_accelerator
from pipeline.runners.options import RunnerOptions
from pipeline.steps.plan import Compared
from transforms.engines.base import available_cores, has_gpu
from transforms.read import ReadPolicy


@dataclass(frozen=True, slots=True)
class Work:
    """The images to do."""

    images: int
    shards: int
    bytes: int  # of the images whose size is known
    listed: int
    remote: bool  # in a bucket, where each image is a request

    @property
    def mean_bytes(self) -> float:
        """The mean size of an image in bytes."""
        return self.bytes / self.images


@dataclass(frozen=True, slots=True)
class Worker:
    """One machine of the extraction."""

    name: str
    cores: float  # to compute with; a vCPU counts as half a core
    decoding: float  # cores to decode with; a vCPU counts as more than half a core
    gbps: float | None
    shards: int  # done at once
    gpu: prices.Gpu | None
    dollars_hour: float | None  # None if the machine costs nothing, or its price is unknown
    known: bool = True  # whether the table has the speed of the machine


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate. ``rates`` are images per second of one worker; an unknown rate is left out."""

    work: Work
    worker: Worker
    workers: int
    rates: Mapping[str, float] = field(default_factory=dict)  # decode, model, network
    rate: float = 0.0
    hours: float = 0.0
    requests_dollars: float = 0.0

    @property
    def bound(self) -> str:
        """The slowest of the rates, or the bucket if all workers together exceed its limit."""
        if self.work.remote and self.workers * self.rate > prices.BUCKET_GETS:
            return "bucket"
        return min(self.rates, key=lambda name: self.rates[name])

    @property
    def dollars(self) -> float | None:
        """The cost of machines and requests; None if the machines' price is not known."""
        hour = self.worker.dollars_hour
        return None if hour is None else self.workers * self.hours * hour + self.requests_dollars

    def __str__(self) -> str:
        work = self.work
        requests = (
            f": {work.images:,} GET and {_pages(work):,} LIST requests" if work.remote else ""
        )
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in self.rates.items())
        unknown = (
            ""
            if "model" in self.rates
            else "; the model's rate is not known, so it may take longer"
        )
        money = f", for ${self.requests_dollars:,.2f} of requests" if work.remote else ""
        if self.dollars is not None:
            money = f", for ${self.dollars:,.2f}, ${self.requests_dollars:,.2f} of it requests"
        return "\n".join(
            [
                f"would do {work.images:,} images in {work.shards:,} shards, "
                f"{size_text(work.bytes)} to read{requests}",
                f"with {self.workers:,} × {self.worker.name}, {self.rate:,.0f} images/s each "
                f"({rates}): {self.bound}-bound{unknown}",
                f"in about {_time(self.hours)}{money}"
                + (f" (prices of {prices.AS_OF})" if money else ""),
            ]
        )


def estimate_plan(
    compared: Compared, configs: Sequence[Config], runner: RunnerOptions
) -> Estimate | None:
    """Estimate the runs of all backbones; return None when there is nothing to do."""
    shards = compared.shards
    if not shards.images:
        return None
    listed = compared.runs[0].counts.listed
    work = Work(shards.images, len(shards.names), shards.bytes, listed, shards.remote)
    todo = [plan.todo for plan in compared.plans]
    return estimate(work, configs[0], runner, list(zip(configs, todo, strict=True)))


def estimate(
    work: Work,
    config: Config,
    runner: RunnerOptions,
    backbones: Sequence[tuple[Config, int]] = (),
) -> Estimate:
    """Estimate the hours, the dollars and the slowest stage of a run.

    Args:
        work: The images to do.
        config: The options of the run.
        runner: The options of Beam.
        backbones: Of a run with several: each one's options, and the number of its images.
    """
    on_dataflow = runner.on_dataflow
    worker = (
        _dataflow_worker(config, runner.values)
        if on_dataflow
        else _worker_like_this(config, runner)
    )
    workers = min(work.shards, runner.workers)
    rates = _rates(work, worker, backbones or [(config, work.images)])
    decode_and_model = [rates["decode"], *([rates["model"]] if "model" in rates else [])]
    # A GPU leaves the cores to decoding; on a CPU the two take turns.
    computing = (
        min(decode_and_model) if worker.gpu else 1 / sum(1 / rate for rate in decode_and_model)
    )
    rate = min(computing, rates.get("network", computing))
    start_up = prices.START_UP_HOURS if on_dataflow else 0.0
    seconds = _seconds(work.images, workers * rate, prices.BUCKET_GETS if work.remote else None)
    requests = work.images * prices.GET + _pages(work) * prices.LIST if work.remote else 0.0
    return Estimate(work, worker, workers, rates, rate, start_up + seconds / 3600, requests)


def _rates(work: Work, worker: Worker, backbones: Sequence[tuple[Config, int]]) -> dict[str, float]:
    """Return the images per second of one worker for each stage, as if it were the only one."""
    of_a_core = prices.DECODE_SECONDS + work.mean_bytes * prices.DECODE_SECONDS_PER_BYTE
    rates = {"decode": worker.decoding / of_a_core}
    # An image goes through the networks one after the other, and not all of them do all images.
    models = [(_model_rate(worker, config), images) for config, images in backbones if images]
    if all(rate for rate, _ in models):
        rates["model"] = work.images / sum(images / rate for rate, images in models if rate)
    if work.remote:
        waiting = worker.shards * ReadPolicy().concurrency / prices.GET_SECONDS
        line = worker.gbps * 1e9 / 8 / max(work.mean_bytes, 1) if worker.gbps else math.inf
        rates["network"] = min(waiting, line)
    return rates


def _model_rate(worker: Worker, config: Config) -> float | None:
    """Return the images per second of one network on one worker; None if unknown."""
    known = (worker.gpu.rates if worker.gpu else prices.CORE_RATES).get(config.network.backbone)
    if not known or not worker.known:
        return None
    share = worker.gpu.float32 if worker.gpu and config.precision == "float32" else 1.0
    area = ((config.network.input_size or 224) / 224) ** 2
    return known * share * (1 if worker.gpu else worker.cores) / area


def _dataflow_worker(config: Config, options: Mapping[str, Any]) -> Worker:
    accelerator = parse_accelerator(config.accelerator) if config.accelerator else None
    name = (
        (accelerator and accelerator.machine_type) or options.get("machine_type") or "n1-standard-1"
    )
    machine = prices.MACHINES.get(name)
    gpu = prices.GPUS.get(accelerator.type) if accelerator else None
    label = f"{name} with {accelerator.count} {accelerator.type}" if accelerator else name
    known = machine is not None and (gpu is not None or accelerator is None)
    size = machine or prices.Machine(1, 0, 2)
    speed = prices.N1_SPEED if name.startswith("n1-") else 1.0
    hour = size.vcpus * prices.VCPU_HOUR + size.memory_gb * prices.MEMORY_GB_HOUR
    hour += (options.get("disk_size_gb") or 0) * prices.DISK_GB_HOUR
    hour += accelerator.count * gpu.dollars_hour if accelerator and gpu else 0
    return Worker(
        name=label if known else f"{label} (not in the table: counted as one vCPU)",
        cores=size.vcpus / 2 * speed,
        decoding=size.vcpus * prices.THREAD_OF_CORE * speed,
        gbps=size.gbps,
        # Dataflow's own default is 12.
        shards=options.get("number_of_worker_harness_threads") or 12,
        gpu=gpu,
        dollars_hour=hour if known else None,
        known=known,
    )


def _worker_like_this(config: Config, runner: RunnerOptions) -> Worker:
    """Return a worker like this machine; other clusters' machines (Dask, Flink) are unknown."""
    processes = runner.workers if runner.values.get("direct_num_workers") else 1
    cores = config.cores_per_worker or available_cores() // processes
    name = f"a worker of {cores} cores like this machine's" + (" and a GPU" if has_gpu() else "")
    return Worker(name, cores, cores, None, 1, None, None, known=not has_gpu())


def _seconds(images: int, rate: float, bucket: float | None) -> float:
    """Return the seconds for ``images`` at ``rate``, when a bucket's limit starts at ``bucket``."""
    if not bucket or rate <= bucket:
        return images / rate
    growth = math.log(2) / prices.BUCKET_DOUBLES_SECONDS
    until_full = math.log(rate / bucket) / growth
    read_by_then = (rate - bucket) / growth
    if images <= read_by_then:
        return math.log1p(images * growth / bucket) / growth
    return until_full + (images - read_by_then) / rate


def _pages(work: Work) -> int:
    return -(-work.listed // 1000)


def _time(hours: float) -> str:
    seconds = math.ceil(hours * 3600)
    if seconds < 120:
        return f"{seconds} second{'s' if seconds > 1 else ''}"
    return f"{hours:,.1f} hours" if hours >= 1 else f"{math.ceil(hours * 60)} minutes"
