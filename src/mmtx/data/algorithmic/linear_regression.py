"""Linear regression in the context (Garg et al. 2022, arXiv 2208.01066; Raventos et al. 2023, arXiv 2306.15063)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.algorithmic.growing_order import GrowingOrder
from mmtx.data.algorithmic.linear_estimators import gradient_step, least_squares, pool_posterior, ridge
from mmtx.data.algorithmic.prompts import TEST, TRAIN, PromptSource
from mmtx.data.sampler import Stream, hash_seed
from mmtx.errors import InvalidValue, check_at_least, check_within

POOL = 3
"""What random numbers are for, beside the splits."""


@dataclass(frozen=True)
class PromptCurriculum:
    """Prompts that grow over the first samples of training, to all dims and examples.

    Args:
        samples: over which they grow, evenly; 0: none does.
        dims: of the first prompts; inputs beyond them are 0.
        examples: of the first prompts.
    """

    samples: int
    dims: int
    examples: int

    def size(self, index: int, dims: int, examples: int) -> tuple[int, int]:
        """Dims and examples of a sample."""
        if index >= self.samples:
            return dims, examples
        now_dims, now_examples = (
            first + (last - first + 1) * index // self.samples
            for first, last in ((self.dims, dims), (self.examples, examples))
        )
        return now_dims, now_examples


class LinearRegression(PromptSource):
    """Names: ``x``, inputs, ``(examples + 1, dims)``; ``y``, answers ``w'x`` with noise, one a step; and outside of
    training ``estimates``, the answers of exact estimators from the examples before each step.

    Inputs and weights are standard normal numbers. Training and validation take tasks out of the pool, where there is
    one, and the test always has fresh ones. A sample is a function of (`split_seed`, split, index).
    Estimators are ``least_squares``; ``ridge``, the best of fresh dense tasks, where there is noise;
    ``gradient_step``; and ``pool``, the best for tasks of the pool, where there are both: `linear_estimators`.

    Args:
        dims: of an input.
        examples: before the last input of a prompt.
        noise_variance: of the answers.
        nonzero: weights of a task that are not 0, at random places; null: all.
        tasks: in the pool; null: each prompt has a task of its own.
        curriculum: of training.
        num_train: training prompts.
        num_val: validation prompts; 0: none.
        num_test: test prompts; 0: none.
        split_seed: of what is drawn.
    """

    def __init__(
        self,
        *,
        dims: int,
        examples: int,
        noise_variance: float,
        nonzero: int | None,
        tasks: int | None,
        curriculum: PromptCurriculum,
        num_train: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        super().__init__(num_train=num_train, num_val=num_val, num_test=num_test)
        for key, value, least in (("dims", dims, 1), ("examples", examples, 1), ("tasks", tasks, 1)):
            check_at_least(key, value, least)
        check_at_least("noise_variance", noise_variance, 0)
        if nonzero is not None:
            check_within("nonzero", nonzero, 1, dims)
        _check_curriculum(curriculum, dims, examples, num_train)
        self.dims, self.examples, self.noise_variance, self.seed = dims, examples, noise_variance, split_seed
        self.nonzero, self.curriculum = nonzero or dims, curriculum
        self.pool = None if tasks is None else torch.stack([self._task(POOL, index) for index in range(tasks)])

    @property
    def specs(self) -> Mapping[str, Spec]:
        most = self.examples + 1
        answers = Field((None, 1), torch.float32, max_length=most)
        return {
            "x": Spec({"values": Field((None, self.dims), torch.float32, max_length=most)}),
            "y": Spec({"values": answers}),
            "estimates": Spec(dict.fromkeys(self.estimators, answers)),
        }

    @property
    def estimators(self) -> tuple[str, ...]:
        """The names of those that there are."""
        noisy = ("ridge", "pool") if self.pool is not None else ("ridge",)
        return ("least_squares", "gradient_step", *(noisy if self.noise_variance else ()))

    def order(self, num_samples: int, seed: int) -> Stream:
        return GrowingOrder(num_samples, self.curriculum.samples, seed)

    def draw(self, split: int, index: int) -> Sample:
        dims, examples = self.dims, self.examples
        if split == TRAIN:
            dims, examples = self.curriculum.size(index, dims, examples)
        generator = torch.Generator().manual_seed(hash_seed(self.seed, split, index))
        x = torch.randn(examples + 1, self.dims, generator=generator)
        x[:, dims:] = 0
        noise = torch.randn(examples + 1, generator=generator) * self.noise_variance**0.5
        if self.pool is None or split == TEST:
            weights = self._drawn_task(generator)
        else:
            weights = self.pool[int(torch.randint(len(self.pool), (), generator=generator))]
        return {"x": {"values": x}, "y": {"values": (x @ weights + noise)[:, None]}}

    def answers(self, prompts: Sample) -> dict[str, Float[Tensor, "N n 1"]]:
        x, y = prompts["x"]["values"], prompts["y"]["values"][..., 0]
        penalty = self.noise_variance * self.dims / self.nonzero
        found = {"least_squares": least_squares(x, y), "gradient_step": gradient_step(x, y, penalty)}
        if self.noise_variance:
            found["ridge"] = ridge(x, y, penalty)
            if self.pool is not None:
                found["pool"] = pool_posterior(x, y, self.pool, self.noise_variance)
        return {name: own.float()[..., None] for name, own in found.items()}

    def _task(self, split: int, index: int) -> Float[Tensor, " dims"]:
        return self._drawn_task(torch.Generator().manual_seed(hash_seed(self.seed, split, index)))

    def _drawn_task(self, generator: torch.Generator) -> Float[Tensor, " dims"]:
        """Weights of a task."""
        weights = torch.randn(self.dims, generator=generator)
        if self.nonzero < self.dims:
            weights[torch.randperm(self.dims, generator=generator)[self.nonzero :]] = 0
        return weights


def _check_curriculum(curriculum: PromptCurriculum, dims: int, examples: int, num_train: int) -> None:
    """Raises InvalidValue where prompts cannot grow so."""
    limits = {"samples": (0, num_train - 1), "dims": (1, dims), "examples": (1, examples)}
    for key, (least, most) in limits.items() if curriculum.samples else ():
        try:
            check_within(key, getattr(curriculum, key), least, most)
        except InvalidValue as error:
            raise error.under("curriculum") from None
