"""Write the results of a search as one page, with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import pyarrow as pa

from pipeline.reports.html import check_place, html_page, text_of
from pipeline.retrieval.query import Query
from transforms.errors import ImageError, UserError
from transforms.storage import local_path, open_storage

_STYLE = """\
ol { list-style: none; padding: 0; display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }
figure { margin: 0 }
img, .none { width: 100%; height: 11rem; object-fit: contain; background: #8882 }
.none { display: grid; place-items: center; box-sizing: border-box; padding: 1rem }
figcaption { overflow-wrap: anywhere }
b { font-variant-numeric: tabular-nums }
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
        UserError: The file is named by a URL of another scheme, or is a folder or a device.
        StorageError: The file cannot be written, or a container cannot be read.
    """
    write_html(file, page(query, hits, pictures))


def write_html(file: str, html: str) -> None:
    """Write a page to a file on this machine.

    Raises:
        UserError: The file is named by a URL of another scheme, or is a folder or a device.
        StorageError: The file cannot be written.
    """
    path = local_path(file)
    if path is None:
        raise UserError(f"--html {file}: a file on this machine, not in a bucket")
    check_place(file)
    open_storage(str(path.parent)).write(path.name, html.encode())


def page(query: Query, hits: pa.Table, pictures: Iterable[Picture]) -> str:
    """Return the results of a search as HTML.

    Args:
        query: What was searched for.
        hits: uri, score and label.
        pictures: For each hit a JPEG, or why there is none.
    """
    return page_of(f"Similar to {query}", ["<ol>\n", *_items(hits, pictures), "</ol>\n"])


def page_of(title: str, items: Iterable[str]) -> str:
    """Return a page of pictures; ``items`` is its HTML below the title, which is plain text."""
    return html_page(title, _STYLE, items)


def figure(picture: Picture, uri: str, caption: str) -> str:
    """Return an item of a list that shows a picture; ``caption`` is HTML."""
    return f"<li><figure>{_picture(picture, uri)}<figcaption>{caption}</figcaption></figure></li>\n"


def _items(hits: pa.Table, pictures: Iterable[Picture]) -> Iterator[str]:
    for row, picture in zip(hits.to_pylist(), pictures, strict=True):
        label, uri = text_of(row["label"] or ""), text_of(row["uri"])
        yield figure(picture, row["uri"], f"<b>{row['score']:.4f}</b> {label}<br>{uri}")


def _picture(picture: Picture, uri: str) -> str:
    if isinstance(picture, ImageError):
        return f'<div class="none">{text_of(f"no picture: {picture.message}")}</div>'
    encoded = base64.b64encode(picture).decode()
    return f'<img alt="{text_of(uri)}" src="data:image/jpeg;base64,{encoded}">'
