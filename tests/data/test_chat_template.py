"""Chat templates: the text of `transformers`, and nothing beyond it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

chats = pytest.importorskip("transformers.utils.chat_template_utils")

from mmtx.data.text.chat_template import ChatTemplates  # noqa: E402
from mmtx.errors import UserError  # noqa: E402

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "  Ünï 🚀\n"},
    {"role": "assistant", "content": "Yes.", "tool_calls": None, "reasoning": "hm"},
    {"role": "user", "content": [{"type": "text", "text": "and?"}]},
]
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
LIKE_QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
{%- endif %}
{% for message in messages %}
    {%- if message.content is string %}{% set text = message.content | trim %}
    {%- else %}{% set text = message.content[0].text %}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' + text + '<|im_end|>' + '\\n' }}
    {%- if message.tool_calls is defined %}never{% endif %}
    {%- if message.reasoning_content %}<think>{{ message.thinking }}</think>{% endif %}
{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
LIKE_LLAMA = """\
{{- bos_token }}
{% set ns = namespace(seen=false, self=3) %}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if message.role == 'assistant' %}{% generation %}{% set x = 1 %}{{ message.content }}{% endgeneration %}
    {% else %}
[INST] {{ message | tojson(indent=2) }} [/INST]
    {% endif %}
    {% set ns.seen = true %}
{% endfor %}
{{ ns.seen }}{{ ns.self }}{{ x is defined }}{{ eos_token }}{{ dict(a=1) | tojson }}{{ documents is none }}"""


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("template", [LIKE_QWEN, LIKE_LLAMA])
def test_the_text_is_theirs(template: str, tools: Any, add: bool) -> None:
    chosen = {key: value for key, value in TURNS[2].items() if value is not None}
    conversation = [*TURNS[:2], chosen, TURNS[3]]  # their tokenizer leaves out what is null before it renders
    (expected,), _ = chats.render_jinja_template(
        [conversation], tools=tools, chat_template=template, add_generation_prompt=add, **TOKENS
    )
    templates = ChatTemplates({"default": template}, TOKENS)
    assert templates.render(TURNS, add_generation_prompt=add, tools=tools) == expected


def test_the_date_is_that_of_today() -> None:
    from datetime import datetime

    text = ChatTemplates({"default": "{{ strftime_now('%Y') }}"}, {}).render(TURNS)
    assert int(text) in range(datetime.now().year - 1, datetime.now().year + 1)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ ''.__class__.__mro__ }}", "'default' reaches out of its sandbox, and is not run"),
        ("{{ messages.append(1) }}", "reaches out of its sandbox"),
        ("{{ dict.__init__.__globals__ }}", "reaches out of its sandbox"),
        ("{{ namespace(__class__=1) }}", "reaches out of its sandbox"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "reaches out of its sandbox"),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", "cannot render these messages: OverflowError"),
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alternate"),
        ("{{ messages[0].content.nothing.at_all }}", "cannot render these messages: UndefinedError"),
        ("{% if %}", "cannot render these messages: TemplateSyntaxError"),
        ("{% include '/etc/passwd' %}", "cannot render these messages: TypeError"),
    ],
)
def test_what_is_not_rendered(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ChatTemplates({"default": template}, {}).render(TURNS)


def test_one_of_several_by_its_name() -> None:
    templates = ChatTemplates({"default": "d", "tool_use": "t"}, {})
    assert [templates.render(TURNS, name) for name in (None, "default", "tool_use")] == ["d", "d", "t"]
    with pytest.raises(UserError, match="template=rag is no chat template of this model, which has default, tool_use"):
        templates.render(TURNS, "rag")


def test_where_templates_stand(tmp_path: Path) -> None:
    """Files go before the config, all of them together."""
    assert ChatTemplates.of(tmp_path, {}, TOKENS) is None
    one, several = "a", [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    for stored in (one, several):
        found = ChatTemplates.of(tmp_path, {"chat_template": stored}, TOKENS)
        assert found is not None and found.stored() == stored
        assert ChatTemplates(**json.loads(json.dumps(found.state()))) == found
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    (tmp_path / "chat_template.jinja").write_text("f")
    found = ChatTemplates.of(tmp_path, {"chat_template": several}, TOKENS)
    assert found is not None and dict(found.templates) == {"rag": "r", "default": "f"}
