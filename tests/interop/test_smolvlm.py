"""SmolVLM and Idefics 3: a picture within a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

transformers = pytest.importorskip("transformers")

from public import VOCAB, picture_in_text_inputs, saved, smolvlm  # noqa: E402
from test_chat import answered  # noqa: E402
from test_generation import scores, sharp, theirs_written  # noqa: E402
from test_supported_keys import changed_value, edited  # noqa: E402
from tokenizer_kinds import written  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string  # noqa: E402

import mmtx  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.config.compose import compose  # noqa: E402
from mmtx.data.files.supported_keys import refusals  # noqa: E402
from mmtx.data.image.decode_image import Fit, decode_image  # noqa: E402
from mmtx.decoding.generate import generate  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402
from mmtx.interop.picture_in_text import in_their_order, split_batch  # noqa: E402
from mmtx.interop.squared_pictures import SQUARED, read_squared  # noqa: E402
from mmtx.run.import_export import shape_of  # noqa: E402

FAMILY = FAMILIES["smolvlm"]
IDLE = {"dtype", "return_dict", "rope_parameters", "text_config", "vision_config"}
"""Keys that are changed elsewhere, or that say what their library returns."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: Any) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = smolvlm()
    return model, saved(model, tmp_path_factory.mktemp("smolvlm"))


def copied(tiny: tuple[Any, Path], folder: Path) -> Path:
    for file in tiny[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def with_key(folder: Path, part: str, **values: Any) -> Path:
    """A folder whose config has other values, of the whole (an empty part) or of a part."""
    content = json.loads((folder / "config.json").read_text())
    return edited(folder, "config", **({part: {**content[part], **values}} if part else values))


def once_changed() -> list[Any]:
    """Every key of the file, at another value; slow: those of a Llama, and those that change nothing at any value."""
    config, cases = smolvlm().config.to_dict(), []
    for part, known in (("", FAMILY.config_keys()), *FAMILY.parts.items()):
        content = config[part] if part else config
        own = {*content, *(FAMILY.keys if not part else known)} - IDLE
        for key in sorted(own & ({*content} | {k for k, each in known.items() if each.status == "used"})):
            each = known.get(key)
            idle = each is not None and each.status == "harmless" and not each.limit
            shared = part == "text_config" and key != "vocab_size" and each is FAMILIES["llama"].config_keys().get(key)
            marks = [pytest.mark.slow] * (idle or shared)
            cases.append(pytest.param(part, {key: changed_value(content.get(key))}, id=f"{part}-{key}", marks=marks))
    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}
    return [*cases, ("text_config", {"rope_parameters": scaling}), ("text_config", {"rope_theta": 50.0})]


@pytest.mark.parametrize(("part", "values"), once_changed())
def test_a_key_changed_once_changes_both_alike_or_is_refused(
    tiny: tuple[Any, Path], part: str, values: dict[str, Any], tmp_path: Path
) -> None:
    with_key(copied(tiny, tmp_path), part, **values)
    try:
        ours = mmtx.from_pretrained(tmp_path)
    except UserError:
        return
    again = transformers.SmolVLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs, real = picture_in_text_inputs(again)
    actual, expected = mmtx.interop.forward(ours, **inputs).logits, again(**inputs).logits
    torch.testing.assert_close(actual[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("text_config", {"model_type": "mistral"}, "text_config: model_type=mistral .*mmtx can .llama"),
        ("text_config", {"use_resampler": True}, "text_config: use_resampler=True"),
        ("text_config", {"warp_factor": 9}, "text_config: unknown key warp_factor=9"),
        ("vision_config", {"image_size": [8, 16]}, "the pictures of this family are square"),
        ("vision_config", {"image_size": 100}, "image_size=100, patch_size=4: of 25 patches on a side, .* rounds some"),
        ("", {"scale_factor": 3}, "factor=3 does not divide patches of 4 x 4"),
        ("", {"tie_word_embeddings": True, "architectures": ["SmolVLMForVideo"]}, "is a SmolVLMForVideo"),
    ],
)
def test_values_that_cannot_be_followed(
    tiny: tuple[Any, Path], part: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        mmtx.from_pretrained(with_key(copied(tiny, tmp_path), part, **values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": torch.zeros(4, 2, 3, 16, 16)}, "pixel_values has 2 pictures for a text"),
        ({"pixel_values": None}, "has places of a picture, and there are no pixel_values"),
        ({"pixel_attention_mask": torch.zeros(4, 1, 16, 16)}, "pixel_attention_mask: pictures of this model fill"),
        ({"input_ids": torch.full((4, 9), 5)}, r"input_ids has \[9\] places of pictures; a picture takes 4"),
        ({"input_ids": torch.tensor([[5, 5, 7, 5, 5, 7, 7, 7, 7]] * 4)}, "a picture takes 4, one after the other"),
        ({"attention_mask": torch.tensor([[0] + [1] * 8] * 4)}, "texts must be padded at their end"),
    ],
)
def test_inputs_that_do_not_go_together(tiny: tuple[Any, Path], change: dict[str, Any], message: str) -> None:
    inputs, _ = picture_in_text_inputs(tiny[0])
    with pytest.raises(UserError, match=message):
        mmtx.interop.forward(mmtx.from_pretrained(tiny[1]), **{**inputs, **change})


def test_packed_and_alone_are_as_padded(tiny: tuple[Any, Path]) -> None:
    """And a text without a picture is one of the Llama."""
    ours = mmtx.from_pretrained(tiny[1]).double()
    inputs, real = picture_in_text_inputs(tiny[0])
    inputs = {**inputs, "pixel_values": inputs["pixel_values"].double()}
    split = split_batch(ours, 5, **inputs)
    padded = in_their_order(ours.model(split.batch), split)
    packed = in_their_order(ours.model(split.batch.packed()), split)
    torch.testing.assert_close(packed[real], padded[real], atol=1e-12, rtol=0)
    for row, count in enumerate(real.sum(1).tolist()):
        one = {key: value[row : row + 1, :count] for key, value in inputs.items() if key != "pixel_values"}
        alone = split_batch(ours, 5, **one, pixel_values=inputs["pixel_values"][row : row + 1])
        torch.testing.assert_close(in_their_order(ours.model(alone.batch), alone)[0], padded[row, :count])
    ids = torch.randint(6, VOCAB, (2, 7))
    written = mmtx.interop.forward(ours.float(), input_ids=ids).logits
    torch.testing.assert_close(written, tiny[0](input_ids=ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cache", [True, False])
def test_greedy(cache: bool, tmp_path: Path) -> None:
    model = sharp(smolvlm())
    ids = torch.randint(6, VOCAB, (3, 9))
    for row, begin in enumerate((2, 0, 4)):
        ids[row, begin : begin + 4] = 5
    inputs = {"input_ids": ids, "pixel_values": torch.randn(3, 1, 3, 16, 16)}
    ours = mmtx.from_pretrained(saved(model, tmp_path))
    batch = split_batch(ours, 5, **inputs).batch
    mine = generate(ours.model, scores(ours), batch, "text", max_new_tokens=10, end=0, cache=cache)
    assert mine == theirs_written(model, inputs, 0, max_new_tokens=10)
    assert len({tuple(row) for row in mine}) > 1


@pytest.mark.parametrize("size", [(23, 31), (40, 17)], ids=str)
@pytest.mark.parametrize("prepared", [{"size": {"longest_edge": 50}}, {"do_resize": False, "do_rescale": False}])
@pytest.mark.parametrize("kind", ["SmolVLM", "Idefics3"])
def test_pictures_are_prepared_as_theirs(
    kind: str, prepared: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    given = {"image_processor_type": f"{kind}ImageProcessor", "do_image_splitting": False, **prepared}
    given["max_image_size"] = {"longest_edge": 16}
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")(**given)
    assert [*refusals(theirs.to_dict(), SQUARED, "")] == []
    shown = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (*size, 3), dtype=numpy.uint8))
    shown.save(tmp_path / "picture.png")
    expected = torch.tensor(numpy.array(theirs(shown)["pixel_values"]))[0, 0]
    read = read_squared(given, (16, 16), 3)
    fit = Fit(**{key: value for key, value in read.fit.items() if key != "_target_"})
    pixels = decode_image(tmp_path / "picture.png", size=(16, 16), channels=3, max_pixels=10000, fit=fit) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (read.mean, read.std))
    torch.testing.assert_close((pixels - mean) / std, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        ({}, "do_image_splitting=true: .* preprocessor_config.do_image_splitting=false"),
        ({"do_image_splitting": False}, "not the 16 x 16 of the model"),
        ({"do_image_splitting": False, "max_image_size": {"height": 16}}, "max_image_size=.*mmtx can longest_edge"),
        ({"do_image_splitting": False, "image_processor_type": "ViTImageProcessor"}, "are prepared by ViTImageProces"),
    ],
)
def test_processors_that_cannot_be_followed(
    tiny: tuple[Any, Path], prepared: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = {"image_processor_type": "SmolVLMImageProcessor", **prepared}
    with pytest.raises(UserError, match=message):
        mmtx.from_pretrained(edited(copied(tiny, tmp_path), "preprocessor_config", **given))


def test_the_preprocessing_comes_out_as_it_went_in(tiny: tuple[Any, Path], tmp_path: Path) -> None:
    given: dict[str, Any] = {"image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 64}}
    given |= {"max_image_size": {"longest_edge": 16}, "do_image_splitting": True, "image_mean": [0.1, 0.2, 0.3]}
    folder = edited(copied(tiny, tmp_path), "preprocessor_config", **given)
    ours = mmtx.from_pretrained(folder, {"preprocessor_config.do_image_splitting": False})
    assert ours.config["data"]["fit"]["longest"] == 64
    mmtx.to_pretrained(ours, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert {key: written[key] for key in given} == {**given, "do_image_splitting": False}
    assert mmtx.from_pretrained(tmp_path / "again").config["data"]["fit"] == ours.config["data"]["fit"]


@pytest.mark.slow
def test_the_line_that_import_prints_gives_the_same_shape(tiny: tuple[Any, Path]) -> None:
    ours = mmtx.from_pretrained(tiny[1])
    chosen = ["data=manifest", "modality=[before,image,text]", "objective=[next_token]"]
    again = compose([*chosen, *shape_of(ours)])
    assert again["modality"]["image"]["encoder"] == ours.config["modality"]["image"]["encoder"]
    assert again["modality"]["image"]["projector"] == ours.config["modality"]["image"]["projector"]
    assert again["backbone"] == ours.config["backbone"] and again["data"]["fit"] == ours.config["data"]["fit"]


TEMPLATE = """\
{{ '<|begin|>' }}{% for message in messages %}{{ message.role | capitalize }}
{%- if message.content is string %}{{ ': ' + message.content }}
{%- else %}{{ ':' if message.content[0].type == 'image' else ': ' }}
{%- for part in message.content %}{{ part.text if part.type == 'text' else '<image>' }}{% endfor %}{% endif %}
{{- '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
ASKED = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the lower 12?"}]}]
MARKS = ("<fake_token_around_image>", "<global-img>", "<image>")


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: Any) -> tuple[Path, Path]:
    """A model with tokenizer, chat template and processor; and a run of it."""
    torch.manual_seed(0)
    folder = written("llama3", tmp_path_factory.mktemp("chatting"))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([*MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    text = {"vocab_size": 400, "max_position_embeddings": 200}
    saved(sharp(smolvlm(text=text, image_token_id=tokenizer.token_to_id("<image>"))), folder)
    prepared = {"do_image_splitting": False, "max_image_size": {"longest_edge": 16}, "size": {"longest_edge": 40}}
    edited(folder, "preprocessor_config", image_processor_type="SmolVLMImageProcessor", **prepared)
    run = tmp_path_factory.mktemp("run") / "run"
    assert main(["import", str(folder), str(run)]) == 0
    return folder, run


def test_the_next_turn_about_a_picture_is_theirs(
    chatting: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their chat template, the marks of their processor, its pixels, and their model; of an export too."""
    folder, run = chatting
    shown = Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=numpy.uint8))
    shown.save(tmp_path / "picture.png")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    rendered = theirs.apply_chat_template(ASKED, chat_template=TEMPLATE, add_generation_prompt=True, tokenize=False)
    around, whole, token = MARKS
    spelt = get_image_prompt_string(0, 0, 4, around, token, whole)
    ids = theirs(rendered.replace(token, spelt), add_special_tokens=False, return_tensors="pt")["input_ids"]
    processor = transformers.SmolVLMImageProcessorPil.from_pretrained(folder)
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    pixels = torch.tensor(numpy.array(processor(shown)["pixel_values"])).float()
    written = model.generate(input_ids=ids, pixel_values=pixels, do_sample=False, max_new_tokens=9, pad_token_id=0)
    expected = theirs.decode(written[0, ids.shape[1] :], skip_special_tokens=True) + "\n"
    assert expected.strip()
    given = [f"messages={json.dumps(ASKED)}", f"image={tmp_path / 'picture.png'}"]
    assert answered(run, capsys, *given) == expected
    assert main(["export", str(run), str(tmp_path / "again")]) == 0
    assert main(["import", str(tmp_path / "again"), str(tmp_path / "second")]) == 0
    assert answered(tmp_path / "second", capsys, *given) == expected


def test_a_picture_and_its_place_belong_together(
    chatting: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = chatting
    Image.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    plain = [{"role": "user", "content": "the lower 12?"}]
    assert "messages have a picture" in answered(run, capsys, f"messages={json.dumps(ASKED)}")
    image = f"image={tmp_path / 'picture.png'}"
    assert "has no place in these messages" in answered(run, capsys, f"messages={json.dumps(plain)}", image)
    assert "a text has 2 pictures" in answered(run, capsys, f"messages={json.dumps(ASKED * 2)}", image)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = theirs.apply_chat_template(plain, chat_template=TEMPLATE, add_generation_prompt=True, return_tensors="pt")[
        "input_ids"
    ]
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    written = model.generate(input_ids=ids, do_sample=False, max_new_tokens=9, pad_token_id=0)[0, ids.shape[1] :]
    expected = theirs.decode(written, skip_special_tokens=True) + "\n"
    assert answered(run, capsys, f"messages={json.dumps(plain)}") == expected


ANSWERS = ["zero", "one", "two"]
COLUMNS = ["data.columns={before: messages, image: images, text: messages}", "data.kinds.before=before_picture"]


def test_fine_tuned_on_conversations_about_pictures(
    chatting: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss is that of `transformers` over what the assistant wrote, of texts with their marks and pixels; the
    run goes on with a conversation, and is exported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder, run = chatting
    talks = [[*ASKED, {"role": "assistant", "content": answer}] for answer in ANSWERS]
    for number in range(len(talks)):
        Image.fromarray(load_digits().images[number].astype(numpy.uint8) * 15).save(f"{number}.png")
    rows = [json.dumps({"messages": talk, "images": [f"{number}.png"]}) for number, talk in enumerate(talks)]
    Path("talks.jsonl").write_text("\n".join(rows))
    words = [f"init_from={run}", "data=manifest", "data.path=talks.jsonl", *COLUMNS, "data/vocabulary=pretrained"]
    words += ["modality=[before,image,text]", "objective=[next_token]", *shape_of(mmtx.load(run)), "data.size=16"]
    words += ["objective.next_token.tied=false", "data.val_fraction=0", "data.test_fraction=0", "trainer.max_steps=1"]
    words += ["loader.batch_size=3", "log_every_steps=1", "logger=[]", "callbacks=[]", "run_dir=tuned"]
    assert main(["train", *words]) == 0
    first = json.loads(Path("tuned/metrics.jsonl").read_text().splitlines()[0])
    assert first["train/loss"] == pytest.approx(loss_of_transformers(folder, talks), rel=1e-4)
    given = [f"messages={json.dumps(ASKED)}", "image=0.png"]
    answer = answered(tmp_path / "tuned", capsys, *given)
    assert main(["export", "tuned", "again"]) == 0
    assert main(["import", "again", "second"]) == 0
    assert answered(tmp_path / "second", capsys, *given) == answer != ""


def loss_of_transformers(folder: Path, talks: list[list[dict[str, Any]]]) -> float:
    """Over what stands behind ``Assistant:`` in each conversation about the picture of its number."""
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.SmolVLMImageProcessorPil.from_pretrained(folder)
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    around, whole, token = MARKS
    losses = []
    for number, talk in enumerate(talks):
        rendered = theirs.apply_chat_template(talk, chat_template=TEMPLATE, tokenize=False)
        text = rendered.replace(token, get_image_prompt_string(0, 0, 4, around, token, whole))
        encoded = theirs(text, add_special_tokens=False, return_tensors="pt", return_offsets_mapping=True)
        start = text.index("Assistant:") + len("Assistant:")
        labels = encoded["input_ids"].masked_fill(encoded["offset_mapping"][..., 0] < start, -100)
        pixels = torch.tensor(numpy.array(processor(Image.open(f"{number}.png"))["pixel_values"])).float()
        logits = model(input_ids=encoded["input_ids"], pixel_values=pixels).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="none")
        losses += each[labels[0, 1:] != -100].tolist()
    return sum(losses) / len(losses)
