"""The command line: every option reaches the configuration, and every error is refused."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from pipeline.config import Config
from transforms.errors import UserError

BASE = ["extract", "--input", "photos", "--output", "out"]


def config(*more: str) -> Config:
    return config_of(parse([*BASE, *more]))


def flat(config: Config) -> dict[str, object]:
    """Return all options by name, including those of the network."""
    values = {f.name: getattr(config, f.name) for f in fields(Config)}
    network = values.pop("network")
    return {**{f.name: getattr(network, f.name) for f in fields(network)}, **values}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--input", "more"], "inputs", ("photos", "more")),
        (["--output", "gs://b/x"], "output", "gs://b/x"),
        (["--backbone", "VGG16"], "backbone", "VGG16"),
        (["--weights", "random"], "weights", "random"),
        (["--labels", "l.txt"], "labels", "l.txt"),
        (["--feature-layer", "fc2"], "feature_layer", "fc2"),
        (["--pooling", "max"], "pooling", "max"),
        (["--input-size", "160"], "input_size", 160),
        (["--preprocess", "tf"], "preprocess", "tf"),
        (["--normalize", "l2"], "normalize", "l2"),
        (["--top-k", "3"], "top_k", 3),
        (["--allow-code"], "allow_code", True),
        (["--resize", "crop"], "resize", "crop"),
        (["--precision", "bfloat16"], "precision", "bfloat16"),
        (["--engine", "tensorflow"], "engine", "tensorflow"),
        (["--cores-per-worker", "3"], "cores_per_worker", 3),
        (["--accelerator", "type:nvidia-l4;count:1"], "accelerator", "type:nvidia-l4;count:1"),
        (["--shard-size", "7"], "shard_size", 7),
        (["--max-failure-rate", "0.5"], "max_failure_rate", 0.5),
        (["--max-image-bytes", "10"], "max_image_bytes", 10),
        (["--max-pixels", "10"], "max_pixels", 10),
        (["--max-removed-rate", "1"], "max_removed_rate", 1.0),
        (["--keep-removed"], "keep_removed", True),
        (["--retry-failed"], "retry_failed", True),
        (["--metrics-json", "-"], "metrics_json", "-"),
        (["--stall-timeout", "60"], "stall_timeout", 60.0),
        (["--metrics-prometheus", "m.prom"], "metrics_prometheus", "m.prom"),
        (["--rebuild"], "rebuild", True),
        (["--dry-run"], "dry_run", True),
        (["--store", "s3://b,region=x", "--store", "gs://,anonymous=true"], "stores",
         ("s3://b,region=x", "gs://,anonymous=true")),
        (["--runner", "FlinkRunner"], "beam_args", ("--runner=FlinkRunner",)),
        (["--direct_num_workers=2", "--temp_location", "gs://b/t"], "beam_args",
         ("--direct_num_workers=2", "--temp_location", "gs://b/t")),
    ],
)  # fmt: skip
def test_each_option_reaches_the_configuration_and_only_its_own_field(words, name, value):
    changed, default = flat(config(*words)), flat(config())
    assert changed.pop(name) == value
    assert default.pop(name) != value
    assert changed == default


def test_the_defaults_of_the_command_line_are_those_of_the_configuration():
    assert config() == Config(inputs=("photos",), output="out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--inptu", "x"], "unknown option --inptu; did you mean --input?"),
        (
            ["--max_failure_rat=1"],
            "unknown option --max_failure_rat; did you mean --max-failure-rate?",
        ),
        (
            ["--direct_num_worker", "2"],
            "unknown option --direct_num_worker; did you mean --direct_num_workers?",
        ),
        (["--resize", "stretch"], "invalid choice: 'stretch'"),
        (["--top-k", "many"], "invalid int value: 'many'"),
        (["--top-k", "-1"], "--top-k -1: must be 0"),
        (["--shard-size", "0"], "--shard-size 0: must be at least 1"),
        (["--input-size", "0"], "--input-size 0: must be at least 1"),
        (["--stall-timeout", "-1"], "--stall-timeout -1.0: must be at least 0"),
        (
            ["--runner", "no.such.Runner"],
            "--runner no.such.Runner cannot be imported: No module named 'no'",
        ),
        (
            ["--runner", "pipeline.NoRunner"],
            "--runner pipeline.NoRunner cannot be imported: module 'pipeline' has no",
        ),
        (
            ["--runner", "DaskRunner"],
            "--runner DaskRunner: Beam has none of that name; it has DirectRunner, PrismR",
        ),
        (["--max-image-bytes", "0"], "--max-image-bytes 0: must be at least 1"),
        (["--max-pixels", "-3"], "--max-pixels -3: must be at least 1"),
        (["--max-failure-rate", "2"], "--max-failure-rate 2.0: a share from 0 to 1"),
        (["--max-removed-rate", "-1"], "--max-removed-rate -1.0: a share from 0 to 1"),
        (["--rebuild", "--keep-removed"], "--rebuild replaces the whole table"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(words, message):
    with pytest.raises(UserError) as error:
        config(*words)
    assert message in str(error.value)


def test_input_and_output_must_be_given():
    with pytest.raises(UserError, match="no --input given"):
        config_of(parse(["extract", "--output", "x"]))
    with pytest.raises(UserError, match="no --output given"):
        config_of(parse(["extract", "--input", "x"]))


def test_options_from_a_file_may_hold_comments_and_quotes(tmp_path):
    file = tmp_path / "night.args"
    file.write_text("# nightly\n--input 'my photos'   # two words\n--output out\n\n--top-k 3\n")
    read = config_of(parse(["extract", f"@{file}", "--top-k", "4"]))
    assert (read.inputs, read.output, read.network.top_k) == (("my photos",), "out", 4)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with a BOM", "utf-8 with CRLF"]
)
def test_an_options_file_from_windows_is_read(encoding, tmp_path):
    text = "--input 'höhe'\n# comment\n--output out\n"
    name, _, more = encoding.partition(" with ")
    text = text.replace("\n", "\r\n") if more == "CRLF" else "\ufeff" * (more == "a BOM") + text
    file = tmp_path / "night.args"
    file.write_bytes(text.encode(name))
    assert config_of(parse(["extract", f"@{file}"])).inputs == ("höhe",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("--input höhe".encode("latin-1"), "is not UTF-8"),
        ("--input a".encode("utf-16-le"), "holds zero bytes; save it as UTF-8"),
        (b"\xff\xfe-", "is not UTF-8"),
        (b"# one\n--input 'a", "line 2: no closing quotation"),
        (b"@{file}", "names itself"),
        (b"@/none", "cannot read the options file /none: No such file"),
        (b"@/", "cannot read the options file /: Is a directory"),
    ],
)
def test_an_options_file_that_cannot_be_read_is_named(content, message, tmp_path):
    file = tmp_path / "night.args"
    file.write_bytes(content.replace(b"{file}", bytes(file)))
    with pytest.raises(UserError, match=message):
        parse(["extract", f"@{file}"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "extract --input {p}/*.jpg --output out",
            "Put the pattern in quotes: --input '{p}/*.jpg'",
        ),
        ("extract {p}/*.jpg out", "did you mean"),
        ("extract {p}/*.jpg", "Put the pattern in quotes"),
        ("plan --output out {p}/*", "Put the pattern in quotes"),
        ("extract photos out", "did you mean --input photos --output out?"),
        ("extract s3://b/photos --output out", "did you mean --input s3://b/photos?"),
        ("extract --input my photos --output out", "a value with spaces needs quotes"),
        ("show out more", "unexpected argument 'more' (a value with spaces needs quotes)"),
    ],
)
def test_words_that_are_no_options_are_explained(line, message, folder):
    words = []
    for word in line.replace("{p}", str(folder)).split():
        words += (
            sorted(map(str, Path(word).parent.glob(Path(word).name))) if "*" in word else [word]
        )
    with pytest.raises(UserError) as error:
        parse(words)
    assert message.replace("{p}", str(folder)) in str(error.value)


def test_a_missing_options_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        parse(["extract", f"@{tmp_path}/none.args"])


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.cli import main\ntry: main(['extract', '--help'])\nexcept "
        "SystemExit: pass\nheavy = {'tensorflow', 'keras', 'apache_beam', 'pyarrow', 'numpy', "
        "'deltalake', 'obstore', 'PIL'}\nsys.exit(' '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in flat(config()):
        others = {
            "inputs": "--input",
            "beam_args": "--runner",
            "stores": "--store",
            "backbones": "--backbone",
            "table": "table=NAME",
        }
        option = others.get(name, f"--{name.replace('_', '-')}")
        assert option in done.stdout
    assert "examples:" in done.stdout
    assert "(default: efficientnet_lite0)" in " ".join(done.stdout.split())
