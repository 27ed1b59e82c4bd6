"""``prompts=`` of ``mmtx evaluate``: classes of other data, described to a model that compares texts with the rest."""

from collections.abc import Mapping, Sequence

from mmtx.batch import Spec
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.contrastive import Contrastive
from mmtx.objectives.zero_shot import ZeroShot

NAME = "zero_shot"


def describe_classes(learner: Learner, specs: Mapping[str, Spec], prompts: Sequence[str]) -> str:
    """Gives a learner the objective `ZeroShot`, under its own name, for the classes of some data.

    Returns:
        the name of the set that stands for the descriptions, which the data need not have.

    Raises:
        InvalidValue: the learner compares no text with anything, or the data has not one name with classes.
    """
    contrastive = next((each for each in learner.objectives.values() if isinstance(each, Contrastive)), None)
    texts = {name: learner.specs[name].vocabulary for name in (contrastive.pair if contrastive else ())}
    found = [(name, vocabulary) for name, vocabulary in texts.items() if vocabulary is not None]
    if contrastive is None or len(found) != 1:
        problem = "describe classes, and this run has no objective=[contrastive] of a text and another name"
        raise InvalidValue("prompts", list(prompts), problem)
    labels = [name for name, spec in specs.items() if "class" in spec.fields and spec.class_names]
    if len(labels) != 1:
        problem = f"needs data with one name that has classes; it has {', '.join(specs)}"
        raise InvalidValue("prompts", list(prompts), problem)
    (text, vocabulary), (label,) = found[0], labels
    classes = specs[label].class_names or ()
    learner.objectives[NAME] = ZeroShot(
        contrastive=contrastive, text=text, vocabulary=vocabulary, label=label, classes=classes, prompts=prompts
    ).eval()
    learner.specs = {**learner.specs, label: specs[label]}
    return text
