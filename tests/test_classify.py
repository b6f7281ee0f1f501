"""Classification by a critic: the layers of a small net by hand, an SVM on them, and what is left as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganzoo import classify
from ganzoo.baselines import classifying_baselines
from ganzoo.bench import prepare
from ganzoo.classify import accuracy, evaluating, least_loss, pooled_layers, svm_on_layers
from ganzoo.config import Plan
from ganzoo.data import ImageSet, draw_labels, scaled
from ganzoo.errors import UserError
from ganzoo.randomness import stream
from ganzoo.zoo import Zoo

MakePlan = Callable[..., Plan]
CPU = torch.device("cpu")


def image_set(images: Tensor, labels: Tensor | None = None, classes: int = 2) -> ImageSet:
    return ImageSet("made", images, labels, tuple(map(str, range(classes))) if labels is not None else ())


def random_images(count: int, side: int = 8, seed: int = 0, channels: int = 1) -> Tensor:
    return torch.randint(256, (count, channels, side, side), generator=stream("classify", seed), dtype=torch.uint8)


class Signs(nn.Module):
    """Two maps, x and -x, rectified; then every other pixel of their sum, through tanh; then two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rectified, self.bent = nn.ReLU(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.rectified(torch.cat([x, -x], dim=1))
        small = self.bent(maps.sum(dim=1, keepdim=True)[:, :, ::4, ::4])
        return torch.stack([small.flatten(1).mean(dim=1), -small.flatten(1).mean(dim=1)], dim=1)


def test_pooled_layers_are_the_maxima_of_each_cell_of_each_map() -> None:
    images = image_set(random_images(3))
    found = pooled_layers(Signs(), images, CPU)
    # ReLU: 2 maps of 8x8 to 4x4; Tanh: one of 2x2, which stays.
    assert found.shape == (3, 2 * 16 + 4)
    assert found.dtype == np.float32
    for picture, features in zip(images.images.numpy(), found, strict=True):
        x = picture[0] / 127.5 - 1
        expected = []
        for map_ in (np.maximum(x, 0), np.maximum(-x, 0)):
            expected += [map_[i : i + 2, j : j + 2].max() for i in range(0, 8, 2) for j in range(0, 8, 2)]
        expected += [np.tanh(abs(x[i, j])) for i in (0, 4) for j in (0, 4)]
        np.testing.assert_allclose(features, expected, atol=1e-6)


def test_layers_without_a_map_are_no_part_of_the_features() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.ReLU())
    assert pooled_layers(network, image_set(random_images(2)), CPU).shape == (2, 3 * 16)


def test_images_in_chunks_give_the_features_and_classes_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_set(random_images(7))
    whole = pooled_layers(Signs(), images, CPU), least_loss(Signs(), CPU)(images)
    monkeypatch.setattr(classify, "CHUNK", 3)
    assert np.array_equal(pooled_layers(Signs(), images, CPU), whole[0])
    assert torch.equal(least_loss(Signs(), CPU)(images), whole[1])


class Failing(Signs):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        raise RuntimeError("no more")


def test_hooks_and_modes_are_as_they_were_after_an_error_too() -> None:
    for network in (Signs(), Failing()):
        network.bent.eval()  # one part in a mode of its own
        before = [module.training for module in network.modules()]
        try:
            pooled_layers(network, image_set(random_images(2)), CPU)
        except RuntimeError:
            assert isinstance(network, Failing)
        assert not any(module._forward_hooks for module in network.modules())
        assert [module.training for module in network.modules()] == before
        assert before == [True, True, False]


def test_within_the_block_a_network_evaluates_without_gradients() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    with evaluating(network):
        assert not any(module.training for module in network.modules())
        assert not network(torch.rand(2, 1, 4, 4)).requires_grad
    assert all(module.training for module in network.modules())
    assert network[1].num_batches_tracked == 0


def test_classification_leaves_batch_statistics_alone_and_does_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten())
    network(torch.rand(8, 1, 8, 8))  # statistics that are not the identity
    state = {key: value.clone() for key, value in network.state_dict().items()}
    images = image_set(random_images(9))
    whole = least_loss(network, CPU)(images)
    monkeypatch.setattr(classify, "CHUNK", 1)
    assert torch.equal(least_loss(network, CPU)(images), whole)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert network.training
    assert len(whole.unique()) > 1


def test_classes_by_loss_are_those_of_the_largest_output() -> None:
    images = image_set(random_images(20, seed=1))
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        outputs = network(scaled(images.images))
    found = least_loss(network, CPU)(images)
    assert found.tolist() == [max(range(3), key=row.__getitem__) for row in outputs.tolist()]


def two_kinds(count: int, seed: int) -> ImageSet:
    """Dark on the left or dark on the right, under noise."""
    images = random_images(count, seed=seed) // 2
    labels = torch.arange(count) % 2
    for i, label in enumerate(labels.tolist()):
        images[i, :, :, 4 * label : 4 * label + 4] += 128
    return image_set(images, labels)


@pytest.mark.parametrize("count", [4, 40])  # too few of a class for cross-validation, and enough
def test_an_svm_tells_apart_what_a_line_can(count: int) -> None:
    labelled, images = two_kinds(count, 2), two_kinds(60, 3)
    found = svm_on_layers(Signs(), labelled, CPU)(images)
    assert found.dtype == torch.int64
    assert found.shape == (60,)
    assert accuracy(found, images) == 1.0
    swapped = labelled._replace(labels=1 - labelled.labels)
    assert accuracy(svm_on_layers(Signs(), swapped, CPU)(images), images) == 0.0


def test_an_svm_repeats_bit_for_bit_and_disturbs_nobody() -> None:
    labelled, images = two_kinds(12, 4), image_set(random_images(50, seed=5))
    torch.manual_seed(1)
    np.random.seed(1)  # what sklearn falls back on
    first, state = svm_on_layers(Signs(), labelled, CPU)(images), torch.get_rng_state()
    np.random.seed(2)
    assert torch.equal(svm_on_layers(Signs(), labelled, CPU)(images), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_accuracy_is_the_share_of_right_classes() -> None:
    images = image_set(random_images(5), torch.tensor([0, 1, 1, 0, 1]))
    assert accuracy(torch.tensor([0, 1, 0, 0, 0]), images) == 3 / 5
    assert accuracy(torch.tensor([1, 0, 0, 1, 0]), images) == 0.0


BARE = """
    class Bare(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.last = nn.Linear(64, outputs)

        def forward(self, x):
            y = self.last(x.flatten(1).relu())
            return y.squeeze(1) if y.shape[1] == 1 else y

    @ganzoo.critic
    def bare(image_shape, outputs):
        return Bare(outputs)
"""


def test_a_critic_without_maps_is_refused_where_an_svm_would_need_them(
    tiny: MakePlan, plugin: Callable[..., Path]
) -> None:
    own = Zoo.installed(plugin(BARE))
    networks = {"critic": {"name": "bare"}, "measure": "accuracy"}
    with pytest.raises(UserError, match="the critic, a Bare, has no feature maps to classify by: no activation module"):
        prepare(tiny(objectives=["dcgan"], **networks), own)
    prepare(tiny(objectives=["cls-gan"], **networks), own)  # which classifies by its loss


# What a network has to beat


def test_the_largest_class_and_the_nearest_image_by_hand() -> None:
    """Grey levels on a line: 0 and 40 are of class 0, 100 of class 1, 250 of class 0."""
    train = image_set(torch.tensor([0, 100, 40, 250], dtype=torch.uint8).view(4, 1, 1, 1), torch.tensor([0, 1, 0, 0]))
    levels = torch.tensor([10, 71, 69, 160, 240], dtype=torch.uint8)
    test = image_set(levels.view(5, 1, 1, 1), torch.tensor([0, 1, 1, 1, 1]))
    found = classifying_baselines(train, test, None, [0])
    # Nearest: 0, 100, 40, 100, 250 -> classes 0, 1, 0, 1, 0.
    assert found == {"largest class": pytest.approx(1 / 5), "nearest labelled image": pytest.approx(3 / 5)}


def test_baselines_are_means_over_the_labelled_subsets_of_the_seeds() -> None:
    train, test = two_kinds(30, 6), two_kinds(90, 7)
    noisy = test._replace(images=random_images(90, seed=8))

    def nearest(known: ImageSet) -> float:
        distance = np.abs(
            noisy.images.numpy().astype(float).reshape(90, 1, -1)
            - known.images.numpy().reshape(1, len(known.images), -1)
        ).mean(axis=2)
        return float((known.labels.numpy()[distance.argmin(axis=1)] == noisy.labels.numpy()).mean())

    of_seeds = [nearest(draw_labels(train, 2, seed=seed).labelled) for seed in (3, 4, 5)]
    assert len(set(of_seeds)) > 1
    found = classifying_baselines(train, noisy, 2, range(3, 6))
    assert found["nearest labelled image"] == pytest.approx(np.mean(of_seeds))
    assert found["largest class"] == 0.5


def test_baselines_of_a_cross_validation_are_of_the_held_out_folds() -> None:
    train = two_kinds(30, 9)
    test = train._replace(labels=1 - train.labels)  # all wrong: whoever looks at these is found out
    found = classifying_baselines(train, test, 6, [0, 1], folds=3)
    assert found == {"largest class": pytest.approx(0.5), "nearest labelled image": 1.0}
