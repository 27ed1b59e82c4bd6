"""Conversations with imported models: ids, text and files of `transformers`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import gemma3, llama, saved  # noqa: E402
from tokenizer_kinds import KINDS, written  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.data.text.pretrained_vocabulary import Pretrained  # noqa: E402
from mmtx.decoding.sampling import GREEDY  # noqa: E402
from mmtx.errors import UserError  # noqa: E402

TEMPLATE = """\
{{- bos_token -}}
{% for message in messages %}
    {{- message.role + ': ' + message.content + eos_token + '\\n' -}}
{% endfor %}
{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"""
MESSAGES = [
    {"role": "system", "content": "low  newer"},
    {"role": "user", "content": "the 12 <|im_end|></s> 🚀 then?"},
]
GEMMA = """\
{{ bos_token }}
{%- set first = '' -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\n\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
    {{- (first if loop.first else '') + (message['content'] | trim) + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""
SEVERAL = [{"name": "default", "template": TEMPLATE}, {"name": "short", "template": "{{ messages[-1].content }}"}]


def chatty(name: str, folder: Path, template: Any = TEMPLATE) -> Path:
    """A tokenizer's files with chat templates."""
    file = written(name, folder) / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_ids_of_a_conversation(name: str, tmp_path: Path) -> None:
    """Special tokens that the template or a message spells are ids of their own, as theirs."""
    folder = chatty(name, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    vocabulary = Pretrained(path=str(folder), begin=None, end=None, prefix=[], size=None)
    again = Pretrained.__new__(Pretrained)
    again.load(json.loads(json.dumps(vocabulary.state())))
    expected = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert vocabulary.encode_chat(MESSAGES) == again.encode_chat(MESSAGES) == expected
    assert (
        vocabulary.encode("</s><|im_end|>")
        == theirs("</s><|im_end|>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    )


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return chatty(
        "llama3", saved(llama(vocab_size=400, max_position_embeddings=200), tmp_path_factory.mktemp("public")), SEVERAL
    )


@pytest.fixture(scope="module")
def run(public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    assert main(["import", str(public), str(path)]) == 0
    return path


def answered(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    code = main(["generate", str(run), "max_new_tokens=9", "temperature=0", *options])
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_the_next_turn_is_theirs(public: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line or a file, and from an export of the run."""
    theirs, model = (
        kind.from_pretrained(public) for kind in (transformers.AutoTokenizer, transformers.LlamaForCausalLM)
    )
    ids = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    new = model.generate(ids, do_sample=False, max_new_tokens=9, pad_token_id=0)[0, ids.shape[1] :]
    expected = theirs.decode(new, skip_special_tokens=True) + "\n"
    given = json.dumps(MESSAGES)
    (tmp_path / "talk.json").write_text(given)
    assert answered(run, capsys, f"messages={given}") == expected
    assert answered(run, capsys, f"messages={tmp_path / 'talk.json'}") == expected
    assert main(["export", str(run), str(tmp_path / "again")]) == 0
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    for name in (None, "short"):
        texts = [
            each.apply_chat_template(MESSAGES, chat_template=name, add_generation_prompt=True, return_dict=False)
            for each in (theirs, again)
        ]
        assert texts[0] == texts[1]
    chat = mmtx.from_pretrained(tmp_path / "again").specs["text"].vocabulary.chat
    assert chat == mmtx.from_pretrained(public).specs["text"].vocabulary.chat


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["messages=[]"], r"messages=\[\] must be a list of"),
        (['messages=[{"role": "user"}]'], "must be a list of"),
        (["messages=[1"], r"messages=\[1 is not JSON"),
        (["messages=gone.json"], "messages=gone.json is neither JSON nor a file"),
        ([f"messages={json.dumps(MESSAGES)}", "template=rag"], "template=rag is no chat template .*default, short"),
        ([f"messages={json.dumps(MESSAGES)}", "prompt=low"], "cannot be given beside"),
    ],
)
def test_conversations_that_cannot_be(
    options: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, answered(run, capsys, *options))


def test_a_gemma(tmp_path: Path) -> None:
    """A system's message before the first of the user; a turn ends at either of two ids."""
    torch.manual_seed(0)
    model = gemma3(vocab_size=400, max_position_embeddings=200)
    model.generation_config.eos_token_id = [1, 5]
    folder = chatty("gemma3", saved(model, tmp_path), GEMMA)
    learner, theirs = mmtx.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    vocabulary = learner.specs["text"].vocabulary
    assert [theirs.decode([number]) for number in vocabulary.ends] == ["<eos>", "<end_of_turn>"]
    ids = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert vocabulary.encode_chat(MESSAGES) == ids[0].tolist()
    new = model.generate(ids, do_sample=False, max_new_tokens=9)[0, ids.shape[1] :]
    options = {"max_new_tokens": 9, "sampling": GREEDY}
    written = learner.objective("next_token").answer(
        learner.model, Batch({}, {}), torch.Generator(), ids[0].tolist(), **options
    )
    assert written == theirs.decode(new, skip_special_tokens=True)
    with pytest.raises(UserError, match="roles must alternate"):
        vocabulary.encode_chat([*MESSAGES, MESSAGES[1]])


def test_a_model_without_a_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It does not offer conversations."""
    folder = written("llama3", saved(llama(vocab_size=400), tmp_path / "public"))
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    assert "is no option of" in answered(tmp_path / "run", capsys, f"messages={json.dumps(MESSAGES)}")
    with pytest.raises(UserError, match="have no chat template; give prompt="):
        mmtx.from_pretrained(folder).specs["text"].vocabulary.encode_chat(MESSAGES)
