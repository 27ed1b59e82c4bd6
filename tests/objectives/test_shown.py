"""What is drawn and kept of a batch's samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from builders import audio_batch
from learners import made_learner

from mmtx.objectives.shown import write_sounds


def test_sounds_are_kept_as_they_were_heard(tmp_path: Path) -> None:
    learner, batch = made_learner("ctc"), audio_batch([80, 0, 40])
    write_sounds(learner.model, batch, tmp_path / "a_step000001")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a_step000001_0.wav", "a_step000001_2.wav"]
    waveform, rate = soundfile.read(tmp_path / "a_step000001_2.wav")
    assert rate == 800 and waveform == pytest.approx(batch["audio"]["waveform"][2, :40].numpy(), abs=1e-4)
