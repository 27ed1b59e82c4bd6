"""What the assistant wrote of a conversation: the mask of `transformers`, with marks in the template and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")

from test_chat import TEMPLATE, chatty  # noqa: E402
from tokenizer_kinds import KINDS  # noqa: E402

from mmtx.data.text.pretrained_vocabulary import Pretrained  # noqa: E402
from mmtx.errors import UserError  # noqa: E402

TALK = [
    {"role": "system", "content": "low  newer"},
    {"role": "user", "content": "the 12 <|im_end|></s> 🚀 then?"},
    {"role": "assistant", "content": "Ünï 🚀 newest "},
    {"role": "user", "content": "assistant: low"},
    {"role": "assistant", "content": "then 1234"},
]
MARKED = """\
{{- bos_token -}}
{% for message in messages %}
    {{- message.role + ':' -}}
    {% if message.role == 'assistant' %}
        {%- generation %}{{ ' ' + message.content + eos_token + '\\n' }}{% endgeneration -%}
    {% else %}
        {{- ' ' + message.content + eos_token + '\\n' -}}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""
"""`TEMPLATE`, with marks where it has none."""
FORGETFUL = """\
{% for message in messages %}
    {%- if loop.last or message.role == 'user' %}{{ message.role + ':' + message.content }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""
"""Leaves out what the assistant wrote before its last turn, as some do with what it thought."""


def vocabulary(name: str, folder: Path, template: str) -> Any:
    return Pretrained(path=str(chatty(name, folder, template)), begin=None, end=None, prefix=[], size=None)


@pytest.mark.parametrize("template", [TEMPLATE, MARKED], ids=["without marks", "with marks"])
@pytest.mark.parametrize("name", KINDS)
def test_ids_and_mask_are_theirs(name: str, template: str, tmp_path: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(chatty(name, tmp_path / "theirs", MARKED))
    expected = theirs.apply_chat_template(TALK, return_assistant_tokens_mask=True, return_dict=True)
    ids, mask = vocabulary(name, tmp_path / "ours", template).encode_conversation(TALK, all_turns=False)
    assert ids == expected["input_ids"]
    assert mask == [bool(one) for one in expected["assistant_masks"]]
    assert 0 < sum(mask) < len(mask)


def test_all_turns(tmp_path: Path) -> None:
    ids, mask = vocabulary("llama3", tmp_path, MARKED).encode_conversation(TALK, all_turns=True)
    assert ids == vocabulary("llama3", tmp_path, MARKED).encode_conversation(TALK, all_turns=False)[0]
    assert all(mask)


def test_what_is_rendered_by_what_follows_it_is_refused_by_name(tmp_path: Path) -> None:
    message = r"chat template 'default' renders message 3 otherwise .* \{% generation %\} .* data.turns=all"
    with pytest.raises(UserError, match=message):
        vocabulary("llama3", tmp_path, FORGETFUL).encode_conversation(TALK, all_turns=False)


def test_it_ends_with_the_token_that_ends_a_text(tmp_path: Path) -> None:
    """So that a model that learnt from conversations stops."""
    made = vocabulary("llama3", tmp_path, MARKED)
    made.fit_chat()
    assert made.end == transformers.AutoTokenizer.from_pretrained(tmp_path).eos_token_id
    again = Pretrained.__new__(Pretrained)
    again.load(made.state())
    assert again.end == made.end and again.encode_conversation(TALK, all_turns=False)[1].count(True) > 0
