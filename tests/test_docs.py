"""The picture of the way of a batch names what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = (ROOT / "docs" / "batch.svg").read_text()
STATIONS = list(zip(*(re.findall(rf'class="{kind}"[^>]*>([^<]+)<', PICTURE) for kind in "bf"), strict=True))


def test_a_batch_passes_at_most_twelve_stations():
    assert 8 < len(STATIONS) <= 12


@pytest.mark.parametrize(("station", "where"), STATIONS)
def test_a_station_is_where_the_picture_has_it(station, where):
    place = ROOT / "src" / "mmtx" / where
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    assert any(re.search(rf"^\s*(class|def) {station}\b", file.read_text(), re.M) for file in files)
