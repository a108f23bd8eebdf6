"""Write the results of a search as one page, with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from html import escape

import pyarrow as pa

from pipeline.retrieval.query import Query
from transforms.errors import ImageError, UserError
from transforms.names import printable
from transforms.storage import local_path, open_storage

# The page loads nothing and runs no script, whatever a name may hold.
_HEAD = """\
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
ol {{ list-style: none; padding: 0; display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }}
figure {{ margin: 0 }}
img, .none {{ width: 100%; height: 11rem; object-fit: contain; background: #8882 }}
.none {{ display: grid; place-items: center; box-sizing: border-box; padding: 1rem }}
figcaption {{ overflow-wrap: anywhere }}
b {{ font-variant-numeric: tabular-nums }}
</style>
</head>
<body>
"""


Picture = bytes | ImageError


def write_page(file: str, query: Query, hits: pa.Table, pictures: Iterable[Picture]) -> None:
    """Write the results of a search as one page of HTML.

    Args:
        file: Where to write it, on this machine. A file that is there is replaced.
        query: What was searched for.
        hits: uri, score and label.
        pictures: For each hit a JPEG, or why there is none.

    Raises:
        UserError: The file is named by a URL of another scheme.
        StorageError: The file cannot be written, or a container cannot be read.
    """
    path = local_path(file)
    if path is None:
        raise UserError(f"--html {file}: a file on this machine, not in a bucket")
    open_storage(str(path.parent)).write(path.name, page(query, hits, pictures).encode())


def page(query: Query, hits: pa.Table, pictures: Iterable[Picture]) -> str:
    """Return the results of a search as HTML.

    Args:
        query: What was searched for.
        hits: uri, score and label.
        pictures: For each hit a JPEG, or why there is none.
    """
    title = _text(f"Similar to {query}")
    items = _items(hits, pictures)
    return "".join([_HEAD.format(title=title), f"<h1>{title}</h1>\n<ol>\n", *items])


def _items(hits: pa.Table, pictures: Iterable[Picture]) -> Iterator[str]:
    for row, picture in zip(hits.to_pylist(), pictures, strict=True):
        caption = f"<b>{row['score']:.4f}</b> {_text(row['label'] or '')}<br>{_text(row['uri'])}"
        yield (
            f"<li><figure>{_picture(picture, row['uri'])}<figcaption>{caption}</figcaption>"
            "</figure></li>\n"
        )
    yield "</ol>\n</body>\n</html>\n"


def _picture(picture: Picture, uri: str) -> str:
    if isinstance(picture, ImageError):
        return f'<div class="none">{_text(f"no picture: {picture.message}")}</div>'
    encoded = base64.b64encode(picture).decode()
    return f'<img alt="{_text(uri)}" src="data:image/jpeg;base64,{encoded}">'


def _text(name: str) -> str:
    """Return a name as text of a page: no markup, no characters that turn the line around."""
    return escape(printable(name))
