"""Names are shown so that a terminal does not execute them."""

import shutil

from pipeline.cli import main
from transforms.names import printable

EVIL = "a\x1b[2J\x1b]0;t\x07\r\u202egpj\nforged line.jpg"


def test_what_a_terminal_obeys_is_written_out():
    assert (
        printable("\x1b\r\n\x07\x7f\x9b\u202e\u200f\udc80")
        == r"\x1b\r\n\x07\x7f\x9b\u202e\u200f\udc80"
    )
    assert printable("ünï日本😀 a\\b") == "ünï日本😀 a\\b"


def test_names_of_images_forge_no_lines(folder, tmp_path, capsys):
    photo = next(folder.iterdir())
    shutil.copy(photo, folder / EVIL)
    (folder / f"broken{EVIL}").write_bytes(b"no image")
    out = str(tmp_path / "out")
    assert (
        main(["extract", "--input", str(folder), "--output", out, "--max-failure-rate", "1"]) == 0
    )
    assert main(["show", out, "--rows", "20"]) == 0
    assert main(["trace", str(folder / f"broken{EVIL}")]) != 0
    said = "".join(capsys.readouterr())
    assert r"\x1b[2J" in said
    assert not set(said) & set("\x1b\x07\r\u202e")
    assert not [line for line in said.splitlines() if line.startswith("forged")]
