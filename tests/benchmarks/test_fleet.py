"""The simulation does each shard once, and each lost shard again, in the time that this takes."""

from dataclasses import replace

import pytest

from benchmarks.fleet import Fleet, Simulation

CALM = Fleet(
    images=64_000,
    workers=10,
    fixed=1.0,
    speeds_differ=0,
    start=0,
    preempted_each=1e12,
    failures=0,
    stragglers=0,
)


def simulate(size=640, **changes):
    return Simulation(size, replace(CALM, **changes), [0.01]).run()


def test_a_calm_job_takes_what_its_work_takes():
    seen = simulate()
    assert seen.shards == 100
    assert seen.makespan == pytest.approx(10 * (640 * 0.01 + 1.0))
    assert seen.useful == pytest.approx(100 * (640 * 0.01 + 1.0))
    assert (seen.lost, seen.repeated) == (0, 0)


def test_small_shards_pay_more_for_starting_and_large_ones_for_the_last():
    assert simulate(64).makespan == pytest.approx(100 * (64 * 0.01 + 1.0))
    assert simulate(6000).makespan > 1.5 * simulate().makespan


@pytest.mark.parametrize("trouble", [{"failures": 1.0}, {"preempted_each": 60.0, "start": 1.0}])
def test_what_is_lost_is_done_again(trouble):
    calm, seen = simulate(), simulate(**trouble)
    assert seen.repeated >= 10
    assert seen.lost > 0
    assert seen.useful == pytest.approx(calm.useful)
    assert seen.makespan > calm.makespan


def test_one_straggler_in_a_hundred_is_seen_at_the_end():
    assert simulate(stragglers=0.5).makespan > 2 * simulate().makespan
