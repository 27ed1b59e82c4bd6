"""Vocabularies of pictures, films and sounds: codes of a trained codec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mmtx.codes.codec import Codec
from mmtx.codes.content import Content
from mmtx.codes.pixels import Films, Pictures
from mmtx.codes.sounds import Sounds
from mmtx.codes.stored_codec import as_text, from_text, read_codec
from mmtx.data.fitted import FittedState
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError

MOST_KEPT = 100_000
"""Samples whose codes are kept, so that each is encoded once."""


class CodecVocabulary(TextVocabulary):
    """Codes by a codec that was trained before and stays as it is. A sample is the mark that begins it, then its codes,
    row by row. A run holds the codec with its vocabularies, and needs the file no more.

    Args:
        path: file of a codec, which ``mmtx export RUN FILE --format codes`` writes; None: that of the run whose weights
            this one begins with.
    """

    kind: ClassVar[type[Content]]
    """What is coded."""
    learnt_by: ClassVar[str]
    """How a codec is trained."""
    codec: Codec

    def __init__(self, *, path: str | None) -> None:
        self._problem: UserError | None = None
        if path is None:
            problem = f"names no codes; train them with {self.learnt_by}, and mmtx export RUN FILE --format codes"
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
                raise UserError(f"{word!r} is no code; they are the numbers below {self._num_codes}")
        return [int(word) for word in words]

    def decode(self, ids: list[int]) -> str:
        return " ".join(str(i) for i in ids if i < self._num_codes)

    def byte_lengths(self) -> list[int]:
        return [0] * self.size

    def ids_of(self, fields: Mapping[str, Tensor]) -> Int[Tensor, " n"]:
        """The codes of a sample, behind the mark that begins it."""
        ((key, values),) = fields.items()
        codes = self._codes(key, values.contiguous().numpy().tobytes(), values.dtype, values.shape)
        return torch.tensor([self._num_codes, *codes])

    @property
    def content(self) -> Content:
        return self.codec.content

    @property
    def num_tokens(self) -> int:
        return 1 + self.codec.max_codes

    def whole(self, count: int) -> int:
        return self.codec.whole(count)

    def decoded(self, ids: Int[Tensor, "B n"], counts: Int[Tensor, " B"] | None = None) -> Shaped[Tensor, "B ..."]:
        return self.codec.values(ids.cpu(), None if counts is None else counts.cpu())

    def state(self) -> dict[str, Any]:
        return {"codec": as_text(self.codec)}

    def load(self, state: dict[str, Any]) -> None:
        self._use(from_text(state["codec"]))

    def _use(self, codec: Codec) -> None:
        """Raises InvalidValue where its codes stand for something else."""
        if type(codec.content) is not self.kind:
            problem = f"holds codes of {codec.content.described}, where {self.kind.__name__.lower()} are coded"
            raise InvalidValue("path", "the codec", problem)
        self._problem, self.codec, self._num_codes = None, codec, codec.quantiser.num_codes
        self.size, self.begin, self.end = self._num_codes + 1, self._num_codes, None
        self._codes = lru_cache(MOST_KEPT)(self._encoded)

    def _encoded(self, key: str, values: bytes, dtype: torch.dtype, shape: torch.Size) -> list[int]:
        sample = torch.frombuffer(bytearray(values), dtype=dtype).view(1, *shape)
        lengths = torch.tensor([len(sample[0]) if self.content.is_ragged else 1])
        codes: list[int] = self.codec.ids({key: sample}, lengths)[0].tolist()
        return codes


class PictureCodes(CodecVocabulary):
    """Codes of pictures, one for each patch."""

    kind, learnt_by = Pictures, "experiment=codes_digits"


class FilmCodes(CodecVocabulary):
    """Codes of films, one for each tubelet."""

    kind, learnt_by = Films, "modality=[coded_video] objective=[reconstruct]"


class SoundCodes(CodecVocabulary):
    """Codes of sounds, one for some frames of a spectrogram."""

    kind, learnt_by = Sounds, "modality=[coded_audio] objective=[reconstruct]"
