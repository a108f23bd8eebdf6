"""README.md and docs/: every link exists, the index is complete, and the Python examples run."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def python_blocks(page: Path) -> list[str]:
    """Return the Python code blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


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


def test_the_index_lists_every_page() -> None:
    index = DOCS / "README.md"
    listed = set(re.findall(r"\]\(([^)#]+\.md)\)", index.read_text(encoding="utf-8")))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages == {name for name in listed if not name.startswith("..")}


def test_the_examples_of_the_python_page_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder == tmp_path / "images"
    blocks = python_blocks(DOCS / "python.md")
    # tests/pipeline/test_notebook.py runs the example of a notebook, in a notebook.
    blocks = [block for block in blocks if "tqdm" not in block]
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), {})


def test_the_examples_of_the_readme_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block makes the table, and one reads it with each reader that is installed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "photos")
    extract, read = python_blocks(ROOT / "README.md")
    exec(compile(extract, "README.md", "exec"), {})
    for name in ("duckdb", "polars"):
        pytest.importorskip(name)
    exec(compile(read, "README.md", "exec"), {})
