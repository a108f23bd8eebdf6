"""Check what globs match, and compare with the standard library where it supports them."""

import fnmatch
import random

import pytest

from transforms.errors import UserError
from transforms.sources.globs import START, compile_pattern, has_wildcards, split_pattern


def matches(pattern, path):
    *folders, name = path.split("/")
    compiled = compile_pattern(pattern)
    states = START
    for folder in folders:
        states = compiled.enter(states, folder)
    return compiled.takes(states, name)


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.jpg", "a.jpg a[1].jpg ünï.jpg", "a.JPG a/b.jpg .a.jpg jpg"),
        ("a/*/c.jpg", "a/b/c.jpg", "a/c.jpg a/b/b/c.jpg a/.b/c.jpg"),
        ("**", "a a/b a/b/c", ".a a/.b .a/b"),
        ("a/**", "a/b a/b/c", "a ab/c a/.b/c"),
        ("**/c", "c a/c a/b/c", "c/a a/xc"),
        ("a/**/c", "a/c a/b/c a/b/b/c", "c a/b a/b/c/d a/.b/c"),
        ("**/b/**/d", "b/d a/b/c/d b/b/d b/d/d", "b b/c a/d"),
        ("**.jpg", "a.jpg a/b.jpg a/b/c.jpg", "a.png a/.b.jpg .a/b.jpg"),
        ("a/x**z", "a/xz a/xyz a/x/z a/x1/2/3z", "a/yz a/xy xz a/x/.z"),
        ("a/x**z/c", "a/xz/c a/x/z/c a/x1/2/3z/c", "a/xz a/x/c"),
        ("?.jpg", "a.jpg ü.jpg", "ab.jpg .jpg ..jpg"),
        ("[a-c]x[!0-9].jpg", "bxy.jpg", "dxy.jpg bx1.jpg bx.jpg"),
        ("[^a].jpg", "b.jpg", "a.jpg"),
        ("[]a].jpg", "].jpg a.jpg", "b.jpg"),
        ("[!]a].jpg", "b.jpg", "].jpg a.jpg"),
        ("[a-].jpg", "-.jpg a.jpg", "b.jpg"),
        ("[z-a].jpg", "", "z.jpg a.jpg m.jpg"),
        ("[*][?][[].jpg", "*?[.jpg", "aab.jpg"),
        ("a[.jpg", "a[.jpg", "a.jpg"),
        ("a\\b&&~|{x,y}.jpg", "a\\b&&~|{x,y}.jpg", "ab&&~|x.jpg"),
        (".h*/*", ".hidden/a", "hidden/a .hidden/.a"),
    ],
)
def test_what_a_pattern_takes(pattern, taken, left):
    assert [path for path in taken.split() if not matches(pattern, path)] == []
    assert [path for path in left.split() if matches(pattern, path)] == []


def test_names_match_as_in_the_standard_library():
    chance = random.Random(7)
    seen = 0
    for _ in range(40_000):
        pattern = "".join(chance.choices("ab*?[]!-\n.", k=chance.randint(1, 7)))
        name = "".join(chance.choices("ab!-\n.", k=chance.randint(1, 6)))
        if "**" in pattern or name.startswith("."):
            continue
        seen += fnmatch.fnmatchcase(name, pattern)
        assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern), (pattern, name)
    assert seen > 500


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 250),
        ("*?a" * 40 + "b", "a" * 250),
        ("**/a/" * 30 + "b", "a/" * 300 + "c"),
        ("a**b/" * 30 + "x", "ab/" * 300 + "c"),
    ],
)
def test_no_pattern_makes_matching_explode(pattern, path):
    assert not matches(pattern, path)


def test_a_folder_in_which_nothing_can_match_is_not_entered():
    pattern = compile_pattern("2024/*/a.jpg")
    assert pattern.enter(START, "2024")
    assert not pattern.enter(START, "2023")


def test_the_folder_to_list_ends_before_the_first_wildcard():
    assert split_pattern("s3://bucket/a/b/*.jpg") == ("s3://bucket/a/b", "*.jpg")
    assert split_pattern("s3://bucket/**") == ("s3://bucket", "**")
    assert split_pattern("/a//b?/./c.jpg") == ("/a/", "b?/c.jpg")
    assert split_pattern("/a[1]/b*/c", is_folder=lambda path: path == "/a[1]") == ("/a[1]", "b*/c")
    assert [text for text in ("a b#%.jpg", "a*", "a?", "a[") if has_wildcards(text)] == [
        "a*",
        "a?",
        "a[",
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a/*/../b", "cannot come after"),
        ("a/*/", r"write 'a/\*/\*\*'"),
        ("a**b**c", r"more than one '\*\*'"),
    ],
)
def test_a_pattern_that_is_none_is_explained(pattern, message):
    with pytest.raises(UserError, match=message):
        compile_pattern(split_pattern(pattern)[1])
