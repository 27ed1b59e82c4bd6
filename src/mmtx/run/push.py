"""``mmtx push``: a run, or a folder of ``mmtx export``, to a hub, with its card."""

import tempfile
from pathlib import Path

from mmtx.errors import UserError
from mmtx.hub.address import Address
from mmtx.hub.model_files import CARD, is_of_a_model
from mmtx.hub.upload import upload
from mmtx.interop import from_pretrained
from mmtx.run.card.facts import Facts, facts_of
from mmtx.run.card.usage import used_from
from mmtx.run.card.write import MARK, write_card
from mmtx.run.directory import is_model_folder, is_run
from mmtx.run.import_export import FORMATS

FORMS = ("mmtx", "hf")
"""Formats that are folders."""


def push(
    place: str, address: Address, *, form: str | None = None, private: bool = False, license: str | None = None
) -> Address:
    """Uploads a model in one commit.

    Args:
        place: a run or checkpoint, which is exported; or a folder that was.
        address: where to; its revision is a branch.
        form: of a run, one of `FORMS`; None: ``mmtx``, which is exact.
        private: whether the repository is, if it is new.
        license: of the weights, by its name on the hub.

    Returns:
        The address of the new commit.

    Raises:
        UserError: it cannot be exported, or not uploaded; nothing has changed there.
    """
    with tempfile.TemporaryDirectory(prefix="mmtx-push-") as temporary:
        folder = Path(temporary) / "model"
        if is_run(place) and not (is_model_folder(place) and form in (None, "mmtx")):
            FORMATS[form or "mmtx"](place, folder)
            write_card(place, folder, form or "mmtx", license, str(address))
        else:
            _copy(Path(place).expanduser(), folder, form)
            _write_card_for(folder, address, license)
        return upload(folder, address, private=private)


def _copy(source: Path, folder: Path, form: str | None) -> None:
    """Links the files of a model into a folder of their own."""
    if not source.is_dir():
        raise UserError(f"{source} is no run and no folder; name one: mmtx push RUN owner/name")
    if form not in (None, "hf"):
        raise UserError(f"--format {form}: {source} is not of a run, and is uploaded as it is")
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file() and is_of_a_model(file.name):
            (folder / file.name).symlink_to(file.resolve())


def _write_card_for(folder: Path, address: Address, license: str | None) -> None:
    """A card whose lines are for the address: that of the folder, or a new one where it has none."""
    form = "mmtx" if is_model_folder(folder) else "hf"
    facts = facts_of(folder) if form == "mmtx" else Facts(from_pretrained(folder))
    card = folder / CARD
    if not card.is_file():
        write_card(folder if form == "mmtx" else facts.learner, folder, form, license, str(address))
        return
    text = card.read_text(encoding="utf-8")
    card.unlink()  # a link
    card.write_text(used_from(text, facts, form, str(address)) if MARK in text else text, encoding="utf-8")
