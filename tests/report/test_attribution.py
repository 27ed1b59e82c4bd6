"""Gains of modalities, against Shapley's definition written out over all orders."""

from itertools import permutations

import pytest
from run_directories import write_run, write_sweep

from mmtx.report.attribution import all_subsets, attributions, read_subset, shapley
from mmtx.report.comparison import compare
from mmtx.run.run_record import find_runs

NAMES = ("text", "image", "audio", "trajectory")
VALUES = {subset: (7919 * i * i % 101) / 101 for i, subset in enumerate(all_subsets(NAMES), 1)}


def over_all_orders(values, names, empty):
    """What each name changes when it comes, averaged over every order in which names can come."""
    changes = {name: [] for name in names}
    for order in permutations(names):
        for i, name in enumerate(order):
            before = frozenset(order[:i])
            if before or empty is not None:
                changes[name].append(values[before | {name}] - (values[before] if before else empty))
    return {name: sum(found) / len(found) for name, found in changes.items()}


@pytest.mark.parametrize("empty", [None, 0.1])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_gains_are_averages_over_all_orders(count, empty):
    names = NAMES[:count]
    assert shapley(VALUES, names, empty) == pytest.approx(over_all_orders(VALUES, names, empty))


def test_shapley_values_share_out_what_the_whole_set_gains():
    assert sum(shapley(VALUES, NAMES, 0.1).values()) == pytest.approx(VALUES[frozenset(NAMES)] - 0.1)


def test_another_value_for_nothing_shifts_all_alike():
    one, other = shapley(VALUES, NAMES, 0.1), shapley(VALUES, NAMES, 0.5)
    assert [one[name] - other[name] for name in NAMES] == pytest.approx([0.1] * 4)


SCORES = {"[image]": (0.5, 0.52), "[audio]": (0.6, 0.64), "[image,audio]": (0.8, 0.78)}


def sweep(path, scores, metric="val/accuracy"):
    jobs = []
    for value, of_seeds in scores.items():
        for seed, score in enumerate(of_seeds, 1):
            name = f"modality={value},seed={seed}"
            jobs.append((name, [f"modality={value}", f"seed={seed}"], "finished", None))
            write_run(path / name, [{"step": 1, metric: score}], config={"seed": seed})
    return write_sweep(path, jobs)


def attribution(path, metric="val/accuracy", empty=None):
    (found,) = attributions(compare(find_runs([path]), metric, None), empty)
    return found


def test_gains_come_with_their_deviation_over_seeds(tmp_path):
    found = attribution(sweep(tmp_path / "s", SCORES))
    assert found.names == ("image", "audio") and not found.missing
    assert found.gains["image"] == pytest.approx((0.17, 0.03 * 2**0.5))  # 0.20 and 0.14
    assert found.gains["audio"] == pytest.approx((0.28, 0.02 * 2**0.5))  # 0.30 and 0.26
    means = {key: sum(scores) / 2 for key, scores in SCORES.items()}
    with_chance = attribution(tmp_path / "s", empty=0.1).gains["image"][0]
    assert with_chance == pytest.approx((means["[image]"] - 0.1 + means["[image,audio]"] - means["[audio]"]) / 2)


def test_of_a_loss_what_lowers_it_is_a_gain(tmp_path):
    losses = {"[image]": (2.0,), "[audio]": (1.5,), "[image,audio]": (1.0,)}
    found = attribution(sweep(tmp_path / "s", losses, "val/loss"), "val/loss")
    assert found.gains == {"image": (0.5, None), "audio": (1.0, None)}


def test_seeds_that_differ_give_no_deviation(tmp_path):
    assert attribution(sweep(tmp_path / "s", SCORES | {"[audio]": (0.6,)})).gains["audio"][1] is None


def test_gains_need_every_subset(tmp_path):
    found = attribution(sweep(tmp_path / "s", {key: SCORES[key] for key in ("[image]", "[image,audio]")}))
    assert found.gains is None and found.missing == (frozenset({"audio"}),)


def test_the_order_of_names_makes_no_other_subset(tmp_path):
    found = attribution(sweep(tmp_path / "s", SCORES | {"[audio,image]": (0.7,)}))
    assert found.subsets[frozenset({"image", "audio"})].scores == pytest.approx((0.8, 0.78, 0.7))


def test_subsets_are_read_as_they_are_typed():
    assert read_subset("[image,audio]") == ("image", "audio") == read_subset("['image', \"audio\"]")
    assert read_subset("image") == ("image",)
