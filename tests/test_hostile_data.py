"""Files made to harm: what they claim is read first and refused, nothing outside the folder is written, nothing runs.

The files are real. They are read by a process that may have half a gigabyte more than it has after its imports.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_data import mnist, noise, refuses, save, write_idx
from torchvision import datasets
from torchvision.datasets import utils

import ganzoo.data.limits
from ganzoo.data import load_images
from ganzoo.data.array_header import read_array_header
from ganzoo.data.limits import FREE, memory, require_memory, require_room
from ganzoo.data.png import PASSES, require_all_rows

ROOM = 512 * 1024**2


# --- how such files are made


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, interlaced: int = 0, cut: int = 0) -> bytes:
    """A PNG of these filtered rows; its pixel stream, whole in itself, ends `cut` bytes early."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    pixels = zlib.compress(rows[: len(rows) - cut], 9)
    half = len(pixels) // 2  # a stream may lie in any number of chunks
    body = chunk(b"IDAT", pixels[:half]) + chunk(b"IDAT", pixels[half:])
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def black(edge: int) -> bytes:
    """One bit a pixel: 1030 pixels from a bit of the file."""
    return png(edge, edge, 1, 0, bytes((1 + (edge + 7) // 8) * edge))


def npy_header(shape: str, descr: str = "'|u1'", version: int = 1, length: int | None = None) -> bytes:
    """As `numpy.save` writes it, with any shape; `length` is what it claims to be long."""
    body = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    form = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, len(body) if length is None else length) + body


def zeros(count: int) -> Iterator[bytes]:
    """A raw deflate stream of so many zeros, a multiple of 16 MB, from one block that is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(count >> 24):
        yield block
    yield packer.flush()


def zip_of(path: Path, name: str, packed: bytes, unpacked: int, *, method: int = 8, flags: int = 0) -> None:
    """A zip of one member, whose sizes are those given here."""
    beginning = zlib.decompressobj(-15).decompress(packed, min(unpacked, 1 << 20))  # all of a small one
    fields = struct.pack("<HHHHHIII", 20, flags, method, 0, 0x21, zlib.crc32(beginning), len(packed), unpacked)
    names = struct.pack("<HH", len(name.encode()), 0)
    local = b"PK\x03\x04" + fields + names + name.encode()
    central = b"PK\x01\x02" + struct.pack("<H", 20) + fields + names + bytes(14) + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    path.write_bytes(local + packed + central + b"PK\x05\x06" + end)


def deflated(*parts: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(packer.compress(part) for part in parts) + packer.flush()


def after_header(header: bytes, count: int) -> bytes:
    """Deflated: the header, then so many zeros."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    return packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH) + b"".join(zeros(count))


GB = 3 << 29  # 1.5 GiB

Make = Callable[[Path], None]
NPZ: dict[str, tuple[Make, str]] = {
    "a deflated bomb of 1.5 MB": (
        lambda path: zip_of(
            path, "images.npy", after_header(header := npy_header(f"({GB >> 12}, 64, 64)"), GB), len(header) + GB
        ),
        "images would take 1,610,612,736 bytes in memory from",
    ),
    "a deflated bomb whose directory says less": (
        lambda path: zip_of(path, "images.npy", after_header(npy_header(f"({GB >> 12}, 64, 64)"), GB), 1000),
        r"takes 1,610,612,736 bytes, and there are 9\d\d",
    ),
    "a shape of 10^12": (
        lambda path: zip_of(path, "images.npy", deflated(npy_header("(1000000, 1000, 1000)"), bytes(99)), 200),
        "takes 1,000,000,000,000 bytes, and there are",
    ),
    "a shape and a directory of 4 GB over nothing": (
        lambda path: zip_of(
            path, "images.npy", deflated(h := npy_header("(1000000, 40, 100)"), bytes(99)), len(h) + 4 * 10**9
        ),
        "would take 4,000,000,000 bytes in memory from",
    ),
    "a header of 1.5 GB": (
        lambda path: zip_of(
            path, "images.npy", after_header(npy_header("(1, 4, 4)", version=2, length=GB), GB), GB + 80
        ),
        "header claims 1,610,612,736 bytes; at most 10,000",
    ),
    "a length below 0": (
        lambda path: zip_of(path, "images.npy", deflated(h := npy_header("(-1, -4, 4)"), bytes(16)), len(h) + 16),
        r"shape \(-1, -4, 4\) has a length below 0",
    ),
    "a header of version 3": (
        lambda path: zip_of(path, "images.npy", deflated(h := npy_header("(1, 4, 4)", version=3)), len(h)),
        "version 3.0; 1.0 and 2.0 are read",
    ),
    "brackets without end": (
        lambda path: zip_of(path, "images.npy", deflated(h := npy_header("(" * 9000)), len(h)),
        "cannot be read as an .npz file",
    ),
    "a header that is a program": (
        lambda path: zip_of(path, "images.npy", deflated(h := npy_header("__import__('os').mkdir('evil')")), len(h)),
        "cannot be read as an .npz file",
    ),
    "Python objects": (
        lambda path: np.savez(path, images=np.array([Evil("ran")], dtype=object)),
        "images: it holds Python objects, which are not loaded",
    ),
    "Python objects for labels": (
        lambda path: np.savez(path, images=noise(1, 4, 4), labels=np.array([Evil("ran")], dtype=object)),
        "labels: it holds Python objects, which are not loaded",
    ),
    "names that lead out": (
        lambda path: zip_of(path, "../../evil.npy", deflated(b"x"), 1),
        r"has no array 'images'; it has: \.\./\.\./evil",
    ),
    "a compression that inflates without bound": (
        lambda path: with_method(path, zipfile.ZIP_BZIP2),
        "images is compressed in a way that numpy does not write",
    ),
    "an encrypted member": (
        lambda path: zip_of(path, "images.npy", deflated(npy_header("(1, 4, 4)"), bytes(16)), 96, flags=1),
        "cannot be read as an .npz file",
    ),
    "a pipe": (os.mkfifo, "is not an ordinary file"),
}


def with_method(path: Path, method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", npy_header("(1, 4, 4)") + bytes(16))


class Evil:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.name,)


def sparse(path: Path, start: bytes, size: int) -> None:
    path.write_bytes(start)
    os.truncate(path, size)


NPY: dict[str, tuple[Make, str]] = {
    "a shape of 10^12": (
        lambda path: path.write_bytes(npy_header("(1000000, 1000, 1000)") + bytes(99)),
        "takes 1,000,000,000,000 bytes, and the file has 1",
    ),
    "a shape whose product overflows": (
        lambda path: path.write_bytes(npy_header(f"({2**32}, {2**32})") + bytes(99)),
        "takes 18,446,744,073,709,551,616 bytes",
    ),
    "lengths below 0": (lambda path: path.write_bytes(npy_header("(-2, -4, 4)") + bytes(99)), "a length below 0"),
    "a header of 4 GB": (
        lambda path: sparse(path, npy_header("(1, 4, 4)", version=2, length=2**32 - 1), 2**32 + 12),
        "header claims 4,294,967,295 bytes",
    ),
    "a header of version 3": (
        lambda path: path.write_bytes(npy_header("(1, 4, 4)", version=3) + bytes(16)),
        "version 3.0",
    ),
    "brackets without end": (
        lambda path: path.write_bytes(npy_header("(" * 9000)),
        "cannot be read as a .npy file",
    ),
    "Python objects": (
        lambda path: np.save(path, np.array([Evil("ran")], dtype=object)),
        "it holds Python objects",
    ),
    "a pipe": (os.mkfifo, "no .npy file at"),
}


def folder_of(**files: bytes) -> Make:
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in files.items():
            (path / f"{name}.png").write_bytes(content)

    return make


def folder_with_a_link(path: Path) -> None:
    save(path / "a.png", noise(4, 4))
    save(path.with_name("outside.png"), noise(4, 4))
    (path / "b.png").symlink_to(path.with_name("outside.png"))


def folder_with_a_pipe(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "a.png")


def folder_with_a_huge_file(path: Path) -> None:
    path.mkdir()
    sparse(path / "a.png", png(4, 4, 8, 0, bytes(20)), 10**10)


ROWS = bytes(5) + (b"\0" + b"\xff" * 4) * 3
FOLDER: dict[str, tuple[Make, str]] = {
    "a PNG of 24 kB and 196 megapixels": (folder_of(a=black(14_000)), "a.png is too large"),
    "a PNG of 81 megapixels": (folder_of(a=black(9_000)), "a.png is of 9000 x 9000 pixels; at most 64 million"),
    "thirty PNGs of 8 kB and 64 megapixels": (
        folder_of(**dict.fromkeys((f"n{n}" for n in range(30)), black(8_000))),
        "would take 1,920,000,000 bytes in memory from",
    ),
    "a PNG whose pixels end early": (
        folder_of(a=png(4, 4, 8, 0, ROWS), b=png(4, 4, 8, 0, ROWS, cut=5)),
        r"b.png cannot be read as an image \(its pixels end after 15 of 20 bytes\)",
    ),
    "a link out": (folder_with_a_link, "b.png is a link out of"),
    "a pipe": (folder_with_a_pipe, "a.png is not an ordinary file"),
    "a file of 10 GB": (folder_with_a_huge_file, "a.png is too large: it has 10,000,000,000 bytes"),
}


def mnist_with(name: str, content: Callable[[Path], object]) -> Make:
    def make(path: Path) -> None:
        mnist(path)
        content(path / "MNIST" / name)

    return make


def idx(*shape: int, magic: int = 0x803) -> bytes:
    return struct.pack(f">I{len(shape)}I", magic, *shape)


IMAGES = "raw/train-images-idx3-ubyte"
MNIST: dict[str, tuple[Make, str]] = {
    "a shape of 10^12": (
        mnist_with(IMAGES, lambda path: path.write_bytes(idx(1_000_000, 1000, 1000) + bytes(99))),
        r"is not 115 bytes of shape \(1000000, 1000, 1000\)",
    ),
    "a shape whose product overflows to the right one": (
        mnist_with(IMAGES, lambda path: path.write_bytes(idx(2**31, 2**31, 4))),
        r"is not 16 bytes of shape \(2147483648, 2147483648, 4\)",
    ),
    "a file of 10 GB": (
        mnist_with(IMAGES, lambda path: sparse(path, idx(10**7, 10, 100), 16 + 10**10)),
        "has 10,000,000,016 bytes; at most 67,108,864",
    ),
    "another type": (
        mnist_with(IMAGES, lambda path: path.write_bytes(idx(1, 28, 28, magic=0xE03) + bytes(28 * 28))),
        "is not 800 bytes of shape",
    ),
    "a pipe": (mnist_with(IMAGES, lambda path: (path.unlink(), os.mkfifo(path))), "is not an ordinary file"),
    "a pickle of an older torchvision": (
        mnist_with("processed", lambda path: (path.mkdir(), torch.save({}, path / "training.pt"))),
        "processed is of a torchvision before 0.10 and is not read",
    ),
}


def cifar10_of(*names: str) -> Make:
    """All the files that torchvision looks for, of another content."""

    def make(path: Path) -> None:
        (path / "cifar-10-batches-py").mkdir(parents=True)
        for name in names:
            (path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Evil("ran")))

    return make


CIFAR10: dict[str, tuple[Make, str]] = {
    "pickles that run a program": (
        cifar10_of(*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
        "is incomplete or damaged .Dataset not found or corrupted",
    ),
}


def svhn(path: Path) -> None:
    path.mkdir()
    for name in ("train_32x32.mat", "test_32x32.mat"):
        sparse(path / name, b"MATLAB 5.0 MAT-file", 600 * 10**6)


SVHN: dict[str, tuple[Make, str]] = {
    "files larger than the memory": (svhn, "is incomplete or damaged .Dataset not found")
}

DIGITS: dict[str, tuple[Make, str]] = {
    "a bomb": (
        lambda path: path.write_bytes(gzip.compress(bytes(1 << 24)) * 64),
        "unpacks to more than 1,048,576 bytes",
    ),
    "other numbers": (lambda path: path.write_bytes(gzip.compress(b"1,2\n3,4\n")), "does not hold 1797 digits"),
    "a torn file": (lambda path: path.write_bytes(gzip.compress(b"1,2\n" * 99)[:-9]), "is damaged"),
    "no gzip": (lambda path: path.write_bytes(b"hello"), "is damaged"),
    "text": (lambda path: path.write_bytes(gzip.compress(b"<script>\n")), "is damaged"),
}

DOORS = {"npz": NPZ, "npy": NPY, "folder": FOLDER, "mnist": MNIST, "cifar10": CIFAR10, "svhn": SVHN, "digits": DIGITS}
CASES = [(door, case) for door, cases in DOORS.items() for case in cases]

READER = """
import json, resource, sys
from pathlib import Path
from torchvision import datasets
import scipy.io, sklearn
import ganzoo.data.load
from ganzoo.data import load_images
from ganzoo.errors import UserError
load_images("digits")  # whatever is imported late
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[1]),) * 2)
for door, path in json.loads(sys.stdin.read()):
    ganzoo.data.load.DIGITS_FILE = path
    try:
        load_images(door, path=None if door == "digits" else Path(path))
        print(json.dumps("it was read"))
    except UserError as error:
        print(json.dumps(str(error)))
    except BaseException as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What reading each of the files comes to, in one process of limited memory, started in an empty folder."""
    folder = tmp_path_factory.mktemp("hostile")
    here = tmp_path_factory.mktemp("here")
    paths = []
    for number, (door, case) in enumerate(CASES):
        path = folder / f"{number}{'.npz' if door == 'npz' else '.npy' if door == 'npy' else ''}"
        DOORS[door][case][0](path)
        paths.append((door, str(path)))
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", READER, str(ROOM)],
        cwd=here,
        input=json.dumps(paths),
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},  # arenas are address space alone
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*")) == before
    assert os.listdir(here) == [], "something ran, or was written"
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(("door", "case"), CASES, ids=lambda part: part)
def test_a_hostile_file_is_refused_for_what_is_wrong_with_it_in_little_memory(
    door: str, case: str, told: dict[tuple[str, str], str]
) -> None:
    found = told[door, case]
    assert re.search(DOORS[door][case][1], found), found
    assert "\n" not in found


def test_the_png_bomb_is_as_small_as_it_is_said_to_be() -> None:
    assert len(black(14_000)) < 25_000


# --- pixels that end early


@pytest.mark.parametrize("cut", [1, 5, 15])
def test_a_png_whose_pixels_end_early_is_left_out_only_when_told(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.png").write_bytes(png(4, 4, 8, 0, ROWS))
    (tmp_path / "b.png").write_bytes(png(4, 4, 8, 0, ROWS, cut=cut))
    with refuses(tmp_path / "b.png", f"its pixels end after {20 - cut} of 20 bytes", "skip_corrupt"):
        load_images("folder", path=tmp_path)
    with pytest.warns(UserWarning, match=r"left out 1 of 2 files.*b\.png"):
        assert len(load_images("folder", path=tmp_path, skip_corrupt=True).images) == 1


def test_pillow_itself_leaves_black_what_a_png_does_not_have() -> None:
    """Or else the check could go."""
    assert np.asarray(Image.open(io.BytesIO(png(4, 4, 8, 0, ROWS, cut=10))))[2:].max() == 0


@given(
    width=st.integers(1, 19),
    height=st.integers(1, 19),
    layout=st.sampled_from([(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (4, 8), (6, 8), (0, 16), (2, 16), (6, 16)]),
    interlaced=st.sampled_from([0, 1]),
)
def test_a_whole_png_passes_and_one_without_its_last_byte_does_not(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, layout: tuple[int, int], interlaced: int
) -> None:
    colour, depth = layout
    bits = depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    grid = np.arange(width * height).reshape(height, width)
    parts = [grid[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [grid]
    rows = b"".join(
        b"\0" + bytes([255]) * ((part.shape[1] * bits + 7) // 8) for part in parts if part.size for _ in part
    )
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(png(width, height, depth, colour, rows, interlaced))
    require_all_rows(path)
    with Image.open(path) as image:  # Pillow, independently, finds each pixel white
        assert np.asarray(image.convert("RGB") if depth != 16 else image).min() >= 255
    path.write_bytes(png(width, height, depth, colour, rows, interlaced, cut=1))
    with pytest.raises(ValueError, match="its pixels end after"):
        require_all_rows(path)


def test_what_follows_the_last_pixel_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(4, 4, 8, 0, ROWS + bytes(1 << 26)))
    require_all_rows(tmp_path / "a.png")
    assert load_images("folder", path=tmp_path).images.shape == (1, 1, 4, 4)


# --- array headers


@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    kind=st.sampled_from(["|u1", "<i2", ">i8", "<f4"]),
    fortran=st.booleans(),
)
def test_a_header_is_read_as_numpy_reads_it(shape: list[int], kind: str, fortran: bool) -> None:
    array = np.zeros(shape, kind, order="F" if fortran else "C")
    file = io.BytesIO()
    np.save(file, array)
    size = file.tell()
    file.seek(0)
    header = read_array_header(file)
    assert (header.shape, header.dtype) == (array.shape, array.dtype)
    assert header.fortran == (array.flags.f_contiguous and not array.flags.c_contiguous)
    assert header.length == file.tell()
    assert header.length + header.nbytes == size


@given(content=st.binary(max_size=120), begun=st.booleans())
def test_any_other_bytes_are_no_header(content: bytes, begun: bool) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_array_header(io.BytesIO((b"\x93NUMPY\x01\0" if begun else b"") + content))


def test_a_flipped_bit_in_an_npz_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=noise(9, 9, 9))
    content = bytearray(path.read_bytes())
    content[600] ^= 1  # a pixel
    path.write_bytes(content)
    with refuses(path, "cannot be read as an .npz file", "CRC"):
        load_images("npz", path=path)


def test_an_npz_in_fortran_s_order_is_that_in_c_s(tmp_path: Path) -> None:
    pixels = noise(5, 6, 6, 3)
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(pixels), labels=np.arange(5))
    np.savez(tmp_path / "b.npz", images=pixels, labels=np.arange(5))
    assert load_images("npz", path=tmp_path / "a.npz").sha256 == load_images("npz", path=tmp_path / "b.npz").sha256


# --- how much memory


def test_room_is_granted_up_to_a_gigabyte_or_as_images_expand() -> None:
    require_room("x", FREE, 1)
    require_room("x", 2 * FREE, 2 * FREE // 250 + 1)
    with refuses("x would take 1,073,741,825 bytes in memory from 1 in files"):
        require_room("x", FREE + 1, 1)
    with refuses(f"x would take {memory() + 1:,} bytes in memory, and there are {memory():,}", "npy"):
        require_room("x", memory() + 1, memory())
    require_memory("x", memory())


@pytest.mark.parametrize(("limit", "least"), [("5000\n", 5000), ("max\n", None), ("999999999999999999999\n", None)])
def test_a_container_s_limit_is_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, least: int | None
) -> None:
    (tmp_path / "limit").write_text(limit)
    monkeypatch.setattr(ganzoo.data.limits, "CGROUP", (str(tmp_path / "absent"), str(tmp_path / "limit")))
    assert memory() == (least or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def test_a_size_that_memory_cannot_hold_is_refused_before_a_pixel_is_made() -> None:
    with refuses("digits at size=40000 would take 2,875,200,000,000 bytes in memory"):
        load_images("digits", size=40_000)


def test_many_large_images_are_brought_to_a_small_size_one_at_a_time(tmp_path: Path) -> None:
    folder_of(**dict.fromkeys("abcd", black(8_000)))(tmp_path / "a")
    told = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "a")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    # 64 MB decoded, as much again converted, and as much for the central square.
    assert int(told.stdout) < 4 * 64 * 10**6


LARGE = """
import resource, sys
from pathlib import Path
from ganzoo.data import load_images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert load_images("folder", path=Path(sys.argv[1]), size=4).images.shape == (4, 1, 4, 4)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


# --- downloads: from a server on this machine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/", folder
        listening.shutdown()


def tar_out_of_the_folder(way: str) -> bytes:
    """An archive that has a file lead out of the folder it is unpacked in."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("../../evil" if way == "dots" else "cifar-10-batches-py/link/evil")
        member.size = 4
        if way == "link":
            link = tarfile.TarInfo("cifar-10-batches-py/link")
            link.type, link.linkname = tarfile.SYMTYPE, "../../.."
            archive.addfile(link)
        archive.addfile(member, io.BytesIO(b"evil"))
    return file.getvalue()


def older(from_path: str, to_path: str, compression: str | None) -> None:
    """As torchvision before 0.29 unpacks."""
    with tarfile.open(from_path, f"r:{compression[1:]}" if compression else "r") as archive:
        archive.extractall(to_path)


@pytest.mark.parametrize("way", ["dots", "link"])
@pytest.mark.parametrize("by", ["its checksum", "tarfile", "tarfile, whatever the torchvision"])
def test_an_archive_that_leads_out_of_the_folder_writes_nothing_there(
    way: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]
) -> None:
    address, served = server
    content = tar_out_of_the_folder(way)
    (served / "cifar-10-python.tar.gz").write_bytes(content)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
    if by != "its checksum":
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    if by == "tarfile, whatever the torchvision":
        monkeypatch.setitem(utils._ARCHIVE_EXTRACTORS, ".tar", older)
    root = tmp_path / "deep" / "er" / "root"
    said = "File not found or corrupted" if by == "its checksum" else "outside the destination"
    with refuses(f"cifar10 could not be downloaded to {root}", said):
        load_images("cifar10", path=root, download=True)
    assert list(tmp_path.rglob("evil")) == []
    assert getattr(tarfile.TarFile, "extraction_filter", None) is None


def test_without_the_filter_the_archive_would_lead_out(tmp_path: Path) -> None:
    """Or else the test above could not fail."""
    if sys.version_info >= (3, 12):
        pytest.skip("from Python 3.12 on tarfile warns of it, from 3.14 on it refuses by itself")
    (tmp_path / "a.tar.gz").write_bytes(tar_out_of_the_folder("dots"))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    older(str(tmp_path / "a.tar.gz"), str(tmp_path / "deep" / "er"), ".gz")
    assert (tmp_path / "evil").exists()


def test_a_packed_bomb_for_mnist_is_refused_by_its_checksum_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]
) -> None:
    address, served = server
    for name, _md5 in datasets.MNIST.resources:
        (served / name).write_bytes(gzip.compress(bytes(1 << 24)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    root = tmp_path / "root"
    with refuses(f"mnist could not be downloaded to {root}", "File not found or corrupted"):
        load_images("mnist", path=root, download=True)
    assert [path.name for path in (root / "MNIST" / "raw").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_a_damaged_set_that_is_there_is_not_read_for_being_asked_to_download(tmp_path: Path) -> None:
    mnist(tmp_path)
    (tmp_path / "MNIST" / IMAGES).write_bytes(idx(2**31, 2**31, 4))
    with refuses(f"mnist in {tmp_path} is incomplete or damaged"):
        load_images("mnist", path=tmp_path, download=True)


@pytest.mark.parametrize(
    ("name", "below", "folder"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", False),
        ("mnist", "MNIST", True),
        ("fashion-mnist", "FashionMNIST/raw", True),
        ("cifar10", "cifar-10-python.tar.gz", False),
        ("cifar10", "cifar-10-batches-py", True),
        ("svhn", "train_32x32.mat", False),
        ("celeba", "celeba/img_align_celeba", True),
    ],
)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_download_does_not_follow_a_link_out_of_the_folder(
    name: str, below: str, folder: bool, dangling: bool, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    if not dangling:
        victim.mkdir() if folder else victim.write_text("mine")
    link = tmp_path / "root" / below
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    with refuses(link, "is a link out of"):
        load_images(name, path=tmp_path / "root", download=True)
    if dangling:
        assert not victim.exists()
    else:
        assert list(victim.iterdir()) == [] if folder else victim.read_text() == "mine"


def test_a_set_that_is_a_link_to_another_disk_is_read(tmp_path: Path) -> None:
    mnist(tmp_path / "disk")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "MNIST").symlink_to(tmp_path / "disk" / "MNIST")
    assert len(load_images("mnist", path=tmp_path / "root", download=True).images) == 10


@pytest.mark.parametrize("kind", ["link", "pipe", "bomb", "early"])
def test_an_image_of_celeba_is_looked_at_as_one_of_any_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "celeba"
    image = folder / "img_align_celeba" / "000001.jpg"
    image.parent.mkdir(parents=True)
    for table, header, row in [
        ("list_eval_partition", "", "0"),
        ("identity_CelebA", "", "5"),
        ("list_bbox_celeba", "1\nimage_id x y w h\n", "0 0 1 1"),
        ("list_landmarks_align_celeba", "1\nx y\n", "1 2"),
        ("list_attr_celeba", "1\nSmiling\n", "-1"),
    ]:
        (folder / f"{table}.txt").write_text(f"{header}000001.jpg {row}\n")
    monkeypatch.setattr(
        datasets.CelebA, "file_list", [(link, None, file) for link, _md5, file in datasets.CelebA.file_list]
    )
    if kind == "link":
        save(tmp_path / "outside.jpg", noise(218, 178, 3))
        image.symlink_to(tmp_path / "outside.jpg")
    elif kind == "pipe":
        os.mkfifo(image)
    else:
        image.write_bytes(black(14_000) if kind == "bomb" else png(4, 4, 8, 0, ROWS, cut=5))
    said = {
        "link": "is a link out of",
        "pipe": "is not an ordinary file",
        "bomb": "is too large",
        "early": "pixels end",
    }
    with refuses(image, said[kind]):
        load_images("celeba", path=tmp_path)


def test_a_torchvision_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    """A real one, that fails as a torchvision does beside a torch that it was not built for."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")\n'
    )
    code = (
        "from ganzoo.data import load_images\nfrom ganzoo.errors import UserError\n"
        "try:\n    load_images('mnist')\nexcept UserError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mnist is read by torchvision, which cannot be imported: operator torchvision::nms" in done.stdout
    assert "ganzoo doctor" in done.stdout


def test_write_idx_is_what_mnist_reads(tmp_path: Path) -> None:
    """The sets of these tests are read as they are, before they are damaged."""
    mnist(tmp_path)
    write_idx(tmp_path / "MNIST" / IMAGES, noise(6, 28, 28, seed=1))
    assert len(load_images("mnist", path=tmp_path).images) == 10
