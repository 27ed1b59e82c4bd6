"""Models that are made of models, from their config: built, begun with the weights of others, and trained in part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mmtx
from mmtx.commands.main import main
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


@pytest.mark.slow
def test_frozen_parts_stay_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In runs that begin with parts of another: the encoder where all else learns; all but updates under LoRA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    words = [*COMPOSED, "trainer.max_steps=2", "callbacks=[]"]
    assert main(["train", *words, "run_dir=parts"]) == 0
    begin = [*words, "init_from={image: parts, text: parts}"]
    assert main(["train", *begin, "freeze=[image.encoder]", "run_dir=frozen"]) == 0
    assert main(["train", *begin, "freeze=['*']", "lora=attention", "run_dir=updated"]) == 0
    parts, frozen, updated = (mmtx.load(name).state_dict() for name in ("parts", "frozen", "updated"))
    own = {key for key in parts if key.startswith("model.tokenizers.image.") and ".projector." not in key}
    assert own and all(torch.equal(frozen[key], parts[key]) for key in own)
    learnt = {key for key, value in parts.items() if not torch.equal(frozen[key], value)}
    assert learnt and not learnt & own
    kept = {key.replace(".parametrizations.weight.original", ".weight"): value for key, value in updated.items()}
    assert all(torch.equal(kept[key], value) for key, value in parts.items())
    assert any(".up" in key and value.any() for key, value in updated.items())
