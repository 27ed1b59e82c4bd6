"""Pictures: in memory, as published, and in folders."""

import gzip
import http.server
import io
import math
import os
import pickle
import random
import struct
import tarfile
import threading
import time
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from contracts import check_source
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from small_data import publish_small, small_cifar_files, write

from mmtx.data.base import origin_of
from mmtx.data.concat_split import ConcatSplit
from mmtx.data.files import public_file
from mmtx.data.image import cifar10, fashion_mnist, mnist
from mmtx.data.image.decode_image import FILL, Fit, decode_image
from mmtx.data.image.digits import Digits
from mmtx.data.image.image_folder import ImageFolder
from mmtx.data.image.labelled_images import LabelledImages
from mmtx.data.renamed_source import rename_source
from mmtx.data.stratified_split import hold_out
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError

PUBLISHED = {"MNIST": mnist, "FashionMNIST": fashion_mnist, "CIFAR10": cifar10}


def noisy(pixels):
    """An augmentation that draws from every generator, and works in place."""
    return pixels.add_(torch.randint(0, 5, ()).to(torch.uint8) + random.randrange(5) + int(numpy.random.randint(5)))


# --- dealing out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7, 50, 96])
def test_held_out_samples_are_stratified(count):
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0] * 60 + [1] * 30 + [2] * 9 + [3])[order]
    kept, held = hold_out(classes, count, seed=1)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(100)) and len(held) == count
    shares = classes[held].bincount(minlength=4)
    assert count == 96 or all(  # where nothing else is left, all but one of each
        abs(share - count * number / 100) <= 1 for share, number in zip(shares.tolist(), (60, 30, 9, 1), strict=True)
    )
    assert classes[kept].bincount(minlength=4).min() >= 1
    assert hold_out(classes, count, seed=1)[1].equal(held)
    assert count in (0, 96) or not hold_out(classes, count, seed=2)[1].equal(held)


def test_the_last_of_a_class_is_not_held_out():
    with pytest.raises(ValueError, match="cannot hold out 97 of 100"):
        hold_out(torch.tensor([0] * 60 + [1] * 30 + [2] * 9 + [3]), 97, seed=1)


# --- digits -----------------------------------------------------------------------------------------------------------


def digits(augment=None, num_val=100, split_seed=0):
    return Digits(vocabulary=Characters(), augment=augment, num_val=num_val, split_seed=split_seed)


def test_contract_of_digits():
    check_source(digits())
    check_source(digits(augment=lambda pixels: noisy(pixels.clone())))


def test_digits_have_their_known_sizes_and_names():
    source = digits()
    assert [len(source.train()), len(source.val()), len(source.test())] == [1337, 100, 360]
    sample = source.test()[5]
    name = source.specs["label"].class_names[int(sample["label"]["class"])]
    assert source.vocabulary.decode(sample["text"]["ids"].tolist()) == name
    with pytest.raises(InvalidValue, match="^num_val=5 "):
        digits(num_val=5)


def test_the_test_of_digits_does_not_depend_on_what_is_held_out():
    one, other = digits(num_val=100).test(), digits(num_val=300).test()
    assert all(one[i]["image"]["pixels"].equal(other[i]["image"]["pixels"]) for i in range(0, 360, 20))


# --- pictures in memory -----------------------------------------------------------------------------------------------


def pictures(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return pixels, torch.arange(count) % 2


def labelled(augment=None, num_val=10, split_seed=0):
    return LabelledImages(
        train=pictures(50),
        test=pictures(20, seed=1),
        class_names=("even", "odd"),
        augment=augment,
        num_val=num_val,
        split_seed=split_seed,
    )


def pixels_of(split):
    return {split[i]["image"]["pixels"].numpy().tobytes() for i in range(len(split))}


def test_contract_of_labelled_images():
    check_source(labelled())
    check_source(labelled(augment=noisy))
    check_source(labelled(num_val=0))


def test_labelled_images_are_dealt_out_without_overlap():
    source = labelled()
    train, val, test = pixels_of(source.train()), pixels_of(source.val()), pixels_of(source.test())
    assert (len(train), len(val), len(test)) == (40, 10, 20)
    assert train.isdisjoint(val) and test == {p.numpy().tobytes() for p in pictures(20, seed=1)[0]}
    assert labelled(num_val=0).val() is None
    assert pixels_of(labelled(split_seed=1).val()) != val
    for num_val in (-1, 49):
        with pytest.raises(InvalidValue, match=rf"^num_val={num_val} must lie in 0..48"):
            labelled(num_val=num_val)


def test_an_augmentation_in_place_does_not_reach_the_data():
    source = labelled(augment=lambda pixels: pixels.zero_())
    split = source.train()
    assert not split[3]["image"]["pixels"].any()
    source._augment = None
    assert source.train()[3]["image"]["pixels"].any()


def test_a_split_can_go_to_a_process_that_was_not_forked():
    split = labelled(augment=noisy).train()
    assert len(pickle.loads(pickle.dumps(split))) == 40


# --- as published -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    return publish_small(monkeypatch)


def open_published(name, path, augment=None, num_val=10):
    return getattr(PUBLISHED[name], name)(path=path, augment=augment, num_val=num_val, split_seed=0)


def unpack(folder, contents):
    """The same content without its packing."""
    for name, content in contents.items():
        if name.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                tar.extractall(folder, filter="data")
        else:
            write(folder, {name.removesuffix(".gz"): gzip.decompress(content)})
    return str(folder)


def listing(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")])


@pytest.mark.parametrize("name", PUBLISHED)
def test_contract_of_published_images(name, small, tmp_path):
    check_source(open_published(name, write(tmp_path, small[name])))
    check_source(open_published(name, write(tmp_path, small[name]), augment=noisy))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_images_are_read_packed_and_unpacked_alike_and_nothing_is_written(name, small, tmp_path):
    packed = write(tmp_path / "packed", small[name])
    unpacked = unpack(tmp_path / "unpacked", small[name])
    before = listing(tmp_path)
    one, other = open_published(name, packed), open_published(name, unpacked)
    assert listing(tmp_path) == before
    for split in ("train", "val", "test"):
        a, b = getattr(one, split)(), getattr(other, split)()
        assert len(a) == len(b) > 0
        assert all(a[i]["image"]["pixels"].equal(b[i]["image"]["pixels"]) for i in range(len(a)))


def test_idx_pixels_are_where_they_belong(small, tmp_path):
    source = open_published("MNIST", write(tmp_path, small["MNIST"]))
    content = gzip.decompress(small["MNIST"]["MNIST/raw/t10k-images-idx3-ubyte.gz"])
    sample = source.test()[13]
    assert sample["image"]["pixels"].numpy().tobytes() == content[16 + 13 * 784 : 16 + 14 * 784]
    assert source.specs["label"].class_names[int(sample["label"]["class"])] == "three"


def test_cifar_pixels_are_where_they_belong(small, tmp_path):
    source = open_published("CIFAR10", write(tmp_path, small["CIFAR10"]), num_val=0)
    data = pickle.loads(small_cifar_files()["data_batch_2"])["data"]
    assert source.train()[23]["image"]["pixels"].numpy().tobytes() == data[3].tobytes()
    assert len(source.train()) == 100 and source.val() is None and len(source.test()) == 20


@pytest.mark.parametrize("name", PUBLISHED)
def test_damaged_files_are_named(name, small, tmp_path):
    folder = tmp_path / "packed"
    write(folder, small[name])
    file = folder / list(small[name])[-1]
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    for damaged in (content[:half], content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :], b""):
        file.write_bytes(damaged)
        with pytest.raises(
            UserError, match=f"{file} (cannot be unpacked|is not what was published).*fetch it again from http"
        ):
            open_published(name, str(folder))
    unpack(folder, small[name])
    plain = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".gz")[-1]
    plain.write_bytes(plain.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=f"{plain} is not what was published: .* MD5 "):
        open_published(name, str(folder))


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_named_with_what_is_expected(name, small, tmp_path):
    missing = list(small[name])[-1]
    with pytest.raises(InvalidValue, match=r"^path=.*/nowhere is not a folder"):
        open_published(name, str(tmp_path / "nowhere"))
    write(tmp_path, {key: content for key, content in small[name].items() if key != missing})
    with pytest.raises(InvalidValue, match=rf"^path=.* holds neither .*{missing}"):
        open_published(name, str(tmp_path))


def test_a_folder_too_deep_is_put_right(small, tmp_path):
    write(tmp_path, small["MNIST"])
    for deep in ("MNIST", "MNIST/raw"):
        with pytest.raises(InvalidValue, match=f"nearest: {tmp_path}$"):
            open_published("MNIST", str(tmp_path / deep))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "mmtx"


@pytest.fixture
def server(monkeypatch):
    """Serves bytes by their file names; counts what was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files: dict[str, bytes] = {}
        asked: list[str] = []
        delay = 0.0

        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            type(self).asked.append(name)
            time.sleep(self.delay)
            if name not in self.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.files[name])))
            self.end_headers()
            self.wfile.write(self.files[name])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{running.server_address[1]}/"
        monkeypatch.setattr(mnist.MNIST, "mirrors", ("http://127.0.0.1:9/", address))  # nobody is at the first
        monkeypatch.setattr(fashion_mnist.FashionMNIST, "mirrors", (address,))
        monkeypatch.setattr(cifar10, "ADDRESS", f"{address}cifar-10-python.tar.gz")
        yield Handler
        running.shutdown()


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_not_there_is_downloaded_once(name, small, cache, server):
    server.files = {Path(key).name: content for key, content in small[name].items()}
    source = open_published(name, None)
    assert sorted(server.asked) == sorted(server.files)
    again = open_published(name, None)
    assert len(server.asked) == len(server.files), "the second time, all is in the cache"
    assert source.test()[3]["image"]["pixels"].equal(again.test()[3]["image"]["pixels"])
    assert {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()} == set(small[name])
    assert len(open_published(name, str(cache)).test()) == 20, "the cache has the layout that path takes"


def test_a_damaged_cache_is_mended(small, cache, server):
    server.files = {Path(key).name: content for key, content in small["CIFAR10"].items()}
    write(cache, {"cifar-10-python.tar.gz": b"half"})
    open_published("CIFAR10", None)
    assert (cache / "cifar-10-python.tar.gz").read_bytes() == small["CIFAR10"]["cifar-10-python.tar.gz"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_failed_download_names_the_manual_way(name, small, cache, server):
    with pytest.raises(UserError, match=r"could not be downloaded to .*cache.*http://127.0.0.1.*404.*data.path=FOLDER"):
        open_published(name, None)
    server.files = {Path(key).name: b"something else" for key in small[name]}
    with pytest.raises(
        UserError,
        match=r"could not be downloaded .*http://127.0.0.1.*(cannot be unpacked|not what was).*data.path=FOLDER",
    ):
        open_published(name, None)
    assert not cache.exists() or not list(cache.rglob("*.gz")), "nothing damaged is kept"


@pytest.mark.parametrize("stuck", ["answer", "looking up the name"])
def test_what_does_not_answer_is_given_up(stuck, small, cache, server, monkeypatch):
    monkeypatch.setattr(public_file, "ANSWER_SECONDS", 0.4)
    server.delay = 3.0
    if stuck != "answer":  # which no timeout of urlopen covers
        monkeypatch.setattr(public_file, "urlopen", lambda request, timeout: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"could not be downloaded .*(no answer within|timed out)"):
        open_published("FashionMNIST", None)
    assert time.monotonic() - started < 2


def test_real_mnist():
    if "MMTX_DATA" not in os.environ:
        pytest.skip("MMTX_DATA is not set: it names the folder of real data, here mnist/MNIST/raw/*.gz")
    folder = Path(os.environ["MMTX_DATA"]) / "mnist"
    before = listing(folder)
    source = open_published("MNIST", str(folder), num_val=5000)
    assert listing(folder) == before
    check_source(source)
    assert [len(source.train()), len(source.val()), len(source.test())] == [55_000, 5_000, 10_000]
    assert [int(source.test()[i]["label"]["class"]) for i in range(5)] == [7, 2, 1, 0, 4]
    assert source.specs["image"].fields["pixels"].shape == (1, 28, 28)


# --- one image file ---------------------------------------------------------------------------------------------------


def decode(file, size=8, channels=3, max_pixels=10_000):
    return decode_image(Path(file), size=(size, size), channels=channels, max_pixels=max_pixels)


def halves(left, right, mode="RGB", size=16):
    """A picture of two colours."""
    image = Image.new(mode, (size, size), left)
    image.paste(right, (size // 2, 0, size, size))
    return image


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "webp", "gif", "ppm", "PNG", "JPG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats(tmp_path, suffix, channels):
    file = tmp_path / f"image.{suffix}"
    halves((255, 0, 0), (0, 0, 255)).save(file)
    pixels = decode(file, channels=channels)
    assert pixels.shape == (channels, 8, 8) and pixels.dtype == torch.uint8
    left, right = ((254, 0, 0), (0, 0, 254)) if channels == 3 else ((76,), (29,))
    assert (pixels[:, 4, 0].int() - torch.tensor(left)).abs().max() <= 12
    assert (pixels[:, 4, 7].int() - torch.tensor(right)).abs().max() <= 12


GREY, WHITE, RED = [128, 128, 128], [255, 255, 255], [255, 0, 0]


@pytest.mark.parametrize(
    "case, expected",
    [
        ("1", WHITE),
        ("L", GREY),
        ("LA", [191, 191, 191]),  # half of 128 over white
        ("P", RED),
        ("P, transparent", WHITE),
        ("RGB, transparent", WHITE),
        ("RGBA", [255, 127, 127]),
        ("RGBA, invisible", WHITE),
        ("CMYK", RED),
        ("I;16", [200, 200, 200]),
        ("PGM of 16 bits", [200, 200, 200]),
    ],
)
def test_modes(tmp_path, case, expected):
    file = tmp_path / "image.png"
    red = Image.new("RGB", (8, 8), "red")
    if case == "1":
        Image.new("1", (8, 8), 1).save(file)
    elif case == "L":
        Image.new("L", (8, 8), 128).save(file)
    elif case == "LA":
        Image.new("LA", (8, 8), (128, 128)).save(file)
    elif case == "P":
        red.quantize(4).save(file)
    elif case == "P, transparent":
        paletted = red.quantize(4)
        paletted.save(file, transparency=paletted.getpixel((0, 0)))
    elif case == "RGB, transparent":
        red.save(file, transparency=(255, 0, 0))
    elif case == "RGBA":
        Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(file)
    elif case == "RGBA, invisible":
        Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(file)
    elif case == "CMYK":
        file = tmp_path / "image.jpg"
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(file, quality=100)
    elif case == "I;16":
        Image.fromarray(numpy.full((8, 8), 200 * 256 + 77, dtype=numpy.uint16)).save(file)
    else:
        file = tmp_path / "image.ppm"
        file.write_bytes(b"P5 8 8 65535\n" + numpy.full((8, 8), 200 * 256 + 77, dtype=">u2").tobytes())
    pixels = decode(file).reshape(3, -1).int()
    assert (pixels - torch.tensor(expected)[:, None]).abs().max() <= 2, pixels[:, 0]
    grey = round(0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2])
    assert (decode(file, channels=1).int() - grey).abs().max() <= 2


def chunk(name, content, checksum=None):
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(colour_type, bits, samples, *chunks):
    """The bytes of a PNG file, by its specification; samples are (height, width, channels)."""
    height, width = samples.shape[:2]
    digits = [[f"{value:0{bits}b}" for value in row] for row in samples.reshape(height, -1).tolist()]
    lines = ["".join(row) + "0" * (-len(row) * bits % 8) for row in digits]
    packed = b"".join(b"\0" + int(line, 2).to_bytes(len(line) // 8, "big") for line in lines)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    )


GREYS, COLOURS, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    "colour_type, bits",
    [
        *[(GREYS, bits) for bits in (1, 2, 4, 8, 16)],
        *[(PALETTE, bits) for bits in (1, 2, 4, 8)],
        *[(kind, bits) for kind in (COLOURS, GREY_ALPHA, COLOUR_ALPHA) for bits in (8, 16)],
    ],
)
def test_every_kind_of_png_by_arithmetic(tmp_path, colour_type, bits, transparent):
    """With and without a transparent value, in the lower half of the picture and its neighbour value beside it."""
    generator, most = numpy.random.default_rng(bits), 2**bits - 1
    channels = {GREYS: 1, COLOURS: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}[colour_type]
    samples = generator.integers(0, most + 1, (8, 8, channels))
    eight = samples >> 8 if bits == 16 else samples * 255 // most
    chunks, alpha = [], numpy.full((8, 8, 1), 255)
    if colour_type == PALETTE:
        colours, alphas = generator.integers(0, 256, (most + 1, 3)), generator.integers(0, 256, (most + 1, 1))
        chunks, eight = [chunk(b"PLTE", bytes(colours.ravel().tolist()))], colours[samples[..., 0]]
        if transparent:
            chunks, alpha = [*chunks, chunk(b"tRNS", bytes(alphas.ravel().tolist()))], alphas[samples[..., 0]]
    elif colour_type in (GREY_ALPHA, COLOUR_ALPHA):
        eight, alpha = eight[..., :-1], eight[..., -1:]
    elif transparent:
        key = samples[0, 0]
        samples[4:], samples[4:, ::2] = key, key ^ 1
        eight = samples >> 8 if bits == 16 else samples * 255 // most
        chunks, alpha = [chunk(b"tRNS", key.astype(">u2").tobytes())], 255 * (samples != key).any(-1, keepdims=True)
    (tmp_path / "a.png").write_bytes(png(colour_type, bits, samples, *chunks))
    if (colour_type, bits, transparent) == (COLOURS, 16, True):
        with pytest.raises(UserError, match="16 bits of colour and a transparent one; convert it to 8 bits"):
            decode(tmp_path / "a.png")
        return
    shown = (eight * (alpha / 255) + 255 * (1 - alpha / 255)).round()
    expected = torch.from_numpy(numpy.broadcast_to(shown, (8, 8, 3)).astype(numpy.uint8)).permute(2, 0, 1)
    assert decode(tmp_path / "a.png").equal(expected)


def test_chunks_that_show_nothing_do_not_matter(tmp_path):
    """However large or broken they are; those that change the picture must be whole, as must what follows them."""
    samples = numpy.random.default_rng(0).integers(0, 256, (8, 8, 3))
    turn = Image.Exif()
    turn[0x0112] = 6
    orientation = turn.tobytes().removeprefix(b"Exif\0\0")
    plain = png(COLOURS, 8, samples)
    (tmp_path / "plain.png").write_bytes(plain)
    pixels = decode(tmp_path / "plain.png")
    profile = b"name\0\0" + zlib.compress(bytes(3_000_000))
    for ancillary in (
        [chunk(b"iCCP", profile)],
        [chunk(b"iCCP", b"rubbish")],
        [chunk(b"zTXt", profile)] * 30,
        [chunk(b"tEXt", b"x" * 2_000_000)],
        [chunk(b"tIME", b"", checksum=0), chunk(b"gAMA", b"", checksum=1)],
        [chunk(b"acTL", struct.pack(">II", 9, 0))],
    ):
        (tmp_path / "a.png").write_bytes(png(COLOURS, 8, samples, *ancillary) + b"rubbish")
        assert decode(tmp_path / "a.png").equal(pixels)
    (tmp_path / "a.png").write_bytes(png(COLOURS, 8, samples, chunk(b"eXIf", orientation)))
    assert decode(tmp_path / "a.png").equal(pixels.rot90(-1, (1, 2)))
    broken = plain.replace(plain[-16:-12], bytes(4))  # the checksum of the samples
    for content in (png(COLOURS, 8, samples, chunk(b"eXIf", orientation, checksum=0)), broken):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(UserError, match="a.png cannot be read .*the checksum of its chunk (eXIf|IDAT) is wrong"):
            decode(tmp_path / "a.png")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("key", ["Raw profile type exif", "XML:com.adobe.xmp"])
def test_texts_of_a_png_may_say_its_orientation(tmp_path, key, packed):
    """EXIF as ImageMagick writes it, and XMP: as Pillow reads them, less what is broken or too large."""
    exif = Image.Exif()
    exif[0x0112] = 6
    spelled = f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n"
    picture = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(numpy.uint8))
    picture.save(tmp_path / "plain.png")

    def saved(text):
        info = PngInfo()
        info.add_itxt(key, text, zip=packed) if key.startswith("XML") else info.add_text(key, text, zip=packed)
        picture.save(tmp_path / "a.png", pnginfo=info)
        return decode(tmp_path / "a.png")

    pixels = saved('<rdf tiff:Orientation="6"/>' if key.startswith("XML") else spelled)
    with Image.open(tmp_path / "a.png") as image:
        assert (pixels.permute(1, 2, 0).numpy() == numpy.asarray(ImageOps.exif_transpose(image))).all()
    assert not pixels.equal(decode(tmp_path / "plain.png"))
    for text in ("rubbish", "\n\n\nxyz", "x" * 3_000_000):
        assert saved(text).equal(decode(tmp_path / "plain.png"))


def test_of_floating_point_1_is_white(tmp_path):
    def pfm(value):
        (tmp_path / "a.ppm").write_bytes(b"Pf\n8 8\n-1.0\n" + numpy.full((8, 8), value, "<f4").tobytes())
        return tmp_path / "a.ppm"

    assert [int(decode(pfm(value)).unique()) for value in (0.0, 0.5, 1.0)] == [0, 127, 255]
    for value in (1.5, -0.1, math.nan):
        with pytest.raises(UserError, match="a.ppm cannot be read as an image: it holds floating-point numbers"):
            decode(pfm(value))


def test_the_orientation_of_exif_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: what was left comes to the top
    halves((255, 0, 0), (0, 0, 255)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = decode(tmp_path / "turned.jpg")
    assert pixels[0, 0].min() > 200 and pixels[2, 7].min() > 200


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_picture_whose_exif_is_broken_is_as_it_is(tmp_path, kind):
    halves((255, 0, 0), (0, 0, 255)).save(tmp_path / "plain", format=kind)
    halves((255, 0, 0), (0, 0, 255)).save(tmp_path / "broken", format=kind, exif=b"Exif\0\0no such thing")
    assert decode(tmp_path / "broken").equal(decode(tmp_path / "plain"))


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "webp"):
        frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:])
        pixels = decode(tmp_path / f"moving.{suffix}")
        assert pixels[0].min() > 240 and pixels[1:].max() < 15


@pytest.mark.parametrize("width, height", [(30, 10), (10, 30), (3, 3), (1, 90), (8, 8)])
def test_the_shorter_side_is_resized_and_the_middle_cut_out(tmp_path, width, height):
    ramp = (
        torch.arange(width).float()[None].expand(height, width)
        if width >= height
        else torch.arange(height).float()[:, None].expand(height, width)
    )
    Image.fromarray((ramp * 2).byte().numpy()).save(tmp_path / "ramp.png")
    pixels = decode(tmp_path / "ramp.png", size=8, channels=1)[0].float()
    assert pixels.shape == (8, 8)
    assert (pixels.mean() - (max(width, height) - 1)).abs() < 1, "the middle of the ramp is in the middle"
    if (width, height) == (8, 8):
        assert pixels.equal(ramp * 2)


def test_large_images_are_refused_by_their_header(tmp_path):
    Image.new("L", (101, 100)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match=r"large.png has 101 x 100 = 10100 pixels; data.max_pixels=10000"):
        decode(tmp_path / "large.png")
    assert decode(tmp_path / "large.png", max_pixels=10_100).shape == (3, 8, 8)
    (tmp_path / "bomb.ppm").write_bytes(b"P6 30000 30000 255\n")
    with pytest.raises(UserError, match=r"bomb.ppm.* \(?900000000 pixels.*data.max_pixels=10000"):
        decode(tmp_path / "bomb.ppm")
    (tmp_path / "half.ppm").write_bytes(b"P6 10000 10000 255\n")  # over the limit at which Pillow warns
    with pytest.raises(UserError, match=r"half.ppm has 10000 x 10000 = 100000000 pixels"):
        decode(tmp_path / "half.ppm")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "gif", "ppm"])
def test_truncated_files_are_named(tmp_path, suffix):
    noise = numpy.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(numpy.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    for kept in (0, 1, 8, len(content) // 3, len(content) * 3 // 4):
        (tmp_path / f"cut.{suffix}").write_bytes(content[:kept])
        with pytest.raises(
            UserError, match=rf"cut.{suffix} (is not an image of a known kind|cannot be read as an image)"
        ):
            decode(tmp_path / f"cut.{suffix}")


def test_what_is_not_an_image_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"page.jpg is not an image of a known kind \(PNG, JPEG"):
        decode(tmp_path / "page.jpg")
    Image.new("L", (8, 8)).save(tmp_path / "other.tiff")
    (tmp_path / "other.tiff").rename(tmp_path / "other.png")
    with pytest.raises(UserError, match=r"other.png is not an image of a known kind .*, but TIFF; convert it$"):
        decode(tmp_path / "other.png")
    with pytest.raises(UserError, match=r"gone.png cannot be read as an image: FileNotFoundError"):
        decode(tmp_path / "gone.png")


# --- folders of images ------------------------------------------------------------------------------------------------


def folder_of(folder, counts):
    """Pictures, no two alike: ``counts`` by class folder."""
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        for i in range(count):
            noise = numpy.random.default_rng([i, *place.encode()]).integers(0, 256, (6, 9, 3)).astype(numpy.uint8)
            Image.fromarray(noise).save(folder / place / f"{i}.png")
    return folder


def image_folder(
    path, size=4, channels=3, augment=None, val_fraction=0.2, test_fraction=0.1, split_seed=0, max_pixels=1000, fit=FILL
):
    return ImageFolder(
        path=str(path),
        size=size,
        channels=channels,
        augment=augment,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        max_pixels=max_pixels,
        fit=fit,
    )


def classes_of(split):
    return torch.tensor([int(split[i]["label"]["class"]) for i in range(len(split))]).bincount().tolist()


def test_contract_of_image_folders(tmp_path):
    folder_of(tmp_path / "plain", {"cat": 20, "dog": 10})
    check_source(image_folder(tmp_path / "plain"))
    check_source(image_folder(tmp_path / "plain", channels=1, augment=noisy))
    check_source(image_folder(tmp_path / "plain", val_fraction=0.0, test_fraction=0.0))
    folder_of(tmp_path / "split", {"train/cat": 5, "train/dog": 4, "val/dog": 1, "test/cat": 2})
    check_source(image_folder(tmp_path / "split"))


def test_a_picture_is_where_it_was_read(tmp_path):
    """Also as a part of a mixture, under another name."""
    folder_of(tmp_path, {"cat": 8, "dog": 4})
    source = image_folder(tmp_path)
    renamed = rename_source(source, {"image": "view"}).train()
    both = ConcatSplit({"a": source.test(), "b": renamed}, {"a": ["image"], "b": ["view"]})
    split, first = source.train(), len(source.test())
    for i in range(len(split)):
        file = Path(origin_of(split, i))
        assert file.parent.name == ("cat", "dog")[int(split[i]["label"]["class"])]
        assert decode(file, size=4, max_pixels=1000).equal(split[i]["image"]["pixels"])
        assert origin_of(renamed, i) == origin_of(both, first + i) == str(file)


def test_class_folders_are_split_stratified(tmp_path):
    folder_of(tmp_path, {"cat": 20, "dog": 10})
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_text("")
    (tmp_path / "README.md").write_text("what this is")
    source = image_folder(tmp_path)
    assert source.specs["label"].class_names == ("cat", "dog")
    assert [classes_of(split) for split in (source.train(), source.val(), source.test())] == [[14, 7], [4, 2], [2, 1]]
    parts = [pixels_of(split) for split in (source.train(), source.val(), source.test())]
    assert len(set().union(*parts)) == 30, "no picture is in two parts"
    assert [pixels_of(split) for split in (image_folder(tmp_path).val(), image_folder(tmp_path).test())] == parts[1:]
    assert pixels_of(image_folder(tmp_path, split_seed=1).val()) != parts[1]
    alone = image_folder(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert alone.val() is None and alone.test() is None and len(alone.train()) == 30


def test_folders_of_parts_are_taken_as_they_are(tmp_path):
    folder_of(tmp_path, {"train/cat": 6, "train/dog": 4, "val/cat": 1, "val/dog": 2, "test/dog": 3})
    source = image_folder(tmp_path)
    assert [classes_of(split) for split in (source.train(), source.val(), source.test())] == [[6, 4], [1, 2], [0, 3]]


def test_a_missing_val_is_held_out_of_train_and_a_missing_test_is_not(tmp_path):
    folder_of(tmp_path, {"train/cat": 6, "train/dog": 4})
    source = image_folder(tmp_path)
    assert [len(source.train()), len(source.val())] == [8, 2] and source.test() is None


def test_train_can_be_the_name_of_a_class(tmp_path):
    folder_of(tmp_path, {"car": 5, "train": 5})
    assert image_folder(tmp_path).specs["label"].class_names == ("car", "train")


def test_images_are_decoded_when_they_are_read(tmp_path):
    folder_of(tmp_path, {"train/cat": 3, "train/dog": 3, "val/cat": 1})
    (tmp_path / "train/cat/1.png").write_bytes(b"broken")
    split = image_folder(tmp_path).train()
    assert split[0]["image"]["pixels"].shape == (3, 4, 4)
    with pytest.raises(UserError, match=r"train/cat/1.png is not an image"):
        split[1]


@pytest.mark.parametrize(
    "files, message",
    [
        ([], r"^path=.* holds no class folders"),
        (["cat/"], r"has no images of cat;"),
        (["cat/a.png", "dog/"], r"has no images of dog;"),
        (["cat/a.png", "dog/c.png", "dog/d.tif"], r"holds dog/d.tif, where only folders of images"),
        (["cat/a.png", *(f"cat/{i}.tif" for i in range(8))], r"holds cat/0.tif, cat/1.tif, .*cat/4.tif and 3 more"),
        (["cat/a.txt", "dog/c.png"], r"has no images of cat;"),
        (["cat/a.png", "cat/inner/b.png"], r"holds cat/inner, where only folders of images"),
        (["cat/a.png", "b.png"], r"holds b.png, where only folders of images"),
        (["Train/cat/a.png", "Val/cat/b.png"], r"holds Train/cat, Val/cat, where .* call them train, val and test$"),
        (["cafe\u0301/a.png", "caf\u00e9/b.png"], r"holds caf\u00e9 twice, in two of Unicode's spellings"),
        (["train/cat/a.png", "validation/cat/b.png"], r"holds validation beside train/"),
        (["train/cat/a.png", "val/dog/b.png"], r"val/dog is a class that training lacks; it has cat"),
        (["train/cat/a.png", "val/cat/"], r"val has no images of cat"),
        (["train/cat/a.png", "val/"], r"val has no images of cat"),
        (["cat/a.png", "dog/b.png"], r"^test_fraction=0.1 of 2 samples holds none out"),
    ],
)
def test_folders_that_cannot_be_read_are_explained(tmp_path, files, message):
    for name in files:
        file = tmp_path / name
        file.mkdir(parents=True) if name.endswith("/") else file.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_bytes(f"never read, {name}".encode())
    with pytest.raises(UserError, match=message):
        image_folder(tmp_path)


def test_a_class_is_one_however_unicode_spells_it(tmp_path):
    """A copy by way of a Mac has its accents apart; classes are in the order of their names put together."""
    folder_of(tmp_path, {"train/cafe\u0301": 3, "train/cafz": 3, "val/caf\u00e9": 1, "val/cafz": 2})
    source = image_folder(tmp_path)
    assert source.specs["label"].class_names == ("cafz", "caf\u00e9")
    assert [classes_of(source.train()), classes_of(source.val())] == [[3, 3], [2, 1]]


def test_pictures_of_telephones_have_more_pictures_behind_them(tmp_path):
    folder_of(tmp_path, {"cat": 1, "dog": 1})
    first, second = halves((200, 40, 40), (40, 40, 200)), Image.new("RGB", (16, 16), "lime")
    for name in ("cat/a.jpg", "cat/b.MPO", "dog/c"):
        first.save(tmp_path / name, format="MPO", save_all=True, append_images=[second], quality=100)
    wanted = numpy.asarray(Image.open(tmp_path / "cat/a.jpg").convert("RGB"))
    source = image_folder(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert classes_of(source.train()) == [3, 2]
    for name in ("cat/a.jpg", "cat/b.MPO", "dog/c"):
        assert (decode(tmp_path / name, size=16).permute(1, 2, 0).numpy() == wanted).all()


def test_what_is_no_picture_is_left_out_and_named(tmp_path, capsys):
    """A picture is one by what it holds where its name does not show; one that cannot be read is never left out."""
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "cat/0.png").rename(tmp_path / "cat/0.png.1")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "dog/a.jfif", format="JPEG")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "dog/photo", format="WEBP")
    for junk in ("._cat", "cat/._1.png", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "__MACOSX/cat/a.png"):
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).write_bytes(b"left by a system")
    source = image_folder(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert classes_of(source.train()) == [3, 5] and capsys.readouterr().err == ""
    for odd in ("README.md", "cat/1.txt", "cat/list.csv"):
        (tmp_path / odd).write_text("words,and words\n")
    assert len(image_folder(tmp_path, val_fraction=0.0, test_fraction=0.0).train()) == 8
    assert (
        capsys.readouterr().err == f"{tmp_path}: 3 files left out, as no picture: README.md, cat/1.txt, cat/list.csv\n"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "dog/scan.dat", format="TIFF")
    (tmp_path / "cat/loop.png").symlink_to("loop.png")
    with pytest.raises(UserError, match="holds cat/loop.png, dog/scan.dat, where only folders of images"):
        image_folder(tmp_path)


def test_one_picture_under_two_paths_is_in_one_split(tmp_path):
    """A link, a hard link or a copy of it; given splits that share one are refused."""
    folder_of(tmp_path, {"cat": 12, "dog": 12})
    for i in range(12):
        (tmp_path / f"cat/z{i}.png").symlink_to(tmp_path / f"cat/{i}.png")
        (tmp_path / f"dog/z{i}.png").hardlink_to(tmp_path / f"dog/{i}.png")
        (tmp_path / f"dog/y{i}.png").write_bytes((tmp_path / f"dog/{i}.png").read_bytes())
    for seed in range(3):
        source = image_folder(tmp_path, val_fraction=0.25, test_fraction=0.25, split_seed=seed)
        splits = [source.train(), source.val(), source.test()]
        assert [classes_of(split) for split in splits] == [[12, 18], [6, 9], [6, 9]]
        assert len(set().union(*map(pixels_of, splits))) == sum(len(pixels_of(split)) for split in splits) == 24
    folder_of(tmp_path / "split", {"train/cat": 2, "train/dog": 2, "val/cat": 1, "test/dog": 2})
    (tmp_path / "split/val/cat/0.png").unlink()
    (tmp_path / "split/val/cat/a.png").write_bytes((tmp_path / "split/train/dog/1.png").read_bytes())
    (tmp_path / "split/test/dog/1.png").unlink()
    (tmp_path / "split/test/dog/1.png").symlink_to(tmp_path / "split/train/dog/0.png")
    with pytest.raises(UserError) as caught:
        image_folder(tmp_path / "split")
    place = tmp_path / "split"
    assert str(caught.value).splitlines() == [
        f"2 problems with {place}:",
        *(
            f"    - {place}/{one} holds the same as {place}/train/dog/{i}.png, which is in another split; "
            "take one of them out"
            for one, i in (("val/cat/a.png", 1), ("test/dog/1.png", 0))
        ),
    ]


@pytest.mark.parametrize(
    "key, value",
    [
        ("size", 0),
        ("max_pixels", 0),
        ("max_pixels", 10**9),
        ("val_fraction", 1.0),
        ("val_fraction", -0.1),
        ("test_fraction", 1.5),
        ("val_fraction", 0.95),
        ("path", "/nowhere/at/all"),
    ],
)
def test_bad_values_are_named(tmp_path, key, value):
    arguments = {"path": folder_of(tmp_path, {"cat": 3, "dog": 3}), key: value}
    with pytest.raises(InvalidValue, match=f"^{key}={value} "):
        image_folder(**arguments)


def test_an_image_folder_can_go_to_a_process_that_was_not_forked(tmp_path):
    split = image_folder(folder_of(tmp_path, {"cat": 5, "dog": 5}), augment=noisy, test_fraction=0.2).train()
    assert len(pickle.loads(pickle.dumps(split))) == len(split)


@pytest.mark.parametrize(("width", "height"), [(40, 31), (17, 52)])
def test_fit_is_that_of_public_models(width, height):
    """Cut as timm cuts, stretched as the processors of `transformers` do: equal to the pixel."""
    noise = numpy.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(numpy.uint8)
    picture = Image.fromarray(noise)
    transforms = pytest.importorskip("torchvision.transforms")
    modes = transforms.InterpolationMode
    cut = transforms.Compose([transforms.Resize(13, modes.BICUBIC), transforms.CenterCrop(12)])
    fitted = Fit(stretch=False, side=13, resample="bicubic").apply(picture, (12, 12))
    assert numpy.array_equal(numpy.array(fitted), numpy.array(cut(picture)))
    stretched = transforms.Resize((12, 16), modes.BILINEAR)(picture)
    fitted = Fit(stretch=True, side=None, resample="bilinear").apply(picture, (12, 16))
    assert numpy.array_equal(numpy.array(fitted), numpy.array(stretched))


def test_fits_that_cannot_be(tmp_path):
    folder_of(tmp_path, {"cat": 3, "dog": 3})
    with pytest.raises(InvalidValue, match=r"resample=sinc is none of nearest"):
        Fit(resample="sinc")
    with pytest.raises(InvalidValue, match=r"fit.side=3 leaves less than size=4"):
        image_folder(tmp_path, fit=Fit(side=3))
    source = image_folder(tmp_path, fit=Fit(stretch=True))
    expected = Image.open(sorted((tmp_path / "cat").iterdir())[0]).resize((4, 4), Image.Resampling.BICUBIC)
    everything = [split[i]["image"]["pixels"] for split in (source.train(), source.val()) for i in range(len(split))]
    assert any(torch.equal(torch.from_numpy(numpy.array(expected)).permute(2, 0, 1), pixels) for pixels in everything)
