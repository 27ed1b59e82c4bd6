"""What the recipes show in the gallery: runs that are short enough to be made, and what is kept of each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "docs" / "gallery"
RUNS = FOLDER.parents[1] / "build" / "gallery"
MOST_BYTES, WIDTHS, COLOURS, LINES = 60_000, (1000, 800, 650, 500), 96, 4
"""Of a picture: its size, widths that are tried, colours; of texts, how many."""


class Example(NamedTuple):
    """What a recipe shows.

    Attributes:
        file: how its name begins, in ``samples/`` of the run.
        words: overrides of its run.
    """

    file: str
    words: str = ""


ACTS = "objective.action.val_episodes=2 objective.action.test_episodes=5"
EXAMPLES = {
    "quickstart": Example("classify"),
    "av_digits": Example("attention_shares"),
    "clip_digits": Example("contrastive", "trainer.max_steps=300"),
    "driving": Example("attention_shares"),
    "vit_digits": Example("classify"),
    "mae_digits": Example("masked_autoencoder"),
    "t5_spans": Example(
        "span_corruption", "data.source={data}/tinyshakespeare/input.txt data.target={data}/tinyshakespeare/input.txt"
    ),
    "moving_digits": Example("classify"),
    "next_digits": Example("next_frames"),
    "label_digits": Example("classify", "trainer.max_epochs=null trainer.max_steps=400"),
    "vit_mnist": Example("classify", "data.path={data}/mnist trainer.max_steps=400"),
    "spell_digits": Example("attention_shares"),
    "caption_digits": Example("seq2seq"),
    "vision_language": Example("seq2seq", "trainer.max_steps=400"),
    "speech_language": Example("seq2seq"),
    "whisper_digits": Example("seq2seq", "trainer.max_steps=300"),
    "ctc_digits": Example("ctc", "trainer.max_steps=600"),
    "whisper_fsdd": Example("seq2seq", "data.path={data}/fsdd trainer.max_steps=500"),
    "audio_classification": Example("classify", "data.path={data}/fsdd trainer.max_steps=300"),
    "gpt_python": Example("next_token", "trainer.max_steps=200"),
    "gpt_shakespeare": Example("next_token", "data.path={data}/tinyshakespeare/input.txt trainer.max_steps=300"),
    "stream_shakespeare": Example("streamed", "data.path={data}/tinyshakespeare/input.txt"),
    "g2p": Example("seq2seq", "trainer.max_steps=600"),
    "dt_cartpole": Example("target_return", f"{ACTS} trainer.val_every_steps=2000"),
    "bc_cartpole": Example("episode", f"{ACTS} trainer.max_steps=400"),
    "dt_key_to_door": Example("episode"),
    "babyai": Example("episode", f"{ACTS} trainer.max_steps=500 data.num_episodes=2000"),
    "babyai_local": Example("episode", f"{ACTS} trainer.max_steps=800 data.num_episodes=4000"),
    "babyai_spoken": Example("attention_shares", f"{ACTS} trainer.max_steps=300 data.num_episodes=2000"),
    "draw_digits_flow": Example("flow"),
    "interleaved": Example("flow"),
    "say_digits": Example("flow"),
    "act_by_flow": Example("episode"),
    "fold_small": Example("fold_plot"),
    "regress_diabetes": Example("regression_plot"),
    "experts_tasks": Example("experts_plot"),
    "generalist": Example("digits_classify", f"{ACTS} trainer.max_steps=200"),
}
"""By recipe, in the order of the page; the others follow by name."""


def train(recipe: str) -> Path:
    """Trains a recipe as its example is, and gives the directory of the run."""
    run = RUNS / recipe
    shutil.rmtree(run, ignore_errors=True)
    words = EXAMPLES[recipe].words.format(data=os.environ.get("MMTX_DATA", "")).split()
    fixed = [f"experiment={recipe}", f"run_dir={run}", "logger=[]", "callbacks.samples.num_samples=4"]
    subprocess.run([sys.executable, "-m", "mmtx.commands.main", "train", *fixed, *words], check=True)
    return run


def keep(recipe: str, run: Path) -> None:
    """Puts what a run drew in the place of what is kept of its recipe, as a picture of few colours."""
    begin = EXAMPLES[recipe].file
    found = sorted((run / "samples").glob(f"{begin}_step*.*"), key=lambda file: file.suffix)
    drawn = [file for file in found if file.suffix == ".png"] or [file for file in found if file.suffix == ".jsonl"]
    if not drawn:
        raise SystemExit(f"{run}/samples has no {begin}_step*.png, and no such texts")
    FOLDER.mkdir(exist_ok=True)
    for earlier in FOLDER.glob(f"{recipe}.*"):
        earlier.unlink()
    place = FOLDER / f"{recipe}.{drawn[-1].name}"
    if place.suffix == ".png":
        _shrink(drawn[-1], place)
    else:
        place.write_text("".join(drawn[-1].read_text(encoding="utf-8").splitlines(keepends=True)[:LINES]))


def _shrink(file: Path, place: Path) -> None:
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    for width in WIDTHS:
        height = round(picture.height * width / picture.width)
        fitting = picture if picture.width <= width else picture.resize((width, height), Image.Resampling.LANCZOS)
        fitting.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(place, optimize=True)
        if place.stat().st_size <= MOST_BYTES:
            return
