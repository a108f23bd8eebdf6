"""``--dry-run``: what the run would read, on what, for how long and for how much, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.diagnostics import prices
from pipeline.reports.text import size_text
from pipeline.runners.cluster import parse_accelerator
from pipeline.runners.options import RunnerOptions
from pipeline.steps.changes import Plan
from transforms.engines.base import available_cores, has_gpu
from transforms.read import ReadPolicy


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do."""

    images: int
    shards: int
    bytes: int  # of the images whose size is known
    listed: int
    # In a bucket, where each image is a request
    remote: bool

    @property
    def mean_bytes(self) -> float:
        """Of an image."""
        return self.bytes / self.images


@dataclass(frozen=True, slots=True)
class Worker:
    """One machine of the extraction; ``dollars_hour`` None for one that nobody bills."""

    name: str
    # To compute with; a vCPU is half of one
    cores: float
    # cores' worth of decoding: a vCPU is more than half of one
    decoding: float
    gbps: float | None
    shards: int  # that it does at once
    gpu: prices.Gpu | None
    dollars_hour: float | None
    # Whether there is anything to compute with that the table knows
    known: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """The answer. Rates are images a second of one worker; one that is not known is left out."""

    work: Work
    worker: Worker
    workers: int
    rates: Mapping[str, float] = field(default_factory=dict)  # decode, model, network
    rate: float = 0.0
    hours: float = 0.0
    requests_dollars: float = 0.0

    @property
    def bound(self) -> str:
        """What binds: the slowest of the rates, or the bucket when all workers together ask it for more."""
        if self.work.remote and self.workers * self.rate > prices.BUCKET_GETS:
            return "bucket"
        return min(self.rates, key=lambda name: self.rates[name])

    @property
    def dollars(self) -> float | None:
        """Of machines and requests; None where the machines' price is not known."""
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
                f"would do {work.images:,} images in {work.shards:,} shards, {size_text(work.bytes)} "
                f"to read{requests}",
                f"with {self.workers:,} × {self.worker.name}, {self.rate:,.0f} images/s each "
                f"({rates}): {self.bound}-bound{unknown}",
                f"in about {_time(self.hours)}{money}"
                + (f" (prices of {prices.AS_OF})" if money else ""),
            ]
        )


def estimate_plan(plan: Plan, config: Config, runner: RunnerOptions) -> Estimate | None:
    """What a planned run would come to; None when there is nothing to do."""
    if not plan.todo:
        return None
    return estimate(
        Work(plan.todo, len(plan.shards), plan.todo_bytes, plan.counts.listed, plan.remote),
        config,
        runner,
    )


def estimate(work: Work, config: Config, runner: RunnerOptions) -> Estimate:
    """Hours, dollars, and what binds."""
    on_dataflow = runner.on_dataflow
    worker = (
        _dataflow_worker(config, runner.values)
        if on_dataflow
        else _worker_like_this(config, runner)
    )
    workers = min(work.shards, runner.workers)
    rates = _rates(work, worker, config)
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


def _rates(work: Work, worker: Worker, config: Config) -> dict[str, float]:
    """Images a second of one worker, if only that stage took time."""
    of_a_core = prices.DECODE_SECONDS + work.mean_bytes * prices.DECODE_SECONDS_PER_BYTE
    rates = {"decode": worker.decoding / of_a_core}
    known = (worker.gpu.rates if worker.gpu else prices.CORE_RATES).get(config.network.backbone)
    if known and worker.known:
        share = worker.gpu.float32 if worker.gpu and config.precision == "float32" else 1.0
        area = ((config.network.input_size or 224) / 224) ** 2
        rates["model"] = known * share * (1 if worker.gpu else worker.cores) / area
    if work.remote:
        waiting = worker.shards * ReadPolicy().concurrency / prices.GET_SECONDS
        line = worker.gbps * 1e9 / 8 / max(work.mean_bytes, 1) if worker.gbps else math.inf
        rates["network"] = min(waiting, line)
    return rates


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
        shards=options.get("number_of_worker_harness_threads") or 12,  # Dataflow's own default
        gpu=gpu,
        dollars_hour=hour if known else None,
        known=known,
    )


def _worker_like_this(config: Config, runner: RunnerOptions) -> Worker:
    """A process here; elsewhere (Dask, Flink) one like it, since nothing tells about the machines."""
    processes = runner.workers if runner.values.get("direct_num_workers") else 1
    cores = config.cores_per_worker or available_cores() // processes
    name = f"a worker of {cores} cores like this machine's" + (" and a GPU" if has_gpu() else "")
    return Worker(name, cores, cores, None, 1, None, None, known=not has_gpu())


def _seconds(images: int, rate: float, bucket: float | None) -> float:
    """Time for ``images`` at ``rate`` a second, when a bucket gives ``bucket`` at first and doubles from there."""
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
    minutes = math.ceil(hours * 60)
    return (
        f"{hours:,.1f} hours" if hours >= 1 else f"{minutes} minutes" if minutes > 1 else "a minute"
    )
