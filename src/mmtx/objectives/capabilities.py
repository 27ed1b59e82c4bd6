"""What an objective may offer besides its loss: a method that is there, or is not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.rollouts import Planner
from mmtx.decoding.sampling import Sampling
from mmtx.decoding.step_decoder import Actor
from mmtx.environment import Playable
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Score
from mmtx.objectives.judged_picture import JudgedPicture
from mmtx.tokens import HiddenStates, TokenSet


@runtime_checkable
class Prepares(Protocol):
    """Changes a batch before anything of it is counted or computed: noise, masks, roll-outs."""

    def prepare(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch that `count` and `forward` are given.

        Args:
            model: as it is before the step; nothing of this learns.
            batch: as the data have it.
            generator: on the batch's device; in training a function of seed, step and rank, in evaluation the same for
                every batch, every time.
        """


@runtime_checkable
class ScoresStates(Protocol):
    """Is scored by hidden states of the names of the set as they are, whoever has computed them: those of a pass in
    which `LaysCopies` has more, where there is one. It has the batch as the data have it, unless it lays them itself.
    """

    def score_of(self, model: MultimodalTransformer, states: HiddenStates, batch: Batch) -> Score:
        """What `Objective.forward` gives.

        Args:
            model: that has computed them.
            states: of all names.
            batch: as in `Objective.forward`.
        """


@runtime_checkable
class LaysCopies(ScoresStates, Protocol):
    """Lays private copies beside all names of the set, whose hidden states are the same without them."""

    def lay(self, model: MultimodalTransformer, batch: Batch) -> TokenSet:
        """The set, of a batch as it was prepared."""


@runtime_checkable
class Fits(Protocol):
    """Fits something to the training part of the data before the first step of a run: the mean of its target, how
    frequent classes are. What it finds are buffers, so that checkpoints hold it; a run that continues has them from
    there.

    Attributes:
        fitted_names: what of the data it reads; empty where it fits nothing.
    """

    fitted_names: tuple[str, ...]

    def fit(self, batches: Iterable[Batch]) -> None:
        """Args:
        batches: every training sample once, on the host, with the names that it reads.
        """


@runtime_checkable
class Predicts(Protocol):
    """Predicts something of every sample, for ``mmtx predict``. Of an objective without this, the table has the texts
    of its `examples`.

    Attributes:
        columns: ``{column: type}``: str, int, float, or lists of one of them, such as ``list[list[float]]``. What is
            predicted is ``predicted``, what the data has is ``truth``, where there are such.
    """

    @property
    def columns(self) -> Mapping[str, Any]: ...

    def predictions(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Sequence[Any]]:
        """The values of all columns, one for each sample; None where a sample has none.

        Args:
            model: in eval mode.
            batch: as in `Objective.forward`. What is to be predicted may be absent.
        """


@runtime_checkable
class Exports(Protocol):
    """Computes what a program of its run gives (``mmtx export --format onnx``)."""

    def outputs(self, model: MultimodalTransformer, batch: Batch) -> Mapping[str, Tensor]:
        """``{name: tensor}``, with an axis of samples first. What is computed is recorded once, and repeated for other
        values, lengths and numbers of samples: no value is read on the host, and a size is ``x.shape[1]``, as
        ``len(x)`` and ``int(...)`` would make it a number.

        Args:
            model: in eval mode.
            batch: the names of the set alone: nothing that is to be predicted, unless the set has it.
        """


@runtime_checkable
class Writes(Protocol):
    """Writes a text for every sample, from the rest of it.

    ``mmtx generate`` offers it as transcripts of sound and as texts from other inputs. Keyword-only arguments, each
    with a line in the docstring's ``Args``, are options of the command.

    Attributes:
        writes: the name that it writes, which is no input then.
    """

    writes: str

    def write(self, model: MultimodalTransformer, batch: Batch, **options: Any) -> list[str]: ...


@runtime_checkable
class Generates(Protocol):
    """Generates in its own way, given the rest of a sample; ``mmtx generate`` prints what it returns.

    Options as in `Writes`; the first line of the docstring describes it in the command's help.

    Attributes:
        writes: the name that it generates, which is no input then; None: of several, and a sample of all is given.
    """

    writes: str | None

    def generate(self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, **options: Any) -> str:
        """Args:
        model: in eval mode.
        batch: one sample without what is generated; empty where the set has nothing else.
        generator: on the device of model and batch, seeded by the command's ``seed``.
        """


@runtime_checkable
class DrawsCodes(Protocol):
    """Draws a picture, a film or a sound in codes for every sample, given the rest of it, where it writes codes;
    ``mmtx generate`` and judges decode them.

    Options as in `Writes`.

    Attributes:
        writes: the name of the codes, which is no input then.
    """

    writes: str | None

    def draw_codes(
        self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, count: int, **options: Any
    ) -> Int[Tensor, "B n"]:
        """The codes of each, as many as the longest of the data has, without the mark that begins them.

        Args:
            model: in eval mode.
            batch: samples; what they have of the codes is not read.
            generator: on the device of model and batch.
            count: of samples, which an empty batch does not have.
        """


@runtime_checkable
class Makes(Protocol):
    """Makes what it writes, a picture or a sound, for every sample, given the rest of it. ``mmtx generate`` has it in a
    file, and judges read it.

    Options as in `Writes`.

    Attributes:
        writes: the name of what is made, which is no input then; None: of what is made, a sample is given, too.
        reads: names that are made; of several, no file can hold them.
        made_field: ``pixels``, ``waveform``, or what else its numbers are.
    """

    writes: str | None
    reads: tuple[str, ...]

    @property
    def made_field(self) -> str: ...

    def make(
        self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, count: int, **options: Any
    ) -> Shaped[Tensor, "B ..."]:
        """The field of each sample: pixels of 0..255, whole waveforms.

        Args:
            model: in eval mode.
            batch: samples; what they have of the name is not read.
            generator: on the device of model and batch.
            count: of samples, which an empty batch does not have.
        """


@runtime_checkable
class ContinuesFilms(Protocol):
    """Makes the frames of a film after those that are given.

    Options as in `Writes`.

    Attributes:
        name: of the films.
        given: frames of a film of the data, from which it goes on.
    """

    name: str
    given: int

    def continue_film(
        self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, **options: Any
    ) -> Float[Tensor, "B T C height width"]:
        """Whole films, in the units of the data.

        Args:
            model: in eval mode.
            batch: samples with the frames that are given.
            generator: on the device of model and batch.
        """


@runtime_checkable
class Continues(Protocol):
    """Continues texts id by id, whatever is in them, so that its speed can be measured."""

    def continued(self, model: MultimodalTransformer, batch: Batch) -> list[list[int]]:
        """The ids that are written behind the first of each text, greedily, until all are as long as in the batch. None
        ends its text.

        Args:
            model: in eval mode.
            batch: as in `Objective.forward`.
        """


@runtime_checkable
class Answers(Protocol):
    """Goes on from the ids of a conversation: ``mmtx generate RUN messages=``.

    Options as in `Writes`.

    Attributes:
        writes: the name that it goes on with, which is no input then.
    """

    writes: str

    def answer(
        self, model: MultimodalTransformer, batch: Batch, generator: torch.Generator, ids: Sequence[int], **options: Any
    ) -> str:
        """Args:
        model: in eval mode.
        batch: one sample without the text; empty where the set has nothing else.
        generator: on the device of model and batch, seeded by the command's ``seed``.
        ids: of the conversation, up to where its next turn begins.
        """


@runtime_checkable
class Acts(Actor, Protocol):
    """Acts in the environment of its data, in evaluations and for ``mmtx generate``.

    Attributes:
        num_episodes: of each split, ``val`` and ``test``.
        target_returns: to act for; None: the best of the data.
    """

    num_episodes: Mapping[str, int]
    target_returns: Sequence[float] | None


@runtime_checkable
class Plans(Planner, Protocol):
    """The same, by passes of its own.

    Attributes:
        num_episodes: of each split, ``val`` and ``test``.
        target_returns: to act for; None: the best of the data.
    """

    num_episodes: Mapping[str, int]
    target_returns: Sequence[float] | None


@runtime_checkable
class Draws(Acts, Protocol):
    """Acts by drawing from scores, as options of ``mmtx generate`` may have it.

    Attributes:
        sampling: how it draws; None: its actions are no classes.
    """

    sampling: Sampling | None


@runtime_checkable
class LearnsByActing(Protocol):
    """Acts in the environment of its data in training, and learns from that."""

    action: str

    def play_in(self, part: str, source: Playable) -> None:
        """Gives it a dataset in whose environment it may act.

        Args:
            part: of a mixture; empty where the data is no mixture.
            source: the dataset.

        Raises:
            UserError: the dataset has no environment.
        """


@runtime_checkable
class IsJudged(Protocol):
    """Learns from what other runs make of its pictures."""

    @property
    def judged(self) -> Mapping[str, JudgedPicture]:
        """Its rewards by a judge, by name."""


@runtime_checkable
class Shows(Protocol):
    """Shows predictions in files of its own, where `show_examples` would not do."""

    def show(self, model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path) -> list[Path]:
        """Writes files, and returns those that loggers are to show.

        Args:
            model: in eval mode.
            batch: what the examples were made from.
            examples: one for each sample.
            stem: ``samples/<objective>_step<step>``, to which names of files add a suffix: .jsonl, .png, .gif.
        """


@runtime_checkable
class Plots(Protocol):
    """Draws many predictions in one picture, beside the few that `examples` shows."""

    def plot(self, model: MultimodalTransformer, batch: Batch, path: Path) -> None:
        """Args:
        model: in eval mode.
        batch: the first whole one of an evaluation.
        path: of the picture.
        """


@runtime_checkable
class TiesHead(Protocol):
    """Scores the ids of a vocabulary by the vectors of a tokenizer, or may do so."""

    def tied_vectors(self, model: MultimodalTransformer) -> Tensor | None:
        """The vectors, ``(V, D)``; None: it has a matrix of its own."""
