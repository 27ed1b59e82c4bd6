"""The reference of config keys is what the script writes, and has every key of a config."""

from pathlib import Path

import pytest
import reference_pages
from reference import files, keys

from mmtx.config.compose import compose

pytest.importorskip("optuna", reason="needs mmtx[search]")
FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def test_the_pages_are_up_to_date():
    written = {page.name: page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md")}
    assert written == reference_pages.pages(), "python scripts/reference_pages.py"


def paths(node, prefix):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from paths(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}"


def named(path):
    """As the key of a part is listed: ``modality.NAME.spectrogram.n_fft``."""
    first, *rest = path.split(".")
    return ".".join([first, "NAME", *rest[1:]]) if first in ("modality", "objective") else path


def test_every_key_of_a_config_is_there():
    config = compose(["experiment=audio_classification", "data.path=x", "callbacks=[early_stopping,samples]"])
    del config["lora"]  # null, as nothing is chosen
    text = "".join(page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md"))
    assert not [
        path for path in paths(config, "") if f"| `{path}` |" not in text and f"| `{named(path)}` |" not in text
    ]


def test_a_key_without_a_line_is_an_error(monkeypatch):
    monkeypatch.setattr(keys, "argument_lines", lambda target: {})
    monkeypatch.setattr(files.File, "comment", lambda self, key: "")
    with pytest.raises(SystemExit, match=r"no line of backbone.norm, .*optim.lr"):
        reference_pages.pages()


def test_comments_are_those_of_the_keys_on_their_lines(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text("# what it is\na: 1 # first\nb: {c: 2, d: 3} # second\ne:\n  f: x#y # third\ng: 4\n")
    assert files.comments_of(file) == {"a": "first", "b": "second", "e.f": "third"}
