"""No more threads at work than cores: counted by the processor time that each thread of a process took."""

import json
import subprocess
import sys

import pytest

from pipeline.runner import cores_per_worker
from transforms.engines.base import available_cores

_COUNT_BUSY_THREADS = """
import io, json, os, pathlib, sys, time
import numpy as np
from PIL import Image
from transforms.backbones import BackboneConfig, export, model_id, resolve
from transforms.decode import DecodePolicy
from transforms.engines import EngineConfig, load_engine
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.decoders import DecodeAndResize, decode_all
from transforms.models import cached_model

what, cores = sys.argv[1], int(sys.argv[2])
encoded = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)).save(encoded, "JPEG")
if what == "decode":
    images = [encoded.getvalue()] * 300
    work = lambda: list(decode_all(images, DecodeAndResize(DecodePolicy(), (224, 224), "squash"), cores))
else:
    import_tensorflow(cores)
    network = resolve(BackboneConfig())
    folder = cached_model(model_id(network), lambda scratch: export(network, scratch))
    engine = load_engine(EngineConfig(str(folder), what, "float32", cores))
    pixels = np.zeros((256, 224, 224, 3), np.uint8)
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


@pytest.mark.parametrize("what", ["decode", "tensorflow", "openvino"])
@pytest.mark.parametrize("cores", sorted({1, available_cores()}))
def test_work_is_done_by_as_many_threads_as_cores(what, cores):
    words = [sys.executable, "-c", _COUNT_BUSY_THREADS, what, str(cores)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout.splitlines()[-1])
    assert sum(taken[:cores]) > 0.85 * sum(taken), taken  # the rest is the caller, which hands out and collects


def test_local_processes_share_the_cores():
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert cores_per_worker(two) == max(1, available_cores() // 2)
    assert cores_per_worker(("--direct_num_workers=0", "--direct_running_mode=multi_processing")) == 1
    assert cores_per_worker(("--direct_num_workers=2", "--direct_running_mode=multi_threading")) is None
    assert cores_per_worker(()) is None
