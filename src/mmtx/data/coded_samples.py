"""Samples with the codes that a trained codec has for one of their names."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from mmtx.batch import Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.codec_vocabulary import CodecVocabulary
from mmtx.data.places import Places
from mmtx.data.specs import text_spec
from mmtx.errors import InvalidValue

Change = Callable[[Tensor], Tensor]


class CodedSamples(Source):
    """Names: those of other data, and ``codes``, the ids of one of them. Each sample is encoded once.

    Args:
        coded: the data.
        vocabulary: the codes.
        augment: applied to what is encoded of training samples; None: none.

    Raises:
        InvalidValue: the data have no such name, or the codec is for others.
    """

    name: ClassVar[str]
    """That is encoded."""
    field: ClassVar[str]
    """Of it."""

    def __init__(self, coded: Source, vocabulary: CodecVocabulary, augment: Change | None = None) -> None:
        self._coded, self.vocabulary, self.augment = coded, vocabulary, augment
        if self.name not in coded.specs:
            problem = f"has no '{self.name}', which is encoded; it has {', '.join(coded.specs)}"
            raise InvalidValue("data", type(coded).__name__, problem)
        self.fitted.vocabulary("codes", vocabulary, (), marks=True)
        content = vocabulary.content
        others = content.misfit(coded.specs[self.name])
        if others is not None:
            raise InvalidValue("vocabulary.path", "the codec", f"has codes for {content.described}; these are {others}")

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {**self._coded.specs, "codes": text_spec(self.vocabulary, self.vocabulary.num_tokens)}

    def train(self) -> Split:
        return self._with_codes(self._coded.train(), self.augment)

    def val(self) -> Split | None:
        found = self._coded.val()
        return None if found is None else self._with_codes(found, None)

    def test(self) -> Split | None:
        found = self._coded.test()
        return None if found is None else self._with_codes(found, None)

    def places(self) -> Places:
        return self._coded.places()

    def _with_codes(self, split: Split, augment: Change | None) -> Split:
        def make(index: int) -> Sample:
            sample = split[index]
            values = sample[self.name][self.field]
            own = {self.field: augment(values) if augment else values}
            return {**sample, self.name: {**sample[self.name], **own}, "codes": {"ids": self.vocabulary.ids_of(own)}}

        return Samples(len(split), make)
