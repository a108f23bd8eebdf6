"""No more busy threads and no more heaps than cores, counted in processes of their own."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

from pipeline.runners.options import RunnerOptions
from transforms.engines.base import available_cores

_COUNT_BUSY_THREADS = """
import io, json, os, pathlib, sys, time
import numpy as np
from PIL import Image
from transforms.backbones import BackboneConfig, export, model_id, resolve
from transforms.decode.image import DecodePolicy
from transforms.engines import EngineConfig, load_engine
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.decode.pool import DecodeAndResize, decode_all
from transforms.engines.models import cached_model

what, cores = sys.argv[1], int(sys.argv[2])
encoded = io.BytesIO()
pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
Image.fromarray(pixels).save(encoded, "JPEG")
if what == "decode":
    images = [encoded.getvalue()] * 100
    function = DecodeAndResize(DecodePolicy(), (224, 224), "squash")
    work = lambda: list(decode_all([(data, (function,)) for data in images], cores))
else:
    import_tensorflow(cores)
    network = resolve(BackboneConfig())
    folder = cached_model(model_id(network), lambda scratch: export(network, scratch))
    engine = load_engine(EngineConfig(str(folder), what, "float32", cores))
    pixels = np.zeros((64, 224, 224, 3), np.uint8)
    work = lambda: engine.run(pixels)

def seconds():
    ticks = {}
    for task in pathlib.Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        ticks[task.name] = int(fields[11]) + int(fields[12])
    return {name: count / os.sysconf("SC_CLK_TCK") for name, count in ticks.items()}

work()
before = seconds()
work()
taken = sorted((after - before.get(name, 0) for name, after in seconds().items()), reverse=True)
print(json.dumps(taken))
"""


@pytest.mark.parametrize(
    ("what", "cores"),
    [
        ("decode", 1),
        ("tensorflow", 1),
        *((what, available_cores()) for what in ("decode", "openvino")),
    ],
)
def test_work_is_done_by_as_many_threads_as_cores(what, cores):
    words = [sys.executable, "-c", _COUNT_BUSY_THREADS, what, str(cores)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout.splitlines()[-1])
    # The rest is the calling thread, which hands out and collects.
    assert sum(taken[:cores]) > 0.85 * sum(taken), taken


def test_local_processes_share_the_cores():
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert RunnerOptions.parse(two).cores_per_worker == max(1, available_cores() // 2)
    assert (
        RunnerOptions.parse(
            ("--direct_num_workers=0", "--direct_running_mode=multi_processing")
        ).cores_per_worker
        == 1
    )
    assert (
        RunnerOptions.parse(
            ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
        ).cores_per_worker
        is None
    )
    assert RunnerOptions.parse(()).cores_per_worker is None


_COUNT_HEAPS = """
import ctypes, threading
from transforms.allocator import share_one_heap
share_one_heap()
libc = ctypes.CDLL(None)
together = threading.Barrier(40)

def allocate():
    held = bytes(200_000)  # beyond Python's own pools
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(40)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out), libc.fflush(out)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library than glibc"
)
def test_threads_share_one_heap_a_core():
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    words = [sys.executable, "-c", _COUNT_HEAPS]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert 1 <= done.stdout.count("<heap nr=") <= os.cpu_count()
