"""Training that begins with other weights: what is taken, what is new, and that nothing changes until it learns."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import bert, gpt2, mistral, padded, saved, vit  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch, Field, Spec  # noqa: E402
from mmtx.errors import ConfigErrors, InvalidValue, UserError  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402
from mmtx.interop.importing import from_pretrained  # noqa: E402
from mmtx.nn.low_rank import LoRA  # noqa: E402
from mmtx.nn.low_rank_update import merge_updates  # noqa: E402
from mmtx.run.import_export import save_as_run, to_pretrained  # noqa: E402
from mmtx.run.init_from import initialise_from  # noqa: E402

PICTURE = Spec({"pixels": Field((1, 8, 8), torch.uint8)})


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def changed(learner: Any, **changes: Any) -> dict[str, Any]:
    """The config of a learner with values changed, by paths with two underscores for a dot."""
    config = copy.deepcopy(dict(learner.config))
    for path, value in changes.items():
        node = config
        *parents, key = path.split("__")
        for parent in parents:
            node = node[parent]
        node[key] = value
    return config


def with_picture(learner: Any) -> Any:
    """A learner of the same config whose set begins with a picture; its weights are fresh."""
    image = {"_target_": "mmtx.modalities.Image", "clock": "scene", "patch_size": 4, "summary": False}
    image |= {"num_registers": 0, "mean": 0.5, "std": 0.5}
    config = changed(learner, modality={"image": image, **learner.config["modality"]})
    return rebuild(config, {"image": PICTURE, **learner.specs})


def texts_with_pictures(present: int) -> Batch:
    ids, mask = padded([9, 4])
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8) * present
    lengths = {"text": mask.sum(1), "image": torch.full((2,), present)}
    return Batch({"text": {"ids": ids}, "image": {"pixels": pixels}}, lengths, {"text": False, "image": bool(present)})


@pytest.mark.parametrize("make", [gpt2, bert])
def test_a_set_that_mixes(make: Any, tmp_path: Path) -> None:
    """With the picture absent it gives the imported scores; with it, it trains."""
    imported = mmtx.from_pretrained(saved(make(), tmp_path))
    mixed = with_picture(imported)
    report = initialise_from(mixed, str(tmp_path), [])
    assert report.new == [key for key in mixed.state_dict() if ".image" in key or "type_embeddings" in key]
    assert not report.left
    batch, name = texts_with_pictures(0), next(iter(imported.objectives))
    real = torch.arange(9)[None] < batch.lengths["text"][:, None]

    def scores(learner: Any) -> Any:
        objective, hidden = learner.objective(name), learner.model(batch).tokens("text")
        head = objective.head if name == "next_token" else objective
        return head.logits(learner.model, hidden)[real]

    ids, mask = padded([9, 4])
    expected = mmtx.interop.forward(imported, input_ids=ids, attention_mask=mask).logits[real]
    torch.testing.assert_close(scores(mixed), expected, atol=1e-6, rtol=1e-6)
    batch, optimizer = texts_with_pictures(1), torch.optim.Adam(mixed.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        score = mixed.train()(batch)[name]
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
        losses.append(score.mean_loss())
    assert losses[-1] < losses[0]
    assert mixed.model.type_embeddings["image"].abs().sum() > 0


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    """From a BERT that was trained on masked ids to one for classes, with another context."""
    imported = mmtx.from_pretrained(saved(bert(kind=transformers.BertForPreTraining), tmp_path))
    config = changed(imported, modality__text__context=10)
    del config["objective"]["masked_token"]
    config["objective"] = {"sort": config["objective"]["classify"]}
    config["objective"]["sort"]["label"] = "kind"
    specs = {"text": imported.specs["text"], "kind": Spec({"class": Field((), torch.long, 4)})}
    ours = rebuild(config, specs)
    report = initialise_from(ours, str(tmp_path), [])
    assert report.resampled == ["model.position_embeddings.text.table.weight"]
    table = imported.model.position_embeddings["text"].table.weight
    assert torch.equal(ours.model.position_embeddings["text"].table.weight, table[:10])
    new = [f"objectives.sort.head.{part}" for part in ("weight", "bias")]
    assert report.new == ["model.type_embeddings.text", *new]
    assert torch.equal(ours.objective("sort").pooler[0].weight, imported.objective("classify").pooler[0].weight)
    assert {key.split(".")[1] for key in report.left} == {"masked_token", "classify"}
    assert "new: model.type_embeddings.text, objectives.sort.head.weight" in str(report)


@pytest.mark.parametrize("size", [4, 12, 16])
def test_other_sizes_of_pictures(size: int, tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(vit(image_size=8, patch_size=2), tmp_path))
    specs = {**imported.specs, "image": Spec({"pixels": Field((3, size, size), torch.uint8)})}
    ours = rebuild(dict(imported.config), specs)
    report = initialise_from(ours, str(tmp_path), [])
    assert report.resampled == ["model.position_embeddings.image.table.weight"]
    old = imported.model.position_embeddings["image"].table.weight.detach()
    new = ours.model.position_embeddings["image"].table.weight.detach()
    grid = old.T.reshape(1, -1, 4, 4)
    resize = torch.nn.functional.interpolate
    expected = resize(grid, size=(size // 2, size // 2), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(new, expected[0].flatten(1).T)


def test_a_longer_context_begins_and_ends_as_the_shorter(tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path))
    ours = rebuild(changed(imported, modality__text__context=31), imported.specs)
    initialise_from(ours, str(tmp_path), [])
    old, new = (learner.model.position_embeddings["text"].table.weight for learner in (imported, ours))
    torch.testing.assert_close(new[::2], old)


def test_a_dense_decoder_becomes_one_with_experts(tmp_path: Path) -> None:
    """A Mistral, upcycled, says the same and is a Mixtral; its routers alone are new."""
    imported = mmtx.from_pretrained(saved(mistral(), tmp_path / "dense"))
    router = {"_target_": "mmtx.nn.SoftmaxRouter", "_partial_": True, "top_k": 2, "normalise": True}
    router |= {"scale": 1.0, "num_groups": 1, "top_groups": 1}
    own = {"_target_": "mmtx.nn.Experts", "num_experts": 4, "router": router, "shared_expansion": None}
    dense = {key: value for key, value in imported.config["backbone"]["mlp"].items() if key != "dropout"}
    ours = rebuild(changed(imported, backbone__mlp={**dense, **own}), imported.specs)
    report = initialise_from(ours, str(tmp_path / "dense"), [], ours.config)
    halves = [f"model.backbone.blocks.{layer}.mlp" for layer in range(2)]
    assert report.upcycled == [f"{half}.{part}.weight" for half in halves for part in ("up", "down")]
    assert {*report.new} == {"model.type_embeddings.text", *(f"{half}.router.weight" for half in halves)}
    assert not report.left and report.set_otherwise == ["backbone.mlp=Experts (there MLP)"]
    ids, mask = padded([9, 4])
    expected = mmtx.interop.forward(imported, input_ids=ids, attention_mask=mask).logits[mask.bool()]
    actual = mmtx.interop.forward(ours.eval(), input_ids=ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    to_pretrained(ours, tmp_path / "sparse")
    sparse = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "sparse").eval()
    sparse.set_experts_implementation("eager")
    logits = sparse(ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_nothing_that_fits(tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path))
    ours = rebuild(changed(imported, backbone__dim=32), imported.specs)
    with pytest.raises(
        InvalidValue, match=r"has a backbone of width 24 and 2 layers, of which nothing fits backbone.dim=32"
    ):
        initialise_from(ours, str(tmp_path), [])
    with pytest.raises(UserError, match="does not exist"):
        initialise_from(ours, str(tmp_path / "nowhere"), [])


UPDATES = {"_target_": "mmtx.nn.LoRA", "rank": 2, "alpha": 4.0, "targets": ["*attention.qkv", "*attention.out"]}


def test_updates_of_low_rank(tmp_path: Path) -> None:
    """At first nothing changes; then only the updates learn; saved, loaded and merged, they say the same."""
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path / "public"))
    ours = rebuild(changed(imported, freeze=["*"], lora=UPDATES, init_from="x"), imported.specs)
    initialise_from(ours, str(tmp_path / "public"), [])
    ids = padded([9, 9])[0]
    expected = mmtx.interop.forward(imported, input_ids=ids).logits
    torch.testing.assert_close(mmtx.interop.forward(ours, input_ids=ids).logits, expected)
    learning = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 2 * 2
    assert all(name.endswith((".parametrizations.weight.0.down", ".parametrizations.weight.0.up")) for name in learning)
    before = {name: parameter.detach().clone() for name, parameter in ours.named_parameters()}
    optimizer = torch.optim.Adam([p for p in ours.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        mmtx.interop.forward(ours, input_ids=ids).logits.square().sum().backward()
        optimizer.step()
    changed_names = {name for name, p in ours.named_parameters() if not torch.equal(p, before[name])}
    assert changed_names == learning
    learnt = mmtx.interop.forward(ours, input_ids=ids).logits
    assert not torch.allclose(learnt, expected, atol=1e-3)
    run = save_as_run(ours, tmp_path / "run")
    torch.testing.assert_close(mmtx.interop.forward(mmtx.load(run.path), input_ids=ids).logits, learnt)
    to_pretrained(run.path, tmp_path / "merged")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(again(ids).logits, learnt, atol=1e-5, rtol=1e-5)
    merged = copy.deepcopy(ours)
    merge_updates(merged)
    assert merged.state_dict().keys() == imported.state_dict().keys()


def test_weights_in_fewer_bits(tmp_path: Path) -> None:
    """They are made from those that the run begins with, and kept as they were stored."""
    pytest.importorskip("torchao")
    imported = mmtx.from_pretrained(saved(gpt2(), tmp_path / "public"))
    lora = {**UPDATES, "magnitudes": True, "quantised": "int8"}
    ours = rebuild(changed(imported, freeze=["*"], lora=lora), imported.specs)
    report = initialise_from(ours, str(tmp_path / "public"), [])
    weight = "model.backbone.blocks.0.attention.qkv.weight"
    assert weight in report.matched and not report.left
    own, expected = ours.get_submodule(weight.removesuffix(".weight")).weight, imported.state_dict()[weight]
    assert 0 < (own - expected).norm() < 0.01 * expected.norm()
    ids = padded([9, 9])[0]
    logits, exact = (mmtx.interop.forward(each, input_ids=ids).logits for each in (ours, imported))
    assert (logits - exact).norm() < 0.02 * exact.norm()
    run = save_as_run(ours, tmp_path / "run")
    assert torch.equal(mmtx.interop.forward(mmtx.load(run.path), input_ids=ids).logits, logits)
    to_pretrained(run.path, tmp_path / "merged")
    merged = mmtx.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(mmtx.interop.forward(merged, input_ids=ids).logits, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ["model.bone.*"]}, r"freeze=model.bone.\* matches no parameter"),
        ({"freeze": ["*"]}, r"freeze=\['\*'\] leaves nothing to learn"),
        ({"lora": {**UPDATES, "targets": ["*nothing"]}}, r"lora.targets=\*nothing matches no linear map"),
        ({"lora": {**UPDATES, "rank": 0}}, r"lora.rank=0 must be at least 1"),
    ],
)
def test_patterns_of_nothing(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    imported = from_pretrained(saved(gpt2(), tmp_path))
    with pytest.raises(ConfigErrors, match=message):
        rebuild(changed(imported, **changes), imported.specs)


def test_update_by_hand() -> None:
    linear = torch.nn.Linear(5, 3)
    module = torch.nn.ModuleDict({"map": linear})
    weight = linear.weight.detach().clone()
    LoRA(rank=2, alpha=6.0, targets=["map"]).add(module)
    update = linear.parametrizations.weight[0]
    with torch.no_grad():
        update.up.normal_()
    x = torch.randn(4, 5)
    expected = x @ (weight + 3.0 * update.up @ update.down).T + linear.bias
    torch.testing.assert_close(linear(x), expected)
