"""Attention of a packed row segment by segment, without computing scores between samples. Axes as in `kernels`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.attention.kernels import Bias, BiasOf, InParts, Keys, Queries, Rendering, Sinks


@dataclass(frozen=True)
class SegmentGroup:
    """Segments that are computed in one call, since they are equally long.

    Attributes:
        samples: whose segments they are.
        rendering: the mask within each of them.
    """

    samples: tuple[int, ...]
    rendering: Rendering


@dataclass(frozen=True)
class PerSegment:
    """A packed row as one call for all segments of equal length.

    Attributes:
        query_lengths: query tokens of each sample, in the order of the row.
        key_lengths: key tokens of each sample. A sample without any gets the first token of the row under a mask
            that excludes it, so that every parameter stays in the graph.
        groups: every sample with queries, once. A bias has one tensor for each group.
    """

    query_lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]
    groups: tuple[SegmentGroup, ...]

    @torch.compiler.disable
    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        biases = [None] * len(self.groups) if bias is None else bias
        cut = _segments(q, self.query_lengths), _segments(k, self.key_lengths), _segments(v, self.key_lengths)
        out: dict[int, Tensor] = {}
        for group, group_bias in zip(self.groups, biases, strict=True):
            parts = (_stacked([segments[sample] for sample in group.samples]) for segments in cut)
            attended = group.rendering.attend(*parts, bias=group_bias, scale=scale, dropout=dropout, sinks=sinks)
            out.update(zip(group.samples, attended.transpose(1, 2).unbind(), strict=True))
        row = torch.cat([out[sample] for sample in sorted(out)])
        return row[None].transpose(1, 2)

    def bias(self, of: BiasOf, position: Int[Tensor, "1 N 3"]) -> Bias:
        """The bias of positions for each group: one for all segments whose positions agree."""
        segments = position[0].split(self.query_lengths)
        made: list[Bias] = []
        for group in self.groups:
            own = torch.stack([segments[sample] for sample in group.samples])
            shared = own[:1] if bool((own == own[:1]).all()) else own
            rendering = group.rendering
            made.append(rendering.bias(of, shared) if isinstance(rendering, InParts) else of(shared, shared))
        return tuple(made)


def _segments(row: Float[Tensor, "1 heads N E"], lengths: tuple[int, ...]) -> list[Float[Tensor, "heads n E"]]:
    """The segments of a packed row; its first token where a segment is empty."""
    return [segment if segment.shape[1] else row[0, :, :1] for segment in row[0].split(lengths, dim=1)]


def _stacked(segments: list[Float[Tensor, "heads n E"]]) -> Float[Tensor, "k heads n E"]:
    return torch.stack(segments) if len(segments) > 1 else segments[0][None]  # a view costs no copy
