"""Small models and batches for tests: every argument that a test does not name has a plain default."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmtx.attention.kernels import Full, Rendering
from mmtx.batch import Batch, Field, Sample, Spec, Vocabulary
from mmtx.data.collate import collate
from mmtx.modalities.audio import Audio
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.chain import Chain
from mmtx.modalities.grid import Grid
from mmtx.modalities.image import Image
from mmtx.modalities.log_mel import LogMel
from mmtx.modalities.samples import Samples
from mmtx.modalities.series import Series
from mmtx.modalities.sound_augment import SoundAugment
from mmtx.modalities.spectrogram_stem import Convolution, Patches
from mmtx.modalities.text import Text
from mmtx.modalities.wave_convolutions import WaveConvolutions
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import Attention
from mmtx.nn.backbone import Backbone
from mmtx.nn.experts import Experts
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.mlp import MLP
from mmtx.nn.norms import LayerNorm
from mmtx.nn.positions import ALiBi, Learned, Positions, Sinusoidal, T5Bias
from mmtx.nn.rotary import Rotary
from mmtx.nn.routers import SigmoidRouter, SoftmaxRouter
from mmtx.objectives.action import Action
from mmtx.objectives.ctc import CTC
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.tokens import Clock

POSITIONS: dict[str, Positions] = {
    "none": Positions(absolute=None, rotary=None, bias=None),
    "learned": Positions(absolute=Learned, rotary=None, bias=None),
    "sinusoidal": Positions(absolute=partial(Sinusoidal, base=10_000.0), rotary=None, bias=None),
    "rotary": Positions(absolute=None, rotary=Rotary(axes=["time", "row", "column"], base=10_000.0), bias=None),
    "index": Positions(absolute=None, rotary=Rotary(axes=["index"], base=10_000.0, interleaved=True), bias=None),
    "alibi": Positions(absolute=None, rotary=None, bias=ALiBi),
    "t5": Positions(
        absolute=None, rotary=None, bias=partial(T5Bias, num_buckets=8, max_distance=16, bidirectional=True)
    ),
}


class Letters:
    """A vocabulary of single letters; with ``marks`` its last two ids begin and end a text."""

    def __init__(self, letters: str = "abcdefghi", marks: bool = True) -> None:
        self.letters, self.marks = letters, marks

    @property
    def size(self) -> int:
        return len(self.letters) + (2 if self.marks else 0)

    @property
    def begin(self) -> int | None:
        return len(self.letters) if self.marks else None

    @property
    def end(self) -> int | None:
        return len(self.letters) + 1 if self.marks else None

    @property
    def ends(self) -> list[int]:
        return [self.size - 1] if self.marks else []

    def encode(self, text: str) -> list[int]:
        return [self.letters.index(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.letters[i] for i in ids if i < len(self.letters))

    def spellings(self) -> list[bytes]:
        return [letter.encode() for letter in self.letters] + [b""] * (self.size - len(self.letters))

    def byte_lengths(self) -> list[int]:
        return [1] * len(self.letters) + [0] * (self.size - len(self.letters))

    def state(self) -> dict[str, Any]:
        return {"letters": self.letters, "marks": self.marks}


def text_spec(num_classes: int = 11, max_length: int = 8, vocabulary: Vocabulary | None = None) -> Spec:
    return Spec({"ids": Field((None,), torch.long, num_classes, max_length)}, vocabulary=vocabulary)


def image_spec(channels: int = 1, height: int = 8, width: int = 8, dtype: torch.dtype = torch.uint8) -> Spec:
    return Spec({"pixels": Field((channels, height, width), dtype)})


def audio_spec(max_length: int = 128, sample_rate_hz: int | None = 800) -> Spec:
    return Spec({"waveform": Field((None,), torch.float32, max_length=max_length)}, sample_rate_hz=sample_rate_hz)


def label_spec(num_classes: int = 5, class_names: tuple[str, ...] | None = None) -> Spec:
    return Spec({"class": Field((), torch.long, num_classes)}, class_names=class_names)


def series_spec(
    size: int = 3, *, num_classes: int | None = None, max_length: int = 5, num_times: int | None = 20
) -> Spec:
    """Vectors of `size` numbers a step, or one of `num_classes`; without `num_times`, steps bring no times."""
    values = {"values": Field((None, size), torch.float32, max_length=max_length)}
    classes = {"class": Field((None,), torch.long, num_classes, max_length)}
    return Spec({**(classes if num_classes else values), **_times(max_length, num_times)})


def chain_spec(max_length: int = 7, num_classes: int = 5) -> Spec:
    fields = {
        "class": Field((None,), torch.long, num_classes, max_length),
        "values": Field((None, 3), torch.float32, max_length=max_length),
        "contacts": Field((None, max_length), torch.float32, max_length=max_length),
    }
    return Spec(fields)


def grid_spec(
    height: int = 4, width: int = 4, *, symbols: int = 2, max_length: int = 5, num_times: int | None = 20
) -> Spec:
    """Cells of symbols of three classes."""
    cells = Field((None, height, width, symbols), torch.uint8, 3, max_length)
    return Spec({"cells": cells, **_times(max_length, num_times)})


def pictures_spec(
    channels: int = 1,
    height: int = 8,
    width: int = 8,
    *,
    dtype: torch.dtype = torch.uint8,
    max_length: int = 5,
    num_times: int | None = 20,
) -> Spec:
    """A picture of every step."""
    pixels = Field((None, channels, height, width), dtype, max_length=max_length)
    return Spec({"pixels": pixels, **_times(max_length, num_times)})


def _times(max_length: int, num_times: int | None) -> dict[str, Field]:
    return {"times": Field((None,), torch.long, num_times, max_length, rising=True)} if num_times else {}


def chain(spec: Spec | None = None, dim: int = 24, **changes: Any) -> Chain:
    keys: dict[str, Any] = {"clock": None, "sequence": True, "contacts": True, "angstroms": 10.0}
    return Chain(spec=spec or chain_spec(), dim=dim, **{**keys, **changes})


def attention(**changes: Any) -> Any:
    keys: dict[str, Any] = {
        "head_dim": None,
        "num_kv_heads": None,
        "bias": ["query", "key", "value", "out"],
        "scale": True,
        "qk_norm": None,
        "qk_norm_over": "head",
        "dropout": 0.0,
    }
    return partial(Attention, **{**keys, **changes})


def layer_context(rendering: Rendering | None = None, *, length: int = 5, **changes: Any) -> LayerContext:
    """Of samples without padding, each in a row of its own."""
    segment = torch.zeros(1, length, dtype=torch.long)
    return LayerContext(rendering=rendering or Full(), valid=segment == 0, segment=segment, **changes)


KINDS = {"G": LayerKind(), "L": LayerKind(window=True)}
"""As in ``conf/backbone``."""


def mlp(**changes: Any) -> Any:
    keys: dict[str, Any] = {"activation": nn.GELU(), "expansion": 2.0, "multiple_of": 8, "gated": False, "bias": True}
    return partial(MLP, **{**keys, **changes})


def router(**changes: Any) -> Any:
    """Softmax of the best two, which sum to 1."""
    keys: dict[str, Any] = {"top_k": 2, "normalise": True, "scale": 1.0, "num_groups": 1, "top_groups": 1}
    return partial(SigmoidRouter if "bias_rate" in changes else SoftmaxRouter, **{**keys, **changes})


def experts(**changes: Any) -> Any:
    """Four, each as `mlp`."""
    keys: dict[str, Any] = {"num_experts": 4, "router": router(), "shared_expansion": None}
    return partial(Experts, **{**mlp().keywords, **keys, **changes})


def backbone(*, seed: int = 0, **changes: Any) -> Backbone:
    """Two layers of width 24 and two heads, pre-norm, no positions. Weights are large enough that outputs differ."""
    torch.manual_seed(seed)
    keys: dict[str, Any] = {
        "cross_attention": False,
        "dim": 24,
        "num_layers": 2,
        "num_heads": 2,
        "attention": attention(),
        "mlp": mlp(),
        "norm": partial(LayerNorm, eps=1e-5, bias=True),
        "positions": POSITIONS["none"],
        "input_norm": False,
        "norm_place": "before",
        "final_norm": True,
        "dropout": 0.0,
        "drop_path": 0.0,
        "layer_scale": None,
        "layers": "G",
        "kinds": KINDS,
        "window": None,
        "init_std": 0.03,
        "activation_checkpointing": "none",
        "compile": False,
        "flex": False,
    }
    return Backbone(**{**keys, **changes})


def text(spec: Spec | None = None, *, dim: int = 24, clock: str | None = None, causal: bool = True) -> Text:
    return Text(spec=spec or text_spec(), dim=dim, clock=clock, causal=causal, context=None, share=None, num_segments=0)


def image(spec: Spec | None = None, *, dim: int = 24, clock: str | None = None, **changes: Any) -> Image:
    keys: dict[str, Any] = {"patch_size": 4, "summary": False, "num_registers": 0, "mean": 0.5, "std": 0.5}
    return Image(spec=spec or image_spec(), dim=dim, clock=clock, **{**keys, **changes})


def series(spec: Spec | None = None, *, dim: int = 24, clock: str | None = "step", squash: bool = False) -> Series:
    return Series(spec=spec or series_spec(), dim=dim, clock=clock, squash=squash)


def grid(spec: Spec | None = None, *, dim: int = 24, clock: str | None = "step", patch_size: int = 4) -> Grid:
    return Grid(spec=spec or grid_spec(), dim=dim, clock=clock, patch_size=patch_size)


def log_mel(**changes: Any) -> LogMel:
    """Six bins of 800 Hz sound, a frame every 10 ms; as Whisper otherwise."""
    keys: dict[str, Any] = {
        "sample_rate_hz": 800,
        "n_fft": 32,
        "hop_length": 8,
        "n_mels": 6,
        "dynamic_range": 8.0,
        "centre": False,
        "mean": -4.0,
        "std": 4.0,
    }
    return LogMel(**{**keys, **changes})


def sound_augment(**changes: Any) -> SoundAugment:
    """Nothing but what a test names."""
    keys: dict[str, Any] = {
        "speeds": [],
        "noise_snr_db": None,
        "equalise_db": 0.0,
        "time_masks": 0,
        "time_share": 0.2,
        "mel_masks": 0,
        "mel_bins": 2,
    }
    return SoundAugment(**{**keys, **changes})


def waveform_stem(**changes: Any) -> Any:
    """Two convolutions of samples, one token for 4 of them."""
    keys: dict[str, Any] = {
        "widths": [5, 4],
        "kernels": [4, 3],
        "strides": [2, 2],
        "bias": False,
        "layer_norms": True,
        "activation": torch.nn.GELU(),
        "projection_norm": True,
        "norm_eps": 1e-5,
        "dropout": 0.0,
        "masks": None,
        "position_kernel": 4,
        "position_groups": 2,
    }
    return partial(WaveConvolutions, **{**keys, **changes})


STEMS: dict[str, Any] = {
    "slices": partial(Patches, frames=3, mels=None),
    "patches": partial(Patches, frames=2, mels=3),
    "convolution": Convolution,
    "waveform": waveform_stem(),
    "waveform_over_time": waveform_stem(layer_norms=False, projection_norm=False, bias=True, position_kernel=3),
}


def audio(spec: Spec | None = None, *, dim: int = 24, clock: str | None = None, **changes: Any) -> Audio:
    stem = changes.get("stem", STEMS["convolution"])
    reads_samples = getattr(stem, "func", stem) is WaveConvolutions
    keys: dict[str, Any] = {
        "spectrogram": Samples(sample_rate_hz=800, normalise=False) if reads_samples else log_mel(),
        "stem": stem,
        "augment": sound_augment(),
        "pad_to_seconds": None,
    }
    return Audio(spec=spec or audio_spec(), dim=dim, clock=clock, **{**keys, **changes})


def model(
    tokenizers: Mapping[str, Tokenizer],
    body: Backbone | None = None,
    *,
    type_embeddings: bool = True,
    clocks: Mapping[str, Clock] | None = None,
    encoder: Backbone | None = None,
    encode: list[str] | None = None,
    towers: bool = False,
    seed: int = 0,
) -> MultimodalTransformer:
    """A model in eval mode."""
    body = body or backbone(seed=seed)
    torch.manual_seed(seed)
    made = MultimodalTransformer(
        tokenizers=tokenizers,
        backbone=body,
        encoder=encoder,
        encode=encode or [],
        type_embeddings=type_embeddings,
        clocks=clocks or {},
        towers=towers,
    )
    return made.eval()


def encoder_decoder(
    tokenizers: Mapping[str, Tokenizer],
    encode: list[str],
    *,
    encoder: Mapping[str, Any] | None = None,
    type_embeddings: bool = True,
    seed: int = 0,
    **changes: Any,
) -> MultimodalTransformer:
    """A model with an encoder for the names in `encode`, to which its backbone attends."""
    body = backbone(seed=seed, **{"cross_attention": bool(encode), **changes})
    second = backbone(seed=seed + 1, **(encoder or {})) if encode else None
    return model(tokenizers, body, encoder=second, encode=encode, type_embeddings=type_embeddings, seed=seed)


def seq2seq(whole: MultimodalTransformer, specs: Mapping[str, Spec], **changes: Any) -> Seq2Seq:
    """In eval mode, greedy, with a tied head and no metrics."""
    keys: dict[str, Any] = {
        "weight": 1.0,
        "text": "text",
        "references": None,
        "tied": True,
        "logit_scale": 1.0,
        "prompt": [],
        "suppress": [],
        "label_smoothing": 0.0,
        "metrics": {},
        "beam_size": 1,
        "length_penalty": 0.0,
    }
    return Seq2Seq(specs=specs, model=whole, **{**keys, **changes}).eval()


def ctc(whole: MultimodalTransformer, specs: Mapping[str, Spec], **changes: Any) -> CTC:
    """In eval mode, without metrics."""
    keys: dict[str, Any] = {"weight": 1.0, "source": "audio", "text": "text", "metrics": {}}
    return CTC(specs=specs, model=whole, **{**keys, **changes}).eval()


def action(whole: MultimodalTransformer, specs: Mapping[str, Spec], **changes: Any) -> Action:
    """In eval mode, read from the state."""
    keys: dict[str, Any] = {
        "weight": 1.0,
        "action": "action",
        "read": "state",
        "squash": False,
        "dropout": 0.0,
        "val_episodes": 2,
        "test_episodes": 3,
        "target_returns": None,
        "temperature": 0.0,
    }
    return Action(specs=specs, model=whole, **{**keys, **changes}).eval()


def batch_of(fields: Mapping[str, Mapping[str, Tensor]], lengths: Mapping[str, list[int]]) -> Batch:
    """A batch from its tensors; what is full is read from the lengths, as collating does."""
    full = {}
    for name, counts in lengths.items():
        ragged = [fields[name][key].shape[1] for key in ("ids", "waveform") if key in fields[name]]
        full[name] = min(counts) == (ragged[0] if ragged else 1)
    return Batch(
        {name: dict(parts) for name, parts in fields.items()},
        {name: torch.tensor(counts) for name, counts in lengths.items()},
        full,
        torch.arange(len(next(iter(lengths.values())))),
    )


def text_batch(lengths: list[int], num_classes: int = 11, seed: int = 0, name: str = "text") -> Batch:
    """Random texts of the given lengths, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, num_classes, (len(lengths), max(*lengths, 1)), generator=generator)
    ids[torch.arange(ids.shape[1])[None] >= torch.tensor(lengths)[:, None]] = 0
    return batch_of({name: {"ids": ids}}, {name: lengths})


def image_batch(present: list[int], spec: Spec | None = None, seed: int = 0, name: str = "image") -> Batch:
    """Random pictures; zeros where absent."""
    shape = (spec or image_spec()).fields["pixels"].shape
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (len(present), *(size or 0 for size in shape)), generator=generator)
    pixels = (pixels * torch.tensor(present)[:, None, None, None]).to(torch.uint8)
    return batch_of({name: {"pixels": pixels}}, {name: present})


def audio_batch(lengths: list[int], seed: int = 0, name: str = "audio") -> Batch:
    """Random sounds of the given lengths, padded with zeros."""
    generator = torch.Generator().manual_seed(seed)
    waveform = torch.randn(len(lengths), max(*lengths, 1), generator=generator) * 0.3
    waveform[torch.arange(waveform.shape[1])[None] >= torch.tensor(lengths)[:, None]] = 0
    return batch_of({name: {"waveform": waveform}}, {name: lengths})


def steps_batch(specs: Mapping[str, Spec], lengths: list[int], begin: list[int] | None = None, seed: int = 0) -> Batch:
    """Random windows of steps, as long for every name.

    Args:
        specs: of names that all have steps.
        lengths: steps of each sample; 0: it has nothing.
        begin: the time of each sample's first step; 0 where it is not given.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    begin = begin or [0] * len(lengths)

    def values(key: str, field: Field, length: int, first: int) -> Tensor:
        shape = (length, *(size or 0 for size in field.shape[1:]))
        if key == "times":
            return first + torch.arange(length)
        if field.dtype.is_floating_point:
            return torch.randn(shape, generator=generator)
        return torch.randint(0, field.num_classes or 256, shape, generator=generator, dtype=field.dtype)

    def sample(length: int, first: int) -> Sample:
        return {
            name: {key: values(key, field, length, first) for key, field in spec.fields.items()}
            for name, spec in specs.items()
            if length
        }

    return collate([sample(length, first) for length, first in zip(lengths, begin, strict=True)], specs)


def merge(*batches: Batch) -> Batch:
    """Several names of the same samples."""
    return Batch(
        {name: parts for batch in batches for name, parts in batch.fields.items()},
        {name: lengths for batch in batches for name, lengths in batch.lengths.items()},
        {name: full for batch in batches for name, full in batch.full.items()},
        batches[0].ids,
    )
