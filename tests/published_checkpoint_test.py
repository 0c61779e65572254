"""The authors' checkpoints load, continue, and convert both ways, and what is none is named."""
import os
import shutil
import zipfile

import backend  # noqa: F401

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, complains, succeeds
from golden import recipe
from golden_numbers import GOLDEN

import checkpoint_files
import published_checkpoint
from checkpoints import load_weights, network_variables
from configuration import NetworkConfig
from errors import UserError
from initial_weights import continue_published, initialise, vgg16_npy
from spatial_net import network
from training import adam

SIZES = ["--height", "32", "--width", "128", "--aerial_size", "64", "--width_multiplier", "0.05"]
CONFIG = NetworkConfig("SAFA_2", 1, 32, 128, 64, 0.05)


def save_with_tensorflow_1(prefix, weights, step=1110, slots=True):
    """Write weights as the authors' training script does: a Saver over its variables, Adam's included."""
    with tf.Graph().as_default():
        variables = [tf.compat.v1.Variable(value, name=name, use_resource=False) for name, value in weights.items()]
        if slots:
            variables.append(tf.compat.v1.Variable(np.int32(step), name="Variable", use_resource=False))
            for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999)):
                variables.append(tf.compat.v1.Variable(np.float32(beta ** (step + 1)), name=name, use_resource=False))
            for name, value in weights.items():
                for suffix, slot in (("Adam", 0.25 * value), ("Adam_1", value**2)):
                    variables.append(tf.compat.v1.Variable(slot, name=f"{name}/{suffix}", use_resource=False))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver(variables).save(session, str(prefix))


def published_weights(config, seed=3):
    """Random weights by the authors' names for a network of any size."""
    model = network(config, seed=seed)
    return {published_checkpoint.published_name(variable.path): variable.numpy()
            for variable in model.trainable_variables}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network's checkpoint as the authors' code writes it. Not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    weights = published_weights(CONFIG)
    save_with_tensorflow_1(folder / "model.ckpt", weights)
    return folder / "model.ckpt", weights


@pytest.fixture
def own_small(small, tmp_path):
    """A copy of `small` to break."""
    for path in small[0].parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / "model.ckpt"


def test_the_authors_checkpoint_gives_their_descriptors_through_the_test_script(tmp_path):
    config = NetworkConfig()
    root = tmp_path / "Data/CVUSA"
    rows = []
    for folder, view in (("polarmap/19", "sat"), ("streetview/panos", "grd")):
        (root / folder).mkdir(parents=True)
        for number, image in enumerate(recipe.images(view, 4, 112, 616)):
            cv2.imwrite(str(root / folder / f"{number}.png"), image)
    rows = [f"bingmap/19/{number}.jpg,streetview/panos/{number}.png,unused\n" for number in range(4)]
    (root / "splits").mkdir()
    (root / "splits/val-19zl.csv").write_text("".join(rows))
    (tmp_path / "Model/CVUSA/Trained").mkdir(parents=True)
    weights = {}
    for view in ("sat", "grd"):
        weights |= recipe.vgg_weights(view) | recipe.spatial_weights(view, 4 * 20, config.embeddings)
    save_with_tensorflow_1(tmp_path / "Model/CVUSA/Trained/model.ckpt", weights)
    output = succeeds("test_cvusa.py", "--save_descriptors", "d.npz", cwd=tmp_path)
    assert os.path.join("Model", "CVUSA", "Trained", "model.ckpt") in output and "89.84" in output
    found, golden = np.load(tmp_path / "d.npz"), np.load(GOLDEN / "SAFA_8_polar_1.npz")
    for name in ("sat_descriptors", "grd_descriptors"):
        np.testing.assert_allclose(found[name], golden[name], rtol=0, atol=2e-5)


def test_both_ways_give_the_same_bits_and_the_authors_saver_restores_ours(small, tmp_path):
    prefix, weights = small
    flags = ["--network_type", "SAFA_2", *SIZES]
    succeeds("convert_weights.py", prefix, "ours.weights.h5", *flags, cwd=tmp_path)
    succeeds("convert_weights.py", "ours.weights.h5", "back.ckpt", *flags, cwd=tmp_path)
    assert "1110" in succeeds("convert_weights.py", prefix, "again.ckpt", *flags, cwd=tmp_path)
    theirs = tf.train.load_checkpoint(str(prefix))
    for name in ("back.ckpt", "again.ckpt"):
        ours = tf.train.load_checkpoint(str(tmp_path / name))
        assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
        assert ours.get_variable_to_dtype_map() == theirs.get_variable_to_dtype_map()
        for variable, value in weights.items():
            np.testing.assert_array_equal(ours.get_tensor(variable), value)
    for variable in theirs.get_variable_to_shape_map():
        np.testing.assert_array_equal(ours.get_tensor(variable), theirs.get_tensor(variable))
    with tf.Graph().as_default():
        variables = [tf.compat.v1.get_variable(name, shape, ours.get_variable_to_dtype_map()[name], use_resource=False)
                     for name, shape in ours.get_variable_to_shape_map().items()]
        with tf.compat.v1.Session() as session:
            tf.compat.v1.train.Saver(variables).restore(session, str(tmp_path / "again.ckpt"))
            restored = session.run({variable.op.name: variable for variable in variables})
    assert all(np.array_equal(restored[name], value) for name, value in weights.items())
    message = complains("convert_weights.py", prefix, "again.ckpt", *flags, cwd=tmp_path)
    assert "--overwrite" in message


def test_the_authors_training_continues_with_adams_moments_and_step(small, towns, tmp_path):
    prefix, weights = small
    model, optimizer = network(CONFIG), adam(1e-5)
    optimizer.build(model.trainable_variables)
    assert continue_published(model, optimizer, str(prefix), CONFIG) == 1110
    assert int(optimizer.iterations.numpy()) == 1110
    slots = {variable.path: variable.numpy() for variable in optimizer.variables}
    name = "VGG_sat/conv1_1/weights"
    np.testing.assert_array_equal(slots["adam/VGG_sat_conv1_1_kernel_momentum"], 0.25 * weights[name])
    np.testing.assert_array_equal(slots["adam/VGG_sat_conv1_1_kernel_velocity"], weights[name] ** 2)
    os.symlink(towns / "Data", tmp_path / "Data")
    command = ["train_cvusa.py", *SMALL, "--network_type", "SAFA_2", "--epochs", 371, "--continue_from", prefix]
    assert "leave --init out" in complains(*command, cwd=tmp_path)
    command.remove("--init")
    command.remove("random")
    output = succeeds(*command, cwd=tmp_path)
    assert "Adam's step 1110, 370 epochs done" in output and "epoch 371:" in output


def test_the_initial_model_gives_all_weights_to_cvusa_and_vggs_to_cvact(small):
    prefix, weights = small
    for parts in (("VGG", "spatial"), ("VGG",)):
        model = network(CONFIG, seed=9)
        before = {name: variable.numpy() for name, variable in network_variables(model).items()}
        initialise(model, str(prefix), CONFIG, parts)
        for name, variable in network_variables(model).items():
            expected = weights[published_checkpoint.published_name(name)] if name.startswith(parts) else before[name]
            np.testing.assert_array_equal(variable.numpy(), expected)


def vgg16(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.mark.parametrize("layout", ["keras", "npy"])
def test_imagenet_weights_reach_both_branches_in_bgr_order(layout, tmp_path):
    source = vgg16()
    path = str(tmp_path / ("vgg16.npy" if layout == "npy" else "vgg16_notop.h5"))
    if layout == "npy":
        np.save(path, {f"conv{layer.name[5]}_{layer.name[-1]}": [layer.kernel.numpy(), layer.bias.numpy()]
                       for layer in source.layers if "conv" in layer.name}, allow_pickle=True)
    else:
        source.save(path)
    config = NetworkConfig("VGG_gp", 1, 32, 32)
    model = network(config, keep_prob=1.0)
    initialise(model, path, config)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)  # RGB
    preprocessed = keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))
    block5 = keras.Model(source.input, source.get_layer("block5_conv3").output)(preprocessed)
    expected = np.max(block5, axis=(1, 2))
    expected /= np.linalg.norm(expected)
    for bgr, ours in ((True, pixels[..., ::-1]), (False, pixels)):
        for descriptors in model([np.ascontiguousarray(ours)] * 2):
            difference = np.abs(descriptors - expected).max()
            assert difference < 1e-4 if bgr else difference > 1e-3  # (the published mean of red differs by 0.08)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    np.save(tmp_path / "vgg16.npy", {"conv1_1": Trap()}, allow_pickle=True)
    with pytest.raises(UserError, match="mkdir"):
        vgg16_npy(str(tmp_path / "vgg16.npy"))
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("config, expected", [
    (NetworkConfig("SAFA_3", 1, 32, 128, 64, 0.05), ["misshapen", "spatial_sat/weights1"]),
    (NetworkConfig("SAFA_2", 0, 32, 128, 64, 0.05), []),
    (NetworkConfig("VGG_gp", 1, 32, 128, 64, 0.05), ["8 unexpected", "spatial_grd/biases1"]),
    (NetworkConfig("SAFA_2", 1, 64, 128, 64, 0.05), ["misshapen"]),
])
def test_every_variable_is_accounted_for(small, config, expected):
    path, kind = checkpoint_files.find_checkpoint(str(small[0]))
    if not expected:  # 64x64 and 32x128 pixels have as many positions, so this one fits
        load_weights(network(config), path, kind, config)
        return
    with pytest.raises(UserError) as error:
        load_weights(network(config), path, kind, config)
    assert all(text in str(error.value) for text in expected), error.value


def break_data(prefix):
    path = prefix.with_name("model.ckpt.data-00000-of-00001")
    path.write_bytes(path.read_bytes()[:5000])


def break_index(prefix):
    path = prefix.with_name("model.ckpt.index")
    path.write_bytes(path.read_bytes()[:-20])


def swap_index(prefix):
    save_with_tensorflow_1(prefix.with_name("other.ckpt"), published_weights(
        NetworkConfig("SAFA_1", 1, 32, 128, 64, 0.05)))
    shutil.copy(prefix.with_name("other.ckpt.index"), prefix.with_name("model.ckpt.index"))


def put_nan(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    weights = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
               if not published_checkpoint.is_bookkeeping(name)}
    weights["VGG_sat/conv3_1/weights"] = weights["VGG_sat/conv3_1/weights"] * np.nan
    save_with_tensorflow_1(prefix, weights)


def put_page(prefix):
    prefix.with_name("model.ckpt.data-00000-of-00001").write_text("<!DOCTYPE html><title>Sign in</title>")


def leave_data_out(prefix):
    prefix.with_name("model.ckpt.data-00000-of-00001").unlink()


@pytest.mark.parametrize("damage, expected", [
    (break_data, "damaged"), (break_index, "cut off"), (swap_index, "model.ckpt"), (put_nan, "VGG_sat/conv3_1/kernel"),
    (put_page, "HTML"), (leave_data_out, "needs both files")])
def test_a_broken_checkpoint_is_named_through_the_test_script(own_small, towns, damage, expected):
    os.symlink(towns / "Data", own_small.with_name("Data"))
    damage(own_small)
    message = complains("test_cvusa.py", "--network_type", "SAFA_2", *SIZES, "--checkpoint", "model.ckpt",
                        cwd=own_small.parent)
    assert expected in message


def test_what_is_no_checkpoint_is_named_through_the_test_script(towns, tmp_path):
    os.symlink(towns / "Data", tmp_path / "Data")
    (tmp_path / "folder").mkdir()
    (tmp_path / "page.ckpt").write_text("<html>404</html>")
    with zipfile.ZipFile(tmp_path / "Model.zip", "w") as archive:
        archive.writestr("model.ckpt.index", "")
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "notes.txt").write_text("weights are elsewhere")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    for name, expected in (("folder", "folder without a checkpoint"), ("page.ckpt", "HTML"), ("Model.zip", "zip"),
                           ("weights.h5", "cannot be read"), ("notes.txt", "neither"), ("empty.ckpt", "empty"),
                           ("missing.ckpt", "no checkpoint of this name")):
        assert expected in complains("test_cvusa.py", "--checkpoint", name, cwd=tmp_path)
