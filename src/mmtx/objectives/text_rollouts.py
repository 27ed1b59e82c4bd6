"""Roll-outs of texts: a batch with what the model has written of each sample, several times."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.codes.decodes import decodes_into
from mmtx.codes.pixels import Pictures
from mmtx.decoding.generate import generate
from mmtx.decoding.sampling import SAMPLED
from mmtx.model import MultimodalTransformer
from mmtx.objectives.rewards import PictureReward, Reward, Written
from mmtx.objectives.text_head import PREDICTED, TextHead
from mmtx.objectives.written_part import written_part

ROLLOUTS = "rollouts"
"""The name of a batch under which they are."""


def evaluation_generator(batch: Batch, text: str) -> torch.Generator:
    """Draws the roll-outs of a batch of an evaluation: the same every time and, as such batches are, on any number of
    ranks; others in each batch, which would else be the same ones wherever nothing is given."""
    ids, lengths = batch[text]["ids"], batch.lengths[text]
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return torch.Generator(ids.device).manual_seed(zlib.crc32(ids[real].cpu().numpy().tobytes()))


@dataclass(frozen=True)
class _Rollout:
    """Ids that were given, that were drawn, and that stand there in the data; none of either where there is no text."""

    given: Sequence[int] = ()
    drawn: Sequence[int] = ()
    true: Sequence[int] = ()


class TextRollouts:
    """Draws texts from the model's own distribution as it is, of which filters of sampling would make another policy.

    Under `ROLLOUTS` a batch has then ``ids`` and ``written``, which of them were drawn, both ``(B, G, n)``, and of each
    reward ``reward/<name>``, ``(B, G)``. The length of a sample is that of its longest roll-out, 0 without any.

    Args:
        head: of the text.
        rewards: by name; those of pictures, where the text is codes of pictures.
        group: roll-outs of each sample, G.
        max_new_tokens: of a roll-out, the mark that ends it among them; fewer where the context holds no more.
    """

    def __init__(
        self, *, head: TextHead, rewards: Mapping[str, Reward | PictureReward], group: int, max_new_tokens: int
    ) -> None:
        self._head, self._rewards, self._group, self._limit = head, rewards, group, max_new_tokens
        self._pictures = head.vocabulary if decodes_into(head.vocabulary, Pictures) else None
        self._ends = head.vocabulary.ends if head.vocabulary is not None else ()

    def drawn(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with roll-outs; of samples without the text there are none."""
        text, group = self._head.text, self._group
        is_whole = self._head.texts_end or self._pictures is not None
        begins, stops = written_part(batch, text, is_whole)
        new = self._new(model, batch, begins, generator)
        ids, lengths = batch[text]["ids"].tolist(), batch.lengths[text].tolist()
        samples = []
        for index, (row, begin, stop, length) in enumerate(
            zip(ids, begins.tolist(), stops.tolist(), lengths, strict=True)
        ):
            of_sample, most = new[index * group : (index + 1) * group], self._head.context - begin
            own = [_Rollout(row[:begin], each[:most], row[begin:stop]) for each in of_sample]
            samples.append(own if length > begin else [_Rollout()] * group)
        return self._with(batch, samples)

    def flat(self, batch: Batch) -> Batch:
        """The batch with every roll-out as a sample of its own, those of one sample side by side. It is padded, also
        where the batch was packed."""
        fields = batch[ROLLOUTS]
        written = fields["written"].flatten(0, 1)
        places = torch.arange(1, written.shape[1] + 1, device=written.device)
        own = {"ids": fields["ids"].flatten(0, 1), PREDICTED: written}
        return self._repeated(batch).with_name(self._head.text, own, (written * places).amax(1))

    def texts(self, batch: Batch) -> list[list[str]]:
        """What was written, of each sample."""
        ids, written = batch[ROLLOUTS]["ids"].flatten(0, 1), batch[ROLLOUTS]["written"].flatten(0, 1)
        texts = [self._head.decode(row[own].tolist()) for row, own in zip(ids, written, strict=True)]
        return [texts[start : start + self._group] for start in range(0, len(texts), self._group)]

    def _new(
        self, model: MultimodalTransformer, batch: Batch, begins: Int[Tensor, " B"], generator: torch.Generator
    ) -> list[list[int]]:
        text, was_training = self._head.text, model.training
        given = {"ids": batch[text]["ids"][:, : int(begins.max())]}
        model.eval()
        try:
            return generate(
                model,
                lambda hidden: self._head.logits(model, hidden),
                self._repeated(batch.with_name(text, given, begins)),
                text,
                max_new_tokens=max(1, min(self._limit, self._head.context - int(begins.min()))),
                sampling=SAMPLED,
                generator=generator,
                end=self._ends,
                keep_end=True,
            )
        finally:
            model.train(was_training)

    def _repeated(self, batch: Batch) -> Batch:
        rows = torch.arange(len(batch), device=batch.lengths[self._head.text].device)
        return batch.select(rows.repeat_interleave(self._group))

    def _with(self, batch: Batch, samples: Sequence[Sequence[_Rollout]]) -> Batch:
        device = batch.lengths[self._head.text].device
        longest = max(2, *(len(each.given) + len(each.drawn) for own in samples for each in own))

        def padded(values: Sequence[int]) -> list[int]:
            return [*values, *[0] * (longest - len(values))]

        ids = [[padded([*each.given, *each.drawn]) for each in own] for own in samples]
        drawn = [[padded([0] * len(each.given) + [1] * len(each.drawn)) for each in own] for own in samples]
        fields = {"ids": torch.tensor(ids, device=device), "written": torch.tensor(drawn, device=device).bool()}
        lengths = torch.tensor([max(len(each.given) + len(each.drawn) for each in own) for own in samples])
        written = batch.with_name(ROLLOUTS, fields, lengths.to(device))
        for name, reward in self._rewards.items():
            fields[f"reward/{name}"] = (
                self._of_pictures(reward, written)
                if isinstance(reward, PictureReward)
                else torch.tensor([[self._rewarded(reward, each) for each in own] for own in samples], device=device)
            )
        return batch.with_name(ROLLOUTS, fields, lengths.to(device))

    def _of_pictures(self, reward: PictureReward, batch: Batch) -> Float[Tensor, "B G"]:
        """The rewards of roll-outs that are a whole picture; of others 0."""
        assert self._pictures is not None
        flat, text, length = self.flat(batch), self._head.text, self._pictures.num_tokens
        rewards = torch.zeros(len(flat), device=flat.lengths[text].device)
        drawn = (flat.lengths[text] == length).nonzero()[:, 0]
        if len(drawn):
            whole = flat.select(drawn)
            pixels = self._pictures.decoded(whole[text]["ids"][:, 1:length]).to(rewards.device)
            rewards[drawn] = reward(pixels, whole)
        return rewards.view(len(batch), self._group)

    def _rewarded(self, reward: Reward, rollout: _Rollout) -> float:
        if not rollout.drawn:
            return 0.0
        given, text, truth = (self._head.decode([*ids]) for ids in (rollout.given, rollout.drawn, rollout.true))
        return reward(Written(given, text, truth, ended=rollout.drawn[-1] in self._ends))
