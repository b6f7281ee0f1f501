"""Feature networks: what they compute, that they are frozen, where their weights come from, what is refused."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import v2

from ganzoo import features
from ganzoo.data import ImageSet, load_images, scaled, split
from ganzoo.errors import UserError
from ganzoo.features import FeatureNetwork, Networks, features_sha256
from ganzoo.randomness import stream

LAYER = {"squeezenet1_1": "features.4", "resnet18": "layer1"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def uniform(*shape: int, name: str = "x") -> Tensor:
    """In [-1, 1]."""
    return 2 * torch.rand(*shape, generator=stream("test features", name)) - 1


def random_network(name: str = "resnet18", size: int = 32, layer: str | None = None, seed: int = 0) -> FeatureNetwork:
    return Networks(None, seed=seed)(name, layer=layer or LAYER[name], weights="random", size=size)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return split(load_images("digits"), (0.5, 0.25, 0.25)).train


@pytest.fixture(scope="module")
def held_out() -> ImageSet:
    return split(load_images("digits"), (0.5, 0.25, 0.25)).test


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub, into which nothing can be downloaded; the folder that downloads go to."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the bits are compared, an untrained network says as much."""
    monkeypatch.setattr(features, "STEPS", 5)


def torchvision_maps(whole: nn.Module, layer: str, images: Tensor) -> Tensor:
    """The output of a module, caught by a hook: torchvision's own forward, without any cutting off."""
    caught: list[Tensor] = []
    # Copied: what comes after may work in place.
    handle = whole.get_submodule(layer).register_forward_hook(lambda module, _, output: caught.append(output.clone()))
    with torch.no_grad():
        whole.eval()(images)
    handle.remove()
    return caught[0]


def as_torchvision_wants(images: Tensor, size: int) -> Tensor:
    """From [-1, 1] by torchvision's own transforms."""
    steps = v2.Compose([v2.Resize([size, size], antialias=True), v2.Normalize(**IMAGENET)])
    prepared: Tensor = steps((images.repeat(1, 3 // images.shape[1], 1, 1) + 1) / 2)
    return prepared


# What the network sees and gives


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64), (1, 28, 28)], ids=str)
def test_images_are_resized_and_normalised_as_torchvision_does(shape: tuple[int, int, int]) -> None:
    x = uniform(5, *shape)
    prepared = random_network("squeezenet1_1").prepared(x)
    torch.testing.assert_close(prepared, as_torchvision_wants(x, 32), rtol=1e-5, atol=1e-5)


def test_a_white_image_is_what_imagenets_statistics_make_of_1() -> None:
    prepared = random_network("squeezenet1_1").prepared(torch.ones(1, 1, 8, 8))
    expected = (1 - torch.tensor(IMAGENET["mean"])) / torch.tensor(IMAGENET["std"])
    torch.testing.assert_close(prepared.mean(dim=(0, 2, 3)), expected)


def test_the_default_size_is_the_crop_of_torchvisions_weights() -> None:
    f = Networks(None)("squeezenet1_1", layer="features.0", weights="random")
    assert f.size == models.SqueezeNet1_1_Weights.DEFAULT.transforms().crop_size[0] == 224


@pytest.mark.parametrize(
    ("name", "layer", "module", "size", "options"),
    [
        ("resnet18", "layer1.0.bn1", "layer1.0.bn1", 32, {}),
        ("squeezenet1_1", "features.4", "features.4", 32, {}),
        ("vgg16", None, "features.22", 32, {"init_weights": False}),
        (
            *("inception_v3", None, "Mixed_5d", 75),
            {"init_weights": False, "transform_input": True, "aux_logits": True},
        ),
    ],
)
def test_a_file_of_weights_gives_what_torchvisions_own_network_gives(
    name: str, layer: str | None, module: str, size: int, options: dict[str, bool], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = models.get_model(name, **options)
    for part in theirs.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)  # what the images differ by must reach the layer
        if isinstance(part, nn.BatchNorm2d):  # statistics that are not the initial ones
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    x = uniform(2, 3, 40, 40)
    ours = Networks(None)(name, layer=layer, weights=str(tmp_path / "weights.pth"), size=size)
    expected = torchvision_maps(theirs, module, as_torchvision_wants(x, size))
    apart = float((expected[0] - expected[1]).abs().mean())
    assert apart > 0.05 * float(expected.abs().mean())
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-3 * apart)


def test_features_of_an_image_do_not_depend_on_the_others() -> None:
    f, x = random_network().double(), uniform(6, 3, 16, 16).double()
    others = torch.cat([x[:1], uniform(5, 3, 16, 16, name="others").double()])
    torch.testing.assert_close(f(x)[:1], f(x[:1]), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(f(x)[:1], f(others)[:1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_features_come_in_the_dtype_of_the_images(dtype: torch.dtype) -> None:
    f, x = random_network(), uniform(2, 3, 16, 16).to(dtype)
    assert f(x).dtype == dtype
    torch.testing.assert_close(f(x).float(), f(x.float()), rtol=1e-2, atol=1e-2)


def test_images_of_two_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"grey images or of 3 channels, \(N, 3, H, W\); these are \(4, 2, 8, 8\)"):
        random_network()(torch.zeros(4, 2, 8, 8))


# Frozen


def test_no_gradient_reaches_the_network_and_one_reaches_the_images() -> None:
    f, x = random_network(), uniform(3, 1, 16, 16).requires_grad_()
    before = {name: value.clone() for name, value in f.state_dict().items()}
    f(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.flatten(1).abs().sum(dim=1).min() > 0
    assert all(not p.requires_grad and p.grad is None for p in f.parameters())
    assert not f(x.detach()).requires_grad
    assert all(f.state_dict()[name].equal(value) for name, value in before.items())


def test_it_stays_in_eval_mode_and_keeps_its_batch_statistics() -> None:
    f, x = random_network(), uniform(4, 3, 16, 16)
    before, first = {name: value.clone() for name, value in f.state_dict().items()}, f(x)
    assert any("running_mean" in name for name in before)
    nn.Sequential(f).train()
    assert not any(module.training for module in f.modules())
    assert f(x).equal(first)
    assert all(f.state_dict()[name].equal(value) for name, value in before.items())


# The unit


@pytest.mark.parametrize("layer", ["features.0", "features.4"])
def test_two_training_images_are_as_far_apart_in_features_as_in_pixels(layer: str, digits: ImageSet) -> None:
    pair = digits._replace(images=digits.images[:2], labels=None)
    f = Networks(pair)("squeezenet1_1", layer=layer, weights="random", size=32)
    x = scaled(pair.images)
    distance = (f(x[:1]) - f(x[1:])).abs().mean()
    torch.testing.assert_close(distance, (x[0] - x[1]).abs().mean(), rtol=1e-5, atol=0)


def test_the_unit_of_some_pairs_holds_for_others(digits: ImageSet) -> None:
    f = Networks(digits)("squeezenet1_1", layer="features.4", weights="random", size=32)
    x, y = scaled(digits.images[:200]), scaled(digits.images[200:400])
    assert float((f(x) - f(y)).abs().mean()) == pytest.approx(float((x - y).abs().mean()), rel=0.1)


def test_the_pairs_of_the_unit_are_the_seeds(digits: ImageSet) -> None:
    class Squares(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"maps": x.square()}

    f = FeatureNetwork(Squares(), 8, [0.5], [0.5])
    units = [features._unit(f, digits, seed, "squares") for seed in (0, 0, 1)]
    assert units[0] == units[1] != units[2]


def test_features_without_training_images_are_the_networks_own() -> None:
    assert random_network().unit == 1


@pytest.mark.parametrize("count", [0, 1])
def test_a_unit_needs_two_images(count: int, digits: ImageSet) -> None:
    few = digits._replace(images=digits.images[:count], labels=None)
    with pytest.raises(UserError, match=f"pairs of training images are wanted, and digits has only {count}"):
        Networks(few)("squeezenet1_1", layer="features.0", weights="random", size=32)


def test_a_unit_needs_images_that_differ(digits: ImageSet) -> None:
    same = digits._replace(images=digits.images[:1].repeat(4, 1, 1, 1), labels=None)
    with pytest.raises(UserError, match=r"squeezenet1_1 at layer 'features\.0'.*is 0 in features and 0 in pixels"):
        Networks(same)("squeezenet1_1", layer="features.0", weights="random", size=32)


# Its hash, its name, its cache


def test_a_network_is_made_once_and_its_hash_is_recorded() -> None:
    networks = Networks(None)
    f = networks("squeezenet1_1", layer="features.1", weights="random", size=32)
    assert networks("squeezenet1_1", layer="features.1", weights="random", size=32) is f
    networks("squeezenet1_1", layer="features.2", weights="random", size=32)  # a pooling layer: no weights of its own
    networks("squeezenet1_1", layer="features.1", weights="random", size=48)
    assert list(networks.sha256s) == [
        "squeezenet1_1:layer=features.1,size=32,weights=random",
        "squeezenet1_1:layer=features.2,size=32,weights=random",
        "squeezenet1_1:layer=features.1,size=48,weights=random",
    ]
    assert len(set(networks.sha256s.values())) == 3
    assert all(len(digest) == 64 for digest in networks.sha256s.values())


def test_the_hash_tells_one_changed_weight_or_statistic() -> None:
    f = random_network()
    told = {features_sha256(f, "layer1"), features_sha256(random_network(), "layer1")}
    assert len(told) == 1
    for name in ("network.conv1.weight", "network.bn1.running_var"):
        f.state_dict()[name].flatten()[0] += 1e-3
        told.add(features_sha256(f, "layer1"))
    assert len(told) == 3


def test_random_weights_are_the_seeds() -> None:
    hashes = [features_sha256(random_network(seed=seed), "layer1") for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_random_weights_are_drawn_as_torchvision_draws_them() -> None:
    f = Networks(None)("googlenet", layer="conv1.conv", weights="random", size=32)
    # Its truncated normal of standard deviation 0.01; torch's own default would be 0.05.
    assert float(f.state_dict()["network.conv1.conv.weight"].std()) == pytest.approx(0.01, rel=0.1)


def test_making_a_network_leaves_the_random_state_alone(digits: ImageSet, few_steps: None) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    networks = Networks(digits)
    networks("squeezenet1_1", layer="features.0", weights="random", size=32)
    networks("trained-here")
    assert torch.rand(3).equal(expected)


# Names, layers, sizes


def test_an_unknown_network_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no network named 'vgg_16'; did you mean 'vgg16'\?.*trained-here"):
        Networks(None)("vgg_16", weights="random")


def test_an_unknown_layer_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match=r"resnet18 has no layer 'layer1\.0\.conv3'; did you mean 'layer1\.0\.conv"):
        Networks(None)("resnet18", layer="layer1.0.conv3", weights="random", size=32)


def test_a_layer_must_be_named_where_there_is_no_default() -> None:
    with pytest.raises(UserError, match=r"resnet18 has no default layer: name one with layer=.*; there are: conv1, "):
        Networks(None)("resnet18", weights="random", size=32)


def test_a_size_below_the_networks_least_is_refused() -> None:
    with pytest.raises(UserError, match="inception_v3 takes images of at least 75 x 75 pixels: size=64 is too small"):
        Networks(None)("inception_v3", weights="random", size=64)


def test_a_size_or_layer_that_the_network_cannot_do_is_said_in_one_line() -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            if x.shape[-1] == 8:
                raise AssertionError("Wrong image\nheight!")
            return {"maps": x.mean()}

    choosy = Choosy()
    for size, told in (
        (8, "choosy gives no features of 8 x 8 pixels at layer 'a': Wrong image height!"),
        (9, r"choosy: layer 'a' gives \(\) for 2 images, not \(2, ...\)"),
    ):
        with pytest.raises(UserError, match=told):
            features._look_at(FeatureNetwork(choosy, size, [0.5], [0.5]), "choosy", "a")


def test_a_layer_that_gives_no_tensor_is_refused_before_the_first_round() -> None:
    with pytest.raises(UserError, match=r"shufflenet_v2_x0_5 gives no features of 32 x 32 pixels at layer 'stage2.1.c"):
        Networks(None)("shufflenet_v2_x0_5", layer="stage2.1.chunk", weights="random", size=32)


# Where weights come from


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """saved(state) -> the file's name."""

    def written(content: object, name: str = "weights.pth") -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return written


def load(weights: str | None, name: str = "resnet18") -> FeatureNetwork:
    return Networks(None)(name, layer=LAYER[name], weights=weights, size=32)


def test_without_weights_both_ways_to_them_are_said(no_cache: Path) -> None:
    with pytest.raises(
        UserError, match=r"no weights of resnet18 here: .*weights=FILE.*https.*weights=download; .*here"
    ):
        load(None)


def test_a_failed_download_is_one_clear_line(no_cache: Path) -> None:
    with pytest.raises(UserError, match=r"could not be downloaded from https://.*no network in tests.*weights=FILE"):
        load("download")


def test_a_download_is_checked_kept_and_then_taken_unasked(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, asked = models.resnet18().state_dict(), []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        torch.save(state, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    first, again, unasked = load("download"), load("download"), load(None)
    assert asked == [(models.ResNet18_Weights.DEFAULT.url, "f37072fd")]
    assert (no_cache / "resnet18-f37072fd.pth").exists()
    assert features_sha256(first, "") == features_sha256(again, "") == features_sha256(unasked, "")


def test_weights_of_another_shape_are_named_with_both_shapes(saved: Callable[..., str]) -> None:
    state = models.resnet18().state_dict()
    state["layer1.0.conv2.weight"] = torch.zeros(64, 32, 3, 3)
    with pytest.raises(
        UserError,
        match=r"no weights of resnet18: 'layer1.0.conv2.weight' is \(64, 32, 3, 3\), the network's is \(64, 64, 3, 3\)",
    ):
        load(saved(state))


def test_weights_of_another_network_are_refused(saved: Callable[..., str]) -> None:
    with pytest.raises(
        UserError, match=r"no weights of resnet18: they have 'layer1\.2\.conv1\.weight' \(64, 64, 3, 3\)"
    ):
        load(saved(models.resnet34().state_dict()))
    short = {key: value for key, value in models.resnet18().state_dict().items() if key != "bn1.bias"}
    with pytest.raises(UserError, match=r"no weights of resnet18: 'bn1\.bias' \(64,\) is missing"):
        load(saved(short))


def test_weights_after_the_layer_are_not_used_and_may_have_other_classes(saved: Callable[..., str]) -> None:
    state = models.resnet18(num_classes=7).state_dict()
    f = load(saved(state))
    assert f.state_dict()["network.conv1.weight"].equal(state["conv1.weight"])
    assert not any("fc" in name or "layer2" in name for name in f.state_dict())


def test_old_files_without_a_count_of_batches_are_taken(saved: Callable[..., str]) -> None:
    state = models.resnet18().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert features_sha256(load(saved(old)), "") == features_sha256(load(saved(state)), "")


def test_the_old_names_in_torchvisions_densenet_files_are_understood(saved: Callable[..., str]) -> None:
    state = {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(2), "features.conv0.weight": torch.ones(3)}
    found = features.read_state(Path(saved(state)))
    assert set(found) == {"features.denseblock1.denselayer1.norm1.weight", "features.conv0.weight"}
    assert set(found) < set(models.densenet121().state_dict())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "state_dict": {}}, "holds no state dict: epoch is of type int"),
        (torch.ones(3), "holds no state dict: its content is of type Tensor"),
        ([1, 2], "holds no state dict: its content is of type list"),
    ],
    ids=["training checkpoint", "tensor", "list"],
)
def test_a_file_of_something_else_is_refused(content: object, told: str, saved: Callable[..., str]) -> None:
    with pytest.raises(UserError, match=f"{told}.*; save one with torch.save"):
        load(saved(content))


def test_a_file_that_is_absent_damaged_or_runs_code_is_refused(tmp_path: Path, saved: Callable[..., str]) -> None:
    for absent in (tmp_path / "absent.pth", tmp_path, "x" * 5000, "~nobody-of-that-name/x.pth"):
        with pytest.raises(UserError, match=r"no weights at .*give the file of a state dict|cannot be read"):
            load(str(absent))
    whole = Path(saved(models.resnet18().state_dict()))
    for damaged in (whole.read_bytes()[:5000], b"", b"no weights"):
        whole.write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights\.pth cannot be read as a state dict: "):
            load(str(whole))
    with pytest.raises(UserError, match=r"weights\.pth cannot be read as a state dict: "):
        load(saved(models.resnet18().avgpool))  # a pickled module: unpickling it would import and run


# Trained here


@pytest.fixture(scope="module")
def trained(digits: ImageSet) -> Networks:
    networks = Networks(digits)
    networks("trained-here", layer="linear")
    return networks


def test_a_network_trained_here_tells_digits_that_it_has_not_seen(
    trained: Networks, digits: ImageSet, held_out: ImageSet
) -> None:
    f = trained("trained-here", layer="linear")  # its answer, up to the unit
    right = [
        (f(scaled(part.images)).argmax(dim=1) == part.labels).double().mean().item() for part in (digits, held_out)
    ]
    assert right[1] > 0.9
    assert list(trained.training_accuracies.values()) == [pytest.approx(right[0])]


def test_its_accuracy_is_that_of_the_frozen_network(digits: ImageSet, few_steps: None) -> None:
    networks = Networks(digits)
    answers = networks("trained-here", layer="linear")(scaled(digits.images)).argmax(dim=1)
    (accuracy,) = networks.training_accuracies.values()
    assert accuracy == pytest.approx(float((answers == digits.labels).double().mean()))


def test_its_default_is_the_last_map(digits: ImageSet, few_steps: None) -> None:
    networks = Networks(digits)
    maps = networks("trained-here")(scaled(digits.images[:5]))
    assert list(networks.sha256s) == ["trained-here:layer=relu2,size=8"]
    assert maps.shape == (5, 64, 4, 4)
    assert maps.min() == 0
    assert not any(p.requires_grad for p in networks("trained-here").parameters())


def test_the_same_images_and_seed_give_the_same_bits_and_others_give_others(digits: ImageSet, few_steps: None) -> None:
    assert digits.labels is not None
    variants = {
        "same": (digits, 0),
        "again": (digits, 0),
        "another seed": (digits, 1),
        "other images": (digits._replace(images=255 - digits.images), 0),
        "other labels": (digits._replace(labels=digits.labels.flip(0)), 0),
    }
    hashes = {}
    for name, (images, seed) in variants.items():
        torch.manual_seed(len(name))  # whatever the caller's random state is
        networks = Networks(images, seed=seed)
        networks("trained-here")
        (hashes[name],) = networks.sha256s.values()
    assert hashes.pop("again") == hashes["same"]
    assert len(set(hashes.values())) == 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_trained_even_where_gradients_are_off(
    mode: Callable[[], torch.no_grad], digits: ImageSet, few_steps: None
) -> None:
    usual, quiet = Networks(digits), Networks(digits)
    usual("trained-here")
    with mode():
        quiet("trained-here")
    assert quiet.sha256s == usual.sha256s
    x = scaled(digits.images[:2]).requires_grad_()
    quiet("trained-here")(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(("side", "asked", "expected"), [(8, None, 8), (28, None, 28), (96, None, 64), (28, 16, 16)])
def test_its_images_keep_their_size_up_to_64(
    side: int, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "STEPS", 1)
    x = torch.randint(0, 256, (8, 3, side, side), generator=stream("sides"), dtype=torch.uint8)
    f = Networks(ImageSet("random", x, torch.arange(8) % 2, ("a", "b")))("trained-here", size=asked)
    assert f.size == expected
    assert f(scaled(x)).shape[-1] in (4, 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": None, "classes": ()}, "labels of at least 2 classes, and digits has none; .*features=vgg16"),
        ({"labels": torch.zeros(898, dtype=torch.int64)}, "labels of at least 2 classes, and digits has 1"),
    ],
    ids=["unlabelled", "one class"],
)
def test_without_two_classes_nothing_can_be_trained_here(
    change: dict[str, object], told: str, digits: ImageSet
) -> None:
    with pytest.raises(UserError, match=told):
        Networks(digits._replace(**change))("trained-here")


def test_without_images_nothing_can_be_trained_here() -> None:
    with pytest.raises(UserError, match="trained-here needs training images, and there are none"):
        Networks(None)("trained-here")


def test_what_is_trained_here_takes_no_weights(digits: ImageSet) -> None:
    with pytest.raises(UserError, match="trained-here learns its weights from the training split; it takes no weights"):
        Networks(digits)("trained-here", weights="download")


def test_an_unknown_layer_of_what_is_trained_here_is_told_what_there_is(digits: ImageSet) -> None:
    with pytest.raises(UserError, match=r"trained-here has no layer 'relu7'; did you mean 'relu\d'\? there are: conv0"):
        Networks(digits)("trained-here", layer="relu7")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_gives_the_same_bits_twice_and_nearly_the_cpus_features(digits: ImageSet) -> None:
    first, second = Networks(digits, device="cuda"), Networks(digits, device="cuda")
    x = scaled(digits.images[:4]).cuda()
    assert first("trained-here")(x).equal(second("trained-here")(x))
    assert first.sha256s == second.sha256s
    here, there = (Networks(digits, device=d)("squeezenet1_1", "features.4", "random", 32) for d in ("cpu", "cuda"))
    torch.testing.assert_close(there(x).cpu(), here(x.cpu()), rtol=1e-2, atol=1e-2)
