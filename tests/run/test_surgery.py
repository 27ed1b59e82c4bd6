"""A model that is changed and keeps what it has learnt: more ids, other sizes, fewer names, more names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
sys.path.append(str(Path(__file__).parents[1] / "interop"))

from public import decision_transformer, gpt2, llama, padded, saved, t5, vit  # noqa: E402
from small_data import small_tokenizer  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.encoded import Encoded  # noqa: E402
from mmtx.errors import InvalidValue, UserError  # noqa: E402
from mmtx.interop.family import text_batch  # noqa: E402
from mmtx.run.import_export import to_pretrained  # noqa: E402
from mmtx.run.surgery import operate  # noqa: E402

EMBEDDING = "model.tokenizers.text.embedding.weight"


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@pytest.mark.parametrize("make", [gpt2, llama])
def test_more_ids(make: Any, tmp_path: Path) -> None:
    """Old scores stay bit for bit, and rows of new ids are the mean."""
    before = mmtx.from_pretrained(saved(make(), tmp_path / "public"))
    after, (report,) = operate(before, tokens=3)
    assert not report.left and not report.new
    assert f"{EMBEDDING} (3 of 32 rows, the mean of the others)" in str(report)
    old, new = before.state_dict()[EMBEDDING], after.state_dict()[EMBEDDING]
    assert torch.equal(new[:29], old) and torch.equal(new[29:], old.mean(0).expand(3, -1))
    ids, mask = padded([9, 4])
    inputs = {"input_ids": ids, "attention_mask": mask}
    logits = mmtx.interop.forward(before, **inputs).logits
    assert torch.equal(mmtx.interop.forward(after, **inputs).logits[..., :29], logits)
    to_pretrained(after, tmp_path / "grown")
    theirs = mmtx.from_pretrained(tmp_path / "grown")
    assert theirs.origin is not None and theirs.origin["config"]["vocab_size"] == 32


def test_two_texts_of_one_embedding(tmp_path: Path) -> None:
    before = mmtx.from_pretrained(saved(t5(untied=True), tmp_path))
    after, (report,) = operate(before, tokens=2)
    assert len(report.grown) >= 2 and not report.new
    ids = padded([6, 6])[0]
    inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    logits = [mmtx.interop.forward(each, **inputs).logits for each in (before, after)]
    assert torch.equal(logits[1][..., :29], logits[0])


def test_new_tokens_of_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """By the command: their spelling is one id each, behind all others."""
    monkeypatch.chdir(tmp_path)
    small_tokenizer(saved(gpt2(vocab_size=263, n_positions=16), tmp_path / "public"))
    arguments = ["import", "public", "run", 'tokens=["<think>","</think>"]', "context=8"]
    assert main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "grown: model.tokenizers.text.embedding.weight (2 of 265 rows" in printed
    assert "resampled: model.position_embeddings.text.table.weight" in printed
    vocabulary = mmtx.load("run").specs["text"].vocabulary
    assert vocabulary is not None and vocabulary.encode("<think>a</think>") == [263, *vocabulary.encode("a"), 264]
    assert main(["import", "run", "again", 'tokens=["<think>"]']) == 2
    assert "tokens=<think> has an id already" in capsys.readouterr().err
    assert main(["import", "run", "again", "context=4"]) == 0
    table = "model.position_embeddings.text.table.weight"
    assert torch.equal(mmtx.load("again").state_dict()[table], mmtx.load("run").state_dict()[table][:4])


def test_other_sizes(tmp_path: Path) -> None:
    """As transformers resizes a ViT's table, but smoothed; a longer text's table has the same ends."""
    before = mmtx.from_pretrained(saved(vit(image_size=8, patch_size=2), tmp_path / "vit"))
    after, (report,) = operate(before, size=12)
    assert report.resampled == ["model.position_embeddings.image.table.weight"] and not report.new
    old, new = (each.state_dict()[report.resampled[0]] for each in (before, after))
    grid = old.T.reshape(1, -1, 4, 4)
    expected = torch.nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(new, expected[0].flatten(1).T)
    to_pretrained(after, tmp_path / "larger")
    assert transformers.ViTForImageClassification.from_pretrained(tmp_path / "larger").config.image_size == 12
    texts = mmtx.from_pretrained(saved(gpt2(), tmp_path / "gpt2"))
    longer, (report,) = operate(texts, context=31)
    old, new = (each.state_dict()[report.resampled[0]] for each in (texts, longer))
    torch.testing.assert_close(new[::2], old)


def test_a_name_that_leaves(tmp_path: Path) -> None:
    """A decision transformer without returns clones behaviour; nothing of them is left."""
    before = mmtx.from_pretrained(saved(decision_transformer(), tmp_path))
    after, (report,) = operate(before, drop=["return"])
    assert after.model.names == [name for name in before.model.names if name != "return"]
    assert report.left and all(".return" in key for key in report.left) and not report.new
    assert not any(".return" in key for key in after.state_dict())
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in after.state_dict().items())


def test_names_that_come_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """By the command: texts are scored as before, pictures are encoded as there, and only the projector is new."""
    monkeypatch.chdir(tmp_path)
    saved(llama(), tmp_path / "llama")
    saved(vit(hidden_size=30, num_attention_heads=3, num_channels=1), tmp_path / "vit")
    assert main(["import", "llama", "run", "add={image: vit}", "projector=linear"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "add.image=vit" in printed and "to train on" not in printed
    new = [line.removeprefix("  new: ").split(", ") for line in printed.splitlines() if line.startswith("  new: ")]
    types = ["model.type_embeddings.image", "model.tokenizers.image.type_embedding"]  # zeros
    projector = [f"model.tokenizers.image.projector.out.{part}" for part in ("weight", "bias")]
    assert new == [types[:1], [types[1], *projector]]
    before, after = mmtx.from_pretrained("llama"), mmtx.load("run")
    assert after.model.names == ["image", "text"]
    ids, mask = padded([9, 4])
    batch = text_batch("text", ids, mask)
    hidden = [each.model(batch).tokens("text")[mask.bool()] for each in (before, after)]
    assert torch.equal(*hidden)
    there, encoded = mmtx.from_pretrained("vit").model, after.model.tokenizer("image")
    assert isinstance(encoded, Encoded)
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    one = torch.ones(2, dtype=torch.long)
    tokens = encoded.tokenizer({"pixels": pixels}, one, True)
    found = encoded._encoded(encoded._set_of(tokens)).tokens("image")
    expected = there(Batch({"image": {"pixels": pixels}}, {"image": one}, {"image": True})).tokens("image")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert main(["import", "run", "again", "drop=[image]"]) == 0
    same = mmtx.load("again").state_dict()
    assert all(torch.equal(value, same[key]) for key, value in before.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add": {"text": "gpt2"}}, "add=text is in the set already: text"),
        ({"drop": ["image"]}, "drop=image is not in the set; it has text"),
        ({"drop": ["text"]}, r"drop=\['text'\] leaves nothing in the set"),
        ({"tokens": ["<a>"]}, "are added to a tokenizer.json, which this model lacks; nearest: a number"),
        ({"size": 4}, "size=4 is of pictures, and this model has none"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=message):
        where = saved(gpt2(), tmp_path)
        add = {"add": {name: str(where) for name in options["add"]}} if "add" in options else {}
        operate(mmtx.from_pretrained(where), **options | add)


def test_an_objective_that_loses_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="action"):
        operate(mmtx.from_pretrained(saved(decision_transformer(), tmp_path)), drop=["action"])
