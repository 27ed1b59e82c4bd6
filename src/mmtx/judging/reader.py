"""A classifier of pictures that judges what another model draws."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.classify import Classify


class Read(NamedTuple):
    """What the judge makes of pictures.

    Attributes:
        classes: the best one of each.
        features: the input of its head.
    """

    classes: Int[Tensor, " B"]
    features: Float[Tensor, "B D"]


class Reader:
    """A learner that classifies pictures alone.

    Args:
        learner: in eval mode.
        place: of its run, for errors.

    Raises:
        InvalidValue: it does not classify pictures, or reads something else beside them.

    Attributes:
        image: name of the pictures.
        label: name of the classes.
        reads: both of them.
    """

    def __init__(self, learner: Learner, place: str) -> None:
        found = [learner.objective(name) for name in learner.objectives]
        classifiers = [each for each in found if isinstance(each, Classify)]
        names = learner.model.names
        if len(classifiers) != 1 or len(names) != 1 or "pixels" not in learner.specs[names[0]].fields:
            problem = (
                f"has the set {', '.join(names)} and the objectives {', '.join(learner.objectives)}; a judge classifies"
            )
            raise InvalidValue("judge", place, f"{problem} pictures alone", "a run of experiment=vit_digits")
        self.learner, self.place, self.classify = learner, place, classifiers[0]
        self.image, self.label = names[0], self.classify.label
        self.reads = self.image, self.label

    def check(self, specs: Mapping[str, Spec]) -> None:
        """Raises InvalidValue unless data has such pictures, with such classes."""
        for name in (self.image, self.label):
            own, theirs = self.learner.specs[name], specs.get(name)
            if theirs is None or dict(own.fields) != dict(theirs.fields) or own.class_names != theirs.class_names:
                problem = f"has learnt another '{name}' than the data of this run {'has' if theirs else 'lack'}"
                raise InvalidValue("judge", self.place, problem)

    def classes(self, pixels: Num[Tensor, "B C height width"]) -> Int[Tensor, " B"]:
        """The best class of each, computed where the pictures lie."""
        self.learner.to(pixels.device)
        return self.read(pixels).classes

    @torch.inference_mode()
    def read(self, pixels: Num[Tensor, "B C height width"]) -> Read:
        """Classes and features of pictures."""
        present = torch.ones(len(pixels), dtype=torch.long, device=pixels.device)
        batch = Batch({self.image: {"pixels": pixels}}, {self.image: present}, {self.image: True})
        features = self.classify.pooled(self.learner.model(batch))
        return Read(self.classify.head(features).argmax(-1), features.float())
