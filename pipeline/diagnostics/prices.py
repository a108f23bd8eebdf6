"""List the prices and speeds of machines, for the estimates of ``--dry-run``.

Fix a price when a bill says otherwise.

Prices: Dataflow batch in us-central1, as in
``apache_beam/testing/load_tests/dataflow_cost_consts.py`` of Beam 2.77.0 (a test compares them);
requests as on Cloud Storage's price page, September 2026. No discounts, no taxes. Rates:
docs/dataflow.md says where each comes from, and which are estimates.
"""

from __future__ import annotations

from dataclasses import dataclass

AS_OF = "September 2026, us-central1"
VCPU_HOUR = 0.056
MEMORY_GB_HOUR = 0.003557
DISK_GB_HOUR = 0.000054
GET = 0.40 / 1e6  # of one object
LIST = 5.00 / 1e6  # of up to 1,000 names
# Time of machine, driver, image and network before a worker's first image.
START_UP_HOURS = 0.1

# The decoding speed of a vCPU, a hardware thread, when all threads are busy: 1 is a whole core.
THREAD_OF_CORE = 0.62
# The speed of n1's older cores: 1 is that of the other families.
N1_SPEED = 0.75
# Core seconds to decode an image, for each image and for each of its bytes. Measured with files of
# 55 kB to 1.9 MB (docs/decoding.md).
DECODE_SECONDS = 0.0004
DECODE_SECONDS_PER_BYTE = 16.6e-9
GET_SECONDS = 0.05  # to get a small object
# GET requests per second that a bucket serves at first. This limit doubles every 20 minutes.
BUCKET_GETS = 5_000
BUCKET_DOUBLES_SECONDS = 1200

# Images of 224x224 per second, on one core in float32. They are cautious: docs/performance.md
# compares them with measured rates.
CORE_RATES = {
    "efficientnet_lite0": 78,
    "EfficientNetB0": 50,
    "MobileNetV2": 95,
    "ResNet50": 15,
    "VGG16": 4.5,
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of Dataflow."""

    dollars_hour: float
    float32: float  # rate in float32, as a share of that in float16
    rates: dict[str, float]  # images of 224x224 per second in float16


def _gpu(
    dollars_hour: float, float32: float, effnet: float, mobilenet: float, resnet: float, vgg: float
) -> Gpu:
    names = ("efficientnet_lite0", "EfficientNetB0", "MobileNetV2", "ResNet50", "VGG16")
    return Gpu(
        dollars_hour,
        float32,
        dict(zip(names, (effnet, effnet, mobilenet, resnet, vgg), strict=True)),
    )


GPUS = {
    "nvidia-tesla-t4": _gpu(0.42, 0.36, effnet=2600, mobilenet=3150, resnet=1194, vgg=550),
    "nvidia-l4": _gpu(0.672, 0.5, effnet=6000, mobilenet=7000, resnet=2700, vgg=1200),
    "nvidia-tesla-a100": _gpu(3.72, 0.69, effnet=9730, mobilenet=11000, resnet=3676, vgg=2500),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type of Compute Engine."""

    vcpus: int
    memory_gb: float
    # Speed of the network: 2 for each vCPU, counted up to 10.
    gbps: float


def _family(name: str, memory_gb: float, *vcpus: int) -> dict[str, Machine]:
    return {f"{name}-{n}": Machine(n, n * memory_gb, min(10, 2 * n)) for n in vcpus}


MACHINES = {
    **_family("n1-standard", 3.75, 1, 2, 4, 8, 16, 32),
    **_family("n2-standard", 4, 2, 4, 8, 16, 32),
    **_family("n2-highcpu", 1, 2, 4, 8, 16, 32),
    **_family("e2-standard", 4, 2, 4, 8, 16, 32),
    **_family("c3-standard", 4, 4, 8, 22, 44),
    **_family("g2-standard", 4, 4, 8, 12, 16, 32),
    "a2-highgpu-1g": Machine(12, 85, 24),
}
