"""Weights of four bits, against the standard's table and what `transformers` makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")

from public import gpt_oss, padded, saved  # noqa: E402
from transformers.integrations.mxfp4 import convert_moe_packed_tensors  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.mxfp4 import decoded, numbers  # noqa: E402


def test_the_table_of_the_standard() -> None:
    """A sign, two bits of exponent with a bias of 1, one of mantissa; E8M0 scales are powers of two."""
    for code in range(16):
        sign, exponent, mantissa = -1 if code & 8 else 1, code >> 1 & 3, code & 1
        value = sign * (2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2)
        byte, scale = torch.tensor([[code | 2 << 4]], dtype=torch.uint8), torch.tensor([130], dtype=torch.uint8)
        assert numbers(byte, scale).tolist() == [8 * value, 8 * 1.0]


def test_blocks_become_what_they_become_there() -> None:
    torch.manual_seed(0)
    blocks = torch.randint(0, 256, (3, 4, 2, 16), dtype=torch.uint8)
    scales = torch.randint(100, 150, (3, 4, 2), dtype=torch.uint8)
    found = decoded({"up_blocks": blocks, "up_scales": scales, "other": torch.ones(2)})
    assert found.keys() == {"up", "other"}
    assert found["up"].equal(convert_moe_packed_tensors(blocks, scales).float())


@pytest.mark.parametrize("missing", [True, False])
def test_halves_that_do_not_fit(missing: bool) -> None:
    blocks = {"up_blocks": torch.zeros(1, 2, 3, 16, dtype=torch.uint8)}
    more = {} if missing else {"up_scales": torch.zeros(1, 2, 4, dtype=torch.uint8)}
    with pytest.raises(UserError, match=r"up_blocks needs up_scales of shape \[1, 2, 3\], both of type uint8"):
        decoded({**blocks, **more})


def test_a_file_of_gpt_oss(tmp_path: Path) -> None:
    """As OpenAI's have it; what is written again is not quantised, and the same."""
    torch.manual_seed(0)
    folder = saved(gpt_oss(hidden_size=32, intermediate_size=32), tmp_path / "public")
    weights, plain = load_file(folder / "model.safetensors"), {}
    for key in [key for key in weights if key.endswith("_proj") and ".experts." in key]:
        experts, rows, columns = weights.pop(key).mT.shape
        blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
        scales = torch.randint(122, 126, blocks.shape[:-1], dtype=torch.uint8)
        weights |= {f"{key}_blocks": blocks, f"{key}_scales": scales}
        plain[key] = convert_moe_packed_tensors(blocks, scales).float()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}}))
    ours = mmtx.from_pretrained(folder)
    mmtx.to_pretrained(ours, tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(again[key].equal(value) for key, value in plain.items())
    ids, mask = padded([11, 7])
    theirs = transformers.GptOssForCausalLM.from_pretrained(tmp_path / "again").eval()
    actual = mmtx.interop.forward(ours, input_ids=ids, attention_mask=mask).logits[mask.bool()]
    expected = theirs(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
