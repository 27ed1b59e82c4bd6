"""A public model with a chat template, fine-tuned on conversations by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import llama, saved  # noqa: E402
from run_cli import mmtx, text_of  # noqa: E402
from test_chat import TEMPLATE, chatty  # noqa: E402

from mmtx.interop.importing import from_pretrained  # noqa: E402
from mmtx.interop.interface import run_interface  # noqa: E402
from mmtx.run.checkpoint_content import load  # noqa: E402
from mmtx.run.import_export import save_as_run, shape_of  # noqa: E402

TALKS = [
    [
        {"role": "user", "content": f"low {number}"},
        {"role": "assistant", "content": f"newer {number}"},
        {"role": "user", "content": "then?"},
        {"role": "assistant", "content": "the lowest"},
    ]
    for number in range(1, 25)
]


def test_one_command(tmp_path: Path) -> None:
    """The first loss is the cross-entropy of `transformers` over the ids of the assistant alone; the run answers,
    and goes back into the public format with its template."""
    torch.manual_seed(0)
    model = llama(vocab_size=400, max_position_embeddings=200)
    public = chatty("llama3", saved(model, tmp_path / "public"), TEMPLATE)
    learner = from_pretrained(public)
    save_as_run(learner, tmp_path / "imported")
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in TALKS))
    words = ["init_from=imported", "data=manifest", "data/vocabulary=pretrained", "data.path=talks.jsonl"]
    words += ["data.columns={text: messages}", "modality=[text]", "objective=[next_token]", *shape_of(learner)]
    words += ["objective.next_token.tied=false", "type_embeddings=false", "data.val_fraction=0", "data.test_fraction=0"]
    words += ["trainer.max_steps=1", "loader.batch_size=24", "loader.num_workers=0", "logger=[]", "callbacks=[]"]
    done = mmtx("train", *words, "log_every_steps=1", "run_dir=tuned", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    first = json.loads((tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["train/loss"] == pytest.approx(loss_of_transformers(public), rel=1e-4)
    assert list(run_interface(load(tmp_path / "tuned")).example) == ["text.ids", "text.length"]
    asked = 'messages=[{"role": "user", "content": "low 3"}]'
    done = mmtx("generate", "tuned", asked, "max_new_tokens=3", "temperature=0", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    done = mmtx("export", "tuned", "again", cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again.apply_chat_template(TALKS[0], tokenize=False) == written(public, TALKS[0])


def written(public: Path, messages: list[dict[str, str]]) -> str:
    tokenizer = transformers.AutoTokenizer.from_pretrained(public)
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def loss_of_transformers(public: Path) -> float:
    """Over what stands behind ``assistant:`` in each line of the template."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(public)
    model = transformers.LlamaForCausalLM.from_pretrained(public).eval()
    losses: list[torch.Tensor] = []
    for talk in TALKS:
        labels, ids = list[int](), list[int]()
        for line in written(public, talk).splitlines(keepends=True):
            head, colon, rest = line.partition("assistant:")
            for part, is_learnt in ((head + colon, False), (rest, True)):
                own = tokenizer(part, add_special_tokens=False)["input_ids"]
                ids, labels = ids + own, labels + (own if is_learnt else [-100] * len(own))
        logits = model(torch.tensor([ids])).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="none")
        losses += [loss for loss, label in zip(each, labels[1:], strict=True) if label != -100]
    return float(torch.stack(losses).mean().detach())
