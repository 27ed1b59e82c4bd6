"""What can be read off the features of a model, whatever it has learnt: by a linear map, and by nearest neighbours."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue, UserError, check_at_least
from mmtx.learner import Learner
from mmtx.process.stopping import track

Pool = Literal["mean", "summary"]


class Features(NamedTuple):
    """Samples of a split.

    Attributes:
        vectors: ``(N, D)``, of each sample.
        classes: ``(N,)``, the class of each.
    """

    vectors: NDArray[numpy.float64]
    classes: NDArray[numpy.int64]


def check_label(label: object, learner: Learner, specs: dict[str, Spec]) -> str:
    """The name of the classes. Raises InvalidValue where the data has none of that name, or the set shows them."""
    classified = [name for name, spec in specs.items() if "class" in spec.fields and name not in learner.model.names]
    if label not in classified:
        problem = "names no classes of this data beside the set"
        raise InvalidValue("probe", label, problem, f"one of {classified}" if classified else None)
    return str(label)


def probe_features(
    learner: Learner,
    data: DataModule,
    split: str,
    label: str,
    *,
    names: Sequence[str] | None = None,
    pool: Pool = "mean",
    labelled: int | None = None,
    neighbours: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """The accuracy on a split of a logistic regression of the features of the training part, each scaled to variance 1
    there (``probe_accuracy``), and of a vote of the nearest of them by cosine (``neighbours_accuracy``).

    The features of a sample are the mean of the hidden states of each name, or its summary, side by side; nothing of
    the model learns.

    Args:
        learner: in eval mode, on the device to compute on.
        data: with the labels, not augmented.
        split: that is read.
        label: name of the classes.
        names: of the set, whose features are read; by default all but the encoder's
        pool: mean or summary, the class token
        labelled: so many training samples alone, drawn at random; by default all
        neighbours: that vote
        seed: of the draw

    Raises:
        UserError: an option cannot be; a split is empty, or has too few labels.
    """
    read = Reading(learner, label, names or learner.model.decoded, pool)
    check_at_least("probing.neighbours", neighbours, 1)
    train, given = _few(read.features(data, "train"), labelled, seed), read.features(data, split)
    if not len(given.classes) or len(set(train.classes.tolist())) < 2:
        raise UserError(f"probe={label} needs labels in split={split}, and of two classes in the training part")
    return {
        "probe_accuracy": linear_accuracy(train, given),
        "neighbours_accuracy": neighbours_accuracy(train, given, neighbours),
    }


def linear_accuracy(train: Features, given: Features) -> float:
    """That of a logistic regression with a penalty of 1, over features of variance 1 in training."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(probe.fit(train.vectors, train.classes).score(given.vectors, given.classes))


def neighbours_accuracy(train: Features, given: Features, count: int) -> float:
    """That of a vote of so many nearest training samples, or of all where there are fewer."""
    from sklearn.neighbors import KNeighborsClassifier

    voting = KNeighborsClassifier(n_neighbors=min(count, len(train.classes)), metric="cosine")
    return float(voting.fit(train.vectors, train.classes).score(given.vectors, given.classes))


class Reading:
    """Reads features and classes of samples.

    Args:
        learner: in eval mode, on the device to compute on.
        label: name of the classes.
        names: of the set.
        pool: of the tokens of each.

    Raises:
        InvalidValue: a name is none of the set, or has no summary.
    """

    def __init__(self, learner: Learner, label: str, names: Sequence[str], pool: Pool) -> None:
        self.model, self.label, self.names, self.pool = learner.model, label, names, pool
        self.device = next(learner.parameters()).device
        for name in names:
            if name not in self.model.names:
                raise InvalidValue("probing.names", [*names], f"names {name}", f"some of {self.model.names}")
            if pool == "summary" and not self.model.tokenizer(name).num_summaries:
                raise InvalidValue("probing.pool", pool, f"is a token that '{name}' does not have", "mean")

    @torch.no_grad()
    def features(self, data: DataModule, split: str) -> Features:
        """Those of all samples of a split that have the label and one of the names."""
        vectors, classes = [torch.zeros(0, 0)], [torch.zeros(0, dtype=torch.long)]
        for loader in data.eval_loaders(split, rank=0, num_ranks=1).values():
            for batch in (batch for batches in track(loader, f"features, batch of {split}") for batch in batches):
                if all(name in batch for name in (self.label, *self.names)):
                    there = batch.present(self.label) & torch.stack([batch.present(n) for n in self.names]).any(0)
                    vectors.append(self.vectors(batch.to(self.device)).cpu()[there])
                    classes.append(batch[self.label]["class"][there])
        return Features(torch.cat(vectors[1:] or vectors).double().numpy(), torch.cat(classes).numpy())

    def vectors(self, batch: Batch) -> Float[Tensor, "B D"]:
        """Of each sample, what is pooled of each name, side by side."""
        with self.model.sharing():
            return torch.cat([self._pooled(batch, name) for name in self.names], dim=1).float()

    def _pooled(self, batch: Batch, name: str) -> Float[Tensor, "B D"]:
        states = self.model.encode(batch, name)
        if self.pool == "summary":
            return states.summaries(name)[:, 0]
        tokens, lengths = states.tokens(name), states.lengths(name)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        return (tokens * real[..., None]).sum(1) / lengths.clamp(min=1)[:, None]


def _few(features: Features, count: int | None, seed: int) -> Features:
    available = len(features.classes)
    if count is None:
        return features
    if not 1 <= count <= available:
        limit = f"must lie in 1..{available}, the labels of the training part"
        raise InvalidValue("probing.labelled", count, limit, str(available))
    chosen = numpy.random.default_rng(seed).permutation(available)[:count]
    return Features(features.vectors[chosen], features.classes[chosen])
