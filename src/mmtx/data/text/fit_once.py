"""Large texts are fitted and encoded once: the vocabulary and the ids are kept in the cache folder."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import torch
from jaxtyping import Int32
from torch import Tensor

from mmtx.data.files.cache import cached_folder
from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.text.vocabulary import TextVocabulary, describe_vocabulary, kind_of

VERSION = 1


def fit_once(vocabulary: TextVocabulary, key: Sequence[object] | None, fit: Callable[[], None]) -> None:
    """Fits a vocabulary, or loads what was fitted before.

    Args:
        vocabulary: as the config made it.
        key: of the texts, as JSON; None: nothing is kept.
        fit: fits it to the texts.
    """
    if key is None or not vocabulary.is_learned:
        fit()
        return
    plain = str | int | float | list | None
    settings = {name: value for name, value in vars(vocabulary).items() if isinstance(value, plain)}

    def made(folder: Path | None) -> None:
        fit()
        if folder is not None:
            (folder / "vocabulary.json").write_text(json.dumps(vocabulary.state()), encoding="utf-8")

    def read(folder: Path) -> None:
        vocabulary.load(json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))

    cached_folder("vocabularies", [VERSION, kind_of(vocabulary), settings, *key], made, read)


def ids_once(vocabulary: TextVocabulary, key: Sequence[object] | None, write: Callable[[ListWriter], None]) -> Lists:
    """Ids of texts, or those that were written before.

    Args:
        vocabulary: that they are of.
        key: of the texts, as JSON; None: nothing is kept.
        write: encodes the texts.
    """

    def made(folder: Path | None) -> Lists:
        writer = ListWriter(folder, "ids", numpy.int32)
        write(writer)
        return writer.close()

    if key is None:
        return made(None)
    settings = [VERSION, describe_vocabulary(vocabulary), *key]
    return cached_folder("ids", settings, made, lambda folder: Lists.read(folder, "ids"))


def text_key(text: str) -> list[object]:
    """A fingerprint of a text."""
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()]


def encode_once(vocabulary: TextVocabulary, text: str, key: Sequence[object] | None) -> Int32[Tensor, " n"]:
    """The ids of one text, without marks, see `ids_once`."""
    return torch.from_numpy(ids_once(vocabulary, key, lambda writer: writer.append(vocabulary.encode(text))).values)
