"""Runs whose mixers are no attention, as programs."""

from __future__ import annotations

from typing import Any

import pytest
from builders import backbone

from mmtx.errors import UserError
from mmtx.interop.program import record
from mmtx.nn.gru import GRU
from mmtx.nn.lstm import LSTM


@pytest.mark.parametrize("mixer", [LSTM, GRU])
def test_what_has_a_step_for_each_token_is_refused_before_it_is_recorded(mixer: Any) -> None:
    never_read: Any = None
    with pytest.raises(UserError, match=rf"^attention={mixer.__name__} cannot be recorded: .*; min_lstm, min_gru"):
        record(backbone(attention=mixer), never_read)  # type: ignore[arg-type]
