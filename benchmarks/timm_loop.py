"""Run timm's inference loop on a folder of JPEGs, with a Python that has torch and timm.

``timm_loop.py FOLDER COUNT BACKBONE PRECISION`` prints images per second without start-up. The
weights are random, which does not change the speed.
"""

import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image

NAMES = {
    "efficientnet_lite0": "efficientnet_lite0",
    "MobileNetV2": "mobilenetv2_100",
    "ResNet50": "resnet50",
}


class Photos(torch.utils.data.Dataset):  # type: ignore[misc]
    """JPEGs, transformed as the network's own configuration says."""

    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def main() -> None:
    """Measure 64 images and all images; print the rate of the difference."""
    folder, count, backbone, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    network = (
        timm.create_model(NAMES[backbone], pretrained=False)
        .eval()
        .to(memory_format=torch.channels_last)
    )
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    paths = sorted(Path(folder).glob("*.jpg"))[:count]

    def run(size: int) -> float:
        loader = torch.utils.data.DataLoader(
            Photos(paths[:size], transform), batch_size=32, num_workers=2
        )
        start = time.perf_counter()
        amp = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), amp:
            for batch in loader:
                pooled = network.forward_features(
                    batch.contiguous(memory_format=torch.channels_last)
                )
                vectors = network.forward_head(pooled, pre_logits=True)
                network.get_classifier()(vectors).softmax(-1).topk(5)
        return time.perf_counter() - start

    run(64)
    small, large = run(64), run(count)
    print((count - 64) / (large - small))


if __name__ == "__main__":
    main()
