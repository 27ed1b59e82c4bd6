"""Films that are drawn in codes, as one animation."""

from typing import Any

from mmtx.codes.decodes import Decodes, decodes_into
from mmtx.codes.pixels import Films
from mmtx.errors import check_within
from mmtx.generation.made_from import given_batch
from mmtx.generation.out_file import out_file
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import DrawsCodes
from mmtx.objectives.film import write_large

MOST = 64
"""Films of a file."""


def draw_films(
    trained: Trained,
    objective: DrawsCodes,
    *,
    out: str,
    label: str | None = None,
    prompt: str | None = None,
    index: int | None = None,
    count: int = 4,
    **options: Any,
) -> str:
    """Films, given whatever else is in the set, side by side as an animation (data=coded_films).

    Args:
        trained: the model.
        objective: that draws.
        out: the file, a .gif
        label: class of the films, by its name or its number
        prompt: or the text that they are drawn from
        index: or a sample, counted from 0, of the run's test (or validation) data
        count: how many
        options: of the objective.

    Raises:
        UserError: an option cannot be, or nothing is given to draw from.
    """
    check_within("count", count, 1, MOST)
    file, learner = out_file(out, ".gif"), trained.learner
    batch = given_batch(trained, objective.writes, {"label": label, "prompt": prompt, "index": index}, count)
    ids = objective.draw_codes(learner.model, batch, trained.generator(), count, **options)
    vocabulary = learner.specs[objective.writes or ""].vocabulary
    assert isinstance(vocabulary, Decodes) and isinstance(vocabulary.content, Films)
    frames = vocabulary.decoded(ids)[:, : vocabulary.content.shape[0]]
    write_large(file, list(frames.float() / vocabulary.content.scale))
    return f"written: {out}"


def draws_films(learner: Learner, objective: Any) -> bool:
    """Whether what an objective writes are codes of films."""
    spec = learner.specs.get(getattr(objective, "writes", None) or "")
    return spec is not None and decodes_into(spec.vocabulary, Films)
