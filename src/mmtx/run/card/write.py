"""Writes a model card: a page with the set, the data, the figures, the training, the use and the licence of a model."""

from pathlib import Path

import yaml

from mmtx.config.redaction import redacted
from mmtx.hub.model_files import CARD
from mmtx.interop.atomic_output import atomic_file
from mmtx.learner import Learner
from mmtx.run.card.facts import Facts, facts_of
from mmtx.run.card.front_matter import front_matter
from mmtx.run.card.sections import (
    data_section,
    figures_section,
    heading,
    licence_section,
    set_section,
    training_section,
)
from mmtx.run.card.usage import usage_section

MARK = "<!-- Written by mmtx from what its run recorded; what follows may be edited. -->"


def write_card(
    model: Learner | Path | str, out: Path | str, form: str, license: str | None = None, place: str | None = None
) -> None:
    """Writes the card of an export: ``README.md`` in a folder, ``OUT.md`` beside a file. A page that mmtx did not write
    is left as it is.

    Args:
        model: what was exported.
        out: the folder or the file.
        form: its format.
        license: of the weights, by its name on the hub.
        place: where it will be used from; None: `out`.
    """
    path = Path(out).expanduser()
    card = path / CARD if path.is_dir() else path.with_name(f"{path.name}.md")
    if card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        return
    text = card_text(facts_of(model), form, license, place or str(out))
    with atomic_file(card) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def card_text(facts: Facts, form: str, license: str | None, place: str) -> str:
    """The page."""
    head = yaml.safe_dump(redacted(front_matter(facts, form, license)), sort_keys=False, allow_unicode=True)
    sections = [
        heading(facts),
        set_section(facts),
        data_section(facts),
        figures_section(facts),
        training_section(facts),
        usage_section(facts, form, place).rstrip(),
        licence_section(license),
    ]
    return f"---\n{head}---\n{MARK}\n\n" + redacted("\n\n".join(sections)) + "\n"
