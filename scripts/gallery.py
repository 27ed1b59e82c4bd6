"""Writes docs/gallery.md: every recipe in the words of its header, with a picture or texts that it made itself.

``python scripts/gallery.py`` writes the page. ``python scripts/gallery.py NAME ...`` trains recipes before that, one
after the other, and keeps what they drew in docs/gallery/. Data are those of the folder that MMTX_DATA names. Runs are
shorter than their recipes where `EXAMPLES` says so; a caption gives the step that the name of its file has.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from reference.markdown import prose

from mmtx.config.folders import config_directory

PAGE = Path(__file__).parent.parent / "docs" / "gallery.md"
FOLDER = PAGE.with_suffix("")
RUNS = PAGE.parents[1] / "build" / "gallery"
MOST_BYTES, WIDTHS, COLOURS, LINES = 60_000, (1000, 800, 650, 500), 96, 4


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
    "label_digits": Example("classify", "trainer.max_epochs=null trainer.max_steps=400"),
    "vit_mnist": Example("classify", "data.path={data}/mnist trainer.max_steps=400"),
    "spell_digits": Example("attention_shares"),
    "caption_digits": Example("seq2seq"),
    "whisper_digits": Example("seq2seq", "trainer.max_steps=300"),
    "ctc_digits": Example("ctc", "trainer.max_steps=600"),
    "whisper_fsdd": Example("seq2seq", "data.path={data}/fsdd trainer.max_steps=500"),
    "audio_classification": Example("classify", "data.path={data}/fsdd trainer.max_steps=300"),
    "gpt_python": Example("next_token", "trainer.max_steps=200"),
    "gpt_shakespeare": Example("next_token", "data.path={data}/tinyshakespeare/input.txt trainer.max_steps=300"),
    "g2p": Example("seq2seq", "trainer.max_steps=600"),
    "dt_cartpole": Example("target_return", f"{ACTS} trainer.max_steps=400"),
    "bc_cartpole": Example("episode", f"{ACTS} trainer.max_steps=400"),
    "dt_key_to_door": Example("episode"),
    "babyai": Example("episode", f"{ACTS} trainer.max_steps=500 data.num_episodes=2000"),
    "babyai_local": Example("episode", f"{ACTS} trainer.max_steps=800 data.num_episodes=4000"),
    "babyai_spoken": Example("attention_shares", f"{ACTS} trainer.max_steps=300 data.num_episodes=2000"),
    "regress_diabetes": Example("regression_plot"),
    "generalist": Example("digits_classify", f"{ACTS} trainer.max_steps=200"),
}
"""By recipe, in the order of the page; the others follow by name."""

WITHOUT = {
    "finetune": "it begins with public weights, which do not come with mmtx",
    "_gpu": "it is made for a GPU",
    "vit_cifar10": "it is made for a GPU",
    "whisper_sentences": "it is made for a GPU, and its data do not come with mmtx",
}
"""Why recipes have no picture, by a part of their names; of the others, their data do not come with mmtx."""

CAPTIONS = {
    "attention_shares": "What attends to what",
    "target_return": "Returns that it reached for the returns that it was given as a target",
    "episode": "Episodes in the environment",
    "plot": "Predictions over the truth, of held-out samples",
    "": "Predictions and the truth, of held-out samples",
}
"""By a part of a file's name."""

INTRODUCTION = """<!-- written by scripts/gallery.py -->

# Gallery

Every recipe, in the words of the header of its yaml file in `conf/experiment/`, which quotes what it reached when it
was last run, where, and how long that took. Each picture is one that the recipe drew itself, in `samples/` of its run's
directory, after as many steps as its caption says, which may be fewer than the recipe takes. What a recipe does not set
is in [the reference](reference/index.md).
"""
LICENCES = """
Pictures of `whisper_fsdd` and `audio_classification` show recordings of the Free Spoken Digit Dataset (CC BY-SA 4.0),
that of `vit_mnist` shows MNIST (CC BY-SA 3.0).
"""


def page() -> str:
    recipes = [*EXAMPLES, *sorted({file.stem for file in _recipes()} - EXAMPLES.keys())]
    return INTRODUCTION + "".join(f"\n{line}\n" for recipe in recipes for line in _entry(recipe)) + LICENCES


def _recipes() -> list[Path]:
    return list((config_directory() / "experiment").glob("*.yaml"))


def _entry(recipe: str) -> Iterator[str]:
    """What it is, its command, the rest of its header, and what it shows."""
    what, command, *rest = header(recipe)
    command, _, remark = command.partition("   ")
    yield f"## `{recipe}`"
    yield _sentence(what)
    yield f"`{command}`{f' {remark.strip()}' if remark else ''}"
    yield from _paragraphs(rest)
    shown = sorted(FOLDER.glob(f"{recipe}.*"))
    if not shown:
        yield f"*No picture: {_why_without(recipe)}.*"
    for file in shown:
        yield _texts(file) if file.suffix == ".jsonl" else f"![{_caption(file)}](gallery/{file.name})"
        yield f"*{_caption(file)}*"


def _why_without(recipe: str) -> str:
    if recipe in EXAMPLES:
        return f"`python scripts/gallery.py {recipe}` draws it"
    return next((why for part, why in WITHOUT.items() if part in recipe), "its data do not come with mmtx")


def header(recipe: str) -> list[str]:
    """The lines of the comment that a recipe's file begins with."""
    lines = (config_directory() / "experiment" / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").removeprefix(" ") for line in lines[: lines.index("defaults:")]]
    return [line for line in comment if not line.startswith("@package")]


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Sentences as they run; what is indented, as it stands."""
    for is_indented, some in groupby(lines, lambda line: line.startswith("  ")):
        text = "\n".join(some)
        yield f"```text\n{dedent(text)}\n```" if is_indented else _sentence(text)


def _sentence(text: str) -> str:
    """Lines of a header as a sentence."""
    plain = prose(f"{text[0].upper()}{text[1:]}")
    return plain if plain.endswith((".", ":")) else f"{plain}."


def _caption(file: Path) -> str:
    kind, step = re.fullmatch(r"(.*)_step(\d+)", file.stem.partition(".")[2]).groups()
    caption = next(caption for part, caption in CAPTIONS.items() if part in kind)
    return f"{caption}, after {int(step):,} steps"


def _texts(file: Path) -> str:
    """Texts and what was predicted, as a table."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [f"{key:<9}  {json.dumps(row[key], ensure_ascii=False)}" for row in rows for key in ("truth", "predicted")]
    return "```text\n" + "\n".join(lines) + "\n```"


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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if name not in EXAMPLES:
            raise SystemExit(f"{name} has no example: {', '.join(EXAMPLES)}")
        keep(name, train(name))
    PAGE.write_text(page(), encoding="utf-8")
