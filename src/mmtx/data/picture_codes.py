"""The vocabulary of pictures: codes of a trained codec."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int, Num
from torch import Tensor

from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.stored_codec import as_text, from_text, read_codec
from mmtx.data.fitted import FittedState
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError

MOST_KEPT = 100_000
"""Pictures whose codes are kept, so that each is encoded once."""


class PictureCodes(TextVocabulary):
    """Codes of pictures by a codec that was trained before and stays as it is. A picture is the mark that begins it,
    then a code for each patch, row by row. A run holds the codec with its vocabularies, and needs the file no more.

    Args:
        path: file of a codec, which ``mmtx export RUN FILE --format codes`` writes; None: that of the run whose weights
            this one begins with.
    """

    codec: PictureCodec

    def __init__(self, *, path: str | None) -> None:
        self._problem: UserError | None = None
        if path is None:
            problem = "names no codes; train them with experiment=codes_digits, and mmtx export RUN FILE --format codes"
            self._problem = InvalidValue("data.vocabulary.path", None, problem)
            return
        try:
            self._use(read_codec(path))
        except InvalidValue as problem:
            if not FittedState.current().is_from_run:
                raise problem.under("vocabulary") from None
            self._problem = problem  # irrelevant where that of the run is loaded, whose file may be gone

    @property
    def is_learned(self) -> bool:
        return self._problem is not None

    def fit(self, texts: Iterable[str], *, marks: bool, held_out: Iterable[str] = ()) -> None:
        if self._problem is not None:
            raise self._problem

    def encode(self, text: str) -> list[int]:
        """Codes that are written as numbers."""
        words = text.split()
        for word in words:
            if not (word.isdecimal() and int(word) < self._num_codes):
                raise UserError(f"{word!r} is no code of a picture; they are the numbers below {self._num_codes}")
        return [int(word) for word in words]

    def decode(self, ids: list[int]) -> str:
        return " ".join(str(i) for i in ids if i < self._num_codes)

    def byte_lengths(self) -> list[int]:
        return [0] * self.size

    def ids_of(self, pixels: Num[Tensor, "C height width"]) -> Int[Tensor, " n"]:
        """The codes of a picture, behind the mark that begins it."""
        codes = self._codes(pixels.contiguous().numpy().tobytes(), pixels.dtype)
        return torch.tensor([self._num_codes, *codes])

    def pixels(self, ids: Int[Tensor, "B n"]) -> Num[Tensor, "B C height width"]:
        """The pictures of codes, given without the mark; on the host."""
        return self.codec.pixels(ids.cpu())

    @property
    def num_tokens(self) -> int:
        """Ids of a picture."""
        return 1 + self.codec.num_tokens

    def state(self) -> dict[str, Any]:
        return {"codec": as_text(self.codec)}

    def load(self, state: dict[str, Any]) -> None:
        self._use(from_text(state["codec"]))

    def _use(self, codec: PictureCodec) -> None:
        self._problem, self.codec, self._num_codes = None, codec, codec.quantiser.num_codes
        self.size, self.begin, self.end = self._num_codes + 1, self._num_codes, None
        self._codes = lru_cache(MOST_KEPT)(self._encoded)

    def _encoded(self, pixels: bytes, dtype: torch.dtype) -> list[int]:
        picture = torch.frombuffer(bytearray(pixels), dtype=dtype).view(1, *self.codec.shape)
        codes: list[int] = self.codec.ids(picture)[0].tolist()
        return codes
