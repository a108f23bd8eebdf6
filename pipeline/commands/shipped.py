"""Find the argument files of ``launch/`` that an installed package brings along."""

from pathlib import Path

_PREFIX = "@launch/"
# A wheel holds the files inside the package; a checkout has them beside it.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "launch", _PACKAGE.parent / "launch")


def find_shipped(word: str) -> str:
    """Return ``@launch/NAME`` with the path of the file that is meant, or the word unchanged.

    A file of the current folder is taken first. ``.args`` may be left out.

    Args:
        word: One word of the command line.
    """
    if not word.startswith(_PREFIX) or Path(word[1:]).is_file():
        return word
    name = word.removeprefix(_PREFIX).removesuffix(".args") + ".args"
    # The name only: no word leads out of the folders.
    if "/" in name or "\\" in name or "\0" in name:
        return word
    for folder in (Path("launch"), *_FOLDERS):
        if (folder / name).is_file():
            return f"@{folder / name}"
    return word
