"""Residues of a protein's chain: what each is, where it is, and which of them touch."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer, required_field
from mmtx.nn.roles import Role
from mmtx.tokens import Tokens


class Chain(Tokenizer):
    """A token for each residue, from its kind and the place of its Cα atom; all attend to each other.

    Reads the fields ``class``, ``(residues,)``, ``values``, ``(residues, 3)`` in Å, and ``contacts``, ``(residues,
    longest)``, how likely each residue touches every other: that is `Tokens.pairs`. Objectives that predict places hide
    them (`fold`), or mix them with noise (`fold_by_flow`).

    Args:
        sequence: tokens have the kinds of their residues.
        contacts: attention may read the contacts (``backbone/attention=pair_bias``).
        angstroms: the unit in which tokens have places, of about the size of a chain.
    """

    numbered, is_scaled, numbers_per_token = "values", True, 3
    roles: Mapping[str, Role] = {"projection.weight": "input", "kinds.weight": "embedding"}

    def __init__(
        self, *, spec: Spec, dim: int, clock: str | None, sequence: bool, contacts: bool, angstroms: float
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        for field in ("values", *["class"] * sequence, *["contacts"] * contacts):
            required_field(spec, field, "chain")
        if (shape := spec.fields["values"].shape) != (None, 3):
            raise ValueError(f"a tokenizer 'chain' reads any number of places (x, y, z); the data's values are {shape}")
        if not angstroms > 0:
            raise InvalidValue("angstroms", angstroms, "must be above 0")
        self.has_pairs, self.angstroms = contacts, angstroms
        self.projection = nn.Linear(3, dim)
        self.kinds = nn.Embedding(spec.fields["class"].num_classes or 1, dim) if sequence else None
        self.coded = ("kinds.weight",) if sequence else ()

    @property
    def extent(self) -> tuple[int, ...]:
        return (self.spec.max_length,)

    @property
    def max_tokens(self) -> int:
        return self.spec.max_length

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return lengths

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        content = self.projection(self.numbers(fields, lengths))
        if self.kinds is not None:
            content = content + self.kinds(fields["class"])
        index = torch.arange(content.shape[1], device=content.device)
        return Tokens(
            content=content,
            coordinates=index[:, None],
            time=torch.zeros_like(index)[None],
            lengths=lengths,
            num_items=1,
            full=full,
            pairs=self.pairs(fields, lengths) if self.has_pairs else None,
        )

    def pairs(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n n"]:
        """How likely two residues touch."""
        contacts = fields["contacts"]
        count = contacts.shape[1]
        real = torch.arange(count, device=lengths.device) < lengths[:, None]
        return contacts[:, :, :count] * (real[:, :, None] & real[:, None])

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        return (fields["values"] / self.angstroms).to(self.projection.weight.dtype)

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        return {"values": numbers * self.angstroms}
