"""Image sets, splits and batches: laws, independent readings of the same pixels, and every slip's line."""

import hashlib
import os
import pickle
import re
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

import ganzoo.data.batches
import ganzoo.data.folder
import ganzoo.data.load
import ganzoo.data.mapped
from ganzoo.data import SETS, Batches, ImageSet, draw_labels, load_images, scaled, split
from ganzoo.data.mapped import file_sha256
from ganzoo.errors import UserError

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def numbered(count: int, labelled: bool = True) -> ImageSet:
    """1 x 2 x 2 images; pixel (0, 0) and (0, 1) spell the image's number, and so does its label."""
    numbers = torch.arange(count)
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers % 256, numbers // 256
    return ImageSet("numbered", images, numbers if labelled else None, ())


def numbers(images: torch.Tensor) -> list[int]:
    """Which images of `numbered` these are; uint8 or scaled."""
    if images.dtype == torch.float32:
        images = ((images + 1) * 127.5).round()
    return (images[:, 0, 0, 0].long() + 256 * images[:, 0, 0, 1].long()).tolist()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def refuses(*parts: object) -> "pytest.RaisesExc[UserError]":
    """A UserError of one line with these parts in this order."""
    pattern = ".*".join(re.escape(str(part)) for part in parts)
    return pytest.raises(UserError, match=rf"\A(?=.*{pattern})[^\n]*\Z")


# --- split


@given(
    count=st.integers(20, 700),
    shares=st.tuples(*[st.integers(1, 10)] * 3),
    seed=st.integers(0, 9),
    shuffle=st.booleans(),
)
def test_fractions_of_sum_1_put_each_image_into_exactly_one_part(
    count: int, shares: tuple[int, int, int], seed: int, shuffle: bool
) -> None:
    whole = sum(shares)
    fractions = [share / whole for share in shares]
    if min(fractions) * count < 1:
        return
    parts = split(numbered(count), fractions, seed=seed, shuffle=shuffle)
    assert sorted(n for part in parts for n in numbers(part.images)) == list(range(count))
    assert all(abs(len(part.images) - f * count) <= 1 for part, f in zip(parts, fractions, strict=True))


def test_counts_are_taken_exactly_and_what_they_leave_over_is_in_no_part() -> None:
    parts = split(numbered(100), (50, 20, 10))
    assert [len(part.images) for part in parts] == [50, 20, 10]
    assert len({n for part in parts for n in numbers(part.images)}) == 80


def test_fractions_below_sum_1_leave_the_rest_out() -> None:
    assert [len(part.images) for part in split(numbered(1000), (0.3, 0.2, 0.1))] == [300, 200, 100]


def test_a_split_without_shuffle_takes_the_images_in_their_order() -> None:
    parts = split(numbered(100), (50, 20, 10), seed=7, shuffle=False)
    assert [numbers(part.images) for part in parts] == [
        [*range(50)],
        [*range(50, 70)],
        [*range(70, 80)],
    ]


def test_a_split_depends_on_its_seed_and_on_nothing_else() -> None:
    first = split(numbered(200), (0.5, 0.25, 0.25), seed=3)
    torch.manual_seed(99)
    torch.rand(5)
    again = split(numbered(200), (0.5, 0.25, 0.25), seed=3)
    other = split(numbered(200), (0.5, 0.25, 0.25), seed=4)
    assert [part.sha256 for part in first] == [part.sha256 for part in again]
    assert set(numbers(first.test.images)) != set(numbers(other.test.images))


def test_labels_go_with_their_images() -> None:
    for part in split(numbered(300), (0.4, 0.3, 0.3), seed=1):
        assert part.labels is not None
        assert part.labels.tolist() == numbers(part.images)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0.5, 0.5), "expected three"),
        ((0.5, 20, 20), "not a mix"),
        ((True, True, True), "not a mix"),
        ((0.8, 0.2, 0.2), "sum to 1.2, more than 1"),
        ((60, 30, 11), "ask for 101 images, but there are 100"),
        ((0.5, -0.1, 0.5), "expected finite sizes above 0"),
        ((50, -10, 50), "expected finite sizes above 0"),
        ((0.5, float("nan"), 0.5), "expected finite sizes above 0"),
        ((0.5, 0.001, 0.3), "leave the validation part empty"),
        ((50, 50, 0), "leave the test part empty"),
        ((0.0, 0.5, 0.5), "leave the train part empty"),
    ],
)
def test_a_bad_size_is_refused(sizes: tuple[float, ...], said: str) -> None:
    with refuses(said):
        split(numbered(100), sizes)


# --- batches


def test_scaled_is_an_affine_map_of_0_to_255_onto_minus_1_to_1() -> None:
    x = scaled(torch.arange(256, dtype=torch.uint8))
    assert x.dtype == torch.float32
    assert (x[0], x[255]) == (-1, 1)
    torch.testing.assert_close(x, torch.linspace(-1, 1, 256))


def test_scaled_refuses_images_that_are_floats_already() -> None:
    with pytest.raises(TypeError, match=r"expected uint8 images.*float32"):
        scaled(torch.zeros(1))


@given(count=st.integers(1, 400), batch_size=st.integers(1, 50), epoch=st.integers(0, 5))
def test_an_epoch_shows_each_image_at_most_once_and_leaves_out_less_than_a_batch(
    count: int, batch_size: int, epoch: int
) -> None:
    if batch_size > count:
        return
    batches = Batches(numbered(count), batch_size, seed=0)
    start = epoch * batches.per_epoch
    seen = [n for k in range(start, start + batches.per_epoch) for n in numbers(batches[k].real)]
    assert len(seen) == len(set(seen)) == batches.per_epoch * batch_size
    assert count - len(seen) < batch_size
    assert set(seen) <= set(range(count))


def test_batch_k_is_the_same_whatever_was_drawn_before() -> None:
    straight = Batches(numbered(50), 8, seed=5)
    forward = [numbers(straight[k].real) for k in range(20)]
    for k in (19, 3, 0, 11, 3):
        torch.manual_seed(k)
        assert numbers(Batches(numbered(50), 8, seed=5)[k].real) == forward[k]
        assert numbers(straight[k].real) == forward[k]


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    one, other = Batches(numbered(64), 64, seed=0), Batches(numbered(64), 64, seed=1)
    orders = [numbers(one[0].real), numbers(one[1].real), numbers(other[0].real), numbers(other[1].real)]
    assert len({tuple(order) for order in orders}) == 4


def test_order_sha256_is_that_of_the_order_of_epoch_0() -> None:
    batches = Batches(numbered(64), 16, seed=2)
    batches[9]
    order = [n for k in range(4) for n in numbers(batches[k].real)]
    assert batches.order_sha256 == hashlib.sha256(struct.pack("<64q", *order)).hexdigest()
    assert batches.order_sha256 == Batches(numbered(64), 32, seed=2).order_sha256
    assert batches.order_sha256 != Batches(numbered(64), 16, seed=3).order_sha256


def test_a_batch_carries_its_images_labels_or_none() -> None:
    batch = Batches(numbered(300), 40, seed=0)[2]
    assert batch.labels is not None
    assert batch.labels.tolist() == numbers(batch.real)
    assert batch.real.min() >= -1
    assert batch.real.max() <= 1
    assert Batches(numbered(300, labelled=False), 40, seed=0)[2].labels is None


def test_a_batch_is_a_copy_so_writing_into_it_leaves_the_set_alone() -> None:
    images = numbered(10)
    Batches(images, 10, seed=0)[0].real.zero_()
    assert images.sha256 == numbered(10).sha256


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_larger_than_the_set_or_below_1_is_refused(batch_size: int) -> None:
    with refuses(f"batch_size {batch_size}: expected 1 to 10"):
        Batches(numbered(10), batch_size, seed=0)


def test_a_batch_before_the_first_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="batch -1"):
        Batches(numbered(10), 2, seed=0)[-1]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("share", [0.5, 0.0], ids=["held on the device", "held on the host"])
def test_batches_on_a_gpu_are_those_of_the_cpu(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ganzoo.data.batches, "LARGEST_SHARE", share)
    here, there = Batches(numbered(300), 32, seed=1), Batches(numbered(300), 32, seed=1, device="cuda")
    assert there.order_sha256 == here.order_sha256
    for k in (0, 5, 30, 2):
        batch = there[k]
        assert batch.labels is not None
        assert (batch.real.device.type, batch.labels.device.type) == ("cuda", "cuda")
        assert torch.equal(batch.real.cpu(), here[k].real)
        assert batch.labels.tolist() == numbers(here[k].real)


def test_a_set_too_large_for_the_device_is_moved_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ganzoo.data.batches, "_fits", lambda images, device: False)
    batches = Batches(numbered(50), 8, seed=5, device="meta")  # a device that is not the CPU and is always there
    assert batches[0].real.device.type == "meta"
    assert batches._images.device.type == "cpu"


def test_a_set_that_takes_over_half_of_the_free_gpu_memory_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    images = numbered(100).images  # 400 bytes
    for free, fits in ((800, True), (799, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**9))
        assert ganzoo.data.batches._fits(images, torch.device("cuda")) is fits


# --- the set itself


def test_sha256_tells_shape_pixels_and_labels_apart_and_nothing_else() -> None:
    images = numbered(6)
    flipped = images.images.clone()
    flipped[3, 0, 1, 1] = 1
    different = [
        images,
        images._replace(images=flipped),
        images._replace(images=images.images.reshape(6, 1, 4, 1)),
        images._replace(labels=images.labels.flip(0)),
        images._replace(labels=None),
    ]
    assert len({one.sha256 for one in different}) == 5
    strided = images.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert images._replace(images=strided, name="other").sha256 == images.sha256


def test_digits_are_scikit_learns_with_16_become_255() -> None:
    raw, digits = load_digits(), load_images("digits")
    assert digits.image_shape == (1, 8, 8)
    assert digits.images.dtype == torch.uint8
    assert digits.labels.tolist() == raw.target.tolist()
    assert digits.classes == tuple("0123456789")
    np.testing.assert_array_equal(np.rint(digits.images[:, 0].numpy() * (16 / 255)), raw.images)
    assert (digits.images.min(), digits.images.max()) == (0, 255)


def test_digits_are_the_same_where_scikit_learns_file_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    here = load_images("digits")
    monkeypatch.setattr(ganzoo.data.load, "DIGITS_FILE", "elsewhere.csv.gz")
    assert load_images("digits").sha256 == here.sha256


def test_a_set_that_was_changed_by_replace_has_a_hash_of_its_own() -> None:
    images = numbered(6)
    known = images.sha256
    assert images._replace(labels=None).sha256 != known
    assert images.part(torch.tensor([1, 0])).sha256 != known


def test_a_given_size_keeps_constant_images_constant_and_the_mean_of_others() -> None:
    larger, smaller, original = (load_images("digits", size=size) for size in (16, 4, None))
    assert larger.image_shape == (1, 16, 16)
    means = [images.images.float().mean() for images in (larger, smaller, original)]
    assert max(means) - min(means) < 8
    assert larger.labels.tolist() == original.labels.tolist()
    assert load_images("digits", size=8).sha256 == original.sha256


def test_the_names_are_those_the_interface_promises() -> None:
    assert set(SETS) == {"digits", "mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "folder", "npy", "npz"}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with refuses("no image set named 'cifar'", "did you mean 'cifar10'?", "there are: celeba"):
        load_images("cifar")


def test_a_path_in_the_place_of_a_name_is_answered_with_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my photos").mkdir()
    Path("x.npz").touch()
    with refuses("no image set named 'my photos'; to take what lies there: -d folder --set data.path='my photos'"):
        load_images("my photos")
    with refuses("no image set named 'x.npz'; to take what lies there: -d npz --set data.path=x.npz"):
        load_images("x.npz")
    for absent in ("x.npy", "photos", "x" * 10_000):
        with refuses("no image set named", "there are: celeba"):
            load_images(absent)


def test_digits_refuse_a_path(tmp_path: Path) -> None:
    with refuses("digits needs no path"):
        load_images("digits", path=tmp_path)


@pytest.mark.parametrize("size", [0, -8, True, 8.0])
def test_a_size_that_is_no_edge_is_refused(size: int) -> None:
    with refuses(f"size={size!r}"):
        load_images("digits", size=size)


@pytest.mark.parametrize("name", ["folder", "npy", "npz"])
def test_folder_npy_and_npz_say_what_path_they_need(name: str, tmp_path: Path) -> None:
    kind = {"folder": "folder of images", "npy": ".npy file, or a folder with images.npy", "npz": ".npz file"}[name]
    with refuses(f"{name} needs a path: give the {kind}"):
        load_images(name)
    with refuses(f"no {kind} at {tmp_path / 'absent'}"):
        load_images(name, path=tmp_path / "absent")
    wrong = tmp_path if name == "npz" else tmp_path / "file"
    (tmp_path / "file").touch()
    if name == "npy":
        return  # takes both
    with refuses(f"{wrong} is a", f"{name} needs a {kind}"):
        load_images(name, path=wrong)


# --- folder


def test_a_tree_gives_back_the_pixels_that_were_saved_in_sorted_order(tmp_path: Path) -> None:
    pixels = noise(5, 6, 6, 3)
    names = ["ape/1.png", "ape/deeper/0.bmp", "bee/0.PNG", "bee/1.webp", "cat/x.png"]
    for name, image in reversed(list(zip(names, pixels, strict=True))):
        save(tmp_path / name, image, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "ape" / "notes.txt").write_text("no image")
    (tmp_path / "ape" / "._1.png").write_text("another system's leavings")
    (tmp_path / "empty").mkdir()
    images = load_images("folder", path=tmp_path)
    np.testing.assert_array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert images.labels.tolist() == [0, 0, 1, 1, 2]
    assert images.classes == ("ape", "bee", "cat")


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 4, 3))
    images = load_images("folder", path=tmp_path)
    assert (images.labels, images.classes) == (None, ())


def test_greyscale_stays_one_channel_only_where_all_files_are(tmp_path: Path) -> None:
    grey, bits = noise(4, 4), noise(4, 4) > 127
    save(tmp_path / "a.png", grey)
    save(tmp_path / "b.png", bits)
    images = load_images("folder", path=tmp_path).images
    np.testing.assert_array_equal(images.numpy(), np.stack([grey, bits * np.uint8(255)])[:, None])
    save(tmp_path / "c.png", noise(4, 4, 3))
    images = load_images("folder", path=tmp_path).images
    assert images.shape == (3, 3, 4, 4)
    assert all(np.array_equal(images[0, channel], grey) for channel in range(3))


def test_transparency_is_dropped_from_palettes_too(tmp_path: Path) -> None:
    pixels = noise(4, 4, 4)
    save(tmp_path / "a.png", pixels)
    palette = Image.fromarray(pixels[..., :3]).quantize(16)
    palette.save(tmp_path / "b.png", transparency=bytes(range(16)))
    images = load_images("folder", path=tmp_path).images
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), pixels[..., :3])
    np.testing.assert_array_equal(images[1].permute(1, 2, 0).numpy(), np.asarray(palette.convert("RGB")))


def test_an_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels, exif = noise(4, 4, 3), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    save(tmp_path / "a.png", pixels, exif=exif)
    images = load_images("folder", path=tmp_path).images
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


def test_size_keeps_the_central_square_and_nothing_of_what_is_beside_it(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 200
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "tall.png", wide.T)
    images = load_images("folder", path=tmp_path, size=4)
    assert images.image_shape == (1, 4, 4)
    assert images.images.unique().tolist() == [200]


def test_images_of_two_sizes_are_named_and_size_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 4))
    save(tmp_path / "b.png", noise(5, 7))
    with refuses("two sizes", "a.png is 4 x 4", "b.png is 7 x 5", "size=..."):
        load_images("folder", path=tmp_path)


def test_images_that_are_not_square_need_a_size(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 6))
    with refuses("a.png is 6 x 4", "squares", "size=..."):
        load_images("folder", path=tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut short", "no image", "another format"])
def test_a_corrupt_file_is_named_and_left_out_only_when_told(tmp_path: Path, damage: str) -> None:
    pixels = noise(3, 32, 32, 3)
    for place, image in enumerate(pixels):
        save(tmp_path / f"class{place}" / f"{place}.png", image)
    bad = tmp_path / "class1" / "1.png"
    if damage == "another format":
        Image.fromarray(pixels[1]).save(bad, format="GIF")
    else:
        whole = bad.read_bytes()
        bad.write_bytes({"empty": b"", "cut short": whole[: len(whole) // 2], "no image": b"hello"}[damage])
    with refuses(bad, "cannot be read as an image", "skip_corrupt"):
        load_images("folder", path=tmp_path)
    with pytest.warns(UserWarning, match=f"left out 1 of 3 files.*{re.escape(str(bad))}") as warned:
        images = load_images("folder", path=tmp_path, skip_corrupt=True)
    assert len(warned) == 1
    np.testing.assert_array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels[[0, 2]])
    assert images.labels.tolist() == [0, 1]
    assert images.classes == ("class0", "class2")


@pytest.mark.parametrize("length", [0, 400])
def test_a_folder_of_corrupt_files_alone_is_refused(tmp_path: Path, length: int) -> None:
    save(tmp_path / "a.png", noise(32, 32))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:length])
    with refuses("none of the 1 files is a readable image", "a.png"):
        load_images("folder", path=tmp_path, skip_corrupt=True)


@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (40000, 40000)])
def test_a_file_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with refuses("bomb.png is "):
        load_images("folder", path=tmp_path, size=8, skip_corrupt=True)


def test_more_than_8_bits_a_channel_are_refused_not_clipped(tmp_path: Path) -> None:
    save(tmp_path / "deep.png", noise(4, 4).astype(np.uint16) * 256)
    with refuses("deep.png has more than 8 bits a channel"):
        load_images("folder", path=tmp_path)


def test_images_in_the_root_and_in_subfolders_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "loose.png", noise(4, 4))
    save(tmp_path / "class" / "a.png", noise(4, 4))
    with refuses("both directly in it (loose.png) and in subfolders"):
        load_images("folder", path=tmp_path)


def test_a_folder_without_images_says_which_endings_count(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").touch()
    with refuses(f"no images in {tmp_path}", ".bmp, .jpeg, .jpg, .png, .webp"):
        load_images("folder", path=tmp_path)


def test_links_out_of_the_tree_and_to_folders_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "outside" / "a.png", noise(4, 4))
    tree = tmp_path / "tree"
    save(tree / "class" / "b.png", noise(4, 4))
    link = tree / "class" / "a.png"
    link.symlink_to(tmp_path / "outside" / "a.png")
    with refuses(link, f"is a link out of {tree}"):
        load_images("folder", path=tree)
    link.unlink()
    link.symlink_to(tree / "class" / "b.png")
    assert len(load_images("folder", path=tree).images) == 2
    (tree / "other").symlink_to(tmp_path / "outside")
    with refuses(tree / "other", "is a link to a folder"):
        load_images("folder", path=tree)


# --- npz


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 6, 6), None),
        ((5, 6, 6, 1), (0, 3, 1, 2)),
        ((5, 6, 6, 3), (0, 3, 1, 2)),
        ((5, 3, 6, 6), (0, 1, 2, 3)),
        ((5, 1, 6, 6), (0, 1, 2, 3)),
        ((5, 3, 3, 3), (0, 3, 1, 2)),
    ],
)
def test_an_npz_gives_back_its_pixels_channels_first(
    tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    array = noise(*shape)
    np.savez(tmp_path / "a.npz", images=array, labels=np.array([7, -2, 7, 30, -2], dtype=np.int16))
    images = load_images("npz", path=tmp_path / "a.npz")
    np.testing.assert_array_equal(images.images.numpy(), array.transpose(axes) if axes else array[:, None])
    assert images.labels.tolist() == [1, 0, 1, 2, 0]
    assert images.labels.dtype == torch.int64
    assert images.classes == ("-2", "7", "30")


def test_an_npz_without_labels_is_unlabelled_and_its_other_arrays_are_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(2, 4, 4), other=np.array([{}], dtype=object))
    assert load_images("npz", path=tmp_path / "a.npz").labels is None


def test_an_npz_that_is_not_square_needs_a_size_and_keeps_its_centre(tmp_path: Path) -> None:
    array = np.zeros((2, 8, 24), dtype=np.uint8)
    array[:, :, 8:16] = 200
    np.savez(tmp_path / "a.npz", images=array)
    with refuses("npz: images are 24 x 8 pixels", "size=..."):
        load_images("npz", path=tmp_path / "a.npz")
    images = load_images("npz", path=tmp_path / "a.npz", size=4).images
    assert images.shape == (2, 1, 4, 4)
    assert images.unique().tolist() == [200]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": noise(2, 4, 4), "y": noise(2)}, "has no array 'images'; it has: x, y"),
        (
            {"images": np.zeros((2, 4, 4), np.float32)},
            "images is float32 of shape (2, 4, 4); expected uint8 in 0..255; what lies in [0, 1]",
        ),
        ({"images": noise(2, 4, 4, 4)}, "shape (2, 4, 4, 4); expected (N, H, W)"),
        ({"images": noise(2, 16)}, "shape (2, 16); expected (N, H, W)"),
        ({"images": noise(0, 4, 4)}, "shape (0, 4, 4): there is nothing in it"),
        ({"images": np.array([{}], dtype=object)}, "cannot be read as an .npz file"),
        ({"images": noise(2, 4, 4), "labels": np.arange(3)}, "shape (3,); expected integers of shape (2,)"),
        ({"images": noise(2, 4, 4), "labels": np.zeros(2)}, "labels is float64"),
    ],
)
def test_an_npz_with_something_else_in_it_says_what_was_found(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with refuses(tmp_path / "a.npz", said):
        load_images("npz", path=tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short", b"\x80\x04]."])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with refuses("a.npz cannot be read as an .npz file"):
        load_images("npz", path=tmp_path / "a.npz")


def test_a_damaged_npz_and_a_single_array_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=noise(9, 9, 9))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with refuses("a.npz cannot be read as an .npz file"):
        load_images("npz", path=tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", noise(9, 9, 9))
    with refuses("b.npy is a single array"):
        load_images("npz", path=tmp_path / "b.npy")


# --- npy: a set that stays in its file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digests of files are kept, instead of the user's own."""
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sha256"


def saved(folder: Path, *shape: int) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    np.save(folder / "images.npy", pixels := noise(*shape))
    np.save(folder / "labels.npy", np.arange(shape[0]) % 3 * 10)
    return pixels


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((9, 6, 6), None), ((9, 6, 6, 3), (0, 3, 1, 2)), ((9, 3, 6, 6), (0, 1, 2, 3)), ((9, 3, 3, 3), (0, 3, 1, 2))],
)
def test_a_mapped_set_is_the_set_of_the_same_arrays_in_an_npz(
    tmp_path: Path, cache: Path, shape: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    pixels = saved(tmp_path, *shape)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(9) % 3 * 10)
    mapped, loaded = load_images("npy", path=tmp_path), load_images("npz", path=tmp_path / "a.npz")
    assert mapped.image_shape == loaded.image_shape
    assert mapped.classes == loaded.classes == ("0", "10", "20")
    for ours, theirs in zip(split(mapped, (4, 3, 2)), split(loaded, (4, 3, 2)), strict=True):
        assert torch.equal(ours.images[:9], theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.first(2).sha256 == theirs.first(2).sha256
        assert [len(part) for part in torch.split(ours.images, 2)] == [len(part) for part in theirs.images.split(2)]
        assert torch.equal(torch.cat(list(torch.split(ours.images, 2))), theirs.images)
    assert np.array_equal(mapped.images[:9].numpy(), pixels.transpose(axes) if axes else pixels[:, None])
    assert len(mapped.images) == 9
    assert mapped.images.nbytes == loaded.images.nbytes


def test_batches_of_a_mapped_set_are_those_of_the_set_in_memory(tmp_path: Path, cache: Path) -> None:
    pixels = saved(tmp_path, 60, 4, 4, 1)
    mapped = split(load_images("npy", path=tmp_path), (40, 10, 10)).train
    loaded = mapped._replace(images=mapped.images[:])
    assert isinstance(loaded.images, torch.Tensor)
    ours, theirs = Batches(mapped, 8, seed=3), Batches(loaded, 8, seed=3)
    assert ours.order_sha256 == theirs.order_sha256
    for k in (0, 4, 5, 13):
        assert torch.equal(ours[k].real, theirs[k].real)
        assert torch.equal(ours[k].labels, theirs[k].labels)
    assert pixels.shape == (60, 4, 4, 1)


@pytest.mark.parametrize("fits", [True, False])
def test_a_mapped_set_is_moved_to_a_device_as_a_whole_where_it_fits_and_else_batch_by_batch(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    saved(tmp_path, 30, 4, 4)
    monkeypatch.setattr(ganzoo.data.batches, "_fits", lambda images, device: fits)
    monkeypatch.setattr(ganzoo.data.mapped, "READ_AT_ONCE", 100)  # 6 images at a time, and the last part is smaller
    batches = Batches(load_images("npy", path=tmp_path), 8, seed=0, device="meta")
    assert batches[0].real.device.type == "meta"
    assert batches._images.shape == (30, 1, 4, 4)
    assert isinstance(batches._images, torch.Tensor) is fits


def test_a_mapped_set_arrives_whole_and_in_order_where_it_is_gathered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 30, 4, 4)
    monkeypatch.setattr(ganzoo.data.mapped, "READ_AT_ONCE", 100)
    images = load_images("npy", path=tmp_path).part(torch.arange(29, -1, -1)).images
    assert torch.equal(images.gathered(torch.device("cpu")), images[:])


def test_the_labels_of_a_mapped_set_are_kept_for_as_many_images_as_are_asked_for(tmp_path: Path, cache: Path) -> None:
    saved(tmp_path, 30, 4, 4)
    labelling = draw_labels(load_images("npy", path=tmp_path), 2, seed=0, folds=2)
    assert labelling.labelled.labels.tolist().count(1) == 1
    assert labelling.held_out.labels.tolist().count(1) == 1
    assert (len(labelling.labelled.images), len(labelling.unlabelled.images), len(labelling.learnt.images)) == (
        *(3, 24, 27),
    )
    assert labelling.unlabelled.labels is None
    assert not isinstance(labelling.unlabelled.images, torch.Tensor)


def test_nothing_of_a_mapped_set_is_in_memory_before_it_is_asked_for(tmp_path: Path, cache: Path) -> None:
    header = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (2**21, 3, 64, 64))  # 24 GiB of holes
    header[7] = 200
    del header
    before = peak_bytes()
    parts = split(load_images("npy", path=tmp_path), (0.5, 0.25, 0.25))
    assert parts.train.images.shape == (2**20, 3, 64, 64)
    batch = Batches(parts.train, 64, seed=0)[12_345]
    assert batch.real.shape == (64, 3, 64, 64)
    assert load_images("npy", path=tmp_path).images[7:8].unique().tolist() == [200]
    assert peak_bytes() - before < 2**28


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_the_hash_of_a_mapped_part_tells_file_places_and_labels_apart(tmp_path: Path, cache: Path) -> None:
    saved(tmp_path / "a", 12, 4, 4)
    saved(tmp_path / "b", 12, 4, 4)
    here, there = (load_images("npy", path=tmp_path / name) for name in "ab")
    other = noise(12, 4, 4)
    other[11, 3, 3] ^= 1
    np.save(tmp_path / "b" / "images-2.npy", other)
    changed = load_images("npy", path=tmp_path / "b" / "images-2.npy")
    assert here.sha256 == there.sha256
    assert changed.labels is None
    parts = [
        here,
        here.part(slice(0, 6)),
        here.part(slice(6, 12)),
        here.part(torch.arange(11, -1, -1)),
        here._replace(labels=None),
        changed,
    ]
    assert len({part.sha256 for part in parts}) == len(parts)


def test_a_files_digest_is_kept_and_made_anew_once_the_file_is_written_to(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    assert file_sha256(file) == hashlib.sha256(b"one").hexdigest()
    (kept,) = cache.iterdir()
    assert kept.read_text() == hashlib.sha256(b"one").hexdigest()
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same length, and seemingly as old
    assert file_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_another_process_takes_the_digest_that_was_kept(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one")
    file_sha256(file)
    (kept,) = cache.iterdir()
    kept.write_text("f" * 64)
    ganzoo.data.mapped._file_sha256.cache_clear()
    assert file_sha256(file) == "f" * 64
    kept.write_text("cut short")
    ganzoo.data.mapped._file_sha256.cache_clear()
    assert file_sha256(file) == hashlib.sha256(b"one").hexdigest()


def test_a_digest_that_cannot_be_kept_is_found_all_the_same(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    (tmp_path / "x").write_bytes(b"one")
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (
            np.zeros((2, 4, 4), np.float32),
            "is float32 of shape (2, 4, 4); expected uint8 in 0..255; what lies in [0, 1]",
        ),
        (noise(2, 4, 4, 4), "shape (2, 4, 4, 4); expected (N, H, W)"),
        (noise(2, 16), "shape (2, 16); expected (N, H, W)"),
        (np.asfortranarray(noise(2, 4, 4)), "in Fortran's order"),
        (np.array([{}], dtype=object), "cannot be read as a .npy file"),
    ],
)
def test_a_file_with_another_array_says_what_was_found(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "images.npy", array)
    with refuses(tmp_path / "images.npy", said):
        load_images("npy", path=tmp_path)


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", noise(0, 4, 4))
    with refuses("images.npy"):
        load_images("npy", path=tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x08\x00garbage\n"])
def test_a_file_that_is_no_npy_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with refuses("a.npy cannot be read as a .npy file"):
        load_images("npy", path=tmp_path / "a.npy")


def test_a_file_that_was_cut_short_is_refused_before_an_image_is_missed(tmp_path: Path) -> None:
    saved(tmp_path, 9, 6, 6)
    content = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(content[:-1])
    with refuses("images.npy cannot be read as a .npy file"):
        load_images("npy", path=tmp_path)


def test_a_folder_without_images_npy_says_so(tmp_path: Path) -> None:
    with refuses(f"no .npy file at {tmp_path / 'images.npy'}"):
        load_images("npy", path=tmp_path)


@pytest.mark.parametrize(("labels", "said"), [(np.arange(8), "shape (8,)"), (np.zeros(9), "is float64")])
def test_labels_that_do_not_pair_up_with_the_file_are_refused(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    np.save(tmp_path / "train-images.npy", noise(9, 4, 4))
    np.save(tmp_path / "train-labels.npy", labels)
    with refuses(tmp_path / "train-labels.npy", said):
        load_images("npy", path=tmp_path / "train-images.npy")


def test_a_mapped_set_is_not_resized(tmp_path: Path) -> None:
    saved(tmp_path, 9, 6, 6)
    assert load_images("npy", path=tmp_path, size=6).image_shape == (1, 6, 6)
    with refuses("npy: images are 6 x 6 pixels", "not brought to 8 x 8; resize them once"):
        load_images("npy", path=tmp_path, size=8)
    np.save(tmp_path / "images.npy", noise(9, 6, 4, 3))
    with refuses("npy: images are 4 x 6 pixels", "not brought to squares"):
        load_images("npy", path=tmp_path)


# --- the official sets, small, in their own file formats


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def mnist(root: Path, kind: str = "MNIST") -> tuple[np.ndarray, list[int]]:
    pixels, labels = noise(10, 28, 28), np.arange(10, dtype=np.uint8)
    for part, chosen in (("train", slice(0, 6)), ("t10k", slice(6, 10))):
        write_idx(root / kind / "raw" / f"{part}-images-idx3-ubyte", pixels[chosen])
        write_idx(root / kind / "raw" / f"{part}-labels-idx1-ubyte", labels[chosen])
    return pixels[:, None], labels.tolist()


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, list[int]]:
    """Two training batches and one of test, pickled as the numpy of 2009 did: array flags as 0 and 1."""
    rows, labels, folder = noise(12, 3072), [*range(10), 0, 1], root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def put(name: str, content: dict[str, object]) -> str:
        body = pickle.dumps(content, protocol=2).replace(b"X\x02\x00\x00\x00u1", b"U\x02u1")
        body = body.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
        (folder / name).write_bytes(body)
        return hashlib.md5(body).hexdigest()

    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for at, (which, name) in enumerate(
        [("train_list", "data_batch_1"), ("train_list", "data_batch_2"), ("test_list", "test_batch")]
    ):
        part = slice(4 * at, 4 * at + 4)
        lists[which].append([name, put(name, {"data": rows[part], "labels": labels[part]})])
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": put("batches.meta", {"label_names": names})}
    for attribute, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, value)
    return rows.reshape(12, 3, 32, 32), labels


def test_mnist_is_its_training_images_then_its_test_images(tmp_path: Path) -> None:
    pixels, labels = mnist(tmp_path)
    images = load_images("mnist", path=tmp_path)
    np.testing.assert_array_equal(images.images.numpy(), pixels)
    assert images.labels.tolist() == labels
    assert images.classes == tuple("0123456789")


def test_fashion_mnist_has_its_own_folder_and_classes(tmp_path: Path) -> None:
    pixels, _ = mnist(tmp_path, "FashionMNIST")
    images = load_images("fashion-mnist", path=tmp_path, size=32)
    assert images.image_shape == (1, 32, 32)
    assert images.classes[8] == "Bag"
    assert abs(float(images.images.float().mean()) - pixels.mean()) < 3
    with refuses("mnist is not in"):
        load_images("mnist", path=tmp_path)


def test_cifar10_is_its_training_images_then_its_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = cifar10(tmp_path, monkeypatch)
    images = load_images("cifar10", path=tmp_path)
    np.testing.assert_array_equal(images.images.numpy(), pixels)
    assert images.labels.tolist() == labels
    assert images.classes[9] == "truck"


def test_svhn_is_its_training_images_then_its_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels, parts = noise(6, 3, 32, 32), np.array([1, 10, 3, 4, 5, 9]), {}
    for part, chosen in (("train", slice(0, 4)), ("test", slice(4, 6))):
        file = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(file, {"X": pixels[chosen].transpose(2, 3, 1, 0), "y": labels[chosen, None]})
        parts[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", parts)
    images = load_images("svhn", path=tmp_path)
    np.testing.assert_array_equal(images.images.numpy(), pixels)
    assert images.labels.tolist() == [1, 0, 3, 4, 5, 9]  # SVHN writes 10 for the digit 0


def test_celeba_is_cut_to_its_central_178_and_brought_to_64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "celeba"
    face = np.zeros((218, 178, 3), dtype=np.uint8)
    face[20:198] = (10, 100, 200)
    names = [f"{n:06}.jpg" for n in (1, 2, 3)]
    for name in names:
        save(folder / "img_align_celeba" / name, face, quality=95)
    for table, header, row in [
        ("list_eval_partition", "", "0"),
        ("identity_CelebA", "", "5"),
        ("list_bbox_celeba", "3\nimage_id x y w h\n", "0 0 1 1"),
        ("list_landmarks_align_celeba", "3\nx y\n", "1 2"),
        ("list_attr_celeba", "3\nSmiling\n", "-1"),
    ]:
        (folder / f"{table}.txt").write_text(header + "".join(f"{name} {row}\n" for name in names))
    unchecked = [(link, None, file) for link, _md5, file in datasets.CelebA.file_list]
    monkeypatch.setattr(datasets.CelebA, "file_list", unchecked)
    images = load_images("celeba", path=tmp_path)
    assert images.images.shape == (3, 3, 64, 64)
    assert images.labels is None
    assert load_images("celeba", path=tmp_path, size=32).image_shape == (3, 32, 32)
    inner = images.images[:, :, 2:-2, 2:-2].float().amax(dim=(0, 2, 3))
    torch.testing.assert_close(inner, torch.tensor([10.0, 100.0, 200.0]), atol=3, rtol=0)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn", "celeba"])
def test_an_absent_set_says_where_it_looked_and_what_to_do(name: str, tmp_path: Path) -> None:
    with refuses(
        f"{name} is not in {tmp_path / 'x'}; download it with `--set data.download=true`, or give", "path=..."
    ):
        load_images(name, path=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_without_a_path_the_environment_says_where_to_look_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    mnist(tmp_path / "data")
    assert len(load_images("mnist").images) == 10
    monkeypatch.delenv("GANZOO_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    with refuses(f"mnist is not in {tmp_path / '.cache' / 'ganzoo'}"):
        load_images("mnist")


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [cut_short, lambda file: file.write_bytes(b""), Path.unlink])
def test_a_damaged_official_set_is_told_from_an_absent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    mnist(tmp_path)
    damage(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte")
    with refuses(f"mnist in {tmp_path} is incomplete or damaged", "download it again"):
        load_images("mnist", path=tmp_path)
    cifar10(tmp_path, monkeypatch)
    damage(tmp_path / "cifar-10-batches-py" / "data_batch_2")
    with refuses(f"cifar10 in {tmp_path} is incomplete or damaged", "download it again"):
        load_images("cifar10", path=tmp_path)


def test_images_and_labels_that_do_not_pair_up_are_damage(tmp_path: Path) -> None:
    mnist(tmp_path)
    write_idx(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", np.zeros(9, dtype=np.uint8))
    with refuses(f"mnist in {tmp_path} is damaged", "(4, 28, 28)", "(9,)"):
        load_images("mnist", path=tmp_path)


def test_a_failed_download_gives_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(datasets.CIFAR10, "download", unreachable)
    with refuses(f"cifar10 could not be downloaded to {tmp_path}: no route to host"):
        load_images("cifar10", path=tmp_path, download=True)
