"""Ids that are no text, by a tokenizer from outside: codes of sound, which are predicted as words are."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import Letters, ctc, model, seq2seq, text, text_batch, text_spec
from contracts import check_objective, check_tokenizer
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mmtx.batch import Batch, Spec
from mmtx.compatibility import mismatches
from mmtx.data.base import Source
from mmtx.decoding.generate import generate
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.modalities.base import Tokenizer
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Objective
from mmtx.objectives.masked_token import MaskedToken
from mmtx.objectives.next_token import NextToken
from mmtx.tokens import Tokens

OBJECTIVES = ["next_token", "masked_token"]


class Codes(Tokenizer):
    """Eleven codes, the columns of a codebook."""

    vocab_size, context = 11, 8
    extent, max_tokens = (8,), 8

    def __init__(self, spec: Spec, causal: bool) -> None:
        super().__init__(spec=spec, dim=24, clock=None)
        self.causal, self.codebook = causal, nn.Linear(self.vocab_size, 24, bias=False)

    def num_tokens(self, lengths: Tensor) -> Tensor:
        return lengths

    def embed(self, ids: Tensor) -> Tensor:
        return self.codebook(one_hot(ids, self.vocab_size).float())

    @property
    def id_vectors(self) -> Tensor:
        return self.codebook.weight.T

    def forward(self, fields: dict[str, Tensor], lengths: Tensor, full: bool) -> Tokens:
        index = torch.arange(fields["ids"].shape[1])
        time, items = (index, len(index)) if self.causal else (torch.zeros_like(index), 1)
        return Tokens(self.embed(fields["ids"]), index[:, None], time[None], lengths, items, full)


def specs_of(vocabulary: Letters | None = None) -> dict[str, Spec]:
    return {"codes": text_spec(vocabulary=vocabulary)}


def made(name: str, whole: MultimodalTransformer, specs: dict[str, Spec]) -> Objective:
    if name == "next_token":
        keys: dict[str, Any] = {"tied": True, "logit_scale": 1.0, "label_smoothing": 0.0}
        return NextToken(specs=specs, model=whole, weight=1.0, text="codes", **keys).eval()
    torch.manual_seed(0)
    keys = {"mask": 0, "share": 0.25, "activation": nn.GELU(), "norm_eps": 1e-5}
    return MaskedToken(specs=specs, model=whole, weight=1.0, text="codes", **keys).eval()


def both(name: str, vocabulary: Letters | None = None) -> tuple[Learner, Learner]:
    """The objective on codes, and on the text of the same ids with the same weights."""
    specs, causal = specs_of(vocabulary), name != "masked_token"
    wholes = [model({"codes": kind(specs["codes"], causal=causal)}) for kind in (Codes, text)]
    codes, words = wholes[0].tokenizer("codes"), wholes[1].tokenizer("codes")
    weights = {key: value for key, value in wholes[0].state_dict().items() if "tokenizers" not in key}
    wholes[1].load_state_dict(weights, strict=False)
    with torch.no_grad():
        words.get_parameter("embedding.weight").copy_(codes.get_parameter("codebook.weight").T)
    one, other = (Learner(model=m, objectives={name: made(name, m, specs)}, specs=specs).eval() for m in wholes)
    return one, other


def batch_of(lengths: list[int]) -> Batch:
    return text_batch(lengths, name="codes")


def test_the_contract_of_tokenizers() -> None:
    check_tokenizer(Codes(text_spec(), causal=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_contract_of_objectives(name: str) -> None:
    learner, _ = both(name)
    check_objective(learner.objective(name), learner.model, learner.specs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_they_are_predicted_as_the_ids_of_a_text(name: str) -> None:
    codes, words = both(name)
    batch = batch_of([8, 5, 1])
    torch.testing.assert_close(codes(batch)[name].vector(), words(batch)[name].vector())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_they_are_learned(name: str) -> None:
    learner, _ = both(name)
    batch, optimizer = batch_of([8, 8, 6]), torch.optim.Adam(learner.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        score = learner(batch)[name]
        losses.append(score.mean_loss())
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_they_are_written_as_the_ids_of_a_text() -> None:
    """With a cache, one id at a time."""
    written = [
        generate(
            learner.model,
            partial(learner.objectives["next_token"].head.logits, learner.model),
            batch_of([2, 2]),
            "codes",
            max_new_tokens=5,
            generator=torch.Generator().manual_seed(0),
        )
        for learner in both("next_token")
    ]
    assert written[0] == written[1] and [len(ids) for ids in written[0]] == [5, 5]


def test_they_are_transcribed_and_translated() -> None:
    """Codes with a begin and an end are the text of seq2seq; CTC reads a text from any codes."""
    specs = specs_of(Letters())
    whole = model({"codes": Codes(specs["codes"], causal=True)})
    check_objective(seq2seq(whole, specs, text="codes"), whole, specs)
    specs |= {"text": text_spec(vocabulary=Letters())}
    check_objective(ctc(whole, specs, source="codes"), whole, specs)


@pytest.mark.parametrize(("name", "needed"), [("next_token", "causal"), ("masked_token", "bidirectional")])
def test_codes_that_attend_otherwise_are_refused(name: str, needed: str) -> None:
    specs = specs_of()
    whole = model({"codes": Codes(specs["codes"], causal=needed != "causal")})
    with pytest.raises(InvalidValue, match=f"text=codes must name a {needed} text"):
        made(name, whole, specs)


def test_codes_that_do_not_fit_are_found_before_training() -> None:
    class Longer(Source):
        specs = {"codes": text_spec(max_length=10)}
        train = val = test = lambda self: None

    (problem,) = mismatches(both("next_token")[0], Longer())
    assert "modality.codes.context=8 is too short" in problem and "up to 10 tokens; at least 9" in problem
