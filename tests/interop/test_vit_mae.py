"""ViT-MAE: hidden states and loss are those of `transformers` with the same noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import saved, vit_mae, vit_mae_inputs  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.pictures import picture_batch  # noqa: E402
from mmtx.objectives.masked_autoencoder import MaskedAutoencoder  # noqa: E402


@pytest.mark.parametrize("changes", [{"norm_pix_loss": True}, {"mask_ratio": 0.6}], ids=["normalised", "plain"])
def test_loss_and_hidden_states(changes: dict[str, object], tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = vit_mae(**changes).double()
    inputs = {key: value.double() for key, value in vit_mae_inputs(theirs)[0].items()}
    ours = mmtx.from_pretrained(saved(theirs, tmp_path)).double()
    mine, other = mmtx.interop.forward(ours, **inputs), theirs(**inputs)
    # targets are float32 here, whatever the weights are
    torch.testing.assert_close(mine["loss"].double(), other.loss, atol=1e-6, rtol=1e-6)
    encoded = theirs.vit(**inputs)
    objective = ours.objective("masked_autoencoder")
    assert isinstance(objective, MaskedAutoencoder)
    batch = picture_batch(ours, inputs["pixel_values"])
    lengths = torch.full((3,), inputs["noise"].shape[1])
    batch = batch.with_values("image", masked=objective.masked(inputs["noise"], lengths))
    assert torch.equal(batch["image"]["masked"], encoded.mask.bool())
    hidden = ours.model.run(objective.kept(ours.model.tokenize(batch), batch).token_set).hidden
    count = hidden.shape[1] - 1
    places = encoded.ids_restore.argsort(1)[:, :count].argsort(1).argsort(1)  # theirs stand in the order of noise
    expected = encoded.last_hidden_state[:, 1:][torch.arange(3)[:, None], places.argsort(1)]
    torch.testing.assert_close(hidden[:, :1], encoded.last_hidden_state[:, :1], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(hidden[:, 1:], expected, atol=1e-10, rtol=1e-10)


def test_a_run_of_our_own_is_written_if_its_decoder_is_one_of_theirs(tmp_path: Path) -> None:
    ours = mmtx.from_pretrained(saved(vit_mae(), tmp_path / "public"))
    ours.origin = None  # as if it had been trained here
    mmtx.to_pretrained(ours, tmp_path / "own")
    assert (tmp_path / "own" / "model.safetensors").exists()
    ours.config["objective"]["masked_autoencoder"]["decoder"]["norm_place"] = "after"
    with pytest.raises(UserError, match="decoder.norm_place=after, there before"):
        mmtx.to_pretrained(ours, tmp_path / "again")
