"""Models that are made of models, from their config: built, begun with the weights of others, and trained in part."""

from __future__ import annotations

import pytest

from mmtx.config.compose import compose
from mmtx.encoded import Encoded
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble

TINY = ["backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "loader.batch_size=4", "logger=[]"]
SIZES = [f"modality.image.encoder.{key}" for key in ("dim=12", "num_layers=2", "num_heads=2")]
COMPOSED = [
    *("data=captioned_digits", "modality=[image,text]", "objective=[seq2seq]", *TINY),
    *("+backbone@modality.image.encoder=vit", "+modality/projector@modality.image.projector=mlp", *SIZES),
]


def test_a_config_gives_a_name_its_own_encoder() -> None:
    model = assemble(compose(COMPOSED)).learner.model
    own, other = model.tokenizer("image"), model.tokenizer("text")
    assert isinstance(own, Encoded) and not isinstance(other, Encoded)
    assert (own.encoder.dim, len(own.encoder.blocks), own.dim) == (12, 2, 24)
    assert {*model.stacks} == {"backbone", "modality.image.encoder"}


@pytest.mark.parametrize(
    ("override", "finding"),
    [
        ("modality.image.encoder.dimm=3", "unknown key modality.image.encoder.dimm=3; did you mean 'dim'?"),
        ("modality.image.encoder.num_heads=5", "modality.image.encoder.dim=12 is not a multiple of num_heads=5"),
        ("modality.image.encoder.base_width=6", "modality.image.encoder.dim=12 must be as far from its base_width"),
        ("~modality.image.projector", r"add \+modality/projector@modality.image.projector=NAME"),
        ("+modality.image.projector.bias=true", "unknown key modality.image.projector.bias=true"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(override: str, finding: str) -> None:
    with pytest.raises(ConfigErrors, match=finding):
        assemble(compose([*COMPOSED, override]))
