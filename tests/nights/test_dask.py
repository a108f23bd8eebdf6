"""A real Dask cluster, with launch/dask.args, gives the table of one process, whoever is killed."""

from __future__ import annotations

import signal

import distributed
import pytest

import pipeline.steps.extract
from pipeline import Config
from tests.helpers.clusters import SHARDS, extract, finish, receipts, same_table, until

pytestmark = pytest.mark.slow


def words(cluster):
    return "@launch/dask.args", f"--dask_client_address={cluster.address}"


def test_dask_makes_the_same_table_and_each_worker_loads_the_network_once(
    dask_cluster, two_hundred, expected, tmp_path
):
    """The workers set up a partition for each shard; the network stays in the process."""
    out, error = finish(extract(two_hundred, tmp_path, *words(dask_cluster)))
    assert f"200 images in {SHARDS} shards" in error
    assert "embedded 200, reused 0, failed 0" in out
    assert same_table(tmp_path, expected)
    count = "len(__import__('transforms.engines').engines._loaded)"
    assert list(dask_cluster.client.run(eval, count).values()) == [1, 1]


def test_dask_finishes_when_a_worker_is_killed(dask_cluster, two_hundred, expected, tmp_path):
    run = extract(two_hundred, tmp_path, *words(dask_cluster))
    until(lambda: receipts(tmp_path))
    dask_cluster.workers[-1].kill()
    assert receipts(tmp_path) < SHARDS
    finish(run)
    assert same_table(tmp_path, expected)


def test_a_driver_that_is_killed_goes_on_at_its_next_start(
    dask_cluster, two_hundred, expected, tmp_path
):
    run = extract(two_hundred, tmp_path, *words(dask_cluster))
    until(lambda: receipts(tmp_path))
    run.kill()
    assert run.wait() == -signal.SIGKILL
    assert not (tmp_path / "features/_delta_log").exists()
    _, error = finish(extract(two_hundred, tmp_path, *words(dask_cluster)))
    assert "resuming run" in error
    assert same_table(tmp_path, expected)


def test_shards_that_two_workers_do_at_once_count_once(
    dask_cluster, two_hundred, expected, tmp_path, monkeypatch
):
    real = pipeline.steps.extract.extract_shards

    def each_twice(shards, *rest):
        real([shard for shard in shards for _ in range(2)], *rest)

    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", each_twice)
    runner = "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"
    beam = (runner, "--dask_partition_size=1", f"--dask_client_address={dask_cluster.address}")
    config = Config(
        (str(two_hundred),),
        str(tmp_path),
        shard_size=200 // SHARDS,
        cores_per_worker=1,
        beam_args=beam,
    )
    assert pipeline.extract(config).embedded == 200
    while client := distributed.client._get_global_client():
        client.close()
    assert same_table(tmp_path, expected)


def test_a_cluster_without_room_stalls_and_the_same_command_finishes_later(
    dask_scheduler, two_hundred, expected, tmp_path
):
    output = tmp_path / "out"
    run = extract(two_hundred, output, *words(dask_scheduler), "--stall-timeout", 2)
    out, error = run.communicate(timeout=100)
    assert (run.returncode, out) == (1, "")
    [line] = error.splitlines()
    assert line.startswith("image-features: the listing stalled: nothing new in runs/")
    assert (
        "/listing/ for 2 s (--stall-timeout). Check that this package is installed for the python"
        in line
    )
    assert line.endswith("Then run the same command again: it resumes the run.")
    dask_scheduler.add_workers(2)
    finish(extract(two_hundred, output, *words(dask_scheduler)))
    assert same_table(output, expected)
