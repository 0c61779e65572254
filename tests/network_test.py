"""Networks, losses, gradients and Adam steps give the numbers of the published code; and the parts of a training step."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import GOLDEN, NETWORKS, recipe

from benchmarks import plain_networks, training_speed
from input_data import Batch
from safa.datasets.positions import far_apart
from safa.parts import BACKBONES, build_network
from safa.retrieval.cost import network_cost
from safa.settings import NetworkConfig
from safa.training.initial_weights import initialise
from safa.training.published_checkpoint import published_names
from safa.training.step import adam, learning_rate_schedule, training_step
from safa.training.variables import adam_variables, network_weights
from spatial_net import SpatialAwareEmbedding, network
from triplet_loss import triplet_loss
from VGG import VGG16, Dropout


@pytest.fixture(scope="module", params=NETWORKS)
def golden(request):
    """A network's name, the network with the golden weights, its inputs, and the published code's numbers."""
    config = NetworkConfig(*NETWORKS[request.param])
    model = build_network(config, keep_prob=1.0)
    weights, published = recipe.weights(config), published_names(model)
    assert set(published.values()) == set(weights)
    for name, variable in network_weights(model).items():
        variable.assign(weights[published[name]])
    inputs = recipe.images("sat", 4, *config.sat_shape), recipe.images("grd", 4, *config.grd_shape)
    return request.param, model, inputs, np.load(GOLDEN / f"{request.param}.npz")


def test_descriptors_losses_gradients_and_adam_steps_are_the_published_codes(golden):
    name, model, images, numbers = golden
    sat, grd = (tf.Variable(tf.zeros((4, model.sat.dimension)), trainable=False) for _ in range(2))

    def keeping_descriptors(*descriptors_and_negatives):
        for variable, descriptors in zip((sat, grd), descriptors_and_negatives, strict=False):
            variable.assign(descriptors)
        return triplet_loss(*descriptors_and_negatives)

    optimizer = adam(1e-5)
    optimizer.build(model.trainable_variables)
    step = training_step(model, optimizer, keeping_descriptors)
    batch = Batch(*images, offset=tf.constant(0, tf.int64))
    trace = [float(step(batch))]
    assert trace[0] == pytest.approx(float(numbers["loss"]), abs=2e-6)
    for branch, found in (("sat", sat), ("grd", grd)):
        np.testing.assert_allclose(found, numbers[f"{branch}_descriptors"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    utm = recipe.utm_positions(4)
    for loss, given in ("loss_batch_hard_2", {"batch_hard_count": 2}), ("loss_cvact", {"negatives": far_apart(utm, utm, 25.0)}):
        assert float(triplet_loss(sat, grd, **given)) == pytest.approx(float(numbers[loss]), abs=2e-6)
    moments, published = adam_variables(model, optimizer), published_names(model)
    # The first momentum is a tenth of the gradient.
    norms = {published[own]: 10 * float(tf.norm(moments[f"adam/{own}/momentum"])) for own in published}
    assert sorted(norms) == sorted(numbers["gradient_names"])
    np.testing.assert_allclose([norms[own] for own in numbers["gradient_names"]], numbers["gradient_norms"], rtol=0.005)
    if name != "SAFA_8_polar_1":
        return
    trace += [float(step(batch)) for _ in range(3)]
    sat, grd = model(list(images), training=False)
    np.testing.assert_allclose([*trace, float(triplet_loss(sat, grd))], numbers["adam_loss_trace"], rtol=0, atol=5e-4)
    for branch, found in (("sat", sat), ("grd", grd)):
        np.testing.assert_allclose(found, numbers[f"{branch}_descriptors_after_4_steps"], rtol=0, atol=3e-3)


def test_adam_is_tensorflow_1s_in_every_step():
    """With its defaults, beta 0.9 and 0.999 and epsilon 1e-8, on gradients from far below epsilon to far above."""
    optimizer, variable, momentum, velocity = adam(1e-5), keras.Variable(np.zeros(5)), 0.0, 0.0
    optimizer.build([variable])
    expected, random = np.zeros(5), np.random.default_rng(0)
    for step in range(1, 9):
        gradient = random.standard_normal(5) * (1e-10, 1e-8, 1e-6, 1e-3, 10)
        optimizer.apply([tf.constant(gradient, tf.float32)])
        momentum = 0.9 * momentum + 0.1 * gradient
        velocity = 0.999 * velocity + 0.001 * gradient**2
        expected -= 1e-5 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * momentum / (np.sqrt(velocity) + 1e-8)
    np.testing.assert_allclose(variable, expected, rtol=1e-4)


def test_a_networks_cost_is_that_of_vgg16_on_its_images(golden):
    _, model, images, numbers = golden
    cost, _ = network_cost(model)
    assert cost["parameters"] == sum(np.size(variable) for variable in model.trainable_variables)
    pixels = sum(np.prod(each.shape[1:3]) for each in images)
    # 15.35 thousand million products in the convolutions of VGG16 on 224x224 pixels (torchvision's table: 15.47 with the rest).
    assert cost["gmac"] == pytest.approx(15.35 * pixels / 224**2, rel=0.003)
    assert cost["descriptor"] == numbers["sat_descriptors"].shape[1]


SMALL = NetworkConfig("SAFA_3", 1, 32, 64, 64, 1 / 16)


def test_the_branches_share_no_weights_whatever_their_layers_are_called_and_these_follow_from_the_seed():
    def kernels(seed):
        model = build_network(SMALL, seed=seed)
        return [branch.backbone.convolutions["conv1_1"].kernel.numpy().tobytes() for branch in (model.sat, model.grd)]

    first, again, other = map(kernels, (0, 0, 1))
    assert first == again and len({*first, *other}) == 4
    # Of functional models as backbones, both branches' variables have the same path.
    images, pooling = keras.Input((32, 64, 3)), lambda _: keras.layers.GlobalMaxPooling2D()
    shapes = (32, 64), (32, 64)
    model = network(*shapes, lambda _: keras.Model(images, keras.layers.Conv2D(4, 3, name="conv")(images)), pooling)
    assert len(network_weights(model)) == len(model.trainable_variables) == 4
    unlike = network(*shapes, lambda branch: keras.layers.Conv2D({"sat": 4, "grd": 6}[branch], 3), pooling)
    assert "differ" in initialise(unlike, "random", "")[0]
    shared = keras.layers.Conv2D(4, 3)
    with pytest.raises(ValueError, match="the same layer"):
        network(*shapes, lambda _: shared, pooling)
    with pytest.raises(ValueError, match="not features"):
        network(*shapes, lambda _: keras.layers.Conv2D(4, 3), lambda _: keras.layers.GlobalMaxPooling2D(keepdims=True))


def test_dropout_works_in_training_only_and_only_in_blocks_4_and_5_and_images_have_the_networks_size():
    model = build_network(SMALL, keep_prob=0.8, seed=0)
    images = [np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)] * 2
    assert np.array_equal(model(images)[0], model(images)[0])
    steps = [model(images, tf.constant([step, 0], tf.int64), training=True)[0] for step in (0, 0, 1)]
    assert np.array_equal(steps[0], steps[1]) and not np.array_equal(steps[0], steps[2])
    dropouts = [layer.name for block in model.sat.backbone.blocks for layer in block if isinstance(layer, Dropout)]
    assert dropouts == ["dropout4_1", "dropout4_2", "dropout4_3", "dropout5_1", "dropout5_2", "dropout5_3"]
    with pytest.raises(ValueError, match="needs the cursor"):
        model(images, training=True)
    for others in images[0].reshape(1, 64, 32, 3), images[0][..., :1], images[0][0]:  # the first has as many positions
        with pytest.raises(ValueError, match="images are .B, 32, 64, 3."):
            model.grd(others)


def test_the_layers_survive_saving_by_keras_in_a_model_of_somebody_elses(tmp_path):
    images = keras.Input((32, 64, 3))
    model = keras.Model(images, SpatialAwareEmbedding(2, seed=0)(VGG16(1 / 16, 1.0, seed=0)(images)))
    model.save(tmp_path / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(pixels), model(pixels))
    videos = keras.layers.TimeDistributed(VGG16(1 / 16))(keras.Input((3, 32, 64, 3)))
    assert videos.shape == (None, 3, 2, 4, 32)
    lines = []
    build_network(SMALL).sat.summary(print_fn=lines.append)  # shows "?" for layers that do not say their output's shape
    assert "(None, 2, 4, 32)" in "".join(lines) and "?" not in "".join(lines)


NARROW = NetworkConfig("SAFA_2", 1, 32, 128, 64, 1 / 16)
SOME_IMAGES = [tf.constant(each) for each in np.random.default_rng(0).integers(0, 256, (2, 4, 32, 128, 3), np.uint8)]


def test_dropout_keeps_its_share_differs_between_steps_rows_and_seeds_and_is_the_same_in_micro_batches():
    for shape in (4, 8, 3), (3, 5, 7):  # 7 x 15 values do not fill the generator's fours
        maps, layer = tf.ones((8, *shape)), Dropout(0.8, seed=3)
        parts = [layer(maps[start : start + 2], tf.constant([5, start], tf.int64)) for start in range(0, 8, 2)]
        np.testing.assert_array_equal(np.concatenate(parts), layer(maps, tf.constant([5, 0], tf.int64)))
    maps, ways = tf.ones((50, 10, 10, 32)), ((1, (0, 0)), (1, (1, 0)), (2, (0, 0)), (1, (0, 50)))
    assert (Dropout(1 - 1e-12, 3)(maps, tf.constant([0, 0], tf.int64)).numpy() == 1).all()
    masks = [Dropout(0.8, seed)(maps, tf.constant(cursor, tf.int64)).numpy() for seed, cursor in ways]
    for mask in masks:
        assert set(np.unique(mask)) == {0, np.float32(1.25)}
        assert np.mean(mask > 0) == pytest.approx(0.8, abs=0.005)  # five standard deviations
        assert np.mean((mask[0] > 0) == (mask[1] > 0)) == pytest.approx(0.68, abs=0.05)  # 0.8^2 + 0.2^2
    for number, mask in enumerate(masks[1:]):
        assert np.mean((mask > 0) == (masks[0] > 0)) == pytest.approx(0.68, abs=0.01), number


def test_bfloat16_is_near_float32_and_keeps_weights_and_descriptors_in_float32(monkeypatch):
    found = {}
    for precision in ("float32", "bfloat16"):
        model = build_network(NARROW, 1.0, seed=1, precision=precision)
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        found[precision] = model(SOME_IMAGES)[0]
        assert found[precision].dtype == tf.float32
        assert {layer.compute_dtype for block in model.sat.backbone.blocks for layer in block} == {precision}
    monkeypatch.setitem(BACKBONES, "other", lambda *_: keras.layers.Conv2D(4, 5, 4))  # names no dtype
    other = build_network(NetworkConfig("VGG_gp", backbone="other"), precision="bfloat16").sat
    assert other.backbone.compute_dtype == "bfloat16" and other.compute_dtype == "float32"
    difference = np.abs(found["float32"] - found["bfloat16"]).max()
    assert 0 < difference < 0.05 and model.sat.aggregation.layers[-1].compute_dtype == "float32"


def test_learning_rates_are_constant_or_fall_to_0_after_a_warm_up():
    def rates(*arguments):
        schedule = learning_rate_schedule(1e-5, *arguments)
        return [float(schedule if isinstance(schedule, float) else schedule(step)) for step in (0, 5, 10, 55, 100)]

    assert rates("constant", 0, 100) == [1e-5] * 5
    np.testing.assert_allclose(rates("constant", 10, 100), [0, 5e-6, 1e-5, 1e-5, 1e-5], atol=1e-12)
    np.testing.assert_allclose(rates("cosine", 10, 100), [0, 5e-6, 1e-5, 5e-6, 0], atol=1e-12)
    np.testing.assert_allclose(rates("cosine", 0, 100)[::4], [1e-5, 0], atol=1e-12)


def test_a_loss_that_uses_weights_of_the_network_itself_takes_the_same_step_in_micro_batches():
    after = []
    for micro_batch in None, 2:
        model, optimizer = one_convolution(), keras.optimizers.SGD(1.0)
        optimizer.build(model.trainable_variables)
        kernel = model.trainable_variables[0]
        step = training_step(
            model, optimizer, lambda sat, grd, _, own=kernel: triplet_loss(sat, grd) + tf.nn.l2_loss(own), None, micro_batch
        )
        step(Batch(*SOME_IMAGES, offset=tf.constant(0, tf.int64)))
        after.append(kernel.numpy())  # the loss alone makes it 0
    assert np.abs(after[0]).max() > 1e-4
    np.testing.assert_allclose(*after, atol=1e-6)


def one_convolution(**options):
    """A network whose backbones are one convolution each."""
    options, shape = {"kernel_initializer": keras.initializers.HeNormal(1)} | options, (32, 128)
    pooling = keras.layers.GlobalMaxPooling2D
    return network(shape, shape, lambda _: keras.layers.Conv2D(4, 5, 4, **options), lambda _: pooling())


@pytest.mark.parametrize("options", [{}, {"micro_batch": 2}, {"clip_norm": 1.0}], ids=str)
def test_an_idle_branch_hinders_no_step_and_variables_that_nobody_trains_and_losses_that_nobody_counts_are_refused(options):
    def first_step(loss, **others):
        model, optimizer = one_convolution(**others), adam(1e-3)
        optimizer.build(model.trainable_variables)
        step = training_step(model, optimizer, loss, **options)
        return step(Batch(*SOME_IMAGES, offset=tf.constant(0, tf.int64)))

    scale = keras.Variable(10.0)
    assert np.isfinite(first_step(lambda sat, grd, negatives: triplet_loss(sat, tf.stop_gradient(grd))))
    # A gradient of NaN makes weights of NaN, which a ReLU may hide from the loss.
    assert np.isnan(first_step(lambda sat, grd, negatives: triplet_loss(sat, grd) + tf.sqrt(0 * tf.reduce_sum(sat))))
    with pytest.raises(ValueError, match="make it a Keras layer"):
        first_step(lambda sat, grd, negatives: keras.ops.mean(scale * sat * grd))
    for kind in "kernel_regularizer", "activity_regularizer":
        with pytest.raises(ValueError, match="only --loss counts"):
            first_step(triplet_loss, **{kind: "l2"})


def test_the_benchmark_of_training_computes(monkeypatch):
    monkeypatch.setattr(plain_networks, "SHAPE", (32, 64))
    monkeypatch.setattr("safa.settings.NetworkConfig", functools.partial(NetworkConfig, width_multiplier=0.05, backbone="tiny"))
    assert all(np.isfinite(call()).all() for call in training_speed.our_calls("float32", 2, None).values())
