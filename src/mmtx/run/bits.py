"""``mmtx evaluate RUN bits={levels:17}``: bits per dimension of pictures."""

from typing import Any

from mmtx.bits import bits_of_pictures
from mmtx.config.options import REQUIRED, options_for, options_of
from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue
from mmtx.learner import Learner


def bits_in(learner: Learner, data: DataModule, bits: Any, split: str) -> dict[str, float]:
    """The metrics of `bits_of_pictures`, by their whole names.

    Args:
        learner: on the device to compute on.
        data: of its run.
        bits: ``{option: value}`` of `bits_of_pictures`.
        split: of the data.

    Raises:
        UserError: an option cannot be, or is missing; there is no flow of pictures.
    """
    options = options_for(bits_of_pictures, bits, "bits")
    for key, option in options_of(bits_of_pictures).items():
        if option.default is REQUIRED and key not in options:
            raise InvalidValue("bits", bits, f"needs {key}: {option.line}", "{levels: 17}")
    try:
        found = bits_of_pictures(learner, data, split, **options)
    except InvalidValue as error:
        raise error.under("bits") from None
    return {f"{split}/{metric}": value for metric, value in found.items()}
