"""Writes docs/gallery.md: every recipe in the words of its header, with a picture or texts that it made itself.

``python scripts/gallery.py`` writes the page. ``python scripts/gallery.py NAME ...`` trains recipes before that, one
after the other, and keeps what they drew in docs/gallery/. Data are those of the folder that MMTX_DATA names. Runs are
shorter than their recipes where `EXAMPLES` says so; a caption gives the step that the name of its file has.
"""

import json
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import gallery_examples as examples
from gallery_examples import EXAMPLES
from reference.markdown import prose

from mmtx.config.folders import config_directory

PAGE = Path(__file__).parent.parent / "docs" / "gallery.md"

WITHOUT = {
    "finetune": "it begins with public weights, which do not come with mmtx",
    "_gpu": "it is made for a GPU",
    "vit_cifar10": "it is made for a GPU",
    "mae_cifar10": "it is made for a GPU",
    "jepa_digits": "what it predicts are hidden states",
    "whisper_sentences": "it is made for a GPU, and its data do not come with mmtx",
    **dict.fromkeys(
        ("parity", "mqar", "sequential_digits", "icl_regression", "few_shot_digits", "recall_memory"),
        "its samples are rows of numbers",
    ),
    "sequential_mnist": "it is made for a GPU",
    **dict.fromkeys(("codes_mnist", "draw_mnist"), "it is made for a GPU"),
    "codes_digits": "what it learns are codes, in which another recipe draws",
    "draw_digits": "it draws in codes of another run",
    **dict.fromkeys(
        ("names_by_preference", "reward_hacked", "arithmetic_by_reward", "cartpole_online", "countdown"),
        "it begins with another run",
    ),
    "made_names": "what it writes are names as those of its data",
    "addition": "what it writes are rows of letters and digits",
    "t_maze_notes": "its environment draws none",
}
"""Why recipes have no picture, by a part of their names; of the others, their data do not come with mmtx."""

CAPTIONS = {
    "attention_shares": "What attends to what",
    "target_return": "Returns that it reached for the returns that it was given as a target",
    "episode": "Episodes in the environment",
    "experts_plot": "Which experts the tokens of each task take, by layer",
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
    shown = sorted(examples.FOLDER.glob(f"{recipe}.*"))
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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if name not in EXAMPLES:
            raise SystemExit(f"{name} has no example: {', '.join(EXAMPLES)}")
        examples.keep(name, examples.train(name))
    PAGE.write_text(page(), encoding="utf-8")
