"""What a model has learnt is in its public files, or nothing is written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import CASES, bert, decision_transformer, gpt2, llama, qwen3_moe, saved, t5, vit, vit_inputs, whisper  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402

FOLDED = [
    ("gpt2-untied", True),
    ("gpt2-headless", False),
    ("bert-masked", True),
    ("bert-classes", True),
    ("bert-pooler", False),
    ("vit-classes", True),
    ("vit-pooler", False),
    ("whisper-128", True),
    ("whisper-headless", False),
    ("decision-transformer", True),
    ("decision-transformer-plain", False),
]
"""Cases, and whether they are exported as if they were trained here."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def with_types(learner: Any) -> Any:
    """As if its embeddings of types had learnt."""
    assert set(learner.model.type_embeddings) == set(learner.model.names)
    with torch.no_grad():
        for parameter in learner.model.type_embeddings.values():
            parameter.normal_(std=0.5)
    return learner


KEYS = ("logits", "prediction_logits", "seq_relationship_logits", "pooler_output", "action_preds", "last_hidden_state")


@pytest.mark.parametrize(("name", "is_own"), FOLDED)
def test_embeddings_of_types_are_exported(name: str, is_own: bool, tmp_path: Path) -> None:
    """`transformers` computes the same from what was written, and so does mmtx when it reads it again."""
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    learner = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    inputs, real = make_inputs(theirs)
    before = mmtx.interop.forward(learner, **inputs)
    with_types(learner)
    if is_own:
        learner.origin = None
    learnt = mmtx.interop.forward(learner, **inputs)
    mmtx.to_pretrained(learner, tmp_path / "written")
    reloaded = type(theirs).from_pretrained(tmp_path / "written").eval()(**inputs)
    back = mmtx.interop.forward(mmtx.from_pretrained(tmp_path / "written"), **inputs)
    key = next(key for key in KEYS if key in learnt)
    here = real if real is not None and learnt[key].ndim == 3 else slice(None)
    expected = learnt[key][here]
    size = max(1.0, expected.abs().max().item())
    assert (expected - before[key][here]).abs().max() > 1e-2
    for actual in (getattr(reloaded, key), back[key]):
        torch.testing.assert_close(actual[here] / size, expected / size, atol=1e-5, rtol=1e-5)


def test_no_place_for_the_type_of_a_text_without_positions(tmp_path: Path) -> None:
    learner = with_types(mmtx.from_pretrained(saved(t5(), tmp_path / "public")))
    message = r"t5 has no place for model.type_embeddings.source, model.type_embeddings.target; .*\n.*=false"
    with pytest.raises(UserError, match=message):
        mmtx.to_pretrained(learner, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_without_embeddings_of_types(tmp_path: Path) -> None:
    for name in ("gpt2", "whisper-80", "t5-1.0"):
        make, changes, make_inputs = CASES[name]
        theirs = make(**changes)
        imported = mmtx.from_pretrained(saved(theirs, tmp_path / name))
        ours = rebuild({**imported.config, "type_embeddings": False}, imported.specs)
        ours.load_state_dict(
            {key: value for key, value in imported.state_dict().items() if "type_embeddings" not in key}
        )
        mmtx.to_pretrained(ours, tmp_path / "again" / name)
        reloaded = type(theirs).from_pretrained(tmp_path / "again" / name).eval()
        inputs, real = make_inputs(theirs)
        actual = reloaded(**inputs).logits
        expected = mmtx.interop.forward(ours, **inputs).logits
        if real is not None:
            actual, expected = actual[real], expected[real]
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_two_embeddings_where_the_family_has_one(tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(t5(), tmp_path / "public"))
    config = {**imported.config, "modality": {**imported.config["modality"]}}
    config["modality"]["target"] = {**config["modality"]["target"], "share": None}
    ours = rebuild(config, imported.specs)
    with pytest.raises(UserError, match=r"t5: modality.target.share=None, there source"):
        mmtx.to_pretrained(ours, tmp_path / "written")
    ours.load_state_dict(imported.state_dict())
    with torch.no_grad():
        ours.model.tokenizers["target"].embedding.weight += 1
    ours.origin = imported.origin
    with pytest.raises(UserError, match=r"target.embedding.weight differ; there they are one, shared.weight"):
        mmtx.to_pretrained(ours, tmp_path / "written")


@pytest.mark.parametrize("name", ["bert-plain", "bert-pooler", "vit-pooler"])
def test_no_place_for_a_head(name: str, tmp_path: Path) -> None:
    """Their body alone has no classes."""
    make, changes, _ = CASES[name]
    ours = mmtx.from_pretrained(saved(make(**changes), tmp_path / "public"))
    with torch.no_grad():
        ours.objective("classify").head.weight.normal_()
    with pytest.raises(UserError, match=r"has no place for objectives.classify.head.weight; without that"):
        mmtx.to_pretrained(ours, tmp_path / "written")


def test_weights_of_classes_and_slices_are_of_training_alone(tmp_path: Path) -> None:
    make, changes, _ = CASES["vit-classes"]
    imported = mmtx.from_pretrained(saved(make(**changes), tmp_path / "public"))
    own = {**imported.config["objective"]["classify"], "class_weights": "balanced", "slices": ["label"]}
    ours = rebuild({**imported.config, "objective": {"classify": own}}, imported.specs)
    ours.load_state_dict(imported.state_dict(), strict=False)
    mmtx.to_pretrained(ours, tmp_path / "written")
    again = mmtx.from_pretrained(tmp_path / "written").state_dict()
    assert all(again[key].equal(value) for key, value in imported.state_dict().items())


def as_state_return_action(config: Any) -> None:
    config["modality"] = {name: config["modality"][name] for name in ("state", "return", "action")}


def with_a_clock(config: Any) -> None:
    embedding = {"_target_": "mmtx.nn.Sinusoidal", "_partial_": True, "base": 1e4}
    config["clocks"]["text"] = {"_target_": "mmtx.Clock", "mutual": False, "embedding": embedding}


def with_a_window(config: Any) -> None:
    config["backbone"]["kinds"]["G"]["window"] = 2


def without_pooler(config: Any) -> None:
    config["objective"]["classify"]["pooler"] = False


def changed(learner: Any, change: Callable[[Any], None]) -> Any:
    """A learner of a changed config, with the same weights where it has them."""
    config = copy.deepcopy(dict(learner.config))
    change(config)
    ours = rebuild(config, learner.specs)
    ours.load_state_dict(learner.state_dict(), strict=False)
    return ours


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (
            decision_transformer,
            as_state_return_action,
            r"decision_transformer: modality=\['state', 'return', 'action'\]",
        ),
        (gpt2, with_a_clock, r"gpt2: clocks.text="),
        (gpt2, with_a_window, r"gpt2: backbone.kinds.G.window=2, there False"),
        (
            lambda: bert(kind=transformers.BertForPreTraining),
            without_pooler,
            r"bert: objective.classify.pooler=False, there True",
        ),
    ],
    ids=["order", "clock", "window", "pooler"],
)
def test_what_no_weight_shows(make: Any, change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    """The weights are those of the family; what the model makes of them is another thing."""
    imported = mmtx.from_pretrained(saved(make(), tmp_path / "public"))
    mmtx.to_pretrained(changed(imported, lambda config: None), tmp_path / "same")
    with pytest.raises(UserError, match=message):
        mmtx.to_pretrained(changed(imported, change), tmp_path / "written")


def of_rounded_width(config: Any) -> None:
    config["backbone"]["mlp"] |= {"expansion": 2.6667, "multiple_of": 8}


def of_one_kind(config: Any) -> None:
    config["backbone"]["layers"] = "GGG"


@pytest.mark.parametrize("change", [of_rounded_width, of_one_kind])
def test_other_words_for_the_same_model(change: Callable[[Any], None], tmp_path: Path) -> None:
    """24 x 2.6667 is 64, whatever it is rounded to; and layers of one kind have one letter, or more."""
    theirs = llama(intermediate_size=64)
    imported = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    mmtx.to_pretrained(changed(imported, change), tmp_path / "written")
    again = type(theirs).from_pretrained(tmp_path / "written").state_dict()
    assert all(again[key].equal(value) for key, value in theirs.state_dict().items())


def test_experts_in_words_of_its_own(tmp_path: Path) -> None:
    """How they are balanced in training is no part of the model; how they are chosen is."""

    def as_trained(config: Any) -> None:
        config["objective"]["experts"] |= {"weight": 0.5, "balance": 0.04, "z": 0.001}
        config["backbone"]["kinds"]["D"]["mlp"] |= {"expansion": 2.6667, "multiple_of": 8}

    def with_sigmoids(config: Any) -> None:
        router = config["backbone"]["mlp"]["router"]
        del router["bias"]
        router |= {"_target_": "mmtx.nn.SigmoidRouter", "bias_rate": 0.0}

    theirs = qwen3_moe(output_router_logits=True, mlp_only_layers=[0], intermediate_size=64)
    imported = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    mmtx.to_pretrained(changed(imported, as_trained), tmp_path / "written")
    again = type(theirs).from_pretrained(tmp_path / "written")
    assert all(again.state_dict()[key].equal(value) for key, value in theirs.state_dict().items())
    assert (again.config.output_router_logits, again.config.router_aux_loss_coef) == (True, 0.02)
    with pytest.raises(UserError, match=r"router._target_=mmtx.nn.SigmoidRouter, there mmtx.nn.SoftmaxRouter"):
        mmtx.to_pretrained(changed(imported, with_sigmoids), tmp_path / "refused")


@pytest.mark.parametrize("mean", [0.2, [0.1, 0.2, 0.3]], ids=["one", "each"])
def test_how_pixels_are_prepared(mean: Any, tmp_path: Path) -> None:
    def prepare(config: Any) -> None:
        config["modality"]["image"]["mean"] = mean

    theirs = vit()
    ours = changed(mmtx.from_pretrained(saved(theirs, tmp_path / "public")), prepare)
    mmtx.to_pretrained(ours, tmp_path / "written")
    written = json.loads((tmp_path / "written" / "preprocessor_config.json").read_text())
    assert written["image_mean"] == (mean if isinstance(mean, list) else [mean] * 3)
    back = mmtx.from_pretrained(tmp_path / "written")
    for read in (ours, back):
        assert torch.equal(read.model.tokenizers["image"].mean, ours.model.tokenizers["image"].mean)
    inputs, _ = vit_inputs(theirs)
    torch.testing.assert_close(mmtx.interop.forward(back, **inputs).logits, theirs(**inputs).logits)


def test_what_is_never_written_stays_so(tmp_path: Path) -> None:
    folder = saved(whisper(), tmp_path / "public")
    (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": [3, 4]}))
    mmtx.to_pretrained(mmtx.from_pretrained(folder), tmp_path / "written")
    assert mmtx.from_pretrained(tmp_path / "written").config["objective"]["seq2seq"]["suppress"] == [3, 4]
