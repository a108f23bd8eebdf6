"""A photo, the uri of a row or words → the vector to search with, by the recipe of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.retrieval.blocks import read_block
from pipeline.tables.table import Table
from transforms.backbones.export import model_id_of
from transforms.backbones.hub_text import has_text_tower, vector_of_words
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.embed import embed
from transforms.engines import Engine, EngineConfig, load_engine
from transforms.engines.models import load_model
from transforms.errors import ImageError, UserError
from transforms.parts.vectors import Vectors
from transforms.photo import read_photo
from transforms.read import ReadPolicy
from transforms.recipe import Recipe, resize_in
from transforms.storage import Storage, StorageError
from transforms.storage.settings import Stores


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for: exactly one of the three."""

    image: str | None = None  # path or URL of a photo
    uri: str | None = None  # of a row of the table
    text: str | None = None  # words

    def __post_init__(self) -> None:
        given = [value for value in (self.image, self.uri, self.text) if value is not None]
        if len(given) != 1:
            raise UserError(
                f"{len(given)} things to search for: give exactly one of --image PHOTO, --uri URI "
                "and --text WORDS"
            )

    def __str__(self) -> str:
        return self.image or self.uri or self.text or ""


@dataclass(frozen=True, slots=True)
class Embedder:
    """Computes vectors as the rows of a table were computed: same decoder, network and precision.

    The network is the one in the output. Its engine reproduces the golden batch before its first
    image, as in ``extract``.
    """

    engine: Engine
    decode: DecodeAndResize

    @classmethod
    def of(cls, output: Storage, recipe: Recipe) -> Embedder:
        """Load the network of a recipe.

        Args:
            output: Folder of the tables.
            recipe: The recipe of the rows.

        Raises:
            StorageError: The network is missing or damaged.
            RuntimeError: This machine computes other vectors than Keras.
        """
        model = model_id_of(recipe)
        if not output.exists(f"models/{model}/model.json"):
            raise StorageError(
                f"{output.url}/models/{model}, the network that made the vectors, is not there; "
                "--uri searches without it"
            )
        precision: Any = recipe["precision"]
        resize = resize_in(recipe)
        folder = load_model(output, model)
        engine = load_engine(EngineConfig(str(folder), precision=precision))
        return cls(engine, DecodeAndResize(DecodePolicy(), engine.model.input_size, resize))

    def vector(self, data: bytes) -> Vectors:
        """Return the vector of one encoded image: float32 [D].

        Raises:
            ImageError: It cannot be decoded, or the network fails on it.
        """
        outputs, failures = embed(self.engine, self.decode(data).pixels[None])
        if failures:
            raise failures[0]
        vector: Vectors = outputs.features[0].astype(np.float32)
        return vector


def vector_of_photo(embedder: Embedder, photo: str, stores: Stores = ()) -> Vectors:
    """Return the vector of a photo: float32 [D].

    Args:
        embedder: Computes it.
        photo: Path or URL; ``CONTAINER::MEMBER`` for a member of a container.
        stores: Where buckets are.

    Raises:
        UserError: The photo cannot be read or decoded.
    """
    try:
        return embedder.vector(read_photo(photo, ReadPolicy(stores=stores)))
    except ImageError as error:
        raise UserError(
            f"{photo}: {error.stage} failed: {error.kind.word}: {error.message}"
        ) from error


def vector_of_row(table: Table, uri: str) -> Vectors:
    """Return the stored vector of a row: float32 [D]. Only parts that may hold the uri are read.

    Raises:
        UserError: The table has no row of this uri.
        Damaged: A part cannot be read.
    """
    for part in table.parts:
        # Delta takes "" for null.
        low, high = part["min.uri"] or "", part["max.uri"]
        if low <= uri and (high is None or uri <= high):
            block = read_block(table.storage, part["path"])
            place = pc.index(block.rows["uri"], uri).as_py()
            if place >= 0:
                vector: Vectors = block.vectors[place]
                return vector
    raise UserError(
        f"--uri {uri!r}: the table {table.name} has no row of this uri; write it as the column "
        "'uri' has it, or give the photo itself by --image"
    )


def words_vector(recipe: Recipe, words: str, preset: str | None, stores: Stores) -> Vectors:
    """Return the vector of words, by the text tower of the table's backbone: float32 [D].

    Imports TensorFlow.

    Args:
        recipe: Of the rows.
        words: The text.
        preset: The preset that made the vectors, which a recipe only names.
        stores: Where buckets are.

    Raises:
        UserError: The backbone has no text tower, or the preset was not given.
    """
    backbone = recipe.get("backbone")
    if has_text_tower(recipe):
        if preset is None:
            raise UserError(
                f"--text {words!r}: the tower for texts lies in the preset {backbone}, which made "
                "the vectors; say by --backbone hub:FOLDER where it is"
            )
        return vector_of_words(words, preset, recipe, stores)
    label = words.replace("'", "''")
    raise UserError(
        f"--text {words!r}: the backbone {backbone} has no text tower, so words have no vector "
        f'there. Search with --image PHOTO or --uri URI, or by label: --where "label ILIKE '
        f"'%{label}%'\". Words need a table of a backbone that has one, as CLIP and SigLIP do"
    )
