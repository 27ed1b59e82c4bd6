"""Few-shot classification in the context, of tasks that random maps of pictures make (Kirsch et al. 2022, arXiv
2212.04458)."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.algorithmic.nearest import nearest_mean, nearest_neighbour
from mmtx.data.algorithmic.prompts import TEST, TRAIN, VAL, PromptSource
from mmtx.data.base import Source, Split
from mmtx.data.sampler import hash_seed
from mmtx.errors import InvalidValue, check_at_least


class FewShot(PromptSource):
    """Names: ``x``, pictures as vectors of their pixels; ``y``, their labels; and outside of training ``estimates``,
    the labels that the nearest mean and the nearest neighbour of the examples give.

    A prompt has `shots` pictures of each of `ways` classes, shuffled, and one more of any of them. Classes, their
    labels and a map of the pixels are drawn anew for each: a matrix of independent normal numbers, of variance one over
    the number of pixels, or a permutation. Pixels of a picture have mean 0 and variance 1 before it. So labels are
    known from the examples alone.

    Training and validation have all classes but the last `held_out`, and different pictures; the test has those classes
    alone. A sample is a function of (`split_seed`, split, index).

    Args:
        pictures: dataset with names ``image`` and ``label``, and the three splits.
        ways: classes of a prompt.
        shots: examples of each.
        pixel_map: what is drawn for each prompt.
        held_out: classes of the test.
        num_train: training prompts.
        num_val: validation prompts; 0: none.
        num_test: test prompts; 0: none.
        split_seed: of what is drawn.
    """

    def __init__(
        self,
        *,
        pictures: Source,
        ways: int,
        shots: int,
        pixel_map: Literal["projection", "permutation"],
        held_out: int,
        num_train: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        super().__init__(num_train=num_train, num_val=num_val, num_test=num_test)
        check_at_least("ways", ways, 2)
        check_at_least("shots", shots, 1)
        count = pictures.specs["label"].fields["class"].num_classes or 0
        _check_classes(ways, held_out, count)
        self.ways, self.shots, self.seed, self.projects = ways, shots, split_seed, pixel_map == "projection"
        known, others = range(count - held_out), range(count - held_out, count)
        splits = {TRAIN: (pictures.train(), known), VAL: (pictures.val(), known), TEST: (pictures.test(), others)}
        self.classes = {key: _by_class(split, own) for key, (split, own) in splits.items() if self.sizes[key]}
        for key, classes in self.classes.items():
            fewest = min(map(len, classes))
            if fewest <= shots:
                part = ("training", "validation", "test")[key]
                raise InvalidValue(
                    "shots", shots, f"and one more are more than the {fewest} pictures of a {part} class"
                )
        self.num_pixels = self.classes[TRAIN][0].shape[1]

    @property
    def specs(self) -> Mapping[str, Spec]:
        most = self.ways * self.shots + 1
        label = Field((None,), torch.long, num_classes=self.ways, max_length=most)
        return {
            "x": Spec({"values": Field((None, self.num_pixels), torch.float32, max_length=most)}),
            "y": Spec({"class": label}),
            "estimates": Spec({"nearest_mean": label, "nearest_neighbour": label}),
        }

    def draw(self, split: int, index: int) -> Sample:
        generator, classes = torch.Generator().manual_seed(hash_seed(self.seed, split, index)), self.classes[split]
        chosen = torch.randperm(len(classes), generator=generator)[: self.ways].tolist()
        last = int(torch.randint(self.ways, (), generator=generator))
        labels = torch.arange(self.ways).repeat_interleave(self.shots)
        labels = torch.cat([labels[torch.randperm(len(labels), generator=generator)], torch.tensor([last])])
        x = torch.empty(len(labels), self.num_pixels)
        for label, number in enumerate(chosen):
            places, own = (labels == label).nonzero()[:, 0], classes[number]
            x[places] = own[torch.randperm(len(own), generator=generator)[: len(places)]]
        return {"x": {"values": self._mapped(x, generator)}, "y": {"class": labels}}

    def answers(self, prompts: Sample) -> dict[str, Int64[Tensor, "N n"]]:
        x, y = prompts["x"]["values"], prompts["y"]["class"]
        return {"nearest_mean": nearest_mean(x, y, self.ways), "nearest_neighbour": nearest_neighbour(x, y)}

    def _mapped(self, x: Float[Tensor, "n pixels"], generator: torch.Generator) -> Float[Tensor, "n pixels"]:
        size = self.num_pixels
        if not self.projects:
            return x[:, torch.randperm(size, generator=generator)]
        return x @ torch.randn(size, size, generator=generator) / size**0.5


def _check_classes(ways: int, held_out: int, count: int) -> None:
    """Raises InvalidValue where a split has too few classes."""
    if not ways <= held_out <= count - ways:
        problem = f"leaves less than ways={ways} of {count} classes to the test, or to training"
        nearest = None if 2 * ways > count else f"{ways} to {count - ways}"
        raise InvalidValue("held_out", held_out, problem, nearest)


def _by_class(split: Split | None, classes: range) -> list[Float[Tensor, "pictures pixels"]]:
    """The pictures of each class, as vectors of mean 0 and variance 1; none of a split that is missing."""
    samples = [] if split is None else [split[index] for index in range(len(split))]
    found: dict[int, list[Tensor]] = {number: [] for number in classes}
    for sample in samples:
        own = found.get(int(sample["label"]["class"]))
        if own is not None:
            pixels = sample["image"]["pixels"].flatten().float()
            own.append((pixels - pixels.mean()) / pixels.std(correction=0).clamp(min=1e-6))
    return [torch.stack(own) if own else torch.empty(0, 0) for own in found.values()]
