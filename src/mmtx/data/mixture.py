"""A mixture of datasets."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite

from mmtx.batch import Field, Spec
from mmtx.data.base import Source, Split
from mmtx.data.concat_split import ConcatSplit
from mmtx.data.mixture_order import MixtureOrder
from mmtx.data.renamed_source import rename_source
from mmtx.data.sampler import Stream
from mmtx.data.spec_difference import spec_difference
from mmtx.errors import InvalidValue, UserError

Weight = float | int | list[float | int]


class Mixture(Source):
    """Names: those of all parts. A sample comes from one part, and has its names alone; an objective is trained on the
    parts that have what it needs, and every part is evaluated, and acted in, by itself.

    A name of several parts is one modality, such as text: they have to agree on its fields, its vocabulary and its
    classes. Where they do not, or where it means two things, rename it in one of them.

    Args:
        parts: the datasets, by the names in their metrics.
        weights: how often samples of each part are drawn, relative to their sum: a number, or two, at the beginning
            and at the end of `schedule_samples`, linear between. Empty: by `temperature`.
        temperature: parts are drawn in proportion to their size to the power of 1 / temperature (Devlin et al. 2018):
            1 draws all samples equally often, a large one all parts. null: 1.
        schedule_samples: samples over which weights change; null where none does.
        names: of a part, ``{name: new name}``.
    """

    def __init__(
        self,
        *,
        parts: Mapping[str, Source],
        weights: dict[str, Weight],
        temperature: float | None,
        schedule_samples: int | None,
        names: dict[str, dict[str, str]],
    ) -> None:
        if not parts:
            raise InvalidValue("parts", {}, "is empty", "data.parts.NAME, a dataset each")
        for part in parts:
            if not part or "/" in part:
                raise InvalidValue(
                    "parts", part, "names a part by nothing or with a slash, which metrics are named with"
                )
        _check_known("names", names, parts)
        self._parts = {part: _renamed(part, source, names.get(part, {})) for part, source in parts.items()}
        self._names = {part: set(source.specs) for part, source in self._parts.items()}
        self._train = ConcatSplit({part: source.train() for part, source in self._parts.items()}, self._names)
        for part, split in self._train.splits.items():
            if not len(split):
                raise InvalidValue(f"parts.{part}", "{...}", "is empty: it has no training samples")
        self._specs = _merged(self._parts)
        self._weights = _schedule(weights, parts) if weights else self._by_size(temperature)
        if weights and temperature is not None:
            raise InvalidValue("temperature", temperature, "has no effect beside data.weights", "null")
        changing = any(first != last for first, last in self._weights)
        if changing != (schedule_samples is not None) or (schedule_samples or 1) < 1:
            problem = "must be at least 1 where weights change, and null where none does"
            raise InvalidValue("schedule_samples", schedule_samples, problem)
        self._schedule_samples = schedule_samples or 1

    @property
    def specs(self) -> Mapping[str, Spec]:
        return self._specs

    @property
    def parts(self) -> Mapping[str, Source]:
        return self._parts

    def train(self) -> ConcatSplit:
        return self._train

    def val(self) -> Split | None:
        return self._concatenated({part: source.val() for part, source in self._parts.items()})

    def test(self) -> Split | None:
        return self._concatenated({part: source.test() for part, source in self._parts.items()})

    def order(self, num_samples: int, seed: int) -> Stream:
        parts = [(self._parts[part], len(split)) for part, split in self._train.splits.items()]

        def order(part: int, own_seed: int) -> Stream:
            source, size = parts[part]
            return source.order(size, own_seed)

        return MixtureOrder(
            sizes=[size for _, size in parts],
            weights=self._weights,
            schedule_samples=self._schedule_samples,
            seed=seed,
            order=order,
        )

    def _concatenated(self, splits: Mapping[str, Split | None]) -> ConcatSplit | None:
        present = {part: split for part, split in splits.items() if split is not None}
        return ConcatSplit(present, self._names) if present else None

    def _by_size(self, temperature: float | None) -> list[tuple[float, float]]:
        if temperature is not None and not (temperature > 0 and isfinite(temperature)):
            raise InvalidValue("temperature", temperature, "must be more than 0, and finite")
        weights = [len(split) ** (1 / (temperature or 1.0)) for split in self._train.splits.values()]
        return [(weight, weight) for weight in weights]


def _renamed(part: str, source: Source, names: Mapping[str, str]) -> Source:
    try:
        return rename_source(source, names)
    except InvalidValue as error:
        raise error.under(f"names.{part}") from None


def _check_known(key: str, given: Mapping[str, object], parts: Mapping[str, Source]) -> None:
    for part, value in given.items():
        if part not in parts:
            raise InvalidValue(f"{key}.{part}", value, "is of a part that is not there", ", ".join(parts))


def _schedule(weights: Mapping[str, Weight], parts: Mapping[str, Source]) -> list[tuple[float, float]]:
    """First and last weight of each part, checked."""
    _check_known("weights", weights, parts)
    schedule = []
    for part in parts:
        if part not in weights:
            raise InvalidValue("weights", dict(weights), f"has none for {part}", f"data.weights.{part}=0 leaves it out")
        given = weights[part]
        both = given if isinstance(given, list) else [given, given]
        numbers = all(isinstance(w, int | float) and isfinite(w) and w >= 0 for w in both)
        if len(both) != 2 or not numbers:
            raise InvalidValue(f"weights.{part}", given, "must be a number that is at least 0, or two: [first, last]")
        schedule.append((float(both[0]), float(both[1])))
    if not all(sum(ends) for ends in zip(*schedule, strict=True)):
        raise InvalidValue("weights", dict(weights), "are all 0 at the beginning or at the end")
    return schedule


# --- names of several parts -------------------------------------------------------------------------------------------


def _merged(parts: Mapping[str, Source]) -> dict[str, Spec]:
    merged: dict[str, Spec] = {}
    owner: dict[str, str] = {}
    for part, source in parts.items():
        for name, spec in source.specs.items():
            if name not in merged:
                merged[name], owner[name] = spec, part
                continue
            differing = spec_difference(merged[name], spec)
            if differing:
                bytes_agree = "; texts as data/vocabulary=bytes agree" if spec.vocabulary is not None else ""
                raise UserError(
                    f"the parts {owner[name]} and {part} both offer '{name}' but differ in {differing}: "
                    f"rename it in one of them, data.names.{part}={{{name}: another_name}}{bytes_agree}"
                )
            fields = {key: _wider(field, spec.fields[key]) for key, field in merged[name].fields.items()}
            merged[name] = replace(merged[name], fields=fields)
    return merged


def _wider(one: Field, other: Field) -> Field:
    def larger(key: str) -> int | None:
        both = (getattr(one, key), getattr(other, key))
        return None if None in both else max(both)

    largest = max((field.largest for field in (one, other) if field.largest is not None), default=None)
    return replace(one, num_classes=larger("num_classes"), max_length=larger("max_length"), largest=largest)
