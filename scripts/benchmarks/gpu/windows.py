"""Steps of one text of 4,096 to 32,768 tokens with a window of 256 in each layer, against no window; compiled."""

from collections.abc import Iterator

from benchmarks.gpt import Shape, batch_of, gpt, random_ids
from benchmarks.gpu.device import Device, Line
from benchmarks.gpu.training import our_step

LENGTHS, WINDOW = (4096, 8192, 16384, 32768), 256


def measured(device: Device) -> Iterator[Line]:
    lengths, window = ((16, 32), 8) if device.tiny else (LENGTHS, WINDOW)
    for length in lengths:
        shape = Shape(layers=4, width=512, heads=8, context=length, rows=1, vocabulary=65)
        batch, same = (
            batch_of(random_ids(shape)).to(device.name),
            ["backbone/positions=rotary", "backbone.compile=true"],
        )
        runs = {
            "window": our_step(device, gpt(shape, *same, "backbone.layers=L", f"backbone.window={window}"), batch),
            "no window": our_step(device, gpt(shape, *same), batch),
        }
        with device.compiled():
            timed = device.time(runs, count=5, turns=3)
        windowed, other = timed["window"], timed["no window"]
        value = f"{1000 * windowed.seconds:.1f} ms"
        peer = f"no window ({other.gib:.1f} GiB)"
        yield Line(
            f"{length} tokens, a window of {window}", value, peer, windowed.seconds / other.seconds, None, windowed.gib
        )
