"""How near a predicted chain is to the true one."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.metric_directions import known
from mmtx.modalities.chain import Chain
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Score, required_name
from mmtx.structure.distances import lddt
from mmtx.structure.superposition import rmsd

DIRECTIONS = known("rmsd", "lddt")

Trace = Float[Tensor, "B n 3"]


def chain_of(name: str, model: MultimodalTransformer) -> Chain:
    """The tokenizer of a chain whose places are predicted.

    Raises:
        ValueError: the set has no such name.
        InvalidValue: it is no chain, or the encoder has it.
    """
    required_name(name, model.names, "modality of the set", "name")
    tokenizer = model.tokenizer(name)
    if not isinstance(tokenizer, Chain):
        chains = ", ".join(each for each in model.names if isinstance(model.tokenizer(each), Chain))
        problem = f"is no chain of residues; there is {chains or 'none'}, which modality=[chain] is"
        raise InvalidValue("name", name, problem)
    if name in model.encoded:
        raise InvalidValue("name", name, "is sent through the encoder; what is predicted is decoded", "encode=[]")
    return tokenizer


def real_residues(batch: Batch, name: str) -> Bool[Tensor, "B n"]:
    lengths = batch.lengths[name]
    return torch.arange(batch[name]["values"].shape[1], device=lengths.device) < lengths[:, None]


def chain_numbers(predicted: Trace, batch: Batch, name: str) -> dict[str, Float[Tensor, " B"]]:
    """``rmsd`` of each chain in Å, after Kabsch's superposition, and its ``lddt`` of Cα atoms."""
    true, real = batch[name]["values"], real_residues(batch, name)
    return {"rmsd": rmsd(predicted.float(), true, real), "lddt": lddt(predicted.float(), true, real)}


def chain_sums(predicted: Trace, batch: Batch, name: str) -> dict[str, tuple[Num[Tensor, ""], Num[Tensor, ""]]]:
    """Both as sums over chains, and the number of chains."""
    present = batch.present(name)
    return {key: ((each * present).sum(), present.sum()) for key, each in chain_numbers(predicted, batch, name).items()}


def means_of(score: Score) -> dict[str, float]:
    return {"loss": score.mean_loss(), **{name: score.ratio(name) for name in DIRECTIONS if name in score.stats}}


COLUMNS = {"rmsd": float, "lddt": float, "trace": list[list[float]]}
"""Of predictions: in Å; a share; the places of all residues in Å."""


def chain_rows(predicted: Trace, batch: Batch, name: str) -> dict[str, list[object]]:
    """The values of `COLUMNS`, and None of samples that have no chain."""
    lengths = batch.lengths[name].tolist()
    numbers = {key: each.tolist() for key, each in chain_numbers(predicted, batch, name).items()}
    traces = [trace[:length] for trace, length in zip(predicted.float().tolist(), lengths, strict=True)]
    values = {**numbers, "trace": traces}
    return {
        key: [value if length else None for value, length in zip(each, lengths, strict=True)]
        for key, each in values.items()
    }


def chain_examples(predicted: Trace, batch: Batch, name: str) -> list[Example]:
    """How near each chain is, in words."""
    rows = chain_rows(predicted, batch, name)
    pairs = zip(rows["rmsd"], rows["lddt"], batch.lengths[name].tolist(), strict=True)
    return [
        Example("" if off is None else f"{off:.2f} Å off, lDDT {kept:.2f}", f"{length} residues" if length else "")
        for off, kept, length in pairs
    ]
