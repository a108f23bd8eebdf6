"""Numeric ranges name the files that a shell's braces do."""

import subprocess

import pytest

from transforms.errors import UserError
from transforms.sources.ranges import expand, has_range

TEXTS = ["a/{00..12}.tar", "{8..11}", "{1..2}/{03..05}.tar", "x{7..7}y", "{0..1}{0..1}"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_names_are_those_of_bash(text):
    done = subprocess.run(["bash", "-c", f"echo {text}"], capture_output=True, text=True)
    assert has_range(text)
    assert expand(text) == done.stdout.split()


@pytest.mark.parametrize("text", ["a.tar", "{a..b}.tar", "{1,2}.tar", "{1..}", "{..1}", "{1...2}"])
def test_other_braces_are_no_range(text):
    assert not has_range(text)
    assert expand(text) == [text]


def test_a_range_that_runs_backwards():
    with pytest.raises(UserError, match=r"'x\{3..1\}': the range \{3..1\} runs backwards"):
        expand("x{3..1}")


@pytest.mark.parametrize(
    "text", ["{0..1000000}", "{0..9999}{0..9999}", "{0..99999999999999999999}"]
)
def test_too_many_names_are_refused_before_they_are_made(text):
    with pytest.raises(UserError, match="stands for more than 1,000,000 names"):
        expand(text)


def test_only_plain_digits_are_numbers():
    assert not has_range("{٠..٣}")
