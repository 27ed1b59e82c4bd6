"""Several datasets as one: which sample comes when, what shares a name, what is refused."""

import itertools
from itertools import islice

import numpy
import pytest
import torch

from mmtx.batch import Field, Spec
from mmtx.data.base import Samples, Source
from mmtx.data.loaders import DataModule
from mmtx.data.mixture import Mixture
from mmtx.data.mixture_order import BLOCK, MixtureOrder
from mmtx.data.sampler import Draw, Order, hash_seed
from mmtx.errors import InvalidValue, UserError


class Numbers(Source):
    """Sample `i` of a name is the number `start + i`."""

    def __init__(self, length, name="number", start=0, held_out=0, **field):
        self.length, self.name, self.start, self.held_out, self.field = length, name, start, held_out, field

    @property
    def specs(self):
        return {self.name: Spec({"value": Field((None,), torch.long, **{"max_length": 2, **self.field})})}

    def _split(self, length):
        return Samples(length, lambda i: {self.name: {"value": torch.tensor([self.start + i])}})

    def train(self):
        return self._split(self.length)

    def val(self):
        return self._split(self.held_out) if self.held_out else None

    def test(self):
        return None


def mixture(parts=None, **changes):
    parts = parts or {"small": Numbers(7), "large": Numbers(70, "other", 1000, held_out=5)}
    keys = {"weights": {}, "temperature": None, "schedule_samples": None, "names": {}}
    return Mixture(parts=parts, **{**keys, **changes})


def order(sizes=(7, 70, 700), weights=(0.2, 0.5, 0.3), seed=3, schedule_samples=1):
    lines = [w if isinstance(w, tuple) else (float(w), float(w)) for w in weights]
    own = {"order": lambda part, own_seed: Order(sizes[part], own_seed)}
    return MixtureOrder(sizes=sizes, weights=lines, schedule_samples=schedule_samples, seed=seed, **own)


def part_of(draw, sizes=(7, 70, 700)):
    return int(numpy.searchsorted(numpy.cumsum(sizes), draw.index, side="right"))


def taken(made, start, count):
    return list(islice(made.stream(start), count))


def test_the_order_is_a_function_of_seed_and_place():
    whole = taken(order(), 0, 3 * BLOCK)
    assert whole == taken(order(), 0, 3 * BLOCK) != taken(order(seed=4), 0, 3 * BLOCK)
    for start in (1, 500, BLOCK - 1, BLOCK, BLOCK + 7, 2 * BLOCK):
        assert taken(order(), start, 200) == whole[start : start + 200]


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.2, 0.5, 0.3), (1, 0, 3), (1e-4, 1, 1)])
def test_every_block_has_the_shares_to_a_sample(weights):
    shares = numpy.array(weights) / sum(weights)
    counts = numpy.stack(list(islice(order(weights=weights).counts(), 300)))
    assert (counts.sum(1) == BLOCK).all()
    wanted = shares * BLOCK * numpy.arange(1, 301)[:, None]
    assert (abs(counts.cumsum(0) - wanted) < 1).all(), "what is rounded off in one block is made up for in the next"
    drawn = numpy.bincount([part_of(draw) for draw in taken(order(weights=weights), 0, BLOCK)], minlength=3)
    assert drawn.tolist() == counts[0].tolist()


def test_a_part_has_the_order_that_it_has_alone():
    draws = [draw for draw in taken(order(), 0, 2 * BLOCK) if part_of(draw) == 1]
    alone = islice(Order(70, hash_seed(3, 1)).stream(0), len(draws))
    assert [Draw(draw.epoch, draw.index - 7) for draw in draws] == list(alone)


def test_weights_follow_a_line_and_then_stay():
    made = order(weights=[(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)], schedule_samples=8 * BLOCK)
    counts = list(islice(made.counts(), 10))
    assert [int(c[0]) for c in counts] == [512, 448, 384, 320, 256, 192, 128, 64, 0, 0]
    assert all(c[2] == BLOCK // 2 for c in counts)


def test_temperature_levels_sizes():
    def shares(**keys):
        drawn = [mixture(**keys).train().locate(d.index)[0] for d in taken(mixture(**keys).order(77, 0), 0, BLOCK)]
        return drawn.count("small") / BLOCK

    assert shares() == pytest.approx(1 / 11, abs=1e-3) == shares(temperature=1.0)
    assert shares(temperature=2.0) == pytest.approx(1 / (1 + 10**0.5), abs=1e-3)
    assert shares(weights={"small": 3, "large": 1}) == 0.75


def loaded(source, batch_size=4):
    keys = {"seed": 0, "batch_size": batch_size, "eval_batch_size": None, "num_workers": 0}
    keys |= {"packing": False, "on_bad_sample": "raise", "max_bad_share": 0.0}
    return DataModule(source=source, names=list(source.specs), **keys)


def steps(source, **keys):
    keys = {"num_steps": 5, "accumulate": 2, "rank": 0, "num_ranks": 1, **keys}
    return list(loaded(source).train_loader(**keys))


def ids(step):
    return sorted(i for batch in step for i in batch.ids.tolist())


def test_micro_batches_hold_one_part_and_its_names_alone():
    for step in steps(mixture(weights={"small": 1, "large": 1})):
        assert sum(map(len, step)) == 8
        for batch in step:
            (name,) = batch.fields
            first, start = {"number": (0, 0), "other": (7, 1000)}[name]
            assert len(batch) <= 4 and set(batch.lengths) == {name}
            assert (batch[name]["value"][:, 0] - start).tolist() == (batch.ids - first).tolist()


def test_ranks_share_a_step_and_a_run_goes_on_where_it_was():
    alone = list(map(ids, steps(mixture())))
    both = [steps(mixture(), accumulate=1, rank=rank, num_ranks=2) for rank in range(2)]
    assert [sorted(ids(a) + ids(b)) for a, b in zip(*both, strict=True)] == alone
    assert list(map(ids, steps(mixture(), first_step=3))) == alone[3:]


def test_parts_are_evaluated_each_for_itself():
    loaders = loaded(mixture()).eval_loaders("val", rank=0, num_ranks=1)
    assert list(loaders) == ["large"]
    assert [list(batch.fields) for (batch,) in loaders["large"]] == [["other"]] * 2
    assert mixture().test() is None and len(mixture().val()) == 5


def test_a_name_of_two_parts_is_one_modality():
    parts = {"a": Numbers(3, num_classes=4), "b": Numbers(3, num_classes=4, max_length=5)}
    made = mixture(parts)
    assert made.specs["number"].fields["value"].max_length == 5
    apart = mixture(parts, names={"b": {"number": "other"}})
    assert apart.train()[4] == {"other": {"value": torch.tensor([1])}}


def test_codes_without_names_have_to_be_as_many_in_both_parts():
    parts = {"a": Numbers(3, num_classes=4), "b": Numbers(3, num_classes=9)}
    with pytest.raises(UserError, match="differ in the field value, 4 and 9 classes without names: rename it"):
        mixture(parts)
    assert mixture(parts, names={"b": {"number": "other"}}).specs["other"].fields["value"].num_classes == 9


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"weights": {"small": 1}}, "has none for large"),
        ({"weights": {"small": 1, "large": -1}}, "weights.large=-1 must be a number that is at least 0"),
        ({"weights": {"small": [1, 2, 3], "large": 1}}, r"weights.small=\[1, 2, 3\] must be"),
        ({"weights": {"small": 0, "large": 0}}, "are all 0"),
        ({"weights": {"small": [1, 0], "large": 0}, "schedule_samples": 5}, "are all 0"),
        ({"weights": {"small": 1, "large": 1, "huge": 1}}, "weights.huge=1 is of a part that is not there"),
        ({"weights": {"small": [1, 0], "large": 1}}, "schedule_samples=None must be"),
        ({"schedule_samples": 5}, "schedule_samples=5 must be"),
        ({"weights": {"small": 1, "large": 1}, "temperature": 2.0}, "has no effect beside data.weights"),
        ({"temperature": 0.0}, "temperature=0.0 must be more than 0"),
        ({"names": {"huge": {}}}, "names.huge={} is of a part that is not there"),
        ({"names": {"small": {"x": "y"}}}, "names.small.x=y renames what is not there"),
        ({"parts": {"none": Numbers(0), "some": Numbers(3)}}, "parts.none={...} is empty"),
        ({"parts": {"a/b": Numbers(3)}}, "parts=a/b names a part by nothing or with a slash"),
        ({"parts": {"": Numbers(3)}}, "parts= names a part by nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_mixed_is_refused(keys, message):
    with pytest.raises(InvalidValue, match=message):
        mixture(**keys)


def test_names_that_mean_two_things_are_to_be_renamed():
    class Vectors(Numbers):
        @property
        def specs(self):
            return {"number": Spec({"value": Field((3,), torch.float32)})}

    with pytest.raises(UserError, match=r"a and b both offer 'number' .*data.names.b=\{number: another_name\}"):
        mixture({"a": Numbers(3), "b": Vectors(3)})


def test_a_part_keeps_its_own_order():
    class Backwards(Numbers):
        def order(self, num_samples, seed):
            return Reversed(num_samples)

    class Reversed:
        def __init__(self, size):
            self.size = size

        def stream(self, start):
            return (Draw(i // self.size, self.size - 1 - i % self.size) for i in itertools.count(start))

    made = mixture({"one": Numbers(5), "two": Backwards(8, "other", 100)})
    draws = taken(made.order(13, 0), 0, 400)
    own = [draw.index - 5 for draw in draws if draw.index >= 5]
    assert own == [7 - i % 8 for i in range(len(own))]
    renamed = mixture({"one": Numbers(5), "two": Backwards(8, "other", 100)}, names={"two": {"other": "new"}})
    assert taken(renamed.order(13, 0), 0, 400) == draws
