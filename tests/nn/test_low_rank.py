"""What stays as it is while the rest learns."""

from __future__ import annotations

import pytest
from builders import model, text

from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.nn.low_rank import freeze


@pytest.mark.parametrize("name", ["source", "target"])
def test_an_embedding_that_two_texts_share_goes_by_either_name(name: str) -> None:
    source = text()
    target = Text(spec=source.spec, dim=24, clock=None, causal=True, context=None, share="source", num_segments=0)
    whole = model({"source": source, "target": target})
    freeze(whole, [f"tokenizers.{name}.embedding.*"])
    assert [key for key, value in whole.named_parameters() if not value.requires_grad] == [
        "tokenizers.source.embedding.weight"
    ]
    with pytest.raises(InvalidValue, match=r"freeze=tokenizers.nobody.\* matches no parameter"):
        freeze(whole, ["tokenizers.nobody.*"])
