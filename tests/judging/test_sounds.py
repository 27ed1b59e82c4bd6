"""What can judge sounds, and which."""

from __future__ import annotations

from dataclasses import replace

import pytest
from learners import SPECS, batch_of_samples, made_learner

from mmtx.batch import Batch, Spec
from mmtx.errors import InvalidValue
from mmtx.judging.sounds import Recogniser


def test_a_recogniser_writes_what_its_objective_writes() -> None:
    learner = made_learner("ctc and seq2seq").eval()
    judge = Recogniser(learner, "runs/judge")
    batch = batch_of_samples(0, 1, 2)
    sounds, lengths = batch["audio"]["waveform"], batch.lengths["audio"]
    alone = Batch({"audio": {"waveform": sounds}}, {"audio": lengths}, {"audio": False})
    assert judge.read(sounds, lengths) == learner.objective("ctc").write(learner.model, alone)  # type: ignore[operator]
    assert judge.reads == ("audio", "text")
    judge.check(SPECS)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"audio": replace(SPECS["audio"], sample_rate_hz=1600)}, "of 800 Hz, trim_db=None, and .* has 1600 Hz"),
        ({"audio": replace(SPECS["audio"], trim_db=30.0)}, "and the data of this run has 800 Hz, trim_db=30.0"),
        ({"text": replace(SPECS["text"], vocabulary=None)}, "writes 'text', which the data of this run lack"),
    ],
)
def test_data_that_a_recogniser_has_not_learnt(changed: dict[str, Spec], problem: str) -> None:
    with pytest.raises(InvalidValue, match=f"judge=runs/judge .*{problem}"):
        Recogniser(made_learner("ctc and seq2seq"), "runs/judge").check({**SPECS, **changed})


@pytest.mark.parametrize("kind", ["classify", "ctc"])  # the second from pictures beside sounds
def test_what_writes_nothing_of_sounds_alone_is_no_recogniser(kind: str) -> None:
    with pytest.raises(InvalidValue, match="a judge of sounds writes the text of sounds alone"):
        Recogniser(made_learner(kind), "runs/judge")
