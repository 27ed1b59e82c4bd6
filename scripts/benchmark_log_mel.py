"""What log-mel spectrograms cost: a batch of 32 ten-second clips by ours, against openai-whisper clip by clip.

python scripts/benchmark_log_mel.py [--pairs 31] [--threads 2]
"""

from __future__ import annotations

import argparse

import torch
import whisper
from interleaved import compare, report

from mmtx.modalities.log_mel import LogMel

CLIPS, SAMPLES = 32, 160_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    waveform, lengths = 0.1 * torch.randn(CLIPS, SAMPLES, generator=generator), torch.full((CLIPS,), SAMPLES)
    spectrogram = LogMel(
        sample_rate_hz=16_000,
        n_fft=400,
        hop_length=160,
        n_mels=80,
        dynamic_range=8.0,
        centre=False,
        mean=-4.0,
        std=4.0,
    )

    def ours() -> torch.Tensor:
        return spectrogram(waveform, lengths)

    def theirs() -> torch.Tensor:
        return torch.stack([whisper.log_mel_spectrogram(clip, 80).T for clip in waveform])

    difference = float((ours() - theirs()).abs().max())
    print(f"torch {torch.__version__}, {arguments.threads} threads; spectrograms differ by {difference:.1e}")
    assert difference < 1e-4, "no ratio without equal outputs"
    report("ours, 32 clips at once / openai-whisper, clip by clip", compare(ours, theirs, arguments.pairs))
    report("ours / ours", compare(ours, ours, arguments.pairs))


if __name__ == "__main__":
    main()
