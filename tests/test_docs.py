"""README.md and docs/: every link exists, the index is complete, and the blocks of code run.

A block that no test can run has the comment ``<!-- not run: REASON -->`` on the line before it.
"""

import io
import re
import runpy
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.diagnostics.prices import CORE_RATES
from tests.helpers.nets import net
from tests.helpers.onnx_nets import save, small_net
from tests.helpers.runs import make_folder

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


# These tests run all blocks of a page in their own way.
ELSEWHERE = {
    "docs/operations.md": "tests/launch/test_launch.py",
    "docs/running.md": "tests/launch/test_args.py",
}


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return the mark, the language and the code of each block, without what is no code."""
    found = re.findall(
        r"^(<!-- not run: .*? -->\n)?```(\w+)\n(.*?)^```",
        page.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return [block for block in found if block[1] != "text" and not (block[0] and block[1] == "sql")]


def runnable(page: Path) -> list[tuple[str, str, str]]:
    """Return the blocks of a page that are not marked."""
    return [block for block in blocks(page) if not block[0]]


RUN = [page for page in PAGES if runnable(page) and str(page.relative_to(ROOT)) not in ELSEWHERE]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_description_of_the_package_has_no_link_that_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, str] = {}
    monkeypatch.setattr("setuptools.setup", told.update)
    runpy.run_path(str(ROOT / "setup.py"))
    text = told["long_description"]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert "docs/architecture.md has the details" in text


def test_the_rates_of_the_estimate_are_those_of_the_page() -> None:
    """Both columns: what the estimate takes, and half of what two cores did."""
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+|–) \|$", text, re.MULTILINE)
    assert {name: float(rate) for name, rate, _ in rows} == CORE_RATES
    for name, _, measured in rows:
        both = re.search(rf"^\| {name} openvino float32 .* model (\d+)/s", text, re.MULTILINE)
        assert measured == (str(int(both[1]) // 2) if both else "–")


def test_the_index_lists_every_page() -> None:
    index = DOCS / "README.md"
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", index.read_text(encoding="utf-8")))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages == {name for name in listed if not name.startswith("..")}


def test_every_block_says_its_language_and_runs_or_says_why_not() -> None:
    """A block in another language than ``sh``, ``python`` and ``sql`` is no code."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        openings = re.findall(r"^ *```.*$", text, re.MULTILINE)[::2]
        # tests/test_rooms.py reads the tree of docs/architecture.md, which has no commands.
        if page.name != "architecture.md":
            assert "```" not in [opening.strip() for opening in openings], page
        shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
        assert not [code for code in shown if code.startswith("image-features ")], page
        for _, language, _ in blocks(page):
            assert language in ("sh", "python"), (page, "mark it with <!-- not run: REASON -->")
        marks = re.findall(r"<!-- not run: .*", text)
        assert len(marks) == len(re.findall(r"<!-- not run: \S.* -->\n```\w", text)), page


def test_a_page_that_another_test_runs_is_named_there() -> None:
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / test).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Make a folder with everything that the pages name: photos, a manifest, a tar, a model."""
    place = tmp_path_factory.mktemp("docs")
    shutil.copytree(make_folder(place / "photos", photos), place / "images")
    names = sorted(path.name for path in (place / "images").iterdir())
    (place / "photos/metadata.csv").write_text(
        "file_name,caption,license\n" + "".join(f"{name},a photo,CC0\n" for name in names)
    )
    (place / "shards").mkdir()
    with tarfile.open(place / "shards/00000.tar", "w") as tar:
        for name in names[:2]:
            tar.add(place / "images" / name, name)
            for end, text in (("cls", b"3"), ("json", b'{"caption": "a photo"}')):
                member = tarfile.TarInfo(name.replace("jpg", end))
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    net().save(place / "my_model.keras")
    save(small_net(), place / "my_model.onnx")
    (place / "labels.txt").write_text("cat\ndog\nbird\n")
    return place


def run_command(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the command in this process, so that TensorFlow is imported once."""
    try:
        code = main(shlex.split(line, comments=True)[1:])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0, (line, capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(
    page: Path,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = shutil.copytree(prepared, tmp_path / "place")
    monkeypatch.chdir(place)
    if page.name == "schema.md":
        run_command("image-features extract --input photos --output features", capsys)
        # Stands for the second table of the example, whose weights are a download.
        shutil.copytree("features/features", "features/features-ResNet50")
    for _, language, code in runnable(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), {})
            continue
        for line in code.splitlines():
            assert line.startswith("image-features "), (line, "mark it, or run it here")
            run_command(line, capsys)
