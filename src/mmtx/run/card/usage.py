"""How a model is used, as lines to be pasted."""

import re
import shlex
from collections.abc import Callable, Sequence

from mmtx.codes.codec import Codec
from mmtx.hub.address import Address, is_address
from mmtx.interop.exporting import family_of
from mmtx.run.card.facts import Facts
from mmtx.run.card.front_matter import pipeline_of

TITLE = "## How to use it"
SECTION = re.compile(rf"^{TITLE}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)

GENERATED = {
    "text-generation": ("max_new_tokens=100 seed=1", "a text"),
    "automatic-speech-recognition": ("audio=FILE", "what is said in a recording"),
}
"""Options of ``mmtx generate``, and what it gives, by the hub's name of the task."""


def usage_section(facts: Facts, form: str, place: str) -> str:
    """The section of a model card.

    Args:
        facts: of the model.
        form: the format of its files.
        place: where they are: a path, or an address on a hub.
    """
    return f"{TITLE}\n\n{USAGES[form](facts, place)}\n"


def used_from(card: str, facts: Facts, form: str, place: str) -> str:
    """A card whose lines to be pasted are for another place; one without the section stays as it is."""
    return SECTION.sub(lambda _: usage_section(facts, form, place) + "\n", card)


def _mmtx(facts: Facts, place: str) -> str:
    where = shlex.quote(place)
    file = where if is_address(place) else shlex.quote(f"{place}/config.yaml")
    splits = {name.partition("/")[0] for name in facts.figures} | facts.num_samples.keys()
    split = " split=val" if "val" in splits and "test" not in splits else ""
    lines = [(f"mmtx evaluate {where}{split}", "its metrics, on its own data")]
    task = pipeline_of(facts.learner)
    if task in GENERATED:
        options, what = GENERATED[task]
        lines.append((f"mmtx generate {where} {options}", what))
    lines.append((f"mmtx train --config {file} init_from={where}", "another run like it, from its weights"))
    return f"{_console(lines)}\n\n{_python('import mmtx', f'learner = mmtx.load({place!r})')}"


def _hf(facts: Facts, place: str) -> str:
    _, config = family_of(facts.learner)
    (kind,) = config["architectures"]
    there = Address.parse(place).repository if is_address(place) else place
    texts = any(spec.vocabulary is not None for spec in facts.learner.specs.values())
    classes = f"{kind}, AutoTokenizer" if texts else kind
    lines = [f"from transformers import {classes}", "", f"model = {kind}.from_pretrained({there!r})"]
    lines += [f"tokenizer = AutoTokenizer.from_pretrained({there!r})"] * texts
    return f"{_python(*lines)}\n\n{_console([(f'mmtx import {shlex.quote(place)} runs/imported', 'a run of mmtx')])}"


def _peft(facts: Facts, place: str) -> str:
    _, config = family_of(facts.learner)
    (kind,), begun = config["architectures"], str(facts.config.get("init_from") or "BASE")
    base = Address.parse(begun).repository if is_address(begun) else begun
    imports = ("from peft import PeftModel", f"from transformers import {kind}")
    made = f"model = PeftModel.from_pretrained({kind}.from_pretrained({base!r}), {place!r})"
    command = f"mmtx import {shlex.quote(base)} runs/imported adapters={shlex.quote(place)}"
    return f"{_python(*imports, '', made)}\n\n{_console([(command, 'a run of mmtx')])}"


def _safetensors(facts: Facts, place: str) -> str:
    return _python("from safetensors.torch import load_file", "", f"weights = load_file({place!r})")


def _codes(facts: Facts, place: str) -> str:
    (codec,) = (each for each in facts.learner.model.modules() if isinstance(each, Codec))
    kind = type(codec.content).__name__.lower()
    return _console([(f"mmtx check data=coded_{kind} data.vocabulary.path={shlex.quote(place)}", f"{kind} as codes")])


def _torch_export(facts: Facts, place: str) -> str:
    return _python("import torch", "", f"model = torch.export.load({place!r}).module()")


def _onnx(facts: Facts, place: str) -> str:
    names = "print([each.name for each in session.get_inputs()])"
    return _python("import onnxruntime", "", f"session = onnxruntime.InferenceSession({place!r})", names)


USAGES: dict[str, Callable[[Facts, str], str]] = {
    "mmtx": _mmtx,
    "hf": _hf,
    "peft": _peft,
    "safetensors": _safetensors,
    "codes": _codes,
    "torch_export": _torch_export,
    "onnx": _onnx,
}
"""By format."""


def _console(lines: Sequence[tuple[str, str]]) -> str:
    widest = max(len(command) for command, _ in lines)
    return "\n".join(["```console", *(f"$ {command:{widest}}  # {what}" for command, what in lines), "```"])


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])
