"""Configs name classes by room; what named them by file is read as this version would have stored it."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

import mmtx
from mmtx.config.compose import compose
from mmtx.config.folders import config_directory
from mmtx.config.migrations import (
    FORMAT,
    migrated_checkpoint,
    migrated_config,
    migrated_sweep,
    with_parameters_renamed,
)
from mmtx.config.stored import read_config
from mmtx.errors import UserError
from mmtx.public_names import CLASS, public_name

SOURCE = Path(mmtx.__file__).parent
ROOMS = ("data", "modalities", "nn", "objectives", "training", "run", "sweep")
LOADER = {"_target_": "mmtx.data.DataModule", "packing": False, "on_bad_sample": "raise", "max_bad_share": 0.01}
TARGET = re.compile(r"_target_: *(mmtx\.[\w.]+)")


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_is_of_one_class_in_a_room(room):
    names = Counter(name for file in (SOURCE / room).rglob("*.py") for name in CLASS.findall(file.read_text()))
    assert names and max(names.values()) == 1, names.most_common(3)


def test_every_config_names_classes_by_room():
    targets = {name for file in config_directory().rglob("*.yaml") for name in TARGET.findall(file.read_text())}
    assert len(targets) > 60
    for target in targets:
        assert target == "mmtx.Clock" or target.count(".") == 2, target


def test_a_class_is_called_what_a_config_calls_it():
    assert public_name(mmtx.data.Digits) == "mmtx.data.Digits"
    assert public_name(Counter) == "collections.Counter"
    assert "Digits" in dir(mmtx.data)
    with pytest.raises(AttributeError, match="module 'mmtx.data' has no attribute 'Digit'"):
        mmtx.data.Digit  # noqa: B018


def test_classes_that_were_named_by_their_files():
    old = {
        "data": {"_target_": "mmtx.data.vocabulary.BPE", "parts": [{"_target_": "torch.nn.GELU"}]},
        "clocks": {"step": {"_target_": "mmtx.tokens.Clock"}},
        "objective": {"mine": {"_target_": "my_lab.objectives.mine.Mine"}},
        "hint": "mmtx.data.vocabulary.BPE",
    }
    new = {
        "data": {"_target_": "mmtx.data.BPE", "parts": [{"_target_": "torch.nn.GELU"}]},
        "loader": LOADER,
        "lora": None,
        "clocks": {"step": {"_target_": "mmtx.Clock"}},
        "objective": {"mine": {"_target_": "my_lab.objectives.mine.Mine"}},
        "hint": "mmtx.data.vocabulary.BPE",
    }
    assert migrated_config(old, "x") == new
    assert migrated_config({"format": FORMAT, **new}, "x") == new
    specs = {"text": {"vocabulary": {"kind": "mmtx.data.vocabulary.BPE", "state": {}}}}
    described = {"format": 2, "config": old, "specs": specs, "fingerprint": {}}
    assert migrated_checkpoint({"state_dict": {}, "mmtx": described}, "x") == {
        "state_dict": {},
        "mmtx": {
            "format": FORMAT,
            "config": new,
            "specs": {"text": {"vocabulary": {"kind": "mmtx.data.BPE", "state": {}}}},
            "fingerprint": {},
            "fitted": {},
        },
    }


def test_keys_of_the_loader_that_stood_in_the_data_and_its_parts():
    sizes = {"batch_size": 8, "eval_batch_size": None, "num_workers": 2}
    part = {"_target_": "mmtx.data.Digits", "num_val": 9}
    old = {"data": {"parts": {"digits": {**part, **sizes, "batch_size": 64}}, "weights": {}, **sizes, "packing": True}}
    new = {
        "data": {"parts": {"digits": part}, "weights": {}},
        "loader": {**LOADER, **sizes, "packing": True},
        "lora": None,
    }
    assert migrated_config({"format": 3, **old}, "x") == new
    described = {"format": 3, "config": old, "specs": {}, "learnt": {"a": 1}}
    found = migrated_checkpoint({"mmtx": described}, "x")["mmtx"]
    assert found == {"format": FORMAT, "config": new, "specs": {}, "fitted": {"a": 1}}


def test_specs_and_progress_in_words_of_the_field():
    described = {"format": 4, "config": {}, "specs": {"label": {"labels": ["a", "b"], "fields": {}}}, "learnt": {}}
    found = migrated_checkpoint({"module": {"metrics": {}, "left_out": 3}, "mmtx": described}, "x")
    assert found["mmtx"]["specs"] == {"label": {"class_names": ["a", "b"], "fields": {}}}
    assert found["module"]["skipped_samples"] == 3


def test_patterns_of_windows_that_are_kinds_of_layers():
    kinds = {letter: {"mixer": None, "mlp": None, "window": letter == "L"} for letter in "GL"}
    old = {"backbone": {"dim": 8, "window_pattern": None}, "encoder": {"window_pattern": "LG"}}
    new = {"backbone": {"dim": 8, "layers": "G", "kinds": kinds}, "encoder": {"layers": "LG"}}
    assert migrated_config({"format": 5, **old}, "x") == new
    assert migrated_config({"format": 5, "backbone": {"window_pattern": "LLG"}, "encoder": {}}, "x") == {
        "backbone": {"layers": "LLG", "kinds": kinds},
        "encoder": {},
    }
    now = compose(["backbone=gpt2"])["backbone"]["kinds"]  # what a new run stores
    assert now == {letter: {**kind, "rotary": None, "residual": True} for letter, kind in kinds.items()}


def test_what_was_stepped_by_adamw_alone_still_is():
    old = {"optim": {"lr": 0.1, "betas": [0.9, 0.99]}}
    new = {"optim": {"rates": {}, "matrices": None, "rest": None, "lr": 0.1, "betas": [0.9, 0.99]}}
    assert migrated_config({"format": 6, **old}, "x") == new
    assert migrated_config({"format": 6, "backbone": {}}, "x") == {"backbone": {}}


def test_classes_that_all_counted_alike():
    old = {"kind": {"_target_": "mmtx.objectives.Classify", "label": "label"}, "own": {"_target_": "my_lab.Mine"}}
    new = {"kind": {**old["kind"], "class_weights": None, "slices": []}, "own": old["own"]}
    assert migrated_config({"format": 8, "objective": old}, "x") == {"objective": new}
    assert migrated_config({"format": 8, "backbone": {}}, "x") == {"backbone": {}}


def test_norms_that_stood_before_or_after():
    old = {"backbone": {"dim": 8, "norm_first": False}, "encoder": {"norm_first": True}}
    new = {"backbone": {"dim": 8, "norm_place": "after"}, "encoder": {"norm_place": "before"}}
    assert migrated_config({"format": 9, **old}, "x") == new
    assert migrated_config({"format": 9, "backbone": {"dim": 8}, "encoder": None}, "x") == {
        "backbone": {"dim": 8},
        "encoder": None,
    }


def test_heads_that_were_normalised_one_by_one():
    attention = {"_target_": "mmtx.nn.Attention", "qk_norm": None}
    old = {"backbone": {"attention": attention, "kinds": {"R": {"mixer": {"_target_": "my_lab.GRU"}}}}}
    new = {"backbone": {**old["backbone"], "attention": {**attention, "qk_norm_over": "head"}}}
    assert migrated_config({"format": 9, **old}, "x") == new


def test_blocks_that_were_computed_again_as_a_whole_or_not_at_all():
    old = {"backbone": {"activation_checkpointing": True}, "encoder": {"activation_checkpointing": False}}
    new = {"backbone": {"activation_checkpointing": "blocks"}, "encoder": {"activation_checkpointing": "none"}}
    assert migrated_config({"format": 7, **old}, "x") == new
    assert migrated_config({"format": 7, "backbone": {"dim": 8}, "encoder": None}, "x") == {
        "backbone": {"dim": 8},
        "encoder": None,
    }


def test_everything_that_goes_by_the_name_of_a_parameter_is_renamed():
    """What a step can do: nothing else in a checkpoint holds names of parameters."""
    names = ["model.blocks.0.attention.qkv.weight", "model.blocks.0.attention.qkv_norm.weight", "head.qkv"]
    want = ["model.blocks.0.mixer.in.weight", "model.blocks.0.attention.qkv_norm.weight", "head.qkv"]
    lora = {"rank": 2, "targets": ["*attention.qkv", "*.out"]}
    stored = {
        "config": {"freeze": ["model.*.attention.qkv.*", "attention.qkv"], "lora": lora, "seed": 1},
        "state_dict": dict.fromkeys(f"learner.{name}" for name in names),
        "average": {"updates": 3, **dict.fromkeys(names)},
        "optimizer": {"groups": [{}], "state": dict.fromkeys(names, {})},
        "callbacks": {"Samples": {}},
    }
    found = with_parameters_renamed(stored, "attention.qkv", "mixer.in")
    assert found["config"]["freeze"] == ["model.*.mixer.in.*", "mixer.in"]
    assert found["config"]["lora"] == {"rank": 2, "targets": ["*mixer.in", "*.out"]} and found["config"]["seed"] == 1
    assert list(found["state_dict"]) == [f"learner.{name}" for name in want]
    assert list(found["average"]) == ["updates", *want] and list(found["optimizer"]["state"]) == want
    assert found["callbacks"] == stored["callbacks"] and found["optimizer"]["groups"] == [{}]
    alone = with_parameters_renamed({"config": {"freeze": ["attention.qkv"]}}, "attention.qkv", "mixer.in")
    assert alone == {"config": {"freeze": ["mixer.in"]}}


def test_overrides_of_a_sweep_whose_keys_have_moved():
    words = ["data.path=data.batch_size=4", "+data.batch_size=4,8", "data.num_val=9", "~data.packing"]
    jobs = [{"name": "a", "overrides": ["data.parts.docs.num_workers=1"]}, {"name": "b"}, 3]
    content = migrated_sweep({"name": "s", "command": words, "jobs": jobs})
    assert content["command"] == ["data.path=data.batch_size=4", "+loader.batch_size=4,8", words[2], "~loader.packing"]
    assert content["jobs"] == [{"name": "a", "overrides": ["loader.num_workers=1"]}, {"name": "b"}, 3]
    words = ["backbone.window_pattern=L,LG", "++encoder.window_pattern=null", "my.window_pattern=L", "not an override"]
    found = migrated_sweep({"command": words})["command"]
    assert found == ["backbone.layers=L,LG", "++encoder.layers=G", *words[2:]]
    words = ["backbone.activation_checkpointing=true", "encoder.activation_checkpointing=selective"]
    assert migrated_sweep({"command": words})["command"] == ["backbone.activation_checkpointing=blocks", words[1]]
    words = ["backbone.norm_first=true", "encoder.norm_first=false"]
    found = migrated_sweep({"command": words})["command"]
    assert found == ["backbone.norm_place=before", "encoder.norm_place=after"]
    assert migrated_sweep({}) == {} and migrated_sweep({"jobs": {}, "command": 1}) == {"jobs": {}, "command": 1}


@pytest.mark.parametrize("written", [FORMAT + 1, 1, "2", None, True])
def test_other_formats_are_refused_by_their_number(written, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"format": written, "backbone": {}}))
    with pytest.raises(UserError, match=rf"config.yaml has format {written}; this version of mmtx reads 2 to {FORMAT}"):
        read_config(file)
