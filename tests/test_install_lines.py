"""The Dockerfile, the Makefile and the page install by the same lines."""

import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "install.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
QUIET = {"--no-cache-dir", "--quiet", "--disable-pip-version-check", "-e"}


def installed(text):
    """What each ``pip install`` of a text is given, but for how much it says and keeps."""
    lines = re.findall(r"pip install ([^;&\n]*)", text)
    return [[word for word in shlex.split(line) if word not in QUIET] for line in lines]


def test_the_dockerfile_installs_as_the_page_says():
    of_docker, of_page = installed(DOCKERFILE), installed(PAGE)
    assert of_docker == of_page[-2:]
    assert of_docker[1] == of_page[0] == installed((ROOT / "Makefile").read_text())[0]


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    copied = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    taken = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(taken) and all((ROOT / name).exists() for name in copied)


def test_an_argument_of_the_build_is_one_that_the_dockerfile_has():
    given = set(re.findall(r"--build-arg (\w+)=", PAGE))
    assert given == set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M)) == {"TORCH_INDEX"}


def test_the_page_has_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M)) == extras.keys()


def test_the_wheel_of_the_page_is_the_one_that_is_built():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    (wheel,) = set(re.findall(r"mmtx-[\w.-]+\.whl", PAGE))
    assert wheel == f"mmtx-{version}-py3-none-any.whl"
