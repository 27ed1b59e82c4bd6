"""The picture of the way of a batch names what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = {"anchored.py", "queue.py", "random.py"}
"""Files of a user, as pages show them; what is in `my_lab` is, too."""
PICTURE = (ROOT / "docs" / "batch.svg").read_text()
STATIONS = list(zip(*(re.findall(rf'class="{kind}"[^>]*>([^<]+)<', PICTURE) for kind in "bf"), strict=True))


def test_a_batch_passes_at_most_twelve_stations():
    assert 8 < len(STATIONS) <= 12


@pytest.mark.parametrize(("station", "where"), STATIONS)
def test_a_station_is_where_the_picture_has_it(station, where):
    place = ROOT / "src" / "mmtx" / where
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    assert any(re.search(rf"^\s*(class|def) {station}\b", file.read_text(), re.M) for file in files)


FILES = [
    f"/{path.relative_to(ROOT)}" for folder in ("src", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")
]
PAGES = ["CONTRIBUTING.md", "README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / page).read_text())) - OWN
    gone = {name for name in named if not any(file.endswith(f"/{name}") for file in FILES)}
    assert not {name for name in gone if not name.startswith("my_lab/")}


@pytest.mark.parametrize("page", ["README.md", "docs/export.md"])
def test_a_page_that_lists_the_recipes_has_all(page):
    rows = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("| `")]
    assert {recipe.stem for recipe in (ROOT / "conf" / "experiment").glob("*.yaml")} <= set(
        re.findall(r"`(\w+)`", "\n".join(rows))
    )
