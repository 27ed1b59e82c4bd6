"""Every yaml of every group composes, builds, and takes two steps."""

import functools
import json
import math

import pytest
import torch
import yaml
from small_codec import small_codec, small_codec_file
from small_data import shrink_data, small_tokenizer

from mmtx.codes.pixels import Pictures
from mmtx.commands.main import main
from mmtx.config.compose import compose
from mmtx.config.folders import config_directory
from mmtx.config.groups import describe_options
from mmtx.experiment import assemble
from mmtx.nn.roles import roles_of
from mmtx.objectives.capabilities import IsJudged

OPTIONS = describe_options()
TINY = ["backbone.dim=24", "backbone.num_layers=2", "backbone.num_heads=2", "loader.batch_size=4"]
TINY += ["backbone.compile=false"]
"""Small enough that a step takes milliseconds; 24 divides by every number of axes."""

FOR_A_GPU = [*(recipe for recipe in OPTIONS["experiment"] if recipe.endswith("_gpu")), "whisper_sentences"]
SIX_STEPS = [
    *("trainer.max_epochs=null", "trainer.max_steps=6", "trainer.val_every_steps=6", "trainer.accelerator=cpu"),
    *("log_every_steps=1", "logger=[]", "callbacks=[]"),
]

FOLDS = ["modality=[chain]", "objective=[fold]"]
DATA_WITHOUT_PICTURES = {
    **dict.fromkeys(("text_file", "python_docs", "names"), ["modality=[text]", "objective=[next_token]"]),
    **dict.fromkeys(("parallel_text", "g2p", "ciphers"), ["modality=[source,target]", "objective=[seq2seq]"]),
    **dict.fromkeys(("audio_manifest", "librispeech", "speech_commands", "spoken_digits"), ["modality=[audio]"]),
    "obstacle": ["modality=[state,action]", "objective=[act_by_flow]"],
    **dict.fromkeys(
        ("rollouts", "key_to_door", "t_maze", "trajectories", "minari"),
        ["modality=[return,state,action]", "objective=[action]"],
    ),
    "babyai": ["modality=[mission,view,action]", "objective=[action]", "objective.action.read=view"],
    "manifest": ["modality=[image,text]", "objective=[next_token]"],
    "labelled_text": ["modality=[text]", "objective=[classify]"],
    **dict.fromkeys(
        ("fsdd", "asked_voices"),
        ["modality=[audio]", "modality/spectrogram@modality.audio.spectrogram=centred_8khz"],
    ),
    "driving": ["modality=[camera,radar,map,vehicle,speed]", "objective=[classify]"],
    "moving_digits": ["modality=[video]", "objective=[classify]"],
    "interleaved_digits": [
        *("modality=[text,image]", "modality.text.clock=document", "modality.image.clock=document"),
        *("backbone/norm=adaptive", "objective=[next_token,flow_in_turn]"),
    ],
    "av_digits": ["modality=[image]", "objective=[classify]"],
    "diabetes": ["modality=[measurements]", "objective=[regression]"],
    **dict.fromkeys(("made_chains", "pdb_chains"), FOLDS),
    "several_digits": ["objective.classify.label=labels", "objective=[classify]"],
    **dict.fromkeys(("parity", "modular_sums", "list_ops"), ["modality=[text]", "objective=[classify]"]),
    **dict.fromkeys(
        ("reversal", "stack", "addition", "countdown", "mqar", "induction", "recall"),
        ["modality=[text]", "objective=[next_token]"],
    ),
    "name_pairs": ["modality=[text]", "objective=[preference]"],
    "sequential_pictures": ["modality=[pixels]", "objective=[classify]"],
    **dict.fromkeys(
        ("coded_pictures", "coded_films", "coded_sounds"),
        ["modality=[codes]", "objective=[next_token]", "objective.next_token.text=codes"],
    ),
    **dict.fromkeys(("linear_regression", "few_shot"), ["modality=[x,y]", "objective=[in_context]"]),
}
ACTS = ["modality=[return,reward,state,action]", "objective=[action]"]
LISTENS_AND_LOOKS = [
    "modality=[image,audio]",
    "modality/spectrogram@modality.audio.spectrogram=centred_8khz",
    "objective=[contrastive]",
]
SENSORS = ("camera", "radar", "map", "vehicle", "speed")
OBEYS = ["modality=[mission,view,action]", "objective=[action]", "objective.action.read=view"]
TRANSLATES = ["modality=[source,target]", "objective=[seq2seq]", "objective.seq2seq.text=target", "encode=[source]"]
DENOISES = [
    *("modality=[source,target]", "encode=[source]", "data.max_length=64"),
    *(f"data/vocabulary@data.{name}_vocabulary=bytes" for name in ("source", "target")),
]
NATIVE = [
    *("modality=[native_image,text]", "objective=[next_token]", "data/fit=native", "data.fit.patch_size=2"),
    *("data.fit.max_patches=12", "modality.image.patch_size=2", "modality.image.side=3"),
]
CODED = ["modality=[coded_image]", "objective=[reconstruct,classify]"]
FRAMES = ["modality=[video]", "modality.video.tubelet_frames=1"]
DRAWN = ["modality=[label,codes]", "objective=[next_token]", "objective.next_token.text=codes"]
NEEDS = {
    "objective": {
        "classify": ["modality=[image]"],
        "next_token": ["modality=[image,text]"],
        "seq2seq": ["modality=[image,text]", "encode=[image]"],
        "ctc": ["modality=[audio]"],
        "masked_token": ["modality=[text]", "modality.text.causal=false"],
        "flow": ["modality=[label,image]"],
        "act_by_flow": ["modality=[state,action]"],
        "next_frames": FRAMES,
        "forced_frames": [*FRAMES, "backbone/norm=adaptive"],
        "flow_in_turn": ["modality=[label,image]", "modality.image.clock=null", "backbone/norm=adaptive"],
        **dict.fromkeys(("masked_autoencoder", "joint_embedding", "lejepa"), ["modality=[image]"]),
        **dict.fromkeys(("denoising", "span_corruption"), DENOISES),
        "masked_diffusion": ["modality=[text]", "modality.text.causal=false"],
        **dict.fromkeys(("action", "action_by_return"), ["modality=[return,state,action]"]),
        "contrastive": LISTENS_AND_LOOKS[:-1],
        "regression": ["modality=[measurements]"],
        **dict.fromkeys(("fold", "fold_by_flow"), ["modality=[chain]"]),
        "experts": ["modality=[image]", "backbone/mlp=experts", "objective=[classify,experts]"],
        "in_context": ["modality=[x,y]"],
        "streamed": ["modality=[image,text]"],
        "reconstruct": CODED,
        **dict.fromkeys(("preference", "reward_model"), ["modality=[text]"]),
        "policy_gradient": ["modality=[image,text]"],
    },
    "modality": {
        "image": ["objective=[classify]"],
        "text": ["objective=[next_token]"],
        **dict.fromkeys(("audio", "invertible_audio"), ["objective=[ctc]"]),
        "source": TRANSLATES,
        "target": TRANSLATES,
        "question": ["modality=[question,text]", "objective=[seq2seq]"],
        "before": ["modality=[before,text]", "objective=[next_token]", "+data.columns.before=text"],
        "native_image": NATIVE,
        **dict.fromkeys(("return", "reward", "state", "action"), ACTS),
        **dict.fromkeys(("mission", "view"), OBEYS),
        **dict.fromkeys(SENSORS, ["objective=[classify]"]),
        "measurements": ["objective=[regression]"],
        "chain": ["objective=[fold]"],
        **dict.fromkeys(("pixels", "video"), ["objective=[classify]"]),
        **dict.fromkeys(("x", "y"), ["modality=[x,y]", "objective=[in_context]"]),
        "view_pixels": ["modality=[mission,view_pixels,action]", *OBEYS[1:], "data.pixels=true"],
        "speech": ["modality=[speech,view,action]", *OBEYS[1:]],
        "coded_image": CODED,
        "coded_audio": ["modality=[coded_audio]", "objective=[reconstruct,ctc]", "objective.reconstruct.name=audio"],
        "coded_video": [
            "modality=[coded_video]",
            "objective=[reconstruct,classify]",
            "objective.reconstruct.name=video",
        ],
        **dict.fromkeys(("codes", "label"), DRAWN),
    },
}
NEEDS_DATA = {
    **dict.fromkeys(("ctc", "audio", "invertible_audio", "coded_audio"), "audio_manifest"),
    **dict.fromkeys(("source", "target", "denoising", "span_corruption"), "parallel_text"),
    **dict.fromkeys(("return", "reward", "state", "action", "action_by_return"), "key_to_door"),
    **dict.fromkeys(("mission", "view", "view_pixels", "speech"), "babyai"),
    **dict.fromkeys(SENSORS, "driving"),
    "contrastive": "av_digits",
    "question": "asked_digits",
    **dict.fromkeys(("before", "native_image"), "manifest"),
    **dict.fromkeys(("regression", "measurements"), "diabetes"),
    "act_by_flow": "obstacle",
    **dict.fromkeys(("chain", "fold", "fold_by_flow", "pair_bias"), "made_chains"),
    **dict.fromkeys(("next_frames", "forced_frames"), "moving_digits"),
    "pixels": "sequential_pictures",
    **dict.fromkeys(("video", "coded_video"), "moving_digits"),
    **dict.fromkeys(("codes", "label", "judged_picture"), "coded_pictures"),
    **dict.fromkeys(("x", "y", "in_context"), "linear_regression"),
    **dict.fromkeys(("preference", "reward_model"), "name_pairs"),
}
"""Options that the digits cannot be used with."""


FINETUNE = {
    "finetune_text_classification": [],
    "finetune_vit": ["modality.image.patch_size=4"],
    "finetune_whisper": ["modality.audio.pad_to_seconds=0.2"],
}
"""So that they fit small data."""

PRETRAINED = ["data.vocabulary.begin='[CLS]'", "data.vocabulary.end='[SEP]'"]

READ_FILES = (
    "gpt_shakespeare",
    "diffuse_",
    "infill_",
    "stream_shakespeare",
    "names",
    "whisper_fsdd",
    "whisper_sentences",
    "audio_classification",
    "bert_",
)
"""Recipes, by how they begin, that name no data of their own."""

BEGUN = ("names_by_preference", "arithmetic_by_reward", "reward_hacked", "cartpole_online", "countdown")
"""Recipes that begin with another run, and need no files."""

RECURRENCES = ("lstm", "gru", "min_lstm", "min_gru", "s4d", "mamba2", "gated_delta", "short_conv", "window_mlp")
"""Mixers that read tokens one after the other, which a picture's are not."""

REMEMBERS = {
    ("backbone", "neighbours"): ["backbone.num_layers=4"],
    ("backbone/attention", "neighbours"): ["backbone.layers=L", "backbone.window=2"],
    ("backbone/memory_tokens", "carried"): ["backbone.memory_tokens.segment=2"],
}
"""Memories of earlier tokens, which a picture's have none of."""

PARTS = ("data/pictures", "data/voices")
"""Groups of data that other data are made of."""

SAMPLES = {"spectrogram": "samples", "stem": "waveform"}
"""Each of the two needs the other."""

SIZES = {"crop_flip": ["data.augment.transforms.0.size=8"], "shift": ["data.augment.size=8"]}
"""The digits that augmentations are tried on are 8 pixels wide."""


def data_for(group, option):
    if group == "objective/pair_loss":
        return NEEDS_DATA["contrastive"]
    if group == "objective/preference_loss":
        return "name_pairs"
    if group == "data/fit":
        return "manifest"
    if group == "objective/corruption":
        return "parallel_text"
    if group in ("modality/spectrogram", "modality/stem", "modality/augment"):
        return "fsdd" if option == "centred_8khz" else "audio_manifest"
    if group in PARTS:
        return "av_digits"
    return option if group == "data" else NEEDS_DATA.get(option, "digits")


def overrides_for(group, option, folder):
    if group in ("backbone", "backbone/attention") and option in RECURRENCES:
        return [f"{group}={option}", "modality=[text]", "objective=[next_token]"]
    if (own := REMEMBERS.get((group, option))) is not None:
        return [f"{group}={option}", "modality=[text]", "objective=[next_token]", *own]
    if option == "pair_bias":
        return [f"{group}={option}", *FOLDS]
    if group in ("checkpoint", "trainer", "optim", "backbone"):
        return [f"{group}={option}"]
    if group in ("modality", "objective", "callbacks", "logger"):
        return [f"{group}=[{option}]", *NEEDS.get(group, {}).get(option, [])]
    if option == "mixture":
        return [f"+data@data.parts.{part}=digits" for part in ("one", "two")]
    if group == "data":
        needs = DATA_WITHOUT_PICTURES.get(option, [])
        if needs == ["modality=[source,target]", "objective=[seq2seq]"]:
            return [*needs, "objective.seq2seq.text=target"]
        return needs if not needs or "objective" in needs[-1] else [*needs, "objective=[ctc]"]
    if group == "modality/picture_augment":
        return ["modality=[image]", "objective=[classify]", f"{group}@modality.image.augment={option}"]
    if group == "modality/projector":
        encoder = "modality.image.encoder"
        sizes = [f"{encoder}.dim=24", f"{encoder}.num_layers=1", f"{encoder}.num_heads=2"]
        return ["modality=[image]", f"+{group}@modality.image.projector={option}", f"+backbone@{encoder}=vit", *sizes]
    if group == "modality/quantiser":
        return [*CODED, f"{group}@modality.image.quantiser={option}"]
    if group.startswith("modality/"):
        chosen = SAMPLES if option in SAMPLES.values() else {group.partition("/")[2]: option}
        choices = [f"modality/{part}@modality.audio.{part}={each}" for part, each in chosen.items()]
        small = [f"modality.audio.stem.widths={[8] * 7}", "modality.audio.stem.position_groups=8"]
        return ["modality=[audio]", "objective=[ctc]", *choices, *small * (chosen == SAMPLES)]
    if group == "objective/pool":
        named = ["objective.classify.pool.name=image"] * (option in ("first", "last"))
        return [f"objective/pool@objective.classify.pool={option}", "modality.image.summary=true", *named]
    if option == "judged_picture":
        own = "objective.policy_gradient"
        chosen = [f"{group}@{own}.rewards=[{option}]", f"{own}.rewards.{option}.judge=runs/judge", f"{own}.text=codes"]
        return ["modality=[label,codes]", "objective=[policy_gradient]", *chosen]
    if group == "objective/reward":
        chosen = f"{group}@objective.policy_gradient.rewards=[{option}]"
        return ["modality=[image,text]", "objective=[policy_gradient]", chosen]
    if group == "objective/preference_loss":
        return ["modality=[text]", "objective=[preference]", f"{group}@objective.preference.loss={option}"]
    if group == "objective/pair_loss":
        return [*LISTENS_AND_LOOKS, f"{group}@objective.contrastive.loss={option}"]
    if group == "objective/corruption":
        return [*DENOISES, "objective=[span_corruption]", f"{group}@objective.span_corruption.corruption={option}"]
    if group == "objective/metric":
        return [*NEEDS["objective"]["seq2seq"], "objective=[seq2seq]", f"{group}@objective.seq2seq.metrics=[{option}]"]
    if group in PARTS:
        return [f"{group}={option}", *LISTENS_AND_LOOKS, "modality.image.patch_size=4"]
    if group == "data/vocabulary":
        return [
            f"{group}={option}",
            "modality=[text]",
            "objective=[next_token]",
            *["data.vocabulary.vocab_size=300"] * (option == "bpe"),
            *PRETRAINED * (option == "pretrained"),
            *[f"data.vocabulary.path={folder}"] * (option == "pretrained"),
        ]
    if group == "backbone/rotary_scaling":
        own = "backbone.positions.rotary.scaling"
        lengths = [] if option in ("linear", "rounded") else [f"{own}.trained_length=16"]
        return ["backbone/positions=rotary", f"{group}@{own}={option}", *lengths]
    if group == "data/fit":
        return (
            NATIVE if option == "native" else [f"{group}={option}", "modality=[image,text]", "objective=[next_token]"]
        )
    if group == "data/augment":
        return [f"{group}={option}", *SIZES.get(option, [])]
    return [f"{group}={option}"]


def cases():
    for group, options in OPTIONS.items():
        if group != "experiment" and not group.startswith(("launcher", "sweep")):  # of sweeps: tests/sweep
            yield from (pytest.param(group, option, id=f"{group}={option}") for option in options)


class Judge:
    """Reads one of ten classes in the sum of a picture's bytes."""

    label = "label"

    def classes(self, pixels):
        return pixels.long().flatten(1).sum(1) % 10


def two_steps(overrides):
    experiment = assemble(compose([*TINY, *overrides]))
    learner = experiment.learner
    for objective in learner.objectives.values():
        for reward in (objective.judged if isinstance(objective, IsJudged) else {}).values():
            reward.judge_by(Judge())
    if learner.uses_reference:
        learner.freeze_reference()
    optimizer = experiment.optimisation.optimizer(learner)
    assert roles_of(learner).keys() == dict(learner.named_parameters()).keys()
    losses = []
    for batches in experiment.data.train_loader(num_steps=2, accumulate=1, rank=0, num_ranks=1):
        scores = [score for batch in batches for score in learner(batch).values()]
        counted = [score for score in scores if score.count]  # one that only watches has nothing in training
        loss = torch.stack([score.loss_sum / score.count for score in counted]).sum()
        optimizer.zero_grad()
        loss.backward()
        is_mixture = len(experiment.data.source.parts) > 1  # whose steps may lack a part
        learnt = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        assert is_mixture or all(parameter.grad is not None for parameter in learnt)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    return experiment


@pytest.mark.parametrize(("group", "option"), list(cases()))
def test_every_option_takes_two_steps(group, option, tmp_path, monkeypatch, unchecked):
    if option in ("mlflow", "tensorboard"):
        pytest.importorskip(option, reason="needs mmtx[loggers]")
    overrides = overrides_for(group, option, small_tokenizer(tmp_path))
    data = data_for(group, option)
    shrunk = shrink_data(data, tmp_path, monkeypatch)
    if group in PARTS:
        part = group.replace("/", ".")
        own = [override.replace("data.", f"{part}.", 1) for override in shrink_data(option, tmp_path, monkeypatch)]
        shrunk = [override for override in shrunk if not override.startswith(part)] + own
    two_steps([f"data={data}", *fitting(shrunk, overrides), *overrides])


def fitting(shrunk, overrides):
    """Small data without the sizes of their vocabularies where those are chosen: bytes have none."""
    chosen = any(override.endswith("vocabulary=bytes") for override in overrides)
    return [override for override in shrunk if not chosen or "_vocabulary.vocab_size" not in override]


@pytest.mark.parametrize("recipe", [recipe for recipe in OPTIONS["experiment"] if recipe not in FOR_A_GPU])
def test_every_recipe_passes_the_check_and_takes_two_steps(recipe, tmp_path, monkeypatch):
    words = [f"experiment={recipe}", *small_data_of(recipe, tmp_path, monkeypatch)]
    experiment = assemble(compose(words))
    assert experiment.config["name"] == recipe
    assert experiment.total_steps >= 1
    two_steps(words)


@pytest.mark.parametrize("recipe", FOR_A_GPU)
def test_every_recipe_for_a_gpu_takes_six_steps_on_a_cpu(recipe, tmp_path, monkeypatch):
    """Through training, validation and test, in its precision."""
    words = [f"experiment={recipe}", *TINY, *small_data_of(recipe, tmp_path, monkeypatch), *SIX_STEPS]
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 6 and all(map(math.isfinite, losses))
    assert any("val/loss" in row for row in rows)


@functools.cache
def options_of_classes():
    files = (config_directory() / "data").glob("*.yaml")
    return {yaml.safe_load(file.read_text())["_target_"]: file.stem for file in files}


def option_of(node):
    """The choice of ``conf/data`` that a node of data is."""
    return options_of_classes()[node["_target_"]]


def small_data_of(recipe, tmp_path, monkeypatch):
    """Small data in the place of the recipe's own."""
    given = ["init_from=y"] if recipe in BEGUN else ["data.path=x"] if recipe.startswith(READ_FILES) else []
    given += ["data.source=x", "data.target=y"] if recipe.startswith(("translat", "t5_")) else []
    if recipe.startswith("finetune_"):
        given, more = ["data.path=x", "init_from=y"], FINETUNE[recipe]
        file = option_of(compose([f"experiment={recipe}", *given])["data"])
        own = [f"data.vocabulary.path={small_tokenizer(tmp_path)}"] * (file != "image_folder")
        return ["init_from=y", *shrink_data(file, tmp_path, monkeypatch), *own, *more]
    data = compose([f"experiment={recipe}", *given])["data"]
    parts = {f"data.parts.{name}": part for name, part in data.get("parts", {}).items()}
    parts |= {"data.pictures": data["pictures"]} if "pictures" in data else {}
    small = [
        override.replace("data.", f"{path}.", 1)
        for path, node in {"data": data, **parts}.items()
        for override in shrink_data(option_of(node), tmp_path, monkeypatch)
        if (path == "data" and data.get("max_digits") != 1) or "max_digits" not in override  # what is predicted stays
    ]
    if recipe == "draw_mnist":  # codes of larger pictures
        codec = small_codec(Pictures(shape=(1, 28, 28), scale=255.0), (7, 7))
        small.append(f"data.vocabulary.path={small_codec_file(tmp_path, codec)}")
    small = fitting(small, DENOISES) if recipe == "t5_spans" else small
    return [*["init_from=y"] * (recipe in BEGUN), *small]


def test_every_option_says_in_one_line_what_it_is():
    for group, options in OPTIONS.items():
        for option, line in options.items():
            assert line, f"conf/{group}/{option}.yaml begins with no comment"
