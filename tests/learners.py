"""Small learners of every objective, over the names of `four_names`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from builders import POSITIONS, action, audio, ctc, encoder_decoder, image, seq2seq, series, text
from four_names import FourNames

from mmtx.batch import Batch
from mmtx.data.collate import collate
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Objective
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import MeanPool

SOURCE = FourNames(num_samples=30)
SPECS = SOURCE.specs


def batch_of_samples(*indices: int) -> Batch:
    return collate([SOURCE.sample(i) for i in indices], SPECS, ids=indices)


def whole_model(names: Sequence[str], encode: Sequence[str] = (), **changes: Any) -> MultimodalTransformer:
    tokenizers = {
        "text": text(SPECS["text"]),
        "image": image(SPECS["image"]),
        "audio": audio(SPECS["audio"]),
        "state": series(SPECS["state"]),
        "action": series(SPECS["action"]),
    }
    changes = {"positions": POSITIONS["learned"], **changes}
    return encoder_decoder({name: tokenizers[name] for name in names}, list(encode), encoder=changes, **changes)


def _classify(model: MultimodalTransformer) -> Objective:
    return Classify(
        specs=SPECS,
        model=model,
        weight=1.0,
        label="label",
        pool=MeanPool(),
        pooler=False,
        label_smoothing=0.1,
        mixup=0.0,
        class_weights=None,
        slices=[],
        dropout=0.0,
    )


def _next_token(model: MultimodalTransformer) -> Objective:
    return NextToken(specs=SPECS, model=model, weight=1.0, text="text", tied=True, logit_scale=1.0, label_smoothing=0.0)


def _seq2seq(model: MultimodalTransformer) -> Objective:
    return seq2seq(model, SPECS)


def _ctc(model: MultimodalTransformer) -> Objective:
    return ctc(model, SPECS)


def _action(model: MultimodalTransformer) -> Objective:
    return action(model, SPECS)


LEARNERS: dict[str, tuple[list[str], list[str], list[Callable[[MultimodalTransformer], Objective]]]] = {
    "classify": (["text", "image", "audio", "state"], [], [_classify]),
    "next_token": (["image", "audio", "text"], [], [_next_token]),
    "seq2seq, encoded": (["image", "audio", "text"], ["audio"], [_seq2seq]),
    "seq2seq, prefix": (["audio", "text"], [], [_seq2seq]),
    "ctc": (["image", "audio"], [], [_ctc]),
    "ctc and seq2seq": (["audio", "text"], ["audio"], [_ctc, _seq2seq]),
    "action": (["text", "state", "action"], [], [_action]),
    "action, encoded": (["text", "state", "action"], ["text"], [_action]),
}
"""``{what: (names, encoded, objectives)}``."""


def made_learner(kind: str, **changes: Any) -> Learner:
    names, encode, objectives = LEARNERS[kind]
    model = whole_model(names, encode, **changes)
    made = {objective.__name__.lstrip("_"): objective(model) for objective in objectives}
    return Learner(model=model, objectives=made, specs=SPECS)
