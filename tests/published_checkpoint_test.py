"""The authors' checkpoints load, continue, and convert both ways; other files are refused by name."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import zipfile

import cv2
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SMALL, command, complains, refuses, succeeds
from golden import GOLDEN, recipe

import convert_weights
from safa.loading import load_network
from safa.parts import build_network
from safa.runtime.errors import UserError
from safa.settings import NetworkConfig
from safa.training import checkpoint_files, published_checkpoint
from safa.training.initial_weights import continue_published, initialise, read_vgg16
from safa.training.step import adam
from safa.training.variables import adam_variables, network_weights
from safa.training.weights import load_weights
from spatial_net import Branch, Network
from VGG import VGG16

CONFIG = NetworkConfig("SAFA_2", 1, 32, 128, 64, 0.05)


def save(prefix, tensors):
    """Write a TensorFlow checkpoint as a Saver of TensorFlow 1 does."""
    names, values = list(tensors), list(tensors.values())
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


def save_with_adam(prefix, weights, step=1110):
    """Write weights as the authors' training scripts do, with Adam's state."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name, use_resource=False) for name, value in weights.items()]
        counter = tf.compat.v1.Variable(np.int32(step), trainable=False, use_resource=False)  # "Variable"
        with tf.compat.v1.name_scope("train"):
            adam = tf.compat.v1.train.AdamOptimizer(1e-5)
            adam.minimize(tf.add_n([tf.reduce_sum(variable) for variable in variables]), global_step=counter)
        session.run(tf.compat.v1.global_variables_initializer())
        for variable, value in zip(variables, weights.values(), strict=True):  # as it would be after `step` steps
            adam.get_slot(variable, "m").load(0.25 * value, session)
            adam.get_slot(variable, "v").load(value**2, session)
        for variable in tf.compat.v1.global_variables():
            for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999)):
                if variable.op.name.endswith(name):
                    variable.load(np.float32(beta ** (step + 1)), session)
        tf.compat.v1.train.Saver().save(session, str(prefix))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network's checkpoint as the authors' code writes it, and its weights by their names. Not to be changed."""
    folder, network = tmp_path_factory.mktemp("small"), build_network(CONFIG, seed=3)
    published = published_checkpoint.published_names(network)
    weights = {published[name]: variable.numpy() for name, variable in network_weights(network).items()}
    save_with_adam(folder / "model.ckpt", weights)
    return folder / "model.ckpt", weights


@pytest.fixture(scope="module")
def built():
    network, optimizer = build_network(CONFIG), adam(1e-5, ema=0.9)
    optimizer.build(network.trainable_variables)
    return network, optimizer


@pytest.fixture
def blank(built):
    """A network of CONFIG and its optimizer, whose values are all zero."""
    for variable in *built[0].trainable_variables, *built[1].variables:
        variable.assign(np.zeros(variable.shape))
    return built


@pytest.fixture
def model(blank):
    return blank[0]


@pytest.fixture
def own_small(small, tmp_path):
    """A copy of `small` to break."""
    return shutil.copytree(small[0].parent, tmp_path, dirs_exist_ok=True) / "model.ckpt"


def test_the_authors_checkpoint_gives_their_descriptors_through_the_test_script(tmp_path):
    root = tmp_path / "Data/CVUSA"
    for folder in root / "polarmap/19", root / "streetview/panos", root / "splits", tmp_path / "Model/CVUSA/Trained":
        folder.mkdir(parents=True)
    for folder, view in (("polarmap/19", "sat"), ("streetview/panos", "grd")):
        for number, image in enumerate(recipe.images(view, 4, 112, 616)):
            cv2.imwrite(str(root / folder / f"{number}.png"), image)
    rows = [f"bingmap/19/{number}.jpg,streetview/panos/{number}.png,unused\n" for number in range(4)]
    (root / "splits/val-19zl.csv").write_text("".join(rows))
    save(tmp_path / "Model/CVUSA/Trained/model.ckpt", recipe.weights(NetworkConfig()))
    output = succeeds("test_cvusa.py", save_descriptors="d.npz", cwd=tmp_path)
    assert os.path.join("Model", "CVUSA", "Trained", "model.ckpt") in output and "SAFA_8, polar, authors' weights" in output
    assert (tmp_path / "Result/CVUSA/SAFA_8_polar_1_authors.json").exists()
    found, golden = np.load(tmp_path / "d.npz"), np.load(GOLDEN / "SAFA_8_polar_1.npz")
    for name in ("sat_descriptors", "grd_descriptors"):
        np.testing.assert_allclose(found[name], golden[name], rtol=0, atol=2e-5)


def test_both_ways_give_the_same_bits_and_the_authors_saver_restores_ours(small, tmp_path, monkeypatch):
    prefix, weights = small
    flags = command(network_type="SAFA_2", height=32, width=128, aerial_input_size=64, width_multiplier=0.05)
    monkeypatch.chdir(tmp_path)
    convert_weights.main([str(prefix), "ours.weights.h5", *flags])
    convert_weights.main(["ours.weights.h5", "back.ckpt", *flags])
    assert "1110" in succeeds("convert_weights.py", prefix, "again.ckpt", *flags, cwd=tmp_path)
    theirs = tf.train.load_checkpoint(str(prefix))
    for name in ("back.ckpt", "again.ckpt"):
        ours = tf.train.load_checkpoint(str(tmp_path / name))
        for kind in "shape", "dtype":
            ours_of, theirs_of = (getattr(reader, f"get_variable_to_{kind}_map")() for reader in (ours, theirs))
            assert ours_of.items() > theirs_of.items() and set(ours_of) - set(theirs_of) == {"beta1_power", "beta2_power"}
        for variable, value in weights.items():
            np.testing.assert_array_equal(ours.get_tensor(variable), value)
    for variable in theirs.get_variable_to_shape_map():
        np.testing.assert_array_equal(ours.get_tensor(variable), theirs.get_tensor(variable))
    with tf.Graph().as_default():
        shapes, dtypes = theirs.get_variable_to_shape_map(), ours.get_variable_to_dtype_map()
        variables = [tf.compat.v1.get_variable(name, shapes[name], dtypes[name], use_resource=False) for name in shapes]
        with tf.compat.v1.Session() as session:
            tf.compat.v1.train.Saver(variables).restore(session, str(tmp_path / "again.ckpt"))
            restored = session.run({variable.op.name: variable for variable in variables})
    assert "train/beta2_power" in restored
    assert all(np.array_equal(value, theirs.get_tensor(name)) for name, value in restored.items())
    assert "--overwrite" in complains("convert_weights.py", prefix, "again.ckpt", *flags, cwd=tmp_path)


def test_a_network_with_another_aggregation_is_not_written_as_the_authors_baseline(tmp_path):
    model = Network(*(Branch(VGG16(0.05), keras.layers.GlobalAveragePooling2D(), (32, 32)) for _ in range(2)))
    refuses("only VGG16 with SAFA_M or VGG_gp", published_checkpoint.write, str(tmp_path / "model.ckpt"), model)


def test_the_authors_training_continues_with_adams_moments_and_step(small, blank, here):
    (prefix, weights), (model, optimizer) = small, blank
    assert continue_published(model, optimizer, str(prefix), CONFIG) == int(optimizer.iterations.numpy()) == 1110
    kept, first = adam_variables(model, optimizer), weights["VGG_sat/conv1_1/weights"]
    np.testing.assert_array_equal(kept["adam/sat/backbone/00_kernel/momentum"], 0.25 * first)
    np.testing.assert_array_equal(kept["adam/sat/backbone/00_kernel/velocity"], first**2)
    np.testing.assert_array_equal(kept["adam/sat/backbone/00_kernel/average"], first)
    flags = SMALL | {"network_type": "SAFA_2", "epochs": 371, "continue_from": prefix}
    for given in {}, {"init": None, "warmup_epochs": 1}:
        assert "leave --init and --warmup_epochs out" in complains("train_cvusa.py", **flags | given, cwd=here)
    line = complains("train_cvusa.py", **flags | {"init": None, "epochs": 370}, cwd=here)
    output = succeeds("train_cvusa.py", **flags | {"init": None}, cwd=here)
    assert "370 epochs of these pairs; raise --epochs" in line and "370 epochs done" in output and "epoch 371:" in output


def tensors_in(prefix):
    """{name: array} of a TensorFlow checkpoint."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.parametrize("scope", ["", "tower_0/train/", None])
def test_adams_variables_may_stand_in_any_scope_or_be_missing(scope, small, blank, tmp_path):
    (theirs, weights), (model, optimizer), prefix = small, blank, str(tmp_path / "model.ckpt")
    tensors = weights if scope is None else {name.replace("train/", scope): each for name, each in tensors_in(theirs).items()}
    save(prefix, tensors)
    notes = initialise(model, prefix, CONFIG)
    published = published_checkpoint.published_names(model)
    for name, variable in network_weights(model).items():  # all of them: the published training starts so
        np.testing.assert_array_equal(variable.numpy(), weights[published[name]])
    assert notes == [] if scope is None else "skipped" in notes[0]
    if scope is None:
        refuses("no training state", continue_published, model, optimizer, prefix, CONFIG)
    else:
        assert continue_published(model, optimizer, prefix, CONFIG) == 1110


@pytest.fixture(scope="module")
def vgg16():
    """Keras's VGG16 with random weights, an RGB image, and its descriptor, that of the baseline VGG_gp. Not to be changed."""
    keras.utils.set_random_seed(0)
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    kernel = network.get_layer("block1_conv1").kernel
    kernel.assign(kernel * np.array([0.8, 1, 1.2])[:, None])  # ImageNet's weigh red more than blue
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    block5 = keras.Model(network.input, network.get_layer("block5_conv3").output)
    descriptor = np.max(block5(keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))), axis=(1, 2))
    return network, pixels, descriptor / np.linalg.norm(descriptor)


def save_as_npz(model, path):
    """VGG16 as vgg16_weights.npz has it: for RGB images, under other names."""
    layers = {f"conv{layer.name[5]}_{layer.name[-1]}": layer for layer in model.layers if "conv" in layer.name}
    arrays = {f"{name}_{kind[0]}": getattr(layers[name], kind).numpy() for name in layers for kind in ("bias", "kernel")}
    arrays = {name.replace("_k", "_W"): array for name, array in arrays.items()}
    np.savez(path, **arrays | {"conv1_1_W": arrays["conv1_1_W"][:, :, ::-1], "fc8_W": np.zeros((2, 2))})


def test_imagenet_weights_reach_both_branches_in_bgr_order(vgg16, tmp_path):
    (source, pixels, expected), config = vgg16, NetworkConfig("VGG_gp", 1, 32, 32)
    model = build_network(config, keep_prob=1.0)
    classifier = keras.Sequential([source, keras.layers.Flatten(), keras.layers.Dense(64)])
    saves = {"notop.h5": source.save, "vgg16.weights.h5": source.save_weights, "vgg16.keras": source.save}
    saves |= {"classifier.keras": classifier.save, "vgg16_weights.npz": functools.partial(save_as_npz, source)}
    for name, save in saves.items():
        save(path := str(tmp_path / name))
        model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
        initialise(model, path, config)
        for bgr, ours in ((True, pixels[..., ::-1]), (False, pixels)):
            for descriptors in model([np.ascontiguousarray(ours)] * 2):
                difference = np.abs(descriptors - expected).max()
                assert difference < 1e-4 if bgr else difference > 1e-3  # (the published mean of red differs by 0.08)


def test_every_variable_is_accounted_for(small):
    for network, polar, expected in (
        ("SAFA_3", 1, "misshapen .*sat/aggregation/00_weights1"),
        ("VGG_gp", 1, "8 unexpected .*spatial_grd/biases1"),
        ("SAFA_2", 0, None),  # 64x64 and 32x128 pixels have as many positions
    ):
        config = dataclasses.replace(CONFIG, network_type=network, polar=polar)
        loading = load_weights, build_network(config), *checkpoint_files.find_checkpoint(str(small[0])), config
        refuses(expected, *loading) if expected else loading[0](*loading[1:])


def damaged(ending, change):
    """Damage to one of a checkpoint's two files."""

    def damage(prefix):
        path = prefix.with_name(f"model.ckpt.{ending}")
        path.write_bytes(change(path.read_bytes()))

    return damage


DATA = "data-00000-of-00001"
NAN = np.full((3, 3, 6, 13), np.nan, np.float32)  # conv3_1's kernel, one of CONFIG's
DAMAGES = {
    "damaged": damaged(DATA, lambda content: content[:5000]),
    "cut off": damaged("index", lambda content: content[:-20]),
    "HTML": damaged(DATA, lambda content: b"<!DOCTYPE html><title>Sign in</title>"),
    "sat/backbone/08_kernel": lambda prefix: save(prefix, tensors_in(prefix) | {"VGG_sat/conv3_1/weights": NAN}),
    "needs both files": lambda prefix: prefix.with_name(f"model.ckpt.{DATA}").unlink(),
}


@pytest.mark.parametrize("expected", DAMAGES)
def test_a_broken_checkpoint_is_named(own_small, model, expected):
    DAMAGES[expected](own_small)
    with pytest.raises(UserError, match=expected):
        load_weights(model, *checkpoint_files.find_checkpoint(str(own_small)), CONFIG)


def test_a_file_of_another_kind_is_named_for_what_it_is(model, tmp_path):
    (tmp_path / "folder").mkdir()
    for name, content, expected in (
        ("folder", None, "folder without a checkpoint"),
        ("page.ckpt", b"<html>404</html>", "HTML"),
        ("notes.txt", b"weights are elsewhere", "neither"),
        ("empty.ckpt", b"", "empty"),
        ("missing.ckpt", None, "no checkpoint of this name"),
        ("a.pth", "archive/data.pkl", "PyTorch"),
        ("a.zip", "model.ckpt.index", "unpack it"),
        ("a.npz", "conv1_1_W.npy", "not VGG16's weights"),
    ):
        if isinstance(content, str):  # the name of a zip's member
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.writestr(content, b"")
        elif content is not None:
            (tmp_path / name).write_bytes(content)
        refuses(expected, initialise, model, str(tmp_path / name), CONFIG)


def test_a_wrong_path_is_found_before_tensorflow_is_imported():
    refuses("'fp32': not one of float32, tf32", load_network, "missing", precision="fp32")
    program = "import pathlib, safa, sys\ntry: safa.load_network(pathlib.Path('missing'))\n"
    program += "finally: print('tensorflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "False\n" and "missing: no checkpoint of this name" in ended.stderr


def test_a_weights_file_that_leads_to_another_file_is_refused(model, tmp_path):
    layout = h5py.VirtualLayout((4,), np.uint8)
    layout[:] = h5py.VirtualSource("/etc/passwd", "0", (4,))
    for kind, lead_away in {
        "link": lambda group: group.__setitem__("0", h5py.ExternalLink("/etc/passwd", "/")),
        "external": lambda group: group.create_dataset("0", (4,), np.uint8, external=[("/etc/passwd", 0, 4)]),
        "virtual": lambda group: group.create_virtual_dataset("0", layout),
    }.items():
        path = str(tmp_path / f"{kind}.weights.h5")
        with h5py.File(path, "w") as file:
            lead_away(file.create_group("layers/conv2d/vars"))
        for read in (lambda *of: load_weights(model, *of, CONFIG)), read_vgg16:
            refuses("lies in another file", read, path, checkpoint_files.KERAS)


def test_the_authors_initial_model_is_the_default_where_it_lies_and_fits(small, model, tmp_path, monkeypatch):
    prefix, weights = small
    taken, skipped = initialise(model, "default", CONFIG, str(prefix))
    assert taken.startswith(f"starting weights: {prefix}") and "skipped" in skipped
    kernel = model.sat.backbone.convolutions["conv1_1"].kernel
    np.testing.assert_array_equal(kernel, weights["VGG_sat/conv1_1/weights"])
    other = dataclasses.replace(CONFIG, network_type="SAFA_1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens: there is no internet
    monkeypatch.setattr(keras.utils, "get_file", functools.partial(keras.utils.get_file, cache_dir=str(tmp_path)))
    expected = "--init: VGG16's ImageNet weights .* or use --init random"  # the other does not fit
    refuses(expected, initialise, build_network(other), "default", other, str(prefix))
