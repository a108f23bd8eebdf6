"""Check that every command in the scheduler examples and in docs/operations.md runs as written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipeline.cli import main
from pipeline.commands.base import EXIT_FAILED, EXIT_USAGE
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from tests.helpers.runs import make_folder

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"


def crontab():
    """Return schedule and command of each line of the crontab, and its variables."""
    lines = [
        line
        for line in (LAUNCH / "cron.example").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    jobs = [line.split(None, 5) for line in lines if re.match(r"\d", line)]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]+=", line))
    return [(job[:5], job[5]) for job in jobs], variables


def unit(name):
    """Return key → values of a systemd unit."""
    found = {}
    for line in (LAUNCH / name).read_text().splitlines():
        if not line.startswith("#") and "=" in line:
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def manifests():
    return list(yaml.safe_load_all((LAUNCH / "cronjob.yaml").read_text()))


def checked(words):
    """Parse the words after ``image-features`` with the command's own parser."""
    return parse([word.replace("@/etc/image-features/", f"@{LAUNCH}/") for word in words])


def test_cron_runs_commands_that_there_are():
    jobs, _ = crontab()
    run = re.compile(r"image-features ((?:extract|verify|vacuum) [^>&]+)")
    said = [found.split() for _, line in jobs for found in run.findall(line)]
    assert [checked(words).command for words in said] == ["extract", "verify", "vacuum"]
    assert all(len(schedule) == 5 for schedule, _ in jobs)
    # For cron a % is the end of the line.
    assert not any("%" in line for _, line in jobs)


def test_systemd_runs_commands_that_there_are():
    service = unit("image-features.service")
    commands = [
        shlex.split(line)[1:] for key in ("ExecStart", "ExecStartPost") for line in service[key]
    ]
    assert [checked(words).command for words in commands] == ["extract", "vacuum"]
    assert service["RestartPreventExitStatus"] == [str(EXIT_USAGE)]
    assert service["SuccessExitStatus"] == ["130 143"]


def test_systemd_takes_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    for name in ("image-features.service", "image-features.timer"):
        text = (
            (LAUNCH / name)
            .read_text()
            .replace("/opt/image-features/bin/image-features", "/bin/true")
        )
        (tmp_path / name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_kubernetes_takes_the_manifests():
    for manifest in manifests():
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    wrong = manifests()[1]
    wrong["spec"]["jobTemplate"]["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_kubernetes_runs_commands_that_there_are():
    options, *jobs = manifests()
    pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs]
    containers = [
        container
        for pod in pods
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    ]
    assert [checked(container["args"]).command for container in containers] == [
        "extract",
        "verify",
        "vacuum",
    ]
    assert all(container["command"] == ["image-features"] for container in containers)
    [rule, _] = jobs[0]["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [EXIT_USAGE]
    assert rule["onExitCodes"]["containerName"] == containers[0]["name"]
    mounts = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for pod in pods for volume in pod["volumes"]}
    texts = (options["data"]["nightly.args"], (LAUNCH / "nightly.args").read_text())
    words = [shlex.split(text, comments=True) for text in texts]
    assert words[0] == words[1]


def test_the_nightly_arguments_are_a_run():
    config = config_of(checked(["extract", "@/etc/image-features/nightly.args"]))
    assert (config.inputs, config.output) == (("s3://my-bucket/images",), "s3://my-bucket/features")
    assert (config.max_failure_rate, config.max_removed_rate) == (0.1, 0.2)


@pytest.fixture
def places(tmp_path, images):
    """Copy the images, and return a function that replaces the examples' places in a command."""
    shutil.copytree(images, tmp_path / "images")

    def put(text):
        there = {
            "s3://my-bucket/images": f"{tmp_path}/images",
            "s3://my-bucket/features": f"{tmp_path}/features",
            "@/etc/image-features/nightly.args": f"@{tmp_path}/nightly.args",
            "@launch/nightly.args": f"@{tmp_path}/nightly.args",
        }
        for old, new in there.items():
            text = text.replace(old, new)
        return text

    arguments = put((LAUNCH / "nightly.args").read_text()).replace(
        "--max-failure-rate 0.1", "--max-failure-rate 1"
    )
    (tmp_path / "nightly.args").write_text(arguments)
    return put


@pytest.mark.slow
def test_cron_is_silent_after_a_good_night_and_mails_after_a_bad_one(places, tmp_path):
    """Run the two lines of the crontab with cron's shell."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "image-features").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m pipeline.cli "$@"\n'
    )
    (tools / "image-features").chmod(0o755)
    jobs, variables = crontab()
    environment = {
        **os.environ,
        "LOG": str(tmp_path),
        "PATH": f"{tools}:{variables['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def mail(number):
        words = ["/bin/sh", "-c", places(jobs[number][1])]
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=250
        ).stdout

    assert mail(0) == ""
    assert mail(1) == ""
    shutil.rmtree(tmp_path / "images")
    bad = mail(0).splitlines()
    assert bad[0] == f"image-features: exit code {EXIT_USAGE}"
    assert bad[-1].startswith("image-features: there is no file or folder ")
    next((tmp_path / "features/features").glob("part-*.parquet")).unlink()
    bad = mail(1).splitlines()
    assert bad[0] == f"image-features: exit code {EXIT_FAILED}"
    assert any(line.startswith("missing: features/part-") for line in bad)
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert ['"state": "published"' in metrics[0], '"state": "invalid"' in metrics[1]] == [
        True,
        True,
    ]


def test_every_command_of_the_operations_guide_runs(places, two_nights, tmp_path, capsys):
    """Run them from top to bottom, on an output that has seen two nights."""
    shutil.copytree(two_nights / "out", tmp_path / "features")
    make_folder(tmp_path / "images/more", two_nights / "images", "camera")
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    commands = [
        shlex.split(places(line), comments=True)[1:]
        for block in blocks
        for line in block.splitlines()
    ]
    assert len(commands) == 16
    for words in commands:
        # The images are in another place now, so all of them count as removed.
        extra = ["--max-removed-rate", "1"] if words[0] == "extract" else []
        assert main([*words, *extra]) == 0, (words, capsys.readouterr())
    out = capsys.readouterr().out
    assert "rolled back" in out
    assert "would free nothing" in out
    assert "clean: version" in out


def test_the_operations_guide_tells_every_kind_and_every_problem():
    from transforms.errors import FailureKind

    text = (ROOT / "docs/operations.md").read_text()
    rows = {
        word
        for line in text.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert {kind.word for kind in FailureKind} <= rows
    files = (
        "transforms/parts/check.py",
        "transforms/recompute.py",
        "pipeline/maintenance/verify.py",
    )
    sources = "".join((ROOT / name).read_text() for name in files)
    kinds = set(re.findall(r'(?:Problem|add)\(\s*"(\w+)"', sources)) | set(
        re.findall(r'yield (?:\(\s*)?"(\w+)",', sources)
    )
    assert len(kinds) == 18
    assert kinds <= rows
