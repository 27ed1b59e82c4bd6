"""What imported models write, id for id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers")

from public import (  # noqa: E402
    VOCAB,
    gemma2,
    gemma3,
    gpt2,
    gpt_oss,
    llama,
    mamba2,
    mistral,
    mixtral,
    olmo2,
    olmoe,
    padded,
    qwen2,
    qwen3,
    qwen3_moe,
    saved,
    t5,
    whisper,
)
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import Whitespace  # noqa: E402
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin  # noqa: E402

import mmtx  # noqa: E402
from mmtx.batch import Batch  # noqa: E402
from mmtx.decoding.beam_search import beam_search  # noqa: E402
from mmtx.decoding.generate import generate  # noqa: E402
from mmtx.decoding.sampling import GREEDY  # noqa: E402
from mmtx.interop.family import text_batch  # noqa: E402
from mmtx.interop.whisper import with_features  # noqa: E402

DECODERS = {
    "gpt2": gpt2,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "olmo2": olmo2,
    "mixtral": mixtral,
    "olmoe": lambda: olmoe(clip_qkv=0.4),
    "gpt-oss": gpt_oss,
    "qwen3-moe": lambda: qwen3_moe(mlp_only_layers=[0]),
    "gemma2": lambda: gemma2(attn_logit_softcapping=2.0),
    "gemma3": gemma3,
    "mamba2": mamba2,
    "llama-dynamic": lambda: llama(max_position_embeddings=6, rope_parameters=DYNAMIC),
}
DYNAMIC = {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 50.0}
END = {**dict.fromkeys(DECODERS, 0), "t5": 1, "whisper": 2}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def sharp(model: Any) -> Any:
    """Scores apart enough that rounding decides nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            says_itself = any(table in name for table in ("wte", "shared", "embed_tokens"))
            if parameter.requires_grad and parameter.ndim == 2 and not says_itself:
                parameter.mul_(30.0 if "embed_positions" in name else 3.0)
    return model


def case(name: str) -> tuple[Any, dict[str, Tensor], Any, str]:
    """Their model, their inputs; our batch; the text that is written."""
    if name in DECODERS:
        model, ids = sharp(DECODERS[name]()), torch.randint(3, VOCAB, (3, 4))
        return model, {"input_ids": ids}, text_batch("text", ids, None), "text"
    if name == "t5":
        model = sharp(t5(untied=True))
        ids, mask = padded([9, 4, 6])
        source = text_batch("source", ids, mask)
        start = torch.zeros(3, 1, dtype=torch.long)
        batch = text_batch("target", start, None)
        batch = batch.with_name("source", source["source"], source.lengths["source"], source.full["source"])
        return model, {"input_ids": ids, "attention_mask": mask}, batch, "target"
    model = sharp(whisper())
    features = torch.randn(3, 80, 100)
    batch = with_features(text_batch("text", torch.ones(3, 1, dtype=torch.long), None), features)
    return model, {"input_features": features}, batch, "text"


def theirs_written(model: Any, inputs: dict[str, Tensor], end: int, **options: Any) -> list[list[int]]:
    common = {"do_sample": False, "pad_token_id": 0, "eos_token_id": end, "use_cache": True, **options}
    if model.config.model_type == "whisper":
        generation = transformers.GenerationConfig(**common, decoder_start_token_id=1, bos_token_id=2)
        written = super(WhisperGenerationMixin, model).generate(**inputs, generation_config=generation)
    else:
        written = model.generate(**inputs, **common)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    rows = written[:, start:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def scores(learner: Any) -> Any:
    objective = next(iter(learner.objectives.values()))
    return lambda hidden: objective.head.logits(learner.model, hidden)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("name", END)
def test_greedy(name: str, cache: bool, tmp_path: Path) -> None:
    model, inputs, batch, text = case(name)
    learner, end = mmtx.from_pretrained(saved(model, tmp_path)), END[name]
    mine = generate(learner.model, scores(learner), batch, text, max_new_tokens=10, end=end, cache=cache)
    assert mine == theirs_written(model, inputs, end, max_new_tokens=10, use_cache=cache)
    assert len({tuple(row) for row in mine}) > 1


@pytest.mark.parametrize(("make", "has_tokenizer"), [(llama, True), (gpt_oss, False)])
def test_any_of_several_ids_ends_a_text(make: Any, has_tokenizer: bool, tmp_path: Path) -> None:
    """As Llama 3, Gemma and gpt-oss have them; kept in files, and the end of a given text is the tokenizer's own."""
    model = sharp(make())
    (unending,) = theirs_written(model, {"input_ids": torch.tensor([[5, 7]])}, VOCAB, max_new_tokens=12)
    ends = [0, next(number for number in unending[2:] if number not in unending[:2])]
    model.generation_config.eos_token_id = ends
    if has_tokenizer:
        words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
        words.pre_tokenizer = Whitespace()
        words.add_special_tokens([f"w{number}" for number in ends])
        saved(model, tmp_path)
        words.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": f"w{ends[1]}"}))
    learner = mmtx.from_pretrained(saved(model, tmp_path))
    mmtx.to_pretrained(learner, tmp_path / "again")
    expected = model.generate(torch.tensor([[5, 7]]), do_sample=False, max_new_tokens=12, pad_token_id=0)[0].tolist()
    assert expected[-1] == ends[1] != unending[-1]
    for each in (learner, mmtx.from_pretrained(tmp_path / "again")):
        vocabulary = each.specs["text"].vocabulary
        assert {*vocabulary.ends} == {*ends}
        assert vocabulary.end == ends[has_tokenizer]
        given = {"prompt": vocabulary.decode([5, 7]), "max_new_tokens": 12, "sampling": GREEDY}
        text = each.objective("next_token").generate(each.model, Batch({}, {}), torch.Generator(), **given)
        assert vocabulary.encode(text) == expected[: len(expected) - 1]


def test_long_texts_are_written_as_without_a_cache(tmp_path: Path) -> None:
    """So long that matrices are laid out anew, for one text; what learns afterwards finds them as they were."""
    learner = mmtx.from_pretrained(saved(sharp(gpt2(n_positions=64)), tmp_path))
    batch = text_batch("text", torch.randint(3, VOCAB, (1, 4)), None)
    before = {key: (value.data_ptr(), value.stride()) for key, value in learner.state_dict().items()}
    cached, anew = (
        generate(learner.model, scores(learner), batch, "text", max_new_tokens=50, cache=cache)
        for cache in (True, False)
    )
    assert cached == anew
    assert {key: (value.data_ptr(), value.stride()) for key, value in learner.state_dict().items()} == before
    learner(text_batch("text", torch.randint(3, VOCAB, (2, 9)), None))["next_token"].loss_sum.backward()


@pytest.mark.parametrize("num_beams", [3, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", END)
def test_beams(name: str, num_beams: int, tmp_path: Path) -> None:
    """Without a penalty of length, and until nothing that is alive can win."""
    model, inputs, batch, text = case(name)
    learner, end = mmtx.from_pretrained(saved(model, tmp_path)), END[name]
    found = beam_search(
        learner.model, scores(learner), batch, text, beam_size=num_beams, length_penalty=0.0, max_new_tokens=8, end=end
    )
    options = {"num_beams": num_beams, "length_penalty": 0.0, "early_stopping": "never", "max_new_tokens": 8}
    assert [hypothesis.ids for hypothesis in found] == theirs_written(model, inputs, end, **options)


def test_suppressed_ids_are_never_written(tmp_path: Path) -> None:
    model, _, batch, _ = case("whisper")
    model.generation_config.suppress_tokens = [*range(3, VOCAB - 1)]
    learner = mmtx.from_pretrained(saved(model, tmp_path))
    objective = learner.objective("seq2seq")
    assert objective.suppress == [*range(3, VOCAB - 1)]
    written = objective.write(learner.model, batch, max_new_tokens=6)
    assert {word for text in written for word in text.split()} <= {"0", "1", str(VOCAB - 1)}


@pytest.mark.parametrize("num_beams", [1, 3])
def test_ids_that_no_text_begins_with(num_beams: int, tmp_path: Path) -> None:
    """The first of a text alone; later it may be any, as `transformers` has it."""
    model, inputs, batch, _ = case("whisper")
    learner = mmtx.from_pretrained(saved(model, tmp_path))
    rows = theirs_written(model, inputs, 2, max_new_tokens=6)
    first = sorted({row[0] for row in rows if row})
    options = {"num_beams": num_beams, "length_penalty": 0.0, "early_stopping": "never"} if num_beams > 1 else {}
    expected = theirs_written(model, inputs, 2, max_new_tokens=6, begin_suppress_tokens=[2, *first], **options)
    objective = learner.objective("seq2seq")
    objective.prompt, objective.suppress_first, objective.beam_size = [], [2, *first], num_beams
    written = objective.write(learner.model, batch, max_new_tokens=6)
    wanted = [[number for number in row if number not in (1, 2)] for row in expected]
    assert [[int(word) for word in text.split()] for text in written] == wanted
    assert expected != rows


def test_the_prompt_of_a_decoder_is_not_part_of_the_text(tmp_path: Path) -> None:
    model, _, batch, _ = case("whisper")
    learner = mmtx.from_pretrained(saved(model, tmp_path))
    objective = learner.objective("seq2seq")
    objective.prompt = [5, 7]
    given = Batch(
        {**batch.fields, "text": {"ids": torch.tensor([[1, 5, 7]] * 3)}},
        {**batch.lengths, "text": torch.tensor([3] * 3)},
    )
    expected = generate(learner.model, scores(learner), given, "text", max_new_tokens=6, end=2)
    assert objective.write(learner.model, batch, max_new_tokens=6) == [
        " ".join(map(str, row)).strip() for row in [[i for i in row if i != 1] for row in expected]
    ]


@pytest.mark.slow
def test_openai_whisper_never_writes_some_ids(tmp_path: Path) -> None:
    """What its own library does unless a call has it otherwise."""
    library = pytest.importorskip("whisper")
    dims = library.model.ModelDimensions(80, 50, 16, 2, 1, 51865, 16, 16, 2, 1)
    torch.manual_seed(2)
    theirs = library.model.Whisper(dims).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(1.5 * torch.randn_like(parameter))  # its positions are memory as found
    torch.save({"dims": dims.__dict__, "model_state_dict": theirs.state_dict()}, tmp_path / "tiny.pt")
    ours, features = mmtx.from_pretrained(tmp_path / "tiny.pt"), torch.randn(1, 80, 100)
    options = library.DecodingOptions(language="en", without_timestamps=True, fp16=False, sample_len=8)
    objective = ours.objective("seq2seq")
    batch = with_features(text_batch("text", torch.zeros(1, 1, dtype=torch.long), None), features)
    written = objective.write(ours.model, batch, max_new_tokens=8)[0]
    assert written.strip() == library.decode(theirs, features, options)[0].text
    suppressed = library.decoding.DecodingTask(theirs, options)._get_suppress_tokens()
    assert (tuple(objective.suppress), objective.suppress_first) == (suppressed, [220, 50257])
