"""Write a page that opens from the disk: it loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.util import find_spec

from transforms.errors import UserError
from transforms.extras import install_command
from transforms.names import printable
from transforms.storage.urls import local_path, without_password

# The policy holds whatever a file name or a label may contain.
_START = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }}
body {{ margin: 1.5rem }}
h1 {{ font-size: 1.2rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1rem }}
{style}</style>
</head>
<body>
<h1>{title}</h1>
"""
_END = "</body>\n</html>\n"


def html_page(title: str, style: str, parts: Iterable[str]) -> str:
    """Return a page.

    Args:
        title: As plain text.
        style: Further rules of CSS, one in each line.
        parts: The HTML below the title.
    """
    return "".join([_START.format(title=text_of(title), style=style), *parts, _END])


def text_of(name: str) -> str:
    """Return a name as text of a page: no markup, no characters that turn the line around."""
    return escape(printable(name))


def has_templates() -> bool:
    """Tell whether the extra that fills templates is installed."""
    return find_spec("jinja2") is not None


def check_page(place: str) -> None:
    """Check that the page of a night can be made for a place, before the work that it tells about.

    Raises:
        UserError: The extra is not installed, or the place is a folder or a device.
    """
    check_templates()
    check_place(place)


def check_place(place: str) -> None:
    """Check that a page may be written to a place: it replaces what is there.

    Args:
        place: Path or URL of the file.

    Raises:
        UserError: The place is a folder, or a device such as ``/dev/stdout``.
    """
    path = local_path(place) if place else None
    taken = path is not None and path.exists() and not path.is_file()
    if taken or not place.rpartition("/")[2]:
        shown = without_password(place)
        raise UserError(f"{shown!r} is no file; name one for the page, such as report.html")


def check_templates() -> None:
    """Check that templates can be filled.

    Raises:
        UserError: The extra is not installed.
    """
    if not has_templates():
        raise UserError(f"the page of a night needs jinja2. {install_command('report')}")
