"""The frames of a film, each made out of noise given those before it."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.copies import Copy
from mmtx.decoding.flow import USUAL, Integration, integrate
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.nn.moment_embedding import MomentEmbedding
from mmtx.objectives.flow_numbers import Times, draw_moments
from mmtx.objectives.next_frames import NextFrames


class ForcedFrames(NextFrames):
    """Each frame of a film is made out of noise by a flow, given those before it: `Flow`, with a time of its own for
    each frame (diffusion forcing; Chen et al. 2024, arXiv 2407.01392).

    In training, all frames have some noise, and each is given those before it as noisy as they are. When a film is
    made, frames that are there have none. The model reads the time of a frame from its norms
    (``backbone/norm=adaptive``).

    Args:
        times: of training, see `Flow`.
        num_steps: of Heun's method, by which an evaluation makes frames.
        name, given: see `NextFrames`.
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, Spec],
        model: MultimodalTransformer,
        weight: float,
        name: str,
        given: int,
        times: Times,
        num_steps: int,
    ) -> None:
        super().__init__(specs=specs, model=model, weight=weight, name=name, given=given)
        check_at_least("num_steps", num_steps, 1)
        if not model.backbone.is_adaptive:
            raise InvalidValue("name", name, "has a time for each frame, which norms read", "backbone/norm=adaptive")
        self.times, self.how, self.moment = times, Integration(num_steps), MomentEmbedding(model.backbone.dim)

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with two more fields: the ``moment`` of each frame, and the ``noise`` of each token. The moments of
        a batch are spread evenly."""
        numbers = self.numbers(batch)
        frames = len(batch), batch[self.name]["frames"].shape[1]
        moment = draw_moments(self.times, frames, generator, numbers.device)
        noise = torch.randn(numbers.shape, generator=generator, device=numbers.device, dtype=numbers.dtype)
        return batch.with_values(self.name, moment=moment.to(numbers.dtype), noise=noise)

    def count(self, batch: Batch) -> Int[Tensor, ""]:
        """Numbers of all frames."""
        return batch.lengths[self.name].sum() * self.tokens_of_frame * self.size

    def errors(self, model: MultimodalTransformer, batch: Batch) -> Float[Tensor, "B n"]:
        """Squared errors of the velocity of each token, summed over its numbers; 0 where there is none."""
        data, noise, moment = self.numbers(batch), batch[self.name]["noise"], batch[self.name]["moment"]
        share = moment.repeat_interleave(self.tokens_of_frame, dim=1)[..., None]
        found = self.velocity(model, batch, (1 - share) * noise + share * data, moment)
        errors = (found - (data - noise)).float().square().sum(-1)
        return errors * self.real(batch).repeat_interleave(self.tokens_of_frame, dim=1)

    def velocity(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        mixed: Float[Tensor, "B n k"],
        moment: Float[Tensor, "B T"],
    ) -> Float[Tensor, "B n k"]:
        """The velocity of each number, given the rest of the set and the frames before it.

        Args:
            model: whose set has the film.
            batch: with the rest of the set; of the film itself, only its lengths count.
            mixed: noise and data.
            moment: the time of each frame, in 0..1.
        """
        token_set = model.tokenize(batch, copies={self.name: Copy(self.name, self._numbered.fields_of(mixed))})
        rows = torch.arange(moment.numel(), device=moment.device).view_as(moment)
        of_tokens = {self.name: rows.repeat_interleave(self.tokens_of_frame, dim=1)}
        states = model.run(token_set.conditioned_by_token(self.moment(moment.flatten()), of_tokens))
        return self.projection(states.tokens(self.name)).to(mixed.dtype)

    def next_frame(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        before: Float[Tensor, "B n k"],
        noise: Float[Tensor, "B P k"],
        how: Integration,
    ) -> Float[Tensor, "B P k"]:
        """As `NextFrames.next_frame`, out of noise."""
        given = before.shape[1] // self.tokens_of_frame
        longer = self.cut(batch, torch.cat([before, noise], dim=1))

        def velocity(frame: Float[Tensor, "B K"], time: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
            mixed = torch.cat([before, frame.view_as(noise)], dim=1)
            moment = torch.cat([time.new_ones(len(time), given), time[:, None]], dim=1)
            return self.velocity(model, longer, mixed, moment)[:, -self.tokens_of_frame :].flatten(1)

        return integrate(velocity, noise.flatten(1), how).view_as(noise)

    def noise(self, batch: Batch) -> Float[Tensor, "B n k"]:
        """Of which frames of an evaluation are made: that of a prepared batch, else the same every time."""
        if "noise" in batch[self.name]:
            return batch[self.name]["noise"]
        like = self.numbers(batch)
        generator = torch.Generator(like.device).manual_seed(0)
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)

    def continue_film(
        self,
        model: MultimodalTransformer,
        batch: Batch,
        generator: torch.Generator,
        *,
        length: int | None = None,
        integration: Integration = USUAL,
    ) -> Float[Tensor, "B T C height width"]:
        """Films that go on from their first frames, each out of noise (objective=[forced_frames]).

        Args:
            model: in eval mode.
            batch: samples whose films are to be continued.
            generator: draws the noise.
            length: frames of a film, with those that are given; null: as many as can be
            integration: of the velocity; its fields are options.

        Raises:
            UserError: it cannot have so many.
        """
        return self._continued(model, batch, generator, length, integration)
