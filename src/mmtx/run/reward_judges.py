"""The judges of rewards (``objective/reward=judged_picture``): other runs, read when a run begins, goes on or is
evaluated."""

from collections.abc import Mapping

from mmtx.batch import Spec
from mmtx.errors import InvalidValue, UserError
from mmtx.judging.reader import Reader
from mmtx.learner import Learner
from mmtx.objectives.capabilities import IsJudged
from mmtx.objectives.judged_picture import JudgedPicture
from mmtx.run.checkpoint_content import load


def give_judges(learner: Learner, specs: Mapping[str, Spec]) -> None:
    """Gives each reward that needs a judge its own, which stays as it is.

    Args:
        learner: of this run.
        specs: of its data.

    Raises:
        InvalidValue: a judge cannot be read, or does not fit the data or the set.
    """
    for name in learner.objectives:
        objective = learner.objective(name)
        for key, reward in (objective.judged if isinstance(objective, IsJudged) else {}).items():
            try:
                reward.judge_by(_reader(reward, learner, specs))
            except InvalidValue as error:
                raise error.under(f"objective.{name}.rewards.{key}") from None


def _reader(reward: JudgedPicture, learner: Learner, specs: Mapping[str, Spec]) -> Reader:
    try:
        judge = load(reward.judge).requires_grad_(False)
    except InvalidValue:
        raise
    except UserError as error:
        raise InvalidValue("judge", reward.judge, f"cannot be read: {error}") from None
    reader = Reader(judge, reward.judge)
    reader.check(specs)
    if reader.label not in learner.model.names:
        problem = f"reads '{reader.label}', which nothing is drawn from: the set is {', '.join(learner.model.names)}"
        raise InvalidValue("judge", reward.judge, problem)
    return reader
