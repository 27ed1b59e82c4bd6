"""How much the names of the set attend to each other, by layer."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from builders import backbone, image, image_batch, merge, model, text, text_batch
from PIL import Image

from mmtx.config.compose import compose
from mmtx.training.samples.attention_shares import attention_shares, draw_attention_shares


def test_shares_of_attention_are_those_of_the_rule() -> None:
    """Queries of zeros attend evenly, so shares can be counted: a picture of 4 patches, a text after it."""
    whole = model({"image": image(), "text": text()})
    with torch.no_grad():
        for block in whole.backbone.blocks:
            block.attention.qkv.weight[:24] = 0
    batch = merge(image_batch([1, 1, 0]), text_batch([3, 1, 2]))
    names, layers = attention_shares(whole, batch)
    assert names == ["image", "text"]
    after_a_picture = [1 / 5, 2 / 6, 3 / 7, 1 / 5]  # a text's tokens attend to 4 patches and their own past
    own = (sum(after_a_picture) + 1 + 1) / 6
    expected = torch.tensor([[1.0, 0.0], [1 - own, own]])
    torch.testing.assert_close(layers, {0: expected, 1: expected}, atol=1e-5, rtol=1e-5)


def test_it_is_drawn_where_there_are_two_names(tmp_path: Path) -> None:
    batch = merge(image_batch([1, 0]), text_batch([3, 2]))
    whole = model({"image": image(), "text": text()})
    drawn = draw_attention_shares(whole, batch, tmp_path / "shares.png")
    assert drawn is not None
    assert drawn.stat().st_size > 1000
    assert draw_attention_shares(model({"image": image()}), image_batch([1]), tmp_path / "alone.png") is None
    nobody = merge(image_batch([0, 0]), text_batch([3, 2]))
    assert draw_attention_shares(whole, nobody, tmp_path / "nobody.png") is not None


def test_what_stands_below_few_layers_is_whole(tmp_path: Path) -> None:
    """Nothing reaches an edge of the picture."""
    whole = model({"image": image(), "text": text()}, backbone(num_layers=1))
    drawn = draw_attention_shares(whole, merge(image_batch([1]), text_batch([3])), tmp_path / "shares.png")
    pixels = numpy.asarray(Image.open(drawn).convert("L"))
    assert all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_in_the_quickstart_each_attends_to_the_other() -> None:
    """Both are on one clock, and that is mutual, as README.md says."""
    config = compose(["experiment=quickstart"])
    assert {name: node["clock"] for name, node in config["modality"].items()} == {"image": "scene", "audio": "scene"}
    assert config["clocks"]["scene"]["mutual"]
