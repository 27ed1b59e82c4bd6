"""Masked diffusion of the ids of one or several names."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Batch, Spec
from mmtx.copies import Copy
from mmtx.decoding.guided import check_guidance
from mmtx.decoding.unmask import FREELY, Unmasking
from mmtx.errors import InvalidValue, check_at_least
from mmtx.metric_directions import known
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.diffused_name import DiffusedName
from mmtx.objectives.drawn_codes import begun, vocabulary_of_codes
from mmtx.objectives.given import NOTHING, Given
from mmtx.objectives.masks import blocks_of, draw_masks
from mmtx.objectives.rewriting import rewritten

EXAMPLE_PASSES = 16
"""In which the text of an example is written."""

NOISY = "noisy "
"""Before the name that a copy is of."""


class MaskedDiffusion(Objective):
    """Masked ids are predicted from those that are left and from the rest of the set, whatever their share, so that
    they can be written in any order (Sahoo et al. 2024, arXiv 2406.07524; Nie et al. 2025, arXiv 2502.09992).

    The loss is an upper bound on the negative log-likelihood of all ids, given the rest of the set, of which a batch
    gives an unbiased estimate, see `draw_masks`. With blocks, each is given the clean ones before it.

    Args:
        names: whose ids are predicted: of texts, or of series of classes such as actions. Several are masked at once;
            the later one attends to the earlier, or each to the other on a mutual clock.
        block_size: ids of a block. Blocks are written from left to right; noisy ones attend to the clean ones before
            them, all in one pass (Arriola et al. 2025, arXiv 2503.09573). 1: an id at a time; null: all at once.
        mask: id of the mask where the vocabulary of the only name has one; null: a learned vector, which is no id
        tied: score ids by a text's own embedding instead of a linear map
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        names: Sequence[str],
        block_size: int | None,
        mask: int | None,
        tied: bool,
    ) -> None:
        super().__init__(weight=weight)
        check_at_least("block_size", block_size, 1)
        if not names or len(set(names)) < len(names):
            raise InvalidValue("names", [*names], "must name one or several texts, each once")
        if mask is not None and len(names) > 1:
            raise InvalidValue("mask", mask, f"is an id of one vocabulary; there are {len(names)} names", "null")
        self.reads, self.block_size = tuple(names), block_size
        heads = {name: DiffusedName(specs=specs, model=model, name=name, tied=tied, mask=mask) for name in names}
        for name in names:
            _check_order(name, block_size, model)
        self.heads = nn.ModuleDict(heads)
        self.writes = names[0] if len(names) == 1 and heads[names[0]].is_text else None  # others begin with a sample
        self.coded = {f"heads.{name}.projection.weight": name for name in names if not tied}
        self.has_bytes = all(head.has_bytes for head in heads.values())
        self.directions = known("perplexity", "accuracy", *["bits_per_byte"] * self.has_bytes)

    def head(self, name: str) -> DiffusedName:
        head = self.heads[name]
        assert isinstance(head, DiffusedName)
        return head

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields of each name: which ids are ``masked``, and ``weights`` of their losses."""
        may_be = [self.head(name).may_be_masked(batch) for name in self.reads]
        columns = [part.shape[1] for part in may_be]
        blocks = blocks_of(columns, self.block_size, may_be[0].device)
        masks = draw_masks(torch.cat(may_be, dim=1), blocks, generator)
        split = zip(self.reads, masks.masked.split(columns, 1), masks.weights.split(columns, 1), strict=True)
        for name, masked, weights in split:
            batch = batch.with_values(name, masked=masked, weights=weights)
        return batch

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Ids that may be masked, of which the loss is the mean."""
        return torch.stack([self.head(name).may_be_masked(batch).sum() for name in self.reads]).sum()

    def forward(self, model: MultimodalTransformer, batch: Batch) -> Score:
        return self._score(model, self._hidden(model, batch), batch)

    def metrics(self, score: Score) -> dict[str, float]:
        """``loss`` is the bound in nats for each id, ``perplexity`` and ``bits_per_byte`` those of the bound;
        ``accuracy`` the share of masked ids that have the best score."""
        loss = score.mean_loss()
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if "accuracy" in score.stats:
            metrics["accuracy"] = score.ratio("accuracy")
        if "bytes" in score.stats:
            metrics["bits_per_byte"] = (
                float(score.loss_sum.detach()) / math.log(2) / max(float(score.stats["bytes"][0]), 1)
            )
        return metrics

    def logits(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Float[Tensor, "B n V"]]:
        """Scores of all ids at each token of each name, of a batch as `prepare` makes it."""
        hidden = self._hidden(model, batch)
        return {name: self.head(name).logits(model, hidden[name]) for name in self.reads}

    def tied_vectors(self, model: MultimodalTransformer) -> Float[Tensor, "V D"] | None:
        return self.head(self.reads[0]).tied_vectors(model)

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Tensor]:
        """``logits`` of all ids at each id, ``(B, n, ids)``, or ``logits.NAME`` of several names. What is masked is
        given as the mask's id, or as the one behind the last where that is none."""
        for name in self.reads:
            head = self.head(name)
            masked = head.ids(batch) == (head.vocab_size if head.mask is None else head.mask)
            batch = batch.with_values(name, **head.hidden_ids(batch, masked), masked=masked)
        logits = self.logits(model, batch)
        return {"logits" if len(self.reads) == 1 else f"logits.{name}": each.float() for name, each in logits.items()}

    @property
    def columns(self) -> dict[str, Any]:
        return {"predicted": str, "truth": str, "nats": float, "ids": int, "masked_ids": int, "right_ids": int}

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> dict[str, list[Any]]:
        """The ids of each sample with the best ones in place of the masked, and the truth; an estimate of the bound; of
        how many ids it is, how many of them are masked, and of how many masked ones the best score is theirs."""
        hidden, filled, rows = self._hidden(model, batch), {}, []
        for name in self.reads:
            best = self.head(name).logits(model, hidden[name]).argmax(-1)
            filled[name] = torch.where(batch[name]["masked"], best, self.head(name).ids(batch))
        for row in range(len(batch)):  # as one, they would be one sum
            part = slice(row, row + 1)
            rows.append(self._score(model, {name: states[part] for name, states in hidden.items()}, batch.select(part)))
        return {
            "predicted": self._texts(batch, filled),
            "truth": self._texts(batch, {name: self.head(name).ids(batch) for name in self.reads}),
            "nats": [float(row.loss_sum) for row in rows],
            "ids": [int(row.count) for row in rows],
            "masked_ids": [int(row.stats["accuracy"][1]) for row in rows],
            "right_ids": [int(row.stats["accuracy"][0]) for row in rows],
        }

    def examples(self, model: MultimodalTransformer, batch: Batch) -> list[Example]:
        """Texts that end are written as a whole, streams after their first quarter, in a few passes."""
        truth = {name: self.head(name).ids(batch) for name in self.reads}
        for name in self.reads:
            head, columns = self.head(name), torch.arange(truth[name].shape[1], device=truth[name].device)
            begin = 0 if head.texts_end else len(columns) // 4
            batch = batch.with_values(name, masked=head.may_be_masked(batch) & (columns >= begin))
        generator = torch.Generator(batch.lengths[self.reads[0]].device).manual_seed(0)
        written = self._written(model, batch, generator, Unmasking(num_steps=EXAMPLE_PASSES), {})
        texts = self._texts(batch, written), self._texts(batch, truth)
        return [Example(one or "", other or "") for one, other in zip(*texts, strict=True)]

    def generate(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        *,
        given: Given = NOTHING,
        unmasking: Unmasking = FREELY,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> str:
        """A text that is written in any order, all of it or around what is given (objective=[masked_diffusion]).

        Args:
            model: in eval mode.
            batch: one sample of the rest of the set; of all names, where several are written.
            generator: draws the ids.
            given: what is not to be written; its fields are options.
            unmasking: how ids are drawn; its fields are options too.
            guidance: {name: scale}: above 1, a name of the set counts for more than it did in training

        Raises:
            UserError: an option cannot be, or does not go with another.
        """
        check_guidance(guidance, [name for name in model.names if name not in self.reads[1:]], self.reads[0])
        heads = {name: self.head(name) for name in self.reads}
        canvas = given.masked(batch, heads, generator.device)
        written = self._written(model, canvas, generator, unmasking, guidance)
        texts = {name: heads[name].texts(ids, canvas.lengths[name])[0] for name, ids in written.items()}
        chosen = given.write or self.reads
        return texts[chosen[0]] if len(self.reads) == 1 else "\n".join(f"{name}: {texts[name]}" for name in chosen)

    def draw_codes(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        count: int,
        *,
        unmasking: Unmasking = FREELY,
        guidance: Mapping[str, float | int] = MappingProxyType({}),
    ) -> Int[Tensor, "B n"]:
        """Codes of a picture, film or sound for each sample of a batch, in any order, given the rest of it.

        Args:
            model: in eval mode.
            batch: samples; what they have of the codes is not read.
            generator: draws the codes.
            count: of samples, which an empty batch does not have.
            unmasking: how codes are drawn; its fields are options.
            guidance: {name: scale}: above 1, a name of the set counts for more than it did in training
        """
        (name,) = self.reads
        vocabulary = vocabulary_of_codes(self.head(name))
        canvas = begun(batch, name, vocabulary, count, generator.device, whole=True)
        ids = canvas[name]["ids"]
        canvas = canvas.with_values(name, masked=torch.arange(ids.shape[1], device=ids.device).expand(ids.shape) > 0)
        return self._written(model, canvas, generator, unmasking, guidance)[name][:, 1:]

    def _written(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        how: Unmasking,
        guidance: Mapping[str, float | int],
    ) -> dict[str, Int[Tensor, "B n"]]:
        """The ids of each name, with new ones where they are masked."""
        if self.block_size is not None and how.block_size is not None:
            problem = f"is for a model that knows no blocks; this one learnt those of {self.block_size}"
            raise InvalidValue("block_size", how.block_size, problem, "null")
        heads = {name: self.head(name) for name in self.reads}
        columns = [head.ids(batch).shape[1] for head in heads.values()]
        block = blocks_of(columns, how.block_size or self.block_size, generator.device).of
        logits: Any = partial(self.logits, model)
        return rewritten(logits, heads, batch, block, how=how, generator=generator, guidance=guidance)

    def _texts(self, batch: Batch, ids: Mapping[str, Int[Tensor, "B n"]]) -> list[str | None]:
        """Of each sample, the texts of all names; None where it has none of them."""
        texts: list[list[str]] = [[] for _ in range(len(batch))]
        for name, own in ids.items():
            lengths = batch.lengths[name]
            for row, (text, length) in enumerate(
                zip(self.head(name).texts(own, lengths), lengths.tolist(), strict=True)
            ):
                texts[row] += [text] if length else []
        return ["; ".join(row) if row else None for row in texts]

    def _score(self, model: MultimodalTransformer, hidden: Mapping[str, Float[Tensor, "B n D"]], batch: Batch) -> Score:
        losses: list[Tensor] = []
        right: list[Tensor] = []
        masked: list[Tensor] = []
        for name in self.reads:
            head, fields = self.head(name), batch[name]
            options: dict[str, Any] = {"weights": fields["weights"], "find_right": not self.training}
            found = head.cross_entropy(model, hidden[name], head.ids(batch), fields["masked"], **options)
            losses.append(found.loss)
            right += [] if found.right is None else [found.right.sum()]
            masked.append(fields["masked"].sum())
        loss, count = torch.stack(losses).sum(), self.count(batch)
        if self.training:
            return Score(loss, count)
        stats: dict[str, tuple[Tensor, Tensor]] = {"accuracy": (torch.stack(right).sum(), torch.stack(masked).sum())}
        if self.has_bytes:
            num_bytes = [self.head(name).num_bytes(batch) for name in self.reads]
            stats["bytes"] = (torch.stack(num_bytes).sum(), count)
        return Score(loss, count, stats)

    def _hidden(self, model: MultimodalTransformer, batch: Batch) -> dict[str, Float[Tensor, "B n D"]]:
        """Hidden states of the tokens of each name that are masked in part."""
        keys = {name: name if self.block_size is None else NOISY + name for name in self.reads}
        token_set = model.tokenize(batch, copies=self._copies(batch, keys))
        for name, key in keys.items():
            token_set = self.head(name).with_masks(token_set, key, batch[name]["masked"])
        states = model.run(token_set)
        return {name: states.tokens(key) for name, key in keys.items()}

    def _copies(self, batch: Batch, keys: Mapping[str, str]) -> dict[str, Copy]:
        """Each name with masks; with blocks, before a clean one, whose earlier blocks the noisy ones attend to."""
        copies = {}
        for name, key in keys.items():
            noisy = self.head(name).hidden_ids(batch, batch[name]["masked"])
            if self.block_size is None:
                copies[key] = Copy(name, noisy)
                continue
            ids = self.head(name).ids(batch)
            times = torch.arange(ids.shape[1], device=ids.device)[None] // self.block_size
            copies[key] = Copy(name, noisy, times, private=True)
            copies[name] = Copy(name, times=times)
        return copies


def _check_order(name: str, block_size: int | None, model: MultimodalTransformer) -> None:
    """Raises InvalidValue for a name whose tokens cannot be laid in blocks, or without them are causal; and where
    tokens share a time, and no positions tell them apart."""
    tokenizer, stack = model.tokenizer(name), model.backbone
    if block_size is None and not isinstance(tokenizer, Ids):
        return  # of a series each id has a time of its own
    if block_size is None and isinstance(tokenizer, Ids) and tokenizer.causal:
        change = f"modality.{name}.causal=false, or objective.masked_diffusion.block_size"
        raise InvalidValue("names", name, "is causal, and all of it is to be written in any order", change)
    shares = [other for other in model.names if other != name and model.clock_of[other] == model.clock_of[name]]
    if block_size is not None and shares:
        problem = f"lays '{name}' out by blocks on a clock of its own, which it shares with {shares[0]}"
        raise InvalidValue("block_size", block_size, problem, "null")
    if stack.positions.absolute is None and stack.positions.bias is None and stack.rotary_axes <= {"time"}:
        problem = "has ids that share a time, and no positions tell them apart"
        raise InvalidValue("names", name, problem, "backbone.positions.rotary.axes=[index]")
