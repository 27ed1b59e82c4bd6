"""A stack over the set of which some tokens were left out: the decoder of a masked autoencoder, the predictor of a
joint embedding."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue
from mmtx.kept import Kept, keep, most_kept
from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.nn.init import initialise
from mmtx.tokens import TokenSet


class PatchDecoder(nn.Module):
    """A stack over all tokens of the set, of which those that were left out are one learned vector (He et al. 2021,
    arXiv 2111.06377, section 3).

    Its positions are its own: those of the stack's scheme, and a vector for each prefix token (CLS); and its type
    embeddings, where the set has several names. Who attends to whom is as in the set.

    Args:
        stack: of any width.
        model: whose backbone's states it reads.
        numbers: ``{name: size}``, what is predicted of each token of a name.
    """

    roles = {"mask": "token", "types.*": "embedding", "prefixes.*": "position", "heads.*.weight": "head"}

    def __init__(self, stack: Backbone, model: MultimodalTransformer, numbers: Mapping[str, int]) -> None:
        super().__init__()
        check_stack(stack, model, numbers)
        dim, std, tokenizers = stack.dim, stack.init_std, {name: model.tokenizer(name) for name in model.decoded}
        self.stack, self.embed = stack, nn.Linear(model.backbone.dim, dim)
        self.mask = nn.Parameter(torch.empty(dim).normal_(std=std))
        absolute = stack.positions.absolute
        placed = {name: each for name, each in tokenizers.items() if absolute is not None and each.extent}
        self._axes = {name: len(each.extent) for name, each in placed.items()}
        self.positions = nn.ModuleDict({name: absolute(each.extent, dim) for name, each in placed.items() if absolute})
        prefixes = {name: each.num_summaries + each.num_registers for name, each in tokenizers.items()}
        self.prefixes = nn.ParameterDict({name: torch.zeros(count, dim) for name, count in prefixes.items() if count})
        several = tokenizers if len(tokenizers) > 1 else ()
        self.types = nn.ParameterDict({name: torch.empty(dim).normal_(std=std) for name in several})
        self.heads = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in numbers.items()})
        for part in (self.embed, self.positions, self.heads):
            initialise(part, std=std)

    def forward(
        self,
        whole: TokenSet,
        kept: Kept,
        states: Float[Tensor, "B m D"],
        within: Mapping[str, Bool[Tensor, "B n"]] | None = None,
    ) -> dict[str, Tensor]:
        """``{name: (B, n, numbers)}`` of all content tokens of each name that is predicted.

        Args:
            whole: the set that the tokens were taken from.
            kept: of it.
            states: the backbone's output at what was kept.
            within: ``{name: (B, n)}``, the content tokens that the stack has; what is given of others means nothing.
                None: all.
        """
        content, place = kept.spread(self.embed(states), self.mask, whole.content.shape[1]), self._place(whole)
        if within is None:
            hidden = self.stack(content + place, whole.connectivity)
        else:
            hidden = self._hidden_within(replace(whole, content=content, place=place), within)
        spans = {name: whole.spans[name] for name in self.heads if name in whole.spans}
        return {name: self.heads[name](hidden[:, span.content_start : span.stop]) for name, span in spans.items()}

    def _hidden_within(self, whole: TokenSet, within: Mapping[str, Bool[Tensor, "B n"]]) -> Float[Tensor, "B N dim"]:
        left_out, most = {}, {}
        for name, mask in within.items():
            left_out[name], most[name] = ~mask, most_kept(mask)
        part = keep(whole, left_out, most, ragged=True)
        hidden = self.stack(part.token_set.content + part.token_set.place, part.token_set.connectivity)
        return part.spread(hidden, torch.zeros_like(self.mask), whole.content.shape[1])

    def _place(self, whole: TokenSet) -> Float[Tensor, "1 N D"]:
        parts = []
        for name, span in whole.spans.items():
            axes = self._axes.get(name, 0)
            rows = whole.connectivity.position[0, span.content_start : span.stop, 1 : 1 + axes]
            content = self.positions[name](rows) if axes else self.mask.new_zeros(len(rows), self.mask.shape[0])
            prefix = [self.prefixes[name]] if name in self.prefixes else []
            place = torch.cat([*prefix, content])
            parts.append(place + self.types[name] if name in self.types else place)
        return torch.cat(parts)[None]


def check_stack(stack: Backbone, model: MultimodalTransformer, names: Mapping[str, int]) -> None:
    """Raises InvalidValue for a stack that cannot be laid over the set."""
    if stack.base_width is not None or model.backbone.base_width is not None:
        problem = "is a width of its own, and backbone.base_width scales those of one stack"
        raise InvalidValue("decoder.dim", stack.dim, problem, "backbone.base_width=null")
    if stack.needs_time_order:
        mixers = ", ".join(sorted({type(mixer).__name__ for mixer in stack.mixers.values()}))
        raise InvalidValue("decoder.attention", mixers, "reads tokens one after the other, and here they are a set")
    for key, each in (("decoder.positions.random_range", stack), ("decoder, with backbone.positions", model.backbone)):
        if each.positions.random_range is not None:
            raise InvalidValue(
                key, each.positions.random_range, "draws positions, which two stacks would share", "null"
            )
    if stack.needs_index and not model.backbone.needs_index:
        problem = "reads the index of tokens, which those of this set do not have"
        raise InvalidValue("decoder.positions.rotary.axes", "[index]", problem, "[time,row,column]")
    if stack.positions.bias is None and "time" not in stack.rotary_axes and "index" not in stack.rotary_axes:
        _check_places(model, names)


def _check_places(model: MultimodalTransformer, names: Mapping[str, int]) -> None:
    for name in names:
        tokenizer = model.tokenizer(name)
        count = tokenizer.max_tokens - tokenizer.num_summaries - tokenizer.num_registers
        if count > math.prod(tokenizer.extent):
            problem = f"cannot tell the steps of '{name}' apart: places are those within a step"
            change = "backbone/positions@objective.masked_autoencoder.decoder.positions=rotary"
            raise InvalidValue("decoder.positions", "absolute", problem, change)
