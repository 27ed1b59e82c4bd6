"""Pictures, and the codes that a trained codec has for them."""

from mmtx.data.base import Source
from mmtx.data.codec_vocabulary import PictureCodes
from mmtx.data.coded_samples import Change, CodedSamples


class CodedPictures(CodedSamples):
    """Names: those of the pictures, and ``codes``, the ids of the picture. Each picture is encoded once.

    Args:
        pictures: dataset with a name ``image``.
        vocabulary: the codes.
        augment: applied to training pictures, uint8 ``(C, height, width)``, before they are encoded; None: none.
    """

    name, field = "image", "pixels"

    def __init__(self, *, pictures: Source, vocabulary: PictureCodes, augment: Change | None) -> None:
        super().__init__(pictures, vocabulary, augment)
