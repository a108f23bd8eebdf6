"""The command as a user calls it: what it prints, and its exit codes."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from tests.helpers.runs import read_features, vectors


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        **options,
    )


@pytest.mark.parametrize(
    "workers", [(), ("--direct_num_workers=2", "--direct_running_mode=multi_processing")]
)
def test_extract_prints_a_reconciled_summary_and_no_noise(workers, folder, tmp_path):
    """Test without Beam's ``gcp`` extra, since Beam then logs its absence in every process.

    No process takes a module from the working directory.
    """
    (tmp_path / "apitools.py").write_text("raise ImportError")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    work = tmp_path / "work"
    work.mkdir()
    for name in ("pipeline.py", "transforms.py", "numpy.py"):
        (work / name).write_text("raise SystemExit('the wrong file')")
    words = ["--input", folder, "--output", tmp_path / "out", "--shard-size", 3, *workers]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.cli", "extract", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=work,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "listed 6 = new 6 + changed 0 + unchanged 0 + retried 0; removed 0; embedded 6, reused 0, "
        "failed 0"
    )
    assert re.fullmatch(r"time: (\w+ \d+ %, )+\w+ \d+ %: (model|decode|read|write)-bound", lines[1])
    assert lines[2] == f"published version 0 of {tmp_path}/out/features"
    known = (
        r"listed 6 images|run \S+: 6 images in 2 shards|\d / 6 images|"
        r"engine: openvino \(it is installed, and there is no GPU\), in float32, on \d+ cores?|"
        r"wrote the report of the night to \S+/out/runs/\S+/report\.html$"
    )
    for line in done.stderr.splitlines():
        assert re.match(known, line), line
    assert "engine: " in done.stderr


def test_the_second_run_says_that_nothing_is_new(folder, tmp_path, capsys):
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "listed 6 = new 0 + changed 0 + unchanged 6 + retried 0; removed 0; embedded 0, reused 0, "
        "failed 0",
        "nothing new: nothing was published",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["extract", "--input", "{tmp}/none", "--output", "{tmp}/out"], 2,
         "there is no file or folder {tmp}/none"),
        (["extract", "--input", "{tmp}/*.jpg", "--output", "{tmp}/out"], 2,
         "nothing matches {tmp}/*.jpg"),
        (["extract", "--input", "ftp://host/x", "--output", "{tmp}/out"], 2,
         "ftp:// is not supported"),
        (["extract", "--input", "{images}", "--output", "{tmp}/out", "--backbone", "ResNet5"], 2,
         "did you mean ResNet50"),
        (["extract", "--input", "{images}", "--output", "{tmp}/out", "--max-pixels", "9"], 1,
         "6 of 6 images failed (too_many_pixels 6)"),
        (["extract", "--input", "{images}", "--output", "{images}/coffee.jpg"], 2,
         "{images}/coffee.jpg is a file; name a folder"),
        (["show", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["trace", "{tmp}/none.jpg"], 2, "read failed: not_found"),
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_an_exit_code(words, code, message, folder, tmp_path, capsys):
    places = {"tmp": tmp_path, "images": folder}
    assert main([word.format(**places) for word in words]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("image-features: ")
    assert message.format(**places) in error


def test_show_tells_what_is_in_an_output(folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    main(
        [
            "extract",
            "--input",
            str(folder),
            "--output",
            str(tmp_path / "out"),
            "--max-failure-rate",
            "0.5",
        ]
    )
    capsys.readouterr()
    assert main(["show", str(tmp_path / "out"), "--rows", "10"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"features  6 rows in 1 parts, [\d.]+ KB, version 0", out)
    assert "errors    1 image without a vector, by kind" in out
    assert re.search(r"\n  \w+  1  100%  \[#{20}\]\n", out)
    assert re.search(r"backbone +efficientnet_lite0", out)
    assert re.search(
        r"published  listed 7  embedded 6  reused 0  unchanged 0  failed 1  removed 0", out
    )
    assert re.search(r"coffee.jpg +espresso +0\.\d\d +1280", out)
    assert "broken.png: " in out
    snippets = re.findall(r"^  (?:pyarrow|pandas|DuckDB) +(.*)$", out, re.MULTILINE)
    assert len(snippets) == 3
    for snippet in snippets:
        imports, _, expression = snippet.rpartition("; ")
        names: dict[str, object] = {}
        exec(imports, names)
        assert len(eval(expression, names)) == 6


def test_trace_shows_the_five_stages_of_what_extract_does(folder, tmp_path, capsys):
    assert main(["trace", str(folder / "coffee.jpg"), "--save", str(tmp_path / "seen")]) == 0
    out = capsys.readouterr().out
    for row in (
        r"loaded +200×300×3 +uint8",
        r"resized +224×224×3 +uint8",
        r"preprocessed +224×224×3 +float32 +-0\.99",
        r"pooled vector +1280 +float32",
        r"top-k labels +5 +float32",
        r"label +espresso 0\.\d",
    ):
        assert re.search(row, out), row
    from PIL import Image

    assert Image.open(tmp_path / "seen/coffee-as-seen.png").size == (224, 224)
    main(["extract", "--input", str(folder / "coffee.jpg"), "--output", str(tmp_path / "out")])
    vector = vectors(read_features(tmp_path / "out"))[0]
    traced = [float(word) for word in re.search(r"vector  (.*) …", out)[1].split()]
    np.testing.assert_allclose(traced, vector[:8], atol=1e-4)


def test_backbones_lists_what_there_is(capsys):
    assert main(["backbones"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"efficientnet_lite0 +1280 +224×224 +4\.\d M +embedded", out)
    assert re.search(r"VGG16 +512 +224×224 +138\.4 M +downloaded by Keras", out)
    assert "must be given" in out
    assert len(out.splitlines()) > 40


def test_list_from_standard_input(folder, tmp_path, monkeypatch, capsys):
    names = f"{folder}/coffee.jpg\n{folder}/chelsea.jpg\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
    assert main(["extract", "--input", "list:-", "--output", str(tmp_path / "out")]) == 0
    assert "listed 2 = new 2 " in capsys.readouterr().out


@pytest.mark.slow
def test_hundreds_of_images_balance_in_bounded_memory(tmp_path, photos):
    """Embed 600 different JPEGs of 500×375 pixels; the process stays under 2 GiB of memory."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    sources = [
        Image.open(photos / name).convert("RGB")
        for name in ("coffee.png", "astronaut.png", "rocket.jpg")
    ]
    random = np.random.default_rng(0)
    for number in range(600):
        source = sources[number % 3]
        left, top = (int(random.integers(0, side // 3)) for side in source.size)
        box = (left, top, left + source.width // 2, top + source.height // 2)
        source.resize((500, 375), box=box).save(folder / f"{number:04d}.jpg", quality=85)
    code = (
        "import pathlib, re, sys; from pipeline.cli import main\ncode = "
        "main(sys.argv[1:])\nprint(re.search(r'VmHWM:\\s+(\\d+)', "
        "pathlib.Path('/proc/self/status').read_text())[1]); sys.exit(code)"
    )
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=280
    )
    assert "removed 0; embedded 600, reused 0, failed 0" in done.stdout, done.stderr
    # In KiB.
    assert int(done.stdout.splitlines()[-1]) < 2 << 20
    assert len(list(Path(tmp_path / "out/features").glob("part-*.parquet"))) == 3


def test_a_run_needs_no_standard_streams(folder, tmp_path):
    words = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "extract",
        "--input",
        str(folder),
        "--output",
        str(tmp_path / "out"),
    ]
    assert (
        subprocess.run(["sh", "-c", f"{shlex.join(words)} <&- >&- 2>&-"], timeout=200).returncode
        == 0
    )
    assert (tmp_path / "out" / "features" / "_delta_log").is_dir()


def test_help_version_and_completion(capsys):
    """Each is asked for in the ways that other programs know."""
    shown = []
    for words in (["help"], ["--help"], ["help", "extract"], ["extract", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        shown.append(capsys.readouterr().out)
    assert (shown[0], shown[2]) == (shown[1], shown[3])
    for text in shown:
        assert re.search(r"0 published.*1 .*2 .*130 .*143 ", text, re.DOTALL)
    for word in ("-V", "--version"):
        with pytest.raises(SystemExit):
            main([word])
        assert "-beam2." in capsys.readouterr().out
    assert main(["help", "sing"]) == 2


def test_a_shell_completes_commands_and_options(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    asked = "COMP_WORDS=(image-features {}); COMP_CWORD={}; {}; echo ${{COMPREPLY[@]}}"
    function = re.search(r"complete .*-F (\w+)", script.read_text())[1]
    for typed, position, expected in (
        ("extr", 1, "extract"),
        ("extract --max-fail", 2, "--max-failure-rate"),
        ("extract --engine open", 3, "openvino"),
    ):
        line = f"source {script}; {asked.format(typed, position, function)}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=20)
        assert done.stdout.split() == [expected], done.stderr


def test_quiet_and_verbose_may_stand_before_or_after_the_command(folder, tmp_path):
    words = ["--input", folder, "--output", tmp_path / "out"]
    quiet = command("-q", "extract", *words)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert "embedded 6" in quiet.stdout
    again = command("extract", *words, "--verbose")
    assert again.returncode == 0
    assert "listed 6 images" in again.stderr


_EACH = """
import json, os, sys
from pipeline.cli import main
for words in json.loads(sys.argv[1]):
    try:
        # As Python makes its own words of the bytes that a shell gives it.
        code = main([os.fsdecode(word.encode()) for word in words])
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        print(f"\\0{code}\\0", end="", file=stream, flush=True)
"""


def test_output_in_ascii_dies_in_no_command(folder, tmp_path):
    """A name and a label that ASCII lacks are escaped, and the JSON stays JSON."""
    (folder / "coffee.jpg").rename(folder / "caffè.jpg")
    (folder / "kaputt-ü.png").write_bytes(b"no image")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"Étiquette {number}" for number in range(1000)))
    output = tmp_path / "aus"
    run = ["extract", "--input", folder, "--output", output, "--labels", labels]
    lines = [
        [*run, "--max-failure-rate", "1", "--metrics-json", "-"],
        ["show", output, "--rows", "9"],
        ["status", output],
        ["history", output],
        ["verify", output],
        ["trace", folder / "caffè.jpg", "--labels", labels],
        ["compact", output],
        ["vacuum", output, "--dry-run"],
        ["repair", output],
        ["backbones"],
        ["completion", "bash"],
        *([name, "--help"] for name in ("extract", "plan", "rollback", "selfcheck", "publish")),
        ["--help"],
        ["show", tmp_path / "nicht-da-ä"],
    ]
    # All in one process, since it is the process whose encoding is ASCII.
    done = subprocess.run(
        [sys.executable, "-c", _EACH, json.dumps(lines, default=str)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
    said, complained = done.stdout.split("\0"), done.stderr.split("\0")
    assert said[1::2] == complained[1::2] == ["0"] * (len(lines) - 1) + ["2"]
    assert "Error" not in "".join(complained)
    json.loads(said[0])
    assert r"caff\xe8.jpg" in said[2]
    assert "nothing in" in complained[-3]


def test_make_clean_leaves_nothing_that_git_ignores(tmp_path):
    root = Path(__file__).parents[2]
    for name in ("Makefile", ".gitignore"):
        shutil.copy(root / name, tmp_path)
    for pattern in (tmp_path / ".gitignore").read_text().split():
        made = tmp_path / pattern.strip("/").replace("*", "any")
        (made / "deep").mkdir(parents=True)
    (tmp_path / "pipeline/steps/__pycache__").mkdir(parents=True)
    (tmp_path / "pipeline/run.py").touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"Makefile", ".gitignore", "pipeline", "pipeline/run.py", "pipeline/steps"}


def test_only_a_command_that_resumes_says_so(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.cli._RUN", {"show": interrupted, "publish": interrupted})
    assert main(["show", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "image-features: stopped.\n"
    assert main(["publish", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("it resumes the run.\n")
