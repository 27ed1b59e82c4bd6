"""Text that goes on."""

import torch

from mmtx.batch import Batch, Sample
from mmtx.data.collate import collate
from mmtx.decoding.generate import generate
from mmtx.decoding.sampling import Sampling
from mmtx.errors import UserError, check_within
from mmtx.generation.rest_of_set import rest_of_set
from mmtx.generation.trained import Trained
from mmtx.generation.translation import MOST_NEW_TOKENS
from mmtx.learner import Learner
from mmtx.objectives.next_token import NextToken


def continue_text(
    trained: Trained,
    objective: NextToken,
    *,
    prompt: str | None = None,
    image: str | None = None,
    index: int | None = None,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> str:
    """A text that goes on, given whatever else is in the set (objective=[next_token]).

    Args:
        trained: the model.
        objective: whose head scores the next id.
        prompt: the text to continue; needed where the text is a stream
        image: a picture file to write about
        index: or a sample, counted from 0, of the run's test (or validation) data
        max_new_tokens: upper limit
        temperature: divides the scores; 0 takes the best id each time
        top_k: keep the k best ids
        top_p: keep the smallest set of ids whose probability reaches p

    Raises:
        UserError: an option cannot be, or one that is needed is not given.
    """
    check_within("max_new_tokens", max_new_tokens, 1, MOST_NEW_TOKENS)
    sampling = Sampling(temperature, top_k, top_p)
    learner, vocabulary = trained.learner, objective.head.vocabulary
    assert vocabulary is not None
    start = [vocabulary.begin] if vocabulary.begin is not None else []
    ids = start + vocabulary.encode(prompt or "")
    if not ids:
        raise UserError('this model continues text and needs something to begin with: prompt="..."')
    others = [name for name in learner.model.names if name != objective.text]
    sample: Sample = {objective.text: {"ids": torch.tensor(ids)}, **rest_of_set(trained, others, image, index)}
    (new,) = generate(
        learner.model,
        lambda hidden: objective.head.logits(learner.model, hidden),
        _batch(sample, learner, objective.text),
        objective.text,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        generator=torch.Generator().manual_seed(trained.seed),
        end=vocabulary.end,
        cache=trained.cache,
    )
    return vocabulary.decode(ids + new)


def _batch(sample: Sample, learner: Learner, text: str) -> Batch:
    """A batch of one; the prompt may be longer than the context, since it is cropped."""
    specs = {name: spec for name, spec in learner.specs.items() if name in sample and name != text}
    ids = sample[text]["ids"]
    rest = collate([{name: sample[name] for name in specs}], specs)
    return Batch(
        {**rest.fields, text: {"ids": ids[None]}},
        {**rest.lengths, text: torch.tensor([len(ids)])},
        {**rest.full, text: True},
        torch.zeros(1, dtype=torch.long),
    )
