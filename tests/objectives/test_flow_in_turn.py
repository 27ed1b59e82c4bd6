"""Several pictures of a document, each made given what stands before it, in one pass with the words."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from builders import Letters, backbone, image, image_spec, model, pictures_spec, series, series_spec, text, text_spec
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.commands.main import main
from mmtx.data.collate import collate
from mmtx.decoding.flow import Integration
from mmtx.decoding.text_in_set import with_text
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.model import MultimodalTransformer
from mmtx.nn.adaptive_norm import AdaptiveNorm
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary
from mmtx.objectives.flow import Flow
from mmtx.objectives.flow_in_turn import FlowInTurn
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.tokens import Clock

ADAPTIVE: dict[str, Any] = {
    "norm": partial(AdaptiveNorm, eps=1e-6),
    "positions": Positions(absolute=None, rotary=Rotary(axes=["time"], base=100.0), bias=None),
}
KEYS: dict[str, Any] = {"weight": 1.0, "times": "logit_normal", "likelihood_steps": None}
TEXT: dict[str, Any] = {"weight": 1.0, "text": "text", "tied": False, "logit_scale": 1.0, "label_smoothing": 0.0}
WRITES: dict[str, Any] = {"references": None, "prompt": [], "suppress": [], "metrics": {}, "beam_size": 1}
WORDS = Field((None,), torch.long, num_classes=20, max_length=8, rising=True)
DOCUMENT = {
    "text": Spec({**text_spec().fields, "times": WORDS}, vocabulary=Letters()),
    "image": pictures_spec(height=4, width=4, max_length=3),
}
CAPTIONED = {"text": text_spec(vocabulary=Letters()), "image": image_spec(height=4, width=4)}


def of_documents(names: tuple[str, ...] = ("text", "image")) -> MultimodalTransformer:
    own = {"text": text(DOCUMENT["text"], clock="document")}
    own["image"] = image(DOCUMENT["image"], clock="document", patch_size=2)
    return spread(model({name: own[name] for name in names}, backbone(**ADAPTIVE)))


def spread(module: Any) -> Any:
    """In float64, with gates and heads that do not begin at zero."""
    torch.manual_seed(1)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return module


def document(layout: str, seed: int) -> dict[str, dict[str, Tensor]]:
    """Of a word for each w, and a picture for each p; the name that there is none of is left out."""
    generator = torch.Generator().manual_seed(seed)
    times = {kind: torch.tensor([i for i, each in enumerate(layout) if each == kind]) for kind in "wp"}
    ids = torch.randint(9, (len(times["w"]),), generator=generator)
    pixels = torch.randint(256, (len(times["p"]), 1, 4, 4), generator=generator, dtype=torch.uint8)
    sample = {"text": {"ids": ids, "times": times["w"]}, "image": {"pixels": pixels, "times": times["p"]}}
    return {name: fields for name, fields in sample.items() if len(fields["times"])}


def documents(*layouts: str) -> Batch:
    return collate([document(layout, seed) for seed, layout in enumerate(layouts)], DOCUMENT)


LAYOUTS = ("wpwwpw", "pww", "wwwwp", "wpppw", "www", "pp")


def learner_of(whole: MultimodalTransformer, specs: dict[str, Spec], *, flow: Any = None, words: Any = None) -> Learner:
    torch.manual_seed(2)
    own = {"words": words, "flow": flow}
    return Learner(model=whole, objectives={key: each for key, each in own.items() if each is not None}, specs=specs)


def losses_and_gradients(learner: Learner, batch: Batch) -> tuple[dict[str, float], dict[str, Tensor]]:
    learner.train().zero_grad()
    scores = learner(learner.prepare(batch, torch.Generator().manual_seed(3)))
    torch.stack([score.loss_sum / score.count for score in scores.values()]).sum().backward()
    gradients = {key: value.grad.clone() for key, value in learner.named_parameters() if value.grad is not None}
    return {name: float((score.loss_sum / score.count).detach()) for name, score in scores.items()}, gradients


def assert_joint_is_the_sum(learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for both objectives; losses are those of each alone, and gradients their sum."""
    passes, run = [], learner.model.run
    monkeypatch.setattr(learner.model, "run", lambda token_set: passes.append(0) or run(token_set))
    together, gradients = losses_and_gradients(learner, batch)
    assert len(passes) == 1 and together.keys() == {"words", "flow"}
    added: dict[str, Tensor] = {}
    for name in together:
        alone = Learner(model=learner.model, objectives={name: learner.objective(name)}, specs=learner.specs)
        losses, own = losses_and_gradients(alone, batch)
        assert losses[name] == pytest.approx(together[name], rel=1e-10, abs=1e-10)
        for key, value in own.items():
            added[key] = added.get(key, torch.zeros(())) + value
    assert len(passes) == 3 and added.keys() == gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(added[key], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("names", [("text", "image"), ("image", "text")])
def test_one_pass_gives_what_two_give(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_documents(names)
    flow = spread(FlowInTurn(specs=DOCUMENT, model=whole, name="image", **KEYS))
    words = spread(NextToken(specs=DOCUMENT, model=whole, **TEXT))
    assert_joint_is_the_sum(learner_of(whole, DOCUMENT, flow=flow, words=words), documents(*LAYOUTS), monkeypatch)


def captioned() -> MultimodalTransformer:
    own = {"image": image(CAPTIONED["image"], patch_size=2, clock=None), "text": text(CAPTIONED["text"])}
    return spread(model(own, backbone(**ADAPTIVE)))


def captions() -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4, 1, 4, 4), generator=generator, dtype=torch.uint8)
    texts = [torch.tensor([9, *range(length), 10]) for length in (3, 1, 5, 2)]
    return collate(
        [{"image": {"pixels": p}, "text": {"ids": ids}} for p, ids in zip(pixels, texts, strict=True)], CAPTIONED
    )


def test_a_single_picture_is_learnt_as_by_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients, of weights and of the moment of the flow; beside a text whose objective also decodes."""
    whole = captioned()
    flow = spread(Flow(specs=CAPTIONED, model=whole, names=["image"], **KEYS))
    in_turn = spread(FlowInTurn(specs=CAPTIONED, model=whole, name="image", **KEYS))
    in_turn.load_state_dict(flow.state_dict())
    found = [losses_and_gradients(learner_of(whole, CAPTIONED, flow=each), captions()) for each in (flow, in_turn)]
    assert found[0][0]["flow"] == pytest.approx(found[1][0]["flow"], rel=1e-10)
    assert found[0][1].keys() == found[1][1].keys()
    for key, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][key], value, rtol=1e-10, atol=1e-10)
    words = spread(Seq2Seq(specs=CAPTIONED, model=whole, length_penalty=0.0, **TEXT, **WRITES))
    assert_joint_is_the_sum(learner_of(whole, CAPTIONED, flow=in_turn, words=words), captions(), monkeypatch)


def test_each_picture_is_given_what_stands_before_it() -> None:
    """The velocity of each picture of a document is that of the last one of the document up to there."""
    whole = of_documents()
    flow = spread(FlowInTurn(specs=DOCUMENT, model=whole, name="image", **KEYS)).eval()
    layout, batch = "wpwwpwp", documents("wpwwpwp")
    numbers = flow.head("image").numbers(batch)
    noisy = torch.randn(numbers.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    together = flow.velocity(whole, batch, {"image": noisy}, torch.tensor([0.3]).double())["image"]
    for number, place in enumerate([i for i, each in enumerate(layout) if each == "p"]):
        words = torch.tensor([i for i, each in enumerate(layout[:place]) if each == "w"])
        fields = {key: values[:, : len(words)] for key, values in batch["text"].items()}
        shown = {key: values[:, : number + 1] for key, values in batch["image"].items()}
        cut = batch.with_name("text", fields, torch.tensor([len(words)]))
        cut = cut.with_name("image", shown, torch.tensor([number + 1]))
        alone = flow.velocity(whole, cut, {"image": noisy[:, : 4 * (number + 1)]}, torch.tensor([0.3]).double())[
            "image"
        ]
        part = slice(4 * number, 4 * (number + 1))
        torch.testing.assert_close(together[:, part], alone[:, part], rtol=1e-10, atol=1e-10)


def test_pictures_are_made_given_those_that_were_made() -> None:
    """Whatever the data has of them: only the words and the places count."""
    whole = of_documents()
    flow = spread(FlowInTurn(specs=DOCUMENT, model=whole, name="image", **KEYS)).eval()
    batch, how = documents("wpwpw"), Integration(2)
    other = batch.with_values("image", pixels=255 - batch["image"]["pixels"])
    made = [flow.made(whole, each, torch.Generator().manual_seed(0), how)["image"] for each in (batch, other)]
    torch.testing.assert_close(made[0], made[1], rtol=1e-10, atol=1e-10)
    as_they_are = super(FlowInTurn, flow).made(whole, batch, torch.Generator().manual_seed(0), how)["image"]
    assert not torch.allclose(as_they_are[:, 4:], made[0][:, 4:])


def test_packed_is_as_padded() -> None:
    whole = of_documents()
    flow = spread(FlowInTurn(specs=DOCUMENT, model=whole, name="image", **KEYS)).eval()
    batch = flow.prepare(whole, documents(*LAYOUTS), torch.Generator().manual_seed(0))
    losses = [float(flow(whole, each).loss_sum.detach()) for each in (batch, batch.packed())]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_words_are_written_at_their_places() -> None:
    """Ids behind those of a sample have a time each; zeros of padding are none."""
    batch = documents("wpwwpw", "pww")
    times = with_text(batch, "text", torch.zeros(2, 7, dtype=torch.long))["text"]["times"]
    assert times.tolist() == [[0, 2, 3, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7]]
    assert with_text(batch, "text", torch.zeros(2, 2, dtype=torch.long))["text"]["times"].tolist() == [[0, 2], [1, 2]]


def of_steps() -> tuple[MultimodalTransformer, dict[str, Spec]]:
    specs = {"state": series_spec(3), "action": series_spec(2)}
    own = {name: series(spec) for name, spec in specs.items()}
    return model(own, backbone(**ADAPTIVE)), specs


@pytest.mark.slow
def test_contract_of_steps() -> None:
    whole, specs = of_steps()
    objective = FlowInTurn(specs=specs, model=whole, name="action", **KEYS)
    check_objective(objective, whole, specs)


@pytest.mark.slow
def test_contract_of_documents() -> None:
    whole = of_documents().float()
    objective = FlowInTurn(specs=DOCUMENT, model=whole, name="image", **{**KEYS, "likelihood_steps": 1})
    check_objective(objective, whole, DOCUMENT)


def test_a_run_makes_the_pictures_of_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["data=interleaved_digits", "modality=[text,image]", "objective=[next_token,flow_in_turn]", "logger=[]"]
    words += ["modality.text.clock=document", "modality.image.clock=document", "backbone/norm=adaptive", "callbacks=[]"]
    words += ["backbone.dim=16", "backbone.num_layers=1", "backbone.num_heads=2", "data.pictures.num_val=40"]
    words += ["trainer.max_epochs=null", "trainer.max_steps=1", "trainer.val_every_steps=1", "loader.batch_size=4"]
    assert main(["train", *words, "run_dir=run"]) == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"val/next_token/loss", "val/flow_in_turn/loss"} <= {key for row in rows for key in row}
    capsys.readouterr()
    assert main(["generate", "run", "index=0", "count=3", "num_steps=1", "out=documents.png"]) == 0
    assert capsys.readouterr().out == "written: documents.png\n"
    assert PIL.Image.open("documents.png").size[0] > 8


def test_what_cannot_be_is_refused() -> None:
    own = {
        "text": text(DOCUMENT["text"], clock="scene"),
        "image": image(DOCUMENT["image"], clock="scene", patch_size=2),
    }
    with pytest.raises(InvalidValue, match="name=image has a time for each item, which norms read"):
        FlowInTurn(specs=DOCUMENT, model=model(own, backbone()), name="image", **KEYS)
    mutual = model(own, backbone(**ADAPTIVE), clocks={"scene": Clock(mutual=True)})
    with pytest.raises(InvalidValue, match="name=image is on the clock 'scene', where what stands at one moment"):
        FlowInTurn(specs=DOCUMENT, model=mutual, name="image", **KEYS)
    with pytest.raises(InvalidValue, match="causal=False lays a text out as one item"):
        text(DOCUMENT["text"], causal=False)
