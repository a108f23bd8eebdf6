"""List the images below a folder or prefix, or those that a glob matches in it."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from transforms.containers.index import Indexes
from transforms.file_names import IMAGE_EXTENSIONS, Ignored, is_image_name
from transforms.sources.batches import Row, bucket_batch, local_row, to_batches
from transforms.sources.folders import leads_inside, real_folder, scan
from transforms.sources.globs import START, States, compile_pattern
from transforms.storage.bucket import Bucket
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url, scheme_of

# Max number of parts that a tree is cut into.
_PIECES = 32
# Objects that a bucket lists per request.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder or prefix with a pattern of the files to take, or some of its parts."""

    # As the user wrote it.
    text: str
    # Absolute path or URL, without a trailing slash.
    root: str
    # Relative to ``root``.
    pattern: str = "**"
    # Take only files with an image extension.
    images_only: bool = True
    # Folders relative to ``root``, each with or without the folders below it.
    parts: tuple[tuple[str, bool], ...] = (("", True),)
    stores: Stores = ()

    def split(self) -> list[Tree]:
        return _split(self)

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        """List folder by folder, in the order of the names."""
        ignored = Ignored() if ignored is None else ignored
        return (
            _list_bucket(self, ignored)
            if scheme_of(self.root)
            else to_batches(_walk(self, ignored))
        )

    def nothing_found(self) -> str:
        if not self.images_only:
            return f"nothing matches {self.text}: looked for {self.pattern} in {self.root}"
        extensions = " ".join(IMAGE_EXTENSIONS)
        return (
            f"no image in {self.text}: looked in {self.root} at any depth for {extensions} in any "
            "case; give a glob such as 'folder/**' to take files of any name"
        )

    def enter(self, states: States, name: str) -> States:
        """Return the states in the sub-folder ``name``, empty if nothing below it can match."""
        return compile_pattern(self.pattern).enter(states, name)

    def takes(self, states: States, name: str) -> bool:
        """Tell whether the file ``name`` is taken."""
        if self.images_only:
            return is_image_name(name)
        return compile_pattern(self.pattern).takes(states, name)

    def reach(self, folder: str) -> States:
        """Return the pattern's states in a ``folder`` relative to ``root``."""
        states = START
        for name in folder.split("/") if folder else ():
            states = self.enter(states, name)
        return states


def _split(tree: Tree) -> list[Tree]:
    """Cut a tree into up to 32 trees that together list exactly the same images."""
    units: deque[tuple[str, bool]] = deque(tree.parts)
    whole = deque(unit for unit in units if unit[1])
    done = [unit for unit in units if not unit[1]]
    while whole and len(whole) + len(done) < _PIECES:
        folder, _ = whole.popleft()
        folders = _sub_folders(tree, folder)
        done.append((folder, not folders))
        whole.extend((sub_folder, True) for sub_folder in folders)
    units = deque([*done, *whole])
    count = min(len(units), _PIECES)
    return [replace(tree, parts=tuple(list(units)[start::count])) for start in range(count)]


def _sub_folders(tree: Tree, folder: str) -> list[str]:
    """Return sub-folders that are worth listing apart, relative to the root; maybe none."""
    states = tree.reach(folder)
    if scheme_of(tree.root):
        names = _prefixes(tree, folder)
    else:
        entries = scan(_path(tree, folder))
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    below = f"{folder}/" if folder else ""
    return [below + name for name in names if tree.enter(states, name)]


def _prefixes(tree: Tree, folder: str) -> list[str]:
    """Return the sub-prefixes of a prefix; none if its first page has all keys, or only plain ones.

    Otherwise a flat prefix of a million keys would be listed to its end just to learn that it has
    no sub-prefixes.
    """
    bucket, prefix = _locate(tree, folder)
    start = len(f"{prefix}/") if prefix else 0
    first = next(bucket.pages(prefix, _PAGE), None)
    if (
        first is None
        or first.num_rows < _PAGE
        or not any("/" in path[start:] for path in first["path"].to_pylist())
    ):
        return []
    return [key[start:] for key in bucket.level(prefix)[0]]


def _walk(tree: Tree, ignored: Ignored) -> Iterator[Row]:
    """Walk a local tree; 100,000 files take about a second."""
    real_root = real_folder(tree.root)
    for part, deep in tree.parts:
        stack = [(_path(tree, part), tree.reach(part))]
        while stack:
            folder, states = stack.pop()
            below = []
            for entry in scan(folder):
                if not entry.is_dir():
                    yield from _local_file(tree, real_root, states, entry, ignored)
                elif inside := tree.enter(states, entry.name):
                    if entry.is_symlink():
                        ignored.links += 1
                    elif deep:
                        below.append((entry.path, inside))
            stack += reversed(below)


def _local_file(
    tree: Tree, real_root: str, states: States, entry: os.DirEntry[str], ignored: Ignored
) -> Iterator[Row]:
    if tree.takes(states, entry.name):
        if entry.is_symlink() and not leads_inside(real_root, entry.path):
            ignored.links += 1
            return
        try:
            status = entry.stat()
        except OSError:
            # A broken link, or deleted since.
            yield local_row(entry.path, None)
            return
        if stat.S_ISREG(status.st_mode):
            yield local_row(entry.path, status)
        else:
            ignored.other += 1
    elif tree.images_only:
        ignored.count(entry.name)


def _path(tree: Tree, part: str) -> str:
    return f"{tree.root.rstrip('/')}/{part}" if part else tree.root


@dataclass
class _Keys:
    """Decide on a bucket's keys, which come sorted, and compute each folder's states once."""

    tree: Tree
    # Length of the root's key with its slash.
    start: int
    ignored: Ignored
    states: dict[str, States] = field(default_factory=dict)

    def take(self, path: str, size: int) -> bool:
        folder, _, name = path[self.start :].rpartition("/")
        states = self.reach(folder)
        if not states:
            return False
        if self.tree.takes(states, name):
            return True
        # An empty object without an extension is a "directory" marker.
        if self.tree.images_only and (size or "." in name):
            self.ignored.count(name)
        return False

    def reach(self, folder: str) -> States:
        if folder not in self.states:
            if len(self.states) > 10_000:
                self.states.clear()
            self.states[folder] = self.tree.reach(folder)
        return self.states[folder]


def _list_bucket(tree: Tree, ignored: Ignored) -> Iterator[pa.RecordBatch]:
    for part, deep in tree.parts:
        bucket, prefix = _locate(tree, part)
        root = parse_url(tree.root)[2]
        keys = _Keys(tree, len(f"{root}/") if root else 0, ignored)
        pages = bucket.pages(prefix) if deep else bucket.level(prefix)[1].to_batches()
        for page in pages:
            found = _select(page, keys, bucket)
            if found.num_rows:
                yield found


def _locate(tree: Tree, folder: str) -> tuple[Bucket, str]:
    """Return the bucket and the key of a folder below the root."""
    scheme, name, root = parse_url(tree.root)
    return Bucket(scheme, name, tree.stores), "/".join(part for part in (root, folder) if part)


def _select(page: pa.RecordBatch, keys: _Keys, bucket: Bucket) -> pa.RecordBatch:
    paths, sizes = page["path"].to_pylist(), page["size"].to_pylist()
    taken = [keys.take(path, size) for path, size in zip(paths, sizes, strict=True)]
    empty = [i for i, size in enumerate(sizes) if taken[i] and not size]
    # The listing shows "a/" as "a" too. Only a request for "a" tells an empty file from a
    # "directory" marker.
    if empty:
        with ThreadPoolExecutor(32) as pool:
            for i, found in zip(
                empty, pool.map(bucket.head, [paths[i] for i in empty]), strict=True
            ):
                taken[i] = found is not None
    return bucket_batch(page.filter(pa.array(taken, pa.bool_())), bucket.url())
