"""What a wheel and an sdist lack, and what they have too much, is found."""

import io
import tarfile
import zipfile

import package
import pytest

ROOT = package.ROOT
TAKEN = ("src", "conf", "tests", "scripts", "docs")


def read(*folders):
    found = {}
    for folder in folders:
        for file in (ROOT / folder).glob("**/[!.]*"):
            if file.is_file() and file.parent.name != "__pycache__":
                found[str(file.relative_to(ROOT))] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole():
    """A wheel and an sdist as they should be."""
    of_src = {name.removeprefix("src/"): content for name, content in read("src").items()}
    wheel = of_src | {f"mmtx/{name}": content for name, content in read("conf").items()}
    beside = ("constraints.txt", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
    sdist = read(*TAKEN) | {name: (ROOT / name).read_bytes() for name in beside}
    return wheel | {"mmtx-0.1.0.dist-info/METADATA": b"Name: mmtx"}, sdist


def test_what_is_whole_has_no_problem(whole):
    wheel, sdist = whole
    assert package.problems_of(wheel, sdist, wheel) == []
    assert {"mmtx/py.typed", "mmtx/conf/train.yaml", "mmtx/nn/mlp.py"} <= wheel.keys()


@pytest.mark.parametrize("name", ["mmtx/py.typed", "mmtx/conf/experiment/quickstart.yaml", "mmtx/model.py"])
def test_a_file_that_a_wheel_lacks(name, whole):
    wheel, sdist = whole
    less = {other: content for other, content in wheel.items() if other != name}
    assert package.problems_of(less, sdist, less) == [f"the wheel lacks {name}, or has another"]


def test_a_file_that_is_not_of_the_checkout(whole):
    wheel, sdist = whole
    more = wheel | {"mmtx/notes.txt": b""}
    assert package.problems_of(more, sdist, more) == ["the wheel has mmtx/notes.txt, which the checkout has not"]


@pytest.mark.parametrize("name", ["constraints.txt", "tests/test_model.py"])
def test_a_file_that_an_sdist_has_otherwise(name, whole):
    wheel, sdist = whole
    problems = package.problems_of(wheel, sdist | {name: b"changed"}, wheel)
    assert problems == [f"the sdist lacks {name}, or has another"]


def test_a_wheel_of_the_sdist_that_is_another(whole):
    wheel, sdist = whole
    name = "mmtx-0.1.0.dist-info/METADATA"
    assert package.problems_of(wheel, sdist, wheel | {name: b""}) == [f"{name} is another in the checkout's wheel"]
    less = {other: content for other, content in wheel.items() if other != name}
    assert package.problems_of(wheel, sdist, less) == [f"{name} is not in the checkout's wheel"]


def test_files_are_read_by_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "mmtx.whl", "w") as wheel:
        wheel.writestr("mmtx/model.py", b"x = 1")
    with tarfile.open(tmp_path / "mmtx.tar.gz", "w:gz") as sdist:
        member = tarfile.TarInfo("mmtx-0.1.0/src/mmtx/model.py")
        member.size = 5
        sdist.addfile(member, io.BytesIO(b"x = 1"))
    assert package.in_wheel(tmp_path / "mmtx.whl") == {"mmtx/model.py": b"x = 1"}
    assert package.in_sdist(tmp_path / "mmtx.tar.gz") == {"src/mmtx/model.py": b"x = 1"}
