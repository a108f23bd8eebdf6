"""Check launch/Dockerfile without a container engine: ``dockerfile_runs.py`` runs its lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline.cli import main
from pipeline.runners.version import versions
from tests.helpers.dockerfile_runs import ROOT, instructions, stage
from transforms.errors import RunFailed

DOCKERFILE = ROOT / "launch/Dockerfile"
EXTRAS = ("cpu", "gcp", "xla-cuda", "xla-tpu")
PINS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "launch/constraints.txt").read_text(), re.MULTILINE)
)
ARGS = dict(
    words.split("=")
    for keyword, words in instructions(DOCKERFILE)
    if keyword == "ARG" and "=" in words
)


def hadolint(dockerfile):
    tool = Path(sys.executable).with_name("hadolint")
    return subprocess.run(
        [tool, "--no-color", dockerfile], capture_output=True, text=True, timeout=60
    )


def test_the_linter_finds_nothing(tmp_path):
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text().replace("--no-cache-dir ", ""))
    assert "DL3042" in hadolint(tmp_path / "Dockerfile").stdout


@pytest.mark.parametrize(
    ("target", "packages"),
    [
        ("cpu", '".[cpu,gcp]"'),
        ("gpu", '--requirement launch/worker.txt "apache-beam[gcp]" "jax[cuda12]"'),
        ("tpu", '--requirement launch/worker.txt "apache-beam[gcp]" "jax[tpu]"'),
    ],
)
def test_a_target_has_all_that_a_worker_needs(target, packages):
    keywords = [keyword for keyword, _ in stage(DOCKERFILE, target)]
    words = stage(DOCKERFILE, target)
    assert words[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    assert any(keyword == "COPY" and "/opt/apache/beam/boot" in text for keyword, text in words)
    # Without it boot makes an environment at each start.
    set_to = " ".join(text for keyword, text in words if keyword == "ENV")
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in set_to
    installs = [text for keyword, text in words if keyword == "RUN" and "pip install" in text]
    assert all(
        "--constraint launch/constraints.txt" in text or "--no-deps" in text for text in installs
    )
    assert [text.endswith(packages) for text in installs] == [False, True, False]
    # The dependencies' layer does not depend on the program.
    assert keywords.index("RUN", keywords.index("RUN") + 1) < words.index(
        ("COPY", "pipeline pipeline")
    )
    ignore = (ROOT / "launch/Dockerfile.dockerignore").read_text().split()
    copied = [name for keyword, text in words if keyword == "COPY" and not text.startswith("--from")
              for name in text.split()[:-1]]  # fmt: skip
    assert all((ROOT / name).exists() for name in copied)
    assert {f"!{name}" for name in copied} <= set(ignore)


def test_the_pins_are_within_setup_py(monkeypatch):
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", lambda **words: given.update(words))
    exec(
        compile((ROOT / "setup.py").read_text(), str(ROOT / "setup.py"), "exec"),
        {"__file__": str(ROOT / "setup.py")},
    )
    wanted = [
        *given["install_requires"],
        *(r for extra in EXTRAS for r in given["extras_require"][extra]),
    ]
    for requirement in map(Requirement, wanted):
        pin = PINS[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(pin), (requirement, pin)
    assert len(PINS) > 100


def test_the_images_versions_are_the_pins():
    assert ARGS["BEAM"] == PINS["apache-beam"]
    minor = ARGS["PYTHON"].rpartition(".")[0]
    lines = DOCKERFILE.read_text()
    assert f"FROM apache/beam_python{minor}_sdk:${{BEAM}} AS beam" in lines
    assert f"--python-version {minor} " in (ROOT / "launch/constraints.txt").read_text()
    tag = f"py{minor}-beam{ARGS['BEAM']}"
    assert all(
        tag in (ROOT / f"launch/{name}.args").read_text()
        for name in ("dataflow_cpu", "dataflow_gpu", "dataflow_tpu")
    )


@pytest.mark.parametrize(("tag", "code"), [(versions(), 0), (f"{versions()}1", 1)])
@pytest.mark.parametrize("targets", [("cpu",), ("gpu", "tpu")])
def test_an_image_whose_tag_lies_is_not_built(targets, tag, code, tmp_path):
    """Run the last RUN line with the shell of a build; the next test runs the self-check."""
    lines = [found for target in targets for found in stage(DOCKERFILE, target)]
    [line] = {text for keyword, text in lines if "TAG" in text and keyword == "RUN"}
    (tmp_path / "image-features").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m pipeline.cli "$@"\n'
    )
    (tmp_path / "image-features").chmod(0o755)
    environment = {
        **os.environ,
        "TAG": tag,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    checked = re.sub("image-features selfcheck|python -c", "true", line)
    assert checked != line
    assert (
        subprocess.run(["/bin/sh", "-c", checked], env=environment, timeout=60).returncode == code
    )


def test_the_self_check_says_what_it_computed(capsys):
    assert main(["selfcheck"]) == 0
    first, *engines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{versions()}, ")
    assert [line.split(", after")[0] for line in engines] == [
        "efficientnet_lite0 on tensorflow in float32: right",
        "efficientnet_lite0 on openvino in float32: right",
    ]


def test_the_self_check_finds_wrong_vectors(monkeypatch, capsys):
    from transforms.engines.openvino_engine import OpenVinoEngine

    real = OpenVinoEngine.run

    def off(self, images):
        outputs = real(self, images)
        outputs.features[0] = outputs.features[0][::-1]
        return outputs

    monkeypatch.setattr(OpenVinoEngine, "run", off)
    assert main(["selfcheck", "--engine", "openvino"]) == 1
    assert "openvino: self-check failed" in capsys.readouterr().err


def test_the_self_check_of_an_engine_that_cannot_is_one_line():
    from pipeline.config import Config
    from pipeline.diagnostics.selfcheck import selfcheck

    config = Config(inputs=("-",), output="-", engine="tensorflow", precision="float16")
    with pytest.raises(RunFailed, match="TensorFlow on this device does not compute in float16"):
        list(selfcheck(config))
