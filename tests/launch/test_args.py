"""Check that Beam's options and ours read launch/*.args, and run the steps of docs/running.md."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from pipeline.cli import main
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from pipeline.config import Config
from pipeline.runners.flags import subclasses
from transforms.errors import UserError

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.args"))
PLACES = [file for file in FILES if file.stem != "nightly"]
GUIDE = (ROOT / "docs/running.md").read_text(encoding="utf-8")


def read(file, *more):
    return config_of(parse(["extract", "--input", "images", "--output", "out", f"@{file}", *more]))


def named(file):
    """Return the options that a file names, also those in comments, which a user may swap in."""
    return set(re.findall(r"^(?:# )?(--[\w-]+)", file.read_text(encoding="utf-8"), re.MULTILINE))


def beams_options():
    """Return every spelling that one of Beam's option classes knows."""
    parser = argparse.ArgumentParser(add_help=False)
    for options in subclasses(PipelineOptions):
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_is_one_of_beams_or_ours(file, tmp_path):
    """Check those in comments too; and that the same file with a misspelt option is refused."""
    read(file)
    ours = {f"--{name.replace('_', '-')}" for name in Config.__dataclass_fields__} | {"--input"}
    assert named(file) <= ours | beams_options()
    lines = file.read_text(encoding="utf-8").splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("--"))
    mistyped = tmp_path / file.name
    mistyped.write_text(
        "\n".join([*lines[:last], lines[last].replace("--", "--x", 1)]), encoding="utf-8"
    )
    with pytest.raises(UserError, match="unknown option --x"):
        read(mistyped)


@pytest.mark.parametrize("file", PLACES, ids=lambda file: file.stem)
def test_a_place_says_only_where_and_names_a_runner_that_there_is(file):
    """The network, the images and the limits are set elsewhere; Beam's options must be valid."""
    config = read(file)
    own = {
        "--input",
        "--output",
        "--backbone",
        "--weights",
        "--resize",
        "--max-failure-rate",
        "--max-removed-rate",
    }
    assert (
        not {line.split()[0] for line in file.read_text().splitlines() if line.startswith("--")}
        & own
    )
    options = PipelineOptions(list(config.beam_args))
    [name] = [word.split("=", 1)[1] for word in config.beam_args if word.startswith("--runner=")]
    runner = create_runner(name)
    validator = PipelineOptionsValidator(options, runner)
    # It would ask the cloud whether the bucket exists.
    validator.is_service_runner = lambda: False
    assert validator.validate() == []


def test_the_guide_knows_every_place():
    assert {"local", "flink", "gpu_box"} <= {file.stem for file in PLACES}
    assert all(f"launch/{file.name}" in GUIDE for file in PLACES)


def blocks():
    """Return the guide's commands by block, without those that are marked as not run."""
    found = re.findall(r"(<!-- not run: .*? -->\n)?```sh\n(.*?)```", GUIDE, re.DOTALL)
    return [block for not_run, block in found if not not_run]


def test_every_command_of_the_ladder_runs(photos, tmp_path, monkeypatch, capsys):
    """Run them in order, starting with the photo; a shell runs the shell's own lines."""
    (tmp_path / "photos").mkdir()
    for name in ("coffee.png", "chelsea.png", "camera.png"):
        shutil.copy(photos / name, tmp_path / "photos")
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks() for line in block.splitlines() if line.strip()]
    commands = [line for line in lines if line.startswith("image-features ")]
    assert len(commands) == 12
    for line in lines:
        if line in commands:
            assert main(shlex.split(line, comments=True)[1:]) == 0, (line, capsys.readouterr().err)
        else:
            subprocess.run(["/bin/sh", "-c", line], check=True, timeout=30)
    assert (tmp_path / "seen/coffee-as-seen.png").exists()


def test_a_runner_that_is_not_built_says_what_builds_it(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert main(["extract", "@launch/prism.args", "--input", str(folder), "--output", "out"]) == 1
    assert (
        "'make engines' builds those of launch/prism.args"
        in capsys.readouterr().err.splitlines()[-1]
    )


@pytest.mark.parametrize("guide", ["running.md", "flink.md", "dataflow.md"])
def test_commands_that_were_not_run_are_commands_all_the_same(guide):
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [line for line in lines if line.startswith("image-features ")]
    assert commands
    for line in commands:
        words = [
            word.replace("@launch/", f"@{ROOT}/launch/")
            for word in shlex.split(line, comments=True)[1:]
        ]
        files = [Path(word[1:]) for word in words if word.startswith("@")]
        if all(file.exists() for file in files):
            parse(words)
