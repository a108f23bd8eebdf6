"""Colours: on a terminal only, and only where they are wanted."""

import io

import pytest

from pipeline.commands.base import say

LINES = "published version 3\n12 listed, failed 2, refused\n\033[31mname\n[##..] failed 0"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def printed(stream, monkeypatch, **environment):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    say(LINES, stream)
    return stream.getvalue()


def test_a_terminal_shows_how_a_run_ended_in_colour(monkeypatch):
    said = printed(Terminal(), monkeypatch, TERM="xterm")
    assert said.startswith("\033[32mpublished\033[0m version 3\n12 listed, \033[31mfailed 2\033[0m")
    assert "\033[36m[##..]\033[0m failed 0\n" in said
    # A colour in a file's name is not one on the terminal.
    assert "\\x1b[31mname" in said


@pytest.mark.parametrize("environment", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_who_wants_no_colour_gets_none(monkeypatch, environment):
    assert "\033" not in printed(Terminal(), monkeypatch, **environment)


def test_a_file_gets_no_colour(monkeypatch):
    assert "\033" not in printed(io.StringIO(), monkeypatch, TERM="xterm")
