"""Networks, losses, gradients and Adam steps give the numbers of the published code."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import recipe
from golden_numbers import GOLDEN, NETWORKS

from input_data import Batch
from safa.datasets.positions import far_apart
from safa.parts import build_network
from safa.retrieval.cost import network_cost
from safa.settings import OUTPUT_STRIDE, NetworkConfig, TrainingConfig
from safa.training.published_checkpoint import published_names
from safa.training.step import adam, batch_loss, training_step
from safa.training.variables import adam_variables, network_weights
from spatial_net import SpatialAwareEmbedding, network
from triplet_loss import triplet_loss
from VGG import VGG16, Dropout


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request):
    """A network's name, the network with the golden weights, its inputs, and the published code's numbers."""
    config = NetworkConfig(*NETWORKS[request.param])
    model = build_network(config, keep_prob=1.0)
    weights, published = {}, published_names(model)
    for view, shape in (("sat", config.sat_shape), ("grd", config.grd_shape)):
        weights |= recipe.vgg_weights(view)
        if config.aggregation[1]:
            positions = -(-shape[0] // OUTPUT_STRIDE) * -(-shape[1] // OUTPUT_STRIDE)
            weights |= recipe.spatial_weights(view, positions, config.aggregation[1])
    assert set(published.values()) == set(weights)
    for name, variable in network_weights(model).items():
        variable.assign(weights[published[name]])
    inputs = recipe.images("sat", 4, *config.sat_shape), recipe.images("grd", 4, *config.grd_shape)
    return request.param, model, inputs, np.load(GOLDEN / f"{request.param}.npz")


def test_descriptors_losses_gradients_and_adam_steps_are_the_published_codes(golden):
    name, model, images, numbers = golden
    sat, grd = model(list(images), training=False)
    for branch, found in (("sat", sat), ("grd", grd)):
        np.testing.assert_allclose(found, numbers[f"{branch}_descriptors"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    utm = recipe.utm_positions(4)
    negatives = far_apart(utm, utm, 25.0)
    for loss, found in (
        ("loss_batch_hard_2", triplet_loss(sat, grd, batch_hard_count=2)),
        ("loss_cvact", triplet_loss(sat, grd, negatives)),
    ):
        assert float(found) == pytest.approx(float(numbers[loss]), abs=2e-6)

    optimizer = adam(1e-5)
    optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, batch_loss(TrainingConfig()))
    batch = Batch(*images, offset=tf.constant(0, tf.int64))
    trace = [float(step(batch))]
    assert trace[0] == pytest.approx(float(numbers["loss"]), abs=2e-6)
    kept, published = adam_variables(model, optimizer), published_names(model)
    # The first momentum is a tenth of the gradient.
    norms = {published[own]: 10 * float(tf.norm(kept[f"adam/{own}/momentum"])) for own in published}
    assert sorted(norms) == sorted(numbers["gradient_names"])
    np.testing.assert_allclose([norms[own] for own in numbers["gradient_names"]], numbers["gradient_norms"], rtol=0.005)
    if name != "SAFA_8_polar_1":
        return
    trace += [float(step(batch)) for _ in range(3)]
    sat, grd = model(list(images), training=False)
    np.testing.assert_allclose([*trace, float(triplet_loss(sat, grd))], numbers["adam_loss_trace"], rtol=0, atol=5e-4)
    for branch, found in (("sat", sat), ("grd", grd)):
        np.testing.assert_allclose(found, numbers[f"{branch}_descriptors_after_4_steps"], rtol=0, atol=3e-3)


def test_a_networks_cost_is_that_of_vgg16_on_its_images(golden):
    name, model, images, numbers = golden
    cost = network_cost(model)
    assert cost["parameters"] == sum(np.size(variable) for variable in model.trainable_variables)
    pixels = sum(np.prod(each.shape[1:3]) for each in images)
    # 15.35 thousand million products in the convolutions of VGG16 on 224x224 pixels (torchvision's table: 15.47 with the rest).
    assert cost["gmac"] == pytest.approx(15.35 * pixels / 224**2, rel=0.003)
    assert cost["descriptor"] == numbers["sat_descriptors"].shape[1]


SMALL = NetworkConfig("SAFA_3", 1, 32, 64, 64, 1 / 16)


def test_the_branches_share_no_weights_and_these_follow_from_the_seed():
    model = build_network(SMALL, seed=0)
    sat, grd = (branch.backbone.convolutions["conv1_1"].kernel.numpy() for branch in (model.sat, model.grd))
    assert not np.array_equal(sat, grd)
    again = [build_network(SMALL, seed=seed).sat.backbone.convolutions["conv1_1"].kernel.numpy() for seed in (0, 1)]
    assert np.array_equal(again[0], sat) and not np.array_equal(again[1], sat)
    shared = VGG16(1 / 64, seed=0)
    with pytest.raises(ValueError, match="the same layer"):
        network((32, 64), (32, 64), lambda _: shared, lambda _: keras.layers.GlobalMaxPooling2D())


def test_twins_keep_apart_whatever_their_layers_are_called():
    """A functional keras.Model as backbone: both branches' variables have the same path."""

    def backbone(_):
        images = keras.Input((32, 64, 3))
        return keras.Model(images, keras.layers.Conv2D(4, 3, name="conv")(images))

    model = network((32, 64), (32, 64), backbone, lambda _: keras.layers.GlobalMaxPooling2D())
    assert len(network_weights(model)) == len(model.trainable_variables) == 4


def test_dropout_works_in_training_only_and_only_in_blocks_4_and_5():
    model = build_network(SMALL, keep_prob=0.8, seed=0)
    images = [np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)] * 2
    assert np.array_equal(model(images)[0], model(images)[0])
    steps = [model(images, tf.constant([step, 0], tf.int64), training=True)[0] for step in (0, 0, 1)]
    assert np.array_equal(steps[0], steps[1]) and not np.array_equal(steps[0], steps[2])
    dropouts = [layer.name for block in model.sat.backbone.blocks for layer in block if isinstance(layer, Dropout)]
    assert dropouts == ["dropout4_1", "dropout4_2", "dropout4_3", "dropout5_1", "dropout5_2", "dropout5_3"]


def test_the_layers_survive_saving_by_keras_in_a_model_of_somebody_elses(tmp_path):
    images = keras.Input((32, 64, 3))
    model = keras.Model(images, SpatialAwareEmbedding(2, seed=0)(VGG16(1 / 16, 1.0, seed=0)(images)))
    model.save(tmp_path / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(pixels), model(pixels))
