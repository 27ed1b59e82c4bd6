"""Every command of the README and of the site works as it is pasted, or a mark says what it needs."""

import re

import pytest
from pages import EXTRAS, MARKS, PAGES, ROOT, commands, paste, small
from test_every_yaml import OPTIONS

from mmtx.commands.main import COMMANDS, main

PATH = [f"docs/{page}.md" for page in ("first_five_minutes", "own_data", "sweeps", "fine_tune", "predict", "onnx")]
"""A stranger's way, page after page in one folder."""
OTHERS = [
    page
    for page in reversed(PAGES)
    if page not in PATH and any(command.mark in ("", "takes") for command in commands(PAGES[page]))
]
"""The README last, which repeats some."""
FIRST = {command.text: page for page in reversed([*PATH, *OTHERS]) for command in commands(PAGES[page])}
"""By command, the first page that has it: it is checked there alone."""


def test_commands_are_found_whole():
    parts = ["one \\\n  two  # three", "python - <<'END'\nx\n\ny\nEND", "four"]
    found = commands("a\n<!-- needs: b -->\n```bash\n" + "\n".join(parts) + "\n```\n\n```bash\nfive\n```\n")
    assert [command.text for command in found] == [*parts, "five"]
    assert found[0].words == ["one", "two"]
    assert [(c.mark, c.value) for c in found] == [("needs", "b")] * 3 + [("", "")]


@pytest.mark.parametrize("page", PAGES)
def test_marks_are_known_and_prompts_are_not_pasted(page):
    text = PAGES[page]
    assert "```console" not in text and not re.search(r"^\$ ", text, re.M)
    for command in commands(text):
        assert not command.mark or command.mark in MARKS
        assert command.mark != "run by" or (ROOT / command.value).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_no_command_stands_where_none_is_looked_for(page):
    for language, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", PAGES[page], re.M | re.S):
        assert language == "bash" or not re.search(r"^(mmtx|pip) ", block, re.M), block


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_within_sentences_is_there(page):
    """Commands, groups of ``mmtx list``, recipes, and extras."""
    for text in re.findall(r"`((?:mmtx|pip install) [^`\n]+)`", PAGES[page]):
        program, first, *rest = text.split()
        assert program == "pip" or first in COMMANDS or first.startswith("-"), text
        assert first != "list" or all(word.isupper() or word in OPTIONS for word in rest), text
        assert set(re.findall(r"experiment=(\w+)", text)) <= OPTIONS["experiment"].keys(), text
        assert set(re.findall(r"mmtx\[(\w+)\]", text)) <= EXTRAS.keys(), text


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_lead_somewhere(page):
    """Those of the site are checked again, with their anchors, as it is built."""
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGES[page]):
        assert re.match("https?://", link) or ((ROOT / page).parent / link).exists(), link


@pytest.mark.slow
def test_a_stranger_gets_there_by_pasting(tmp_path, monkeypatch):
    for page in PATH:
        for command in commands(PAGES[page]):
            if command.mark in ("", "fails"):
                paste(command, tmp_path, monkeypatch)
    assert {file.name for file in tmp_path.glob("*.*")} >= {"predictions.csv", "vit.onnx"}
    assert (tmp_path / "runs" / "rates" / "report.html").is_file()


@pytest.mark.parametrize("page", OTHERS)
def test_what_a_page_trains_passes_the_check(page, tmp_path, monkeypatch, capsys, unchecked):
    monkeypatch.chdir(tmp_path)
    for command in commands(PAGES[page]):
        words = command.words if "<<" not in command.text else []
        if command.mark in ("needs", "run by", "takes") or "--config" in words:
            continue
        if words and FIRST[command.text] != page:  # what writes a file is run on every page
            continue
        if words[:2] in (["mmtx", "train"], ["mmtx", "check"]):
            code = main(["check", *small(words[2:], tmp_path, monkeypatch)])
            printed = capsys.readouterr()
            assert code == (2 if command.mark == "fails" else 0), f"{command.text}\n{printed.err}"
            assert command.mark != "fails" or command.value in printed.err
        elif words[:1] != ["mmtx"]:
            paste(command, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", OTHERS)
def test_a_page_works_as_it_is_pasted(page, tmp_path, monkeypatch):
    for command in commands(PAGES[page]):
        if command.mark in ("", "fails") or (command.mark == "takes" and command.words[1] == "train"):
            paste(command, tmp_path, monkeypatch)
