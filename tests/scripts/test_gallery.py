"""The gallery is what the script writes of headers and pictures, and has every recipe."""

import json

import gallery
import gallery_examples as examples
import numpy
import pytest
from PIL import Image

from mmtx.config.groups import group_options

PICTURES = list(examples.FOLDER.glob("*.png"))


def test_the_page_is_up_to_date():
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page(), "python scripts/gallery.py"


def test_every_recipe_has_an_entry():
    titles = [line for line in gallery.page().splitlines() if line.startswith("## ")]
    assert sorted(titles) == sorted(f"## `{recipe}`" for recipe in group_options("experiment"))


def test_pictures_are_small():
    assert PICTURES and all(file.stat().st_size <= examples.MOST_BYTES for file in PICTURES)
    assert sum(file.stat().st_size for file in PICTURES) < 1_500_000


def run_with(folder, name, content):
    """The directory of a run that drew a picture or wrote texts."""
    (folder / "samples").mkdir(parents=True)
    file = folder / "samples" / name
    file.write_text(content) if isinstance(content, str) else content.save(file)
    return folder


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "FOLDER", tmp_path / "gallery")
    return tmp_path / "gallery"


def test_a_picture_is_kept_with_its_step(kept, tmp_path):
    noise = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (70, 180, 3), dtype=numpy.uint8))
    examples.keep("vit_digits", run_with(tmp_path / "one", "classify_step000007.png", noise))
    plain = Image.new("RGB", (1800, 900), "white")
    examples.keep("vit_digits", run_with(tmp_path / "two", "classify_step001000.png", plain))
    (file,) = kept.iterdir()
    assert file.name == "vit_digits.classify_step001000.png" and Image.open(file).size == (1000, 500)
    entry = gallery.page().partition("## `vit_digits`")[2].partition("\n## ")[0]
    assert (
        f"(gallery/{file.name})" in entry
        and "*Predictions and the truth, of held-out samples, after 1,000 steps*" in entry
    )


def test_texts_are_kept_where_nothing_is_drawn(kept, tmp_path):
    lines = "".join(json.dumps({"truth": f"a{i}\n", "predicted": "b", "right": False}) + "\n" for i in range(9))
    examples.keep("gpt_python", run_with(tmp_path / "run", "next_token_step000200.jsonl", lines))
    entry = gallery.page().partition("## `gpt_python`")[2].partition("\n## ")[0]
    assert '```text\ntruth      "a0\\n"\npredicted  "b"\n' in entry and "a3" in entry and "a4" not in entry


def test_a_run_that_drew_nothing_is_an_error(kept, tmp_path):
    with pytest.raises(SystemExit, match=r"has no classify_step\*.png"):
        examples.keep("vit_digits", run_with(tmp_path, "other_step000001.jsonl", ""))


def test_a_header_is_quoted(kept):
    entry = gallery.page().partition("## `generalist`")[2].partition("\n## ")[0]
    assert "\n`mmtx train experiment=generalist`\n" in entry and "One thread of an AMD EPYC" in entry
    assert "```text\npython scripts/generalist_twins.py RUN\n" in entry
    assert "*No picture: it is made for a GPU.*" in gallery.page().partition("## `vit_cifar10_gpu`")[2]
