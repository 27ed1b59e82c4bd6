"""A composition that begins with parts of several public models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import hubert, llama, padded, saved, siglip, vit, whisper  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch  # noqa: E402
from mmtx.config.compose import compose  # noqa: E402
from mmtx.encoded import Encoded  # noqa: E402
from mmtx.errors import InvalidValue  # noqa: E402
from mmtx.experiment import assemble, rebuild  # noqa: E402
from mmtx.interop.family import text_batch  # noqa: E402
from mmtx.run.added_name import add_name  # noqa: E402
from mmtx.run.init_parts import begin  # noqa: E402

ENCODER = {"dim": 24, "num_layers": 2, "num_heads": 2, "mlp.expansion": 1.5, "mlp.multiple_of": 1}
WORDS = [
    *("data=captioned_digits", "modality=[image,text]", "objective=[seq2seq]", "logger=[]", "backbone=llama"),
    *("backbone.dim=24", "backbone.num_layers=2", "backbone.num_heads=4", "backbone.attention.num_kv_heads=2"),
    *("modality.image.patch_size=4", "+backbone@modality.image.encoder=vit"),
    *("+modality/projector@modality.image.projector=mlp", "type_embeddings=false"),
    *(f"modality.image.encoder.{key}={value}" for key, value in ENCODER.items()),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: Any) -> dict[str, Path]:
    torch.manual_seed(0)
    made = {
        "vit": vit(num_channels=1),
        "llama": llama(num_hidden_layers=2),
        "siglip": siglip(vision={"num_channels": 1}),
    }
    return {name: saved(model, tmp_path_factory.mktemp(name)) for name, model in made.items()}


def learner_of(*more: str, **places: Path) -> Any:
    """Begun with its parts, and the reports of that."""
    config = compose([*WORDS, *more])
    config["init_from"] = {name: str(place) for name, place in places.items()}
    learner = assemble({**config, "init_from": None}).learner.eval()
    return learner, begin(learner, config)


def test_each_part_is_its_family(folders: dict[str, Path]) -> None:
    """The encoder gives what transformers' ViT gives, and the decoder has all layers of the Llama."""
    half = transformers.LlamaConfig.from_pretrained(folders["llama"]).intermediate_size / 24
    own = f"backbone.mlp.expansion={half}"
    shape = [own, "backbone.mlp.multiple_of=1", "modality.image.summary=true"]
    learner, reports = learner_of(*shape, image=folders["vit"], text=folders["llama"])
    encoded = learner.model.tokenizer("image")
    assert isinstance(encoded, Encoded)
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    tokens = encoded.tokenizer({"pixels": pixels}, torch.ones(3, dtype=torch.long), True)
    found = encoded._encoded(encoded._set_of(tokens)).tokens("image")
    theirs = transformers.ViTModel.from_pretrained(folders["vit"]).eval()((pixels / 255 - 0.5) / 0.5).last_hidden_state
    torch.testing.assert_close(found, theirs[:, 1:], atol=1e-5, rtol=1e-5)
    image, text = reports
    assert image.new == [f"model.tokenizers.image.projector.{m}.{k}" for m in ("up", "out") for k in ("weight", "bias")]
    blocks = [key for key in learner.state_dict() if key.startswith("model.backbone.blocks.")]
    assert {*blocks} <= {*text.matched}
    assert not any("tokenizers.image" in key for key in (*text.matched, *text.new))


def of_whisper(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms ``(B, frames, mels)``, and what the encoder of transformers makes of them."""
    theirs = transformers.WhisperModel.from_pretrained(folder).eval()
    frames = torch.randn(2, 100, 80)
    return frames, theirs.encoder(frames.transpose(1, 2)).last_hidden_state


def of_hubert(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples ``(B, S, 1)``, and what the encoder of transformers makes of them."""
    samples = torch.randn(2, 400, 1)
    return samples, transformers.HubertModel.from_pretrained(folder).eval()(samples[..., 0]).last_hidden_state


@pytest.mark.parametrize(("make", "hidden"), [(whisper, of_whisper), (hubert, of_hubert)])
def test_a_sound_is_answered_by_text(make: Any, hidden: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    """Through the composition, each part gives the hidden states of its own family."""
    sound = saved(make(), tmp_path)
    texts = mmtx.from_pretrained(folders["llama"])
    config, specs = dict(texts.config), dict(texts.specs)
    add_name("audio", mmtx.from_pretrained(sound), "mlp", config, specs)
    learner = rebuild(config, specs)
    config["init_from"] = {"audio": str(sound), "text": str(folders["llama"])}
    audio, text = begin(learner, config)
    projector = [f"model.tokenizers.audio.projector.{m}.{k}" for m in ("up", "out") for k in ("weight", "bias")]
    assert [key for key in audio.new if not key.endswith(".type_embedding")] == projector
    assert {*text.new} == {f"model.type_embeddings.{name}" for name in ("audio", "text")}  # zeros
    assert not audio.set_otherwise and not audio.left
    encoded = learner.model.tokenizer("audio")
    assert isinstance(encoded, Encoded)
    frames, expected = hidden(sound)
    lengths = torch.full((2,), frames.shape[1])
    found = encoded._encoded(encoded._set_of(encoded.tokenizer({"frames": frames}, lengths, True)))
    torch.testing.assert_close(found.tokens("audio"), expected, atol=1e-5, rtol=1e-5)
    ids, mask = padded([9, 4])
    theirs = transformers.LlamaModel.from_pretrained(folders["llama"]).eval()
    alone = learner.model(text_batch("text", ids, mask)).tokens("text")[mask.bool()]
    expected = theirs(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)
    both = Batch({"audio": {"frames": frames}, "text": {"ids": ids}}, {"audio": lengths, "text": mask.sum(1)}, {})
    assert not torch.allclose(learner.model(both).tokens("text")[mask.bool()], alone)


def test_a_tower_is_taken_by_its_name(folders: dict[str, Path]) -> None:
    shape = [f"modality.image.encoder.{key}" for key in ("dim=30", "num_heads=3", f"mlp.expansion={41 / 30}")]
    learner, (report,) = learner_of(*shape, image=folders["siglip"])
    encoder = [key for key in learner.state_dict() if key.startswith("model.tokenizers.image.encoder.")]
    assert {*encoder} <= {*report.matched} and not report.left


def test_what_does_not_fit_is_refused_by_its_key(folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidValue, match=r"init_from.image=.* has model.tokenizers.image.encoder.blocks.0.mlp.up"):
        learner_of("modality.image.encoder.mlp.expansion=2", image=folders["vit"])
    with pytest.raises(InvalidValue, match="init_from.sound=.* is of no name of the set; nearest: one of image, text"):
        learner_of(sound=folders["vit"])
