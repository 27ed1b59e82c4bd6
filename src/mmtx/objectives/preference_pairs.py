"""Pairs of texts of which one is preferred: two names of the data, of which the set has the first."""

from collections.abc import Mapping

from jaxtyping import Bool, Int
from torch import Tensor

from mmtx.batch import Batch, Spec, Vocabulary
from mmtx.errors import InvalidValue
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import required_name, required_spec
from mmtx.objectives.text_head import PREDICTED


class PreferencePairs:
    """Of each sample, the text that is preferred, and another behind the same rest of the set.

    Args:
        specs: what the data declares.
        model: whose set has `text`.
        text: the name of what is preferred.
        rejected: the name of what is not, which the set does not have.

    Raises:
        UserError: the two are no texts of one vocabulary, or a rejected one may be too long for the set.
    """

    def __init__(self, specs: Mapping[str, Spec], model: MultimodalTransformer, text: str, rejected: str) -> None:
        required_name(text, model.names, "modality of the set", "text")
        own, other = required_spec(text, specs, "text"), required_spec(rejected, specs, "rejected")
        if rejected in model.names:
            raise InvalidValue(
                "rejected", rejected, "is in the set, where it would be seen", "leave it out of modality"
            )
        if own.fields.keys() != other.fields.keys() or _state(own.vocabulary) != _state(other.vocabulary):
            problem = (
                f"must hold texts of the same kind and vocabulary as '{text}', as those of a table with one prompt"
            )
            without = f"without a prompt, data.kinds={{{text}: continuation, {rejected}: continuation}}"
            raise InvalidValue("rejected", rejected, problem, without)
        tokenizer, longest = model.tokenizer(text), other.max_length
        if isinstance(tokenizer, Ids) and tokenizer.context < longest:
            key = f"modality.{text}.context"
            problem = f"has up to {longest} ids, more than {key}={tokenizer.context}"
            raise InvalidValue("rejected", rejected, problem, f"{key}={longest}")
        self.text, self.rejected = text, rejected

    def present(self, batch: Batch) -> Bool[Tensor, " B"]:
        """Which samples have both, with something written in each."""
        return (self._written(batch, self.text) > 0) & (self._written(batch, self.rejected) > 0)

    def with_rejected(self, batch: Batch) -> Batch:
        """The batch with the other text in the place of the one that is preferred."""
        host = batch.host_lengths
        return batch.with_name(
            self.text,
            batch[self.rejected],
            batch.lengths[self.rejected],
            batch.full.get(self.rejected, False),
            None if host is None else host[self.rejected],
        )

    def _written(self, batch: Batch, name: str) -> Int[Tensor, " B"]:
        """Ids of each text that are predicted."""
        lengths, chosen = batch.lengths[name], batch[name].get(PREDICTED)
        return (lengths - 1).clamp(min=0) if chosen is None else _real(chosen, lengths)[:, 1:].sum(1)


def _real(chosen: Bool[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B n"]:
    places = chosen.new_ones(chosen.shape[1]).cumsum(0) - 1
    return chosen & (places < lengths[:, None])


def _state(vocabulary: Vocabulary | None) -> object:
    return None if vocabulary is None else (type(vocabulary), vocabulary.state())
