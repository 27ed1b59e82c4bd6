"""Films, and the codes that a trained codec has for them."""

from mmtx.data.base import Source
from mmtx.data.codec_vocabulary import FilmCodes
from mmtx.data.coded_samples import CodedSamples


class CodedFilms(CodedSamples):
    """Names: those of the films, and ``codes``, the ids of the film. Each film is encoded once.

    Args:
        films: dataset with a name ``video``.
        vocabulary: the codes.
    """

    name, field = "video", "frames"

    def __init__(self, *, films: Source, vocabulary: FilmCodes) -> None:
        super().__init__(films, vocabulary)
