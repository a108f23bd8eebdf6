"""The tree in docs/architecture.md names every folder and file of the code."""

import ast
import re
import runpy
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("transforms", "pipeline")
PACKAGES = sorted(file.parent for top in TOPS for file in (ROOT / top).rglob("__init__.py"))


def listed() -> set[str]:
    """Return the folders and files that the tree in docs/architecture.md names, as paths."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = next(
        block
        for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
        if block.startswith("transforms/")
    )
    names: set[str] = set()
    top = room = ""
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        words = line.split()
        if words[0].endswith("/"):
            room = words[0] if depth == 0 else f"{top}{words[0]}"
            top = room if depth == 0 else top
            names.add(room.rstrip("/"))
        elif depth == 2:
            names.add(f"{top}{words[0]}")
        else:
            names |= {f"{room}{word}" for word in words}
    return names


def test_the_tree_names_every_folder_and_file() -> None:
    folders = {str(package.relative_to(ROOT)) for package in PACKAGES}
    files = {str(file.relative_to(ROOT)) for top in TOPS for file in (ROOT / top).rglob("*.py")}
    assert listed() == folders | {file for file in files if not file.endswith("/__init__.py")}


def test_the_wheel_holds_every_file_beside_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, dict[str, list[str]]] = {}
    monkeypatch.setattr("setuptools.setup", told.update)
    runpy.run_path(str(ROOT / "setup.py"))
    patterns = [
        f"{name.replace('.', '/')}/{pattern}"
        for name, own in told["package_data"].items()
        for pattern in own
    ]
    files = (file for top in TOPS for file in (ROOT / top).rglob("*") if file.is_file())
    beside = [str(file.relative_to(ROOT)) for file in files if file.suffix not in (".py", ".pyc")]
    assert [name for name in beside if not any(fnmatch(name, own) for own in patterns)] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_every_folder_says_what_it_is_for(package: Path) -> None:
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert doc
    first = doc.split("\n\n")[0]
    assert len(first.splitlines()) <= 2
