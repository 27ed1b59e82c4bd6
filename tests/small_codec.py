"""Small codecs that were never trained, tokenizers that learn one, and vocabularies of their codes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from builders import audio_spec, image_spec, log_mel

from mmtx.batch import Field, Spec
from mmtx.codes.codec import Codec
from mmtx.codes.content import Content
from mmtx.codes.fsq import FSQ
from mmtx.codes.pixels import Films, Pictures
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.sounds import Sounds
from mmtx.codes.stored_codec import as_text, codec_bytes
from mmtx.codes.vq import VQ
from mmtx.data.codec_vocabulary import CodecVocabulary, FilmCodes, PictureCodes, SoundCodes
from mmtx.modalities.coded_audio import CodedAudio
from mmtx.modalities.coded_image import CodedImage
from mmtx.modalities.coded_video import CodedVideo
from mmtx.modalities.learnt_codes import LearntCodes

KINDS = ["vq", "fsq"]
"""Of quantisers."""


def small_codec(content: Content | None = None, patch: tuple[int, ...] = (2, 2)) -> Codec:
    """Nine codes, of 4 x 4 patches of a digit, or of something else."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    content = content or Pictures(shape=(1, 8, 8), scale=255.0)
    codec = Codec(content=content, patch=patch, width=4, quantiser=FSQ(levels=[3, 3]))
    codec.encoder[-1].weight.data.mul_(50)  # so that samples have several codes
    torch.random.set_rng_state(state)
    return codec.requires_grad_(False).eval()


def small_film_codec(frames: int = 5) -> Codec:
    """Of tubelets of 2 x 4 x 4, in films of so many frames of 8 x 8; a last one is real in part."""
    return small_codec(Films(shape=(frames, 1, 8, 8), scale=255.0), (2, 4, 4))


def small_sound_codec(is_padded: bool = False, **spectrogram: Any) -> Codec:
    """Of three frames of sounds of 800 Hz, of up to 128 samples."""
    return small_codec(Sounds(spectrogram=log_mel(**spectrogram), longest=128, is_padded=is_padded), (3,))


def small_codes(codec: Codec | None = None) -> CodecVocabulary:
    codec = codec or small_codec()
    kinds = {Pictures: PictureCodes, Films: FilmCodes, Sounds: SoundCodes}
    vocabulary = kinds[type(codec.content)](path=None)
    vocabulary.load({"codec": as_text(codec)})
    return vocabulary


def small_codec_file(folder: Path, codec: Codec | None = None) -> Path:
    file = folder / "codes.safetensors"
    file.write_bytes(codec_bytes(codec or small_codec()))
    return file


def small_quantiser(kind: str) -> Quantiser:
    """Of six codes, or of twelve."""
    vq = {"dim": 3, "num_codes": 6, "decay": 0.9, "commitment": 0.25, "dead_below": 0.5}
    return VQ(**vq) if kind == "vq" else FSQ(levels=[3, 4])


def coded_image(kind: str = "vq", spec: Spec | None = None, **changes: Any) -> CodedImage:
    """A tokenizer whose codes are not yet learnt."""
    return _learning(CodedImage, kind, spec or image_spec(), {"patch_size": 4, **changes})


def film_spec(frames: int = 5, dtype: torch.dtype = torch.uint8) -> Spec:
    return Spec({"frames": Field((None, 1, 8, 8), dtype, max_length=frames)})


def coded_video(kind: str = "vq", spec: Spec | None = None, **changes: Any) -> CodedVideo:
    return _learning(CodedVideo, kind, spec or film_spec(), {"patch_size": 4, "tubelet_frames": 2, **changes})


def coded_audio(kind: str = "vq", spec: Spec | None = None, **changes: Any) -> CodedAudio:
    keys = {"spectrogram": log_mel(), "frames": 3, "pad_to_seconds": None, **changes}
    return _learning(CodedAudio, kind, spec or audio_spec(), keys)


LEARNT: dict[str, Callable[..., LearntCodes]] = {"image": coded_image, "video": coded_video, "audio": coded_audio}
"""By name: tokenizers that learn codes."""


def _learning(tokenizer: Any, kind: str, spec: Spec, keys: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    made = tokenizer(spec=spec, quantiser=small_quantiser(kind), **{"dim": 8, "clock": None, "width": 5, **keys})
    made.codec.encoder[-1].weight.data.mul_(20)  # so that samples have several codes
    return made
