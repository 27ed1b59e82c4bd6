"""Tables of scaled rotary positions are those of `transformers`, at every length."""

import math

import pytest
import torch

transformers = pytest.importorskip("transformers")

from builders import attention, backbone  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding  # noqa: E402

from mmtx.attention.rule import Connectivity, Pattern  # noqa: E402
from mmtx.config.compose import compose  # noqa: E402
from mmtx.config.construct import construct  # noqa: E402
from mmtx.errors import InvalidValue  # noqa: E402
from mmtx.nn.layer_kind import LayerKind  # noqa: E402
from mmtx.nn.positions import Positions  # noqa: E402
from mmtx.nn.rotary import Rotary, rotate  # noqa: E402
from mmtx.nn.rotary_scaling import DynamicNTK, LinearScaling, Llama3, RotaryScaling, RoundedFrequencies, YaRN  # noqa: E402

LONGEST, LENGTHS = 64, (5, 64, 65, 3000)


def yarn(**changes):
    usual = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, "attention_factor": None}
    return YaRN(**{"factor": 4.0, "trained_length": LONGEST, **usual, **changes})


THEIRS = {"original_max_position_embeddings": LONGEST}
CASES = [
    (LinearScaling(factor=2.5), {"rope_type": "linear", "factor": 2.5}),
    (DynamicNTK(factor=1.1, trained_length=LONGEST), {"rope_type": "dynamic", "factor": 1.1}),
    (DynamicNTK(factor=4.0, trained_length=LONGEST), {"rope_type": "dynamic", "factor": 4.0}),
    (yarn(), {"rope_type": "yarn", "factor": 4.0, **THEIRS}),
    (
        yarn(factor=16.0, beta_fast=8.0, beta_slow=0.5, truncate=False, attention_factor=1.3),
        {"rope_type": "yarn", "factor": 16.0, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False, **THEIRS}
        | {"attention_factor": 1.3},
    ),
    (
        yarn(trained_length=2, beta_fast=1.0),
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 1.0, "original_max_position_embeddings": 2},
    ),
    (
        Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, trained_length=LONGEST),
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **THEIRS},
    ),
    (
        Llama3(factor=32.0, low_freq_factor=0.5, high_freq_factor=9.0, trained_length=2000),
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 9.0}
        | {"original_max_position_embeddings": 2000},
    ),
]


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("width", [8, 64, 128])
@pytest.mark.parametrize(("scaling", "theirs"), CASES, ids=[str(list(theirs.values())) for _, theirs in CASES])
def test_tables(scaling: RotaryScaling, theirs: dict, width: int, base: float) -> None:
    config = transformers.LlamaConfig(
        hidden_size=2 * width,
        num_attention_heads=2,
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_theta": base, **theirs},
    )
    for length in LENGTHS:
        time = torch.arange(length)[None]
        cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), time)
        position = torch.stack([time, 0 * time, 0 * time], dim=-1)
        table = Rotary(axes=["time"], base=base, scaling=scaling).table(position, width)
        for ours, expected in zip(table, (cos, sin), strict=True):
            torch.testing.assert_close(ours[:, 0], expected[..., : width // 2], atol=1e-6, rtol=0)


def test_tables_of_kinds_of_layers() -> None:
    """As Gemma 3 has them: another base where layers have a window, scaling where they have none. Frequencies that are
    not scaled are rounded otherwise than theirs, which shows at higher positions."""
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

    types, length = ["sliding_attention", "full_attention"] * 2, 30
    full, local = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, {"rope_theta": 1e4}
    parameters = {"full_attention": full, "sliding_attention": local}
    config = transformers.Gemma3TextConfig(
        head_dim=64, num_hidden_layers=4, layer_types=types, rope_parameters=parameters
    )
    theirs, time = Gemma3RotaryEmbedding(config), torch.arange(length)[None]
    stack = backbone(
        positions=Positions(None, Rotary(axes=["time"], base=1e6, scaling=LinearScaling(factor=8.0)), None),
        kinds={"G": LayerKind(), "L": LayerKind(window=True, rotary=Rotary(axes=["time"], base=1e4))},
        attention=attention(head_dim=64),
        layers="LG",
        num_layers=4,
        window=5,
    )
    tables = [context.rotary for context in stack._contexts(causal_text(length), None, 0, turns_keys=False)]
    assert tables[0] is tables[2] and tables[1] is tables[3]
    for table, kind in zip(tables, types, strict=True):
        for ours, expected in zip(table, theirs(torch.zeros(1), time, kind), strict=True):
            torch.testing.assert_close(ours[:, 0], expected[..., :32], atol=1e-6, rtol=0)


def causal_text(length: int) -> Connectivity:
    time, zero = torch.arange(length)[None], torch.zeros(1, length, dtype=torch.long)
    position = torch.stack([time, zero, zero], dim=-1)
    return Connectivity(time, position, zero, zero == 0, Pattern.CAUSAL, padded=False, packed=False)


def test_a_batch_is_scaled_by_its_longest_text_wherever_that_is() -> None:
    """Padded, or behind another in a packed row."""
    rotary = Rotary(axes=["time"], base=100.0, scaling=DynamicNTK(factor=2.0, trained_length=4))
    short, long = torch.arange(3), torch.arange(9)
    padded = torch.stack([torch.cat([short, torch.arange(3, 9)]), long])[..., None].expand(-1, -1, 3)
    packed = torch.cat([short, long])[None, :, None].expand(-1, -1, 3)
    for row, one in zip(rotary.table(padded, 8), rotary.table(packed, 8), strict=True):
        assert row[0, :, :3].equal(one[0, :, :3])
        assert row[1].equal(one[0, :, 3:])


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_a_fraction_turns_as_theirs(fraction: float) -> None:
    """GPT-NeoX turns the first part of a head, and YaRN scales that part alone."""
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb

    parameters = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0, "partial_rotary_factor": fraction, **THEIRS}
    config = transformers.GPTNeoXConfig(
        hidden_size=32, num_attention_heads=2, max_position_embeddings=LONGEST, rope_parameters=parameters
    )
    q, k = torch.randn(2, 1, 2, 5, 16)
    time = torch.arange(5)[None]
    expected = apply_rotary_pos_emb(q, k, *GPTNeoXRotaryEmbedding(config)(q, time))
    rotary = Rotary(axes=["time"], base=100.0, scaling=yarn(), fraction=fraction)
    table = rotary.table(time[..., None].expand(-1, -1, 3), 16)
    for ours, theirs in zip((rotate(q, table), rotate(k, table)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("fraction", [0.5, None])
def test_interleaved_pairs_turn_as_those_of_gpt_j(fraction: float | None) -> None:
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    q, width = torch.randn(1, 2, 5, 16), 16 if fraction is None else 8
    sin, cos = create_sinusoidal_positions(5, width)[None].chunk(2, dim=-1)
    turned = apply_rotary_pos_emb(q.transpose(1, 2)[..., :width], sin, cos).transpose(1, 2)
    expected = torch.cat([turned, q[..., width:]], dim=-1)
    rotary = Rotary(axes=["time"], base=10_000.0, fraction=fraction, interleaved=True)
    table = rotary.table(torch.arange(5)[None, :, None].expand(-1, -1, 3), 16)
    torch.testing.assert_close(rotate(q, table), expected, atol=1e-6, rtol=1e-6)


def test_interleaved_pairs_of_a_part_turn_as_those_of_moonshine() -> None:
    from transformers.models.moonshine.modeling_moonshine import MoonshineRotaryEmbedding, apply_rotary_pos_emb

    parameters = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.9}
    config = transformers.MoonshineConfig(
        hidden_size=40, decoder_num_attention_heads=2, encoder_num_attention_heads=2, rope_parameters=parameters
    )
    q, k = torch.randn(2, 1, 2, 5, 20)
    time = torch.arange(5)[None]
    expected = apply_rotary_pos_emb(q, k, *MoonshineRotaryEmbedding(config)(q, time))
    table = Rotary(axes=["time"], base=100.0, fraction=0.9, interleaved=True).table(
        time[..., None].expand(-1, -1, 3), 20
    )
    for ours, theirs in zip((rotate(q, table), rotate(k, table)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_choices_are_those_of_the_papers() -> None:
    group = "backbone/rotary_scaling@backbone.positions.rotary.scaling"
    for name, kind in (("yarn", YaRN), ("llama3", Llama3), ("linear", LinearScaling), ("dynamic", DynamicNTK)):
        node = compose(["backbone=llama", f"{group}={name}"])["backbone"]["positions"]["rotary"]["scaling"]
        assert isinstance(construct({**node, **({} if name == "linear" else {"trained_length": 64})}), kind)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearScaling(factor=0.5), "factor=0.5 must be at least 1"),
        (lambda: DynamicNTK(factor=2.0, trained_length=0), "trained_length=0 must be at least 1"),
        (lambda: yarn(beta_slow=40.0), "beta_slow=40.0 must be above 0 and at most beta_fast=32.0"),
        (
            lambda: Llama3(factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, trained_length=64),
            "low_freq_factor=4.0 must be above 0 and below high_freq_factor=1.0",
        ),
        (lambda: Rotary(axes=["time"], base=1e4, fraction=0.0), "fraction=0.0 must be above 0 and at most 1"),
        (
            lambda: turned(Rotary(axes=["time"], base=1e4, scaling=DynamicNTK(factor=2.0, trained_length=8)), dim=4),
            "dim=4 gives heads of width 2; .* even one of at least 4",
        ),
        (
            lambda: turned(Rotary(axes=["time"], base=1e4, fraction=0.4), dim=16),
            "dim=16 gives heads of width 8, of which 3 are turned; .* even one of at least 2",
        ),
    ],
)
def test_what_cannot_be_turned(make, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        make()


def turned(rotary: Rotary, dim: int):
    return backbone(dim=dim, num_heads=2, positions=Positions(absolute=None, rotary=rotary, bias=None))


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_rounded_frequencies(dtype: str, bits: int) -> None:
    """Powers of the base, to so many binary digits."""
    rounded = RoundedFrequencies(dtype=dtype).frequencies(1000.0, 3, torch.arange(2)[None])
    for found, exact in zip(rounded.tolist(), (1.0, 0.1, 0.01), strict=True):
        mantissa, exponent = math.frexp(exact)
        assert found == round(mantissa * 2**bits) / 2**bits * 2**exponent
