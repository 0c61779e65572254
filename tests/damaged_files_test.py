"""Some hundred damaged files: each is refused by name, or read as what it is; none crashes, hangs or half-loads."""

import collections
import io
import os
import struct
import zlib
from unittest import mock

import cv2
import numpy as np
import PIL.Image
import pytest
import scipy.io
import simplejpeg
from conftest import refuses

from safa.datasets import cvact
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.file_checks import check_files
from safa.datasets.image_files import ImageError, image_size, read_image, read_input
from safa.datasets.preparation import polar_maps_are_stretched
from safa.runtime import mat_file
from safa.runtime.errors import UserError
from toy_town import dataset as toy_world

PHOTO = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8), (320, 160), interpolation=cv2.INTER_CUBIC)


def encoded(extension, options=()):
    return cv2.imencode(extension, PHOTO, options)[1].tobytes()


WHOLE = encoded(".jpg", [cv2.IMWRITE_JPEG_QUALITY, 92])
TABLE, SCAN = WHOLE.index(b"\xff\xdb"), WHOLE.index(b"\xff\xda")
PREVIEWED = WHOLE[:2] + b"\xff\xe1" + (2 + len(WHOLE)).to_bytes(2, "big") + WHOLE + WHOLE[2:]  # a preview in the header
KINDS = "flip", "byte", "zeros", "noise", "cut", "drop", "insert"


def mutated(content, number):
    """The `number`-th damaged version of some bytes, as by disks, downloads and interrupted copies: (kind, bytes)."""
    random, kind, damaged = np.random.default_rng(number), KINDS[number % len(KINDS)], bytearray(content)
    start, length = int(random.integers(1, len(content) - 1)), int(random.integers(16, 256))
    end = min(start + length, len(content))
    if kind == "flip":
        damaged[start] ^= 1 << int(random.integers(8))
    elif kind == "byte":
        damaged[start] = int(random.integers(256))
    elif kind in ("zeros", "noise"):
        damaged[start:end] = bytes(end - start) if kind == "zeros" else random.bytes(end - start)
    elif kind in ("cut", "drop"):
        del damaged[start : end if kind == "drop" else None]
    else:
        damaged[start:start] = random.bytes(length)
    return kind, bytes(damaged)


def outcomes(path, whole, count=210):
    """For each damaged version of a file, written to `path`: the kind of damage, and the image or None if it is refused."""
    for number in range(count):
        kind, damaged = mutated(whole, number)
        path.write_bytes(damaged)
        try:
            yield kind, read_image(str(path))
        except ImageError as error:
            assert path.name in str(error)
            yield kind, None


def test_a_damaged_png_is_refused_and_a_jpeg_is_refused_or_whole(tmp_path):
    read = [image for _, image in outcomes(tmp_path / "a.png", encoded(".png")) if image is not None]
    assert len(read) < 10 and all(np.array_equal(image, PHOTO) for image in read)  # a byte may have been replaced by itself
    path, four_colours = tmp_path / "a.jpg", io.BytesIO()
    PIL.Image.fromarray(PHOTO[..., ::-1]).convert("CMYK").save(four_colours, "JPEG")
    for whole in WHOLE, encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), four_colours.getvalue():
        refused = collections.Counter()
        for kind, image in outcomes(path, whole):
            if image is None:
                refused[kind] += 1
            else:  # JPEG has no checksums: other colours can be as valid. But every block was decoded.
                assert image.dtype == np.uint8 and image.shape == (*image_size(str(path)), 3)
        assert refused["cut"] == 30 and refused["noise"] >= 25 and refused["insert"] >= 25 and sum(refused.values()) > 110


def refuse(path, expected, readers=(read_image, image_size)):
    """Every reader refuses the file."""
    for read in readers:
        with pytest.raises(ImageError, match=expected):
            read(str(path))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_an_image_that_lost_its_end_is_refused_wherever_it_was_cut(tmp_path, name):
    path, whole = tmp_path / name, encoded(name[1:])
    for length in range(1, len(whole) - 2, len(whole) // 100):
        path.write_bytes(whole[:length])
        refuse(path, name)
        path.write_bytes(whole[:length] + b"\xff\xd9")  # closed again by a repairing program
        refuse(path, name, (read_image, image_size)[: 1 + (name == "a.png")])


ODD = [
    *(WHOLE + np.random.default_rng(seed).bytes(9000) for seed in range(40)),  # cameras append previews and measurements
    WHOLE + WHOLE[: len(WHOLE) // 2],
    PREVIEWED + bytes(9000),
    WHOLE[:-2] + bytes(20) + WHOLE[-2:],
    WHOLE[:TABLE] + b"abc" + WHOLE[TABLE:],
    WHOLE[: SCAN + 11] + b"\1\0\0" + WHOLE[SCAN + 14 :],
    WHOLE.replace(b"JFIF\0\1", b"JFIF\0\7"),
]


def test_a_jpeg_whose_oddity_costs_no_pixel_is_read_until_it_is_cut(tmp_path, capfd):
    path, pixels = tmp_path / "a.jpg", cv2.imdecode(np.frombuffer(WHOLE, np.uint8), cv2.IMREAD_COLOR)
    for odd in ODD:
        path.write_bytes(odd)
        np.testing.assert_array_equal(read_image(str(path)), pixels)
        assert image_size(str(path)) == (160, 320) and capfd.readouterr().err == ""
        end = odd.index(WHOLE[-600:-2]) + 500
        path.write_bytes(odd[: end if odd.count(WHOLE) < 2 else len(odd) - 9600])
        refuse(path, "truncated")


@pytest.fixture
def as_users_read_it(monkeypatch):
    monkeypatch.setattr(cvact, "read_mat", mat_file.read_mat)


def pairs_of_damaged(path, dataset, count):
    """The training pairs of a dataset, for each of `count` damaged versions of its list that is not refused."""
    whole = path.read_bytes()
    for number in range(count):
        path.write_bytes(mutated(whole, number)[1])
        try:
            pairs = dataset.pairs("train")
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            yield pairs


def test_a_damaged_list_is_refused_or_read(own_towns, as_users_read_it):
    data = own_towns / "Data"
    for pairs in pairs_of_damaged(data / "CVUSA/splits/train-19zl.csv", CVUSA(str(data)), 210):
        assert 0 < len(pairs) == len(pairs.sat_paths) == len(pairs.grd_paths) and all(pairs.ids)
    for pairs in pairs_of_damaged(data / "ANU_data_small/ACT_data.mat", CVACT(str(data)), len(KINDS)):
        assert len(pairs) == len(pairs.utm) == len(pairs.sat_paths) and np.isfinite(pairs.utm).all()


def test_a_mat_file_that_crashes_its_reader_is_refused(tmp_path, as_users_read_it):
    dataset = cvact_of(tmp_path, np.array(["a", "b", "c"]))
    with open(dataset.mat, "r+b") as file:
        file.seek(184), file.write(b"\0")  # type of the ids
    refuses("ACT_data.mat: .* is damaged .*crashes.*; take the file", dataset.pairs, "train")


def claiming(content, height, width):
    """A JPEG's or PNG's content whose header claims another size."""
    content = bytearray(content)
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))  # baseline or progressive
        content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("name, options", [("a.jpg", ()), ("a.jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), ("a.png", ())])
def test_a_size_that_cannot_be_true_is_refused_before_anything_is_decoded(tmp_path, monkeypatch, name, options):
    whole, path = encoded(name[1:], options), tmp_path / name
    for library, function in ((simplejpeg, "decode_jpeg"), (cv2, "imdecode")):
        monkeypatch.setattr(library, function, lambda *_, **__: pytest.fail("it is decoded"))
    path.write_bytes(claiming(whole, 65500, 65500))
    readers = read_image, image_size, lambda path: read_image(path, (65500, 65500))
    refuse(path, f"{name}: 65500x65500 pixels, more than", readers)
    path.write_bytes(claiming(whole, 9000, 9000))
    refuse(path, f"{name}: 9000x9000 pixels instead of 160x320", [lambda path: read_image(path, (160, 320))])
    os.truncate(path, 10**12)  # no disk has to hold it
    refuse(path, "1,000,000,000,000 bytes", [read_image])


def test_other_formats_and_subsamplings_are_refused_by_name_whatever_the_files_are_called(tmp_path):
    content, path = bytearray(encoded(".jpg")), tmp_path / "a.jpg"
    content[content.find(b"\xff\xc0") + 11] = 0x42  # 4:1:0, which the decoder does not know, and which is no damage
    path.write_bytes(content)
    refuse(path, "a.jpg: a rare colour subsampling", [read_image])
    for extension in ".bmp", ".tiff", ".webp", ".ppm":
        path.write_bytes(encoded(extension))
        refuse(path, "a.jpg: neither a JPEG nor a PNG")


def test_a_lack_of_memory_belongs_to_the_file_that_needs_it(tmp_path, monkeypatch):
    of_opencv = cv2.error("Failed to allocate 12873750000 bytes")
    of_opencv.code = cv2.Error.StsNoMem
    monkeypatch.setattr(simplejpeg, "decode_jpeg", mock.Mock(side_effect=MemoryError))
    monkeypatch.setattr(cv2, "imdecode", mock.Mock(side_effect=of_opencv))
    for name in ("a.jpg", "a.png"):
        path = str(tmp_path / name)
        cv2.imwrite(path, PHOTO)
        refuses(f"{name}: too little memory", read_input, path, (80, 160))


def test_a_pipe_is_refused_wherever_a_file_should_be_and_a_manifest_that_cannot_be_understood(own_towns, in_time):
    data = own_towns / "Data"
    cvusa, act = CVUSA(str(data)), CVACT(str(data))
    pairs = cvusa.pairs("train")
    for name, read, *arguments in (
        ("CVUSA/polarmap/19/0000001.png", read_input, pairs.sat_paths[0], (32, 128)),
        ("CVUSA/polarmap/19/0000001.png", check_files, pairs, ((32, 128), (32, 128))),
        ("CVUSA/splits/train-19zl.csv", cvusa.pairs, "train"),
        ("ANU_data_small/ACT_data.mat", act.pairs, "train"),
        ("CVUSA/polarmap/19/preparation.json", polar_maps_are_stretched, cvusa.polar_dir),
        ("CVUSA/toy_world.json", toy_world.main, ["--data_dir", str(data)]),
    ):
        path = data / name
        path.rename(path.with_suffix(".before"))
        os.mkfifo(path)
        refuses(f"{path.name}: a folder, pipe or device", read, *arguments)
        path.with_suffix(".before").replace(path)
    for content in b"[" * 9000, b'{"stretch": "no"}', b"{}", b"\xff":
        (data / "CVUSA/polarmap/19/preparation.json").write_bytes(content)
        refuses("preparation.json: not what this project writes there", polar_maps_are_stretched, cvusa.polar_dir)


def cvact_of(folder, ids, utm=None, rows=None):
    """The dataset of an ACT_data.mat whose training split has all places, or these rows."""
    os.makedirs(folder / "ANU_data_small", exist_ok=True)
    content = {"panoIds": ids, "utm": np.zeros((np.size(ids), 2)) if utm is None else utm}
    rows = np.arange(1, np.size(ids) + 1) if rows is None else rows
    scipy.io.savemat(folder / "ANU_data_small/ACT_data.mat", content | {"trainSet": {"trainInd": np.reshape(rows, (-1, 1))}})
    return CVACT(str(folder))


def cells(*names):
    return np.array([*names, None], object)[:-1, None]  # not an array of characters


def test_ids_of_a_mat_file_are_read_from_a_character_matrix_and_from_cells(tmp_path):
    for names in ["abc", "d_e", "f-g"], ["a", "longer", "of three"], ["alone"]:
        for ids in np.array(names), cells(*names), cells(*names).T:
            pairs = cvact_of(tmp_path, ids).pairs("train")
            assert pairs.ids == names and pairs.sat_paths[0].endswith(f"{names[0]}_satView_polish.png")


def test_what_a_mat_file_cannot_mean_is_refused(tmp_path):
    good = np.array(["a", "b", "c"])
    for content, expected in (
        ([cells(1.0, "b")], "lacks panoIds, utm or trainSet.trainInd, or is damaged"),
        ([cells("good", "../../../etc/passwd", "too")], "ACT_data.mat: 1 panoIds"),
        ([cells("good", "x/" + 5000 * "y", "too")], "ACT_data.mat: 1 panoIds"),
        ([good, np.array([[693000.0, 6090000.0], [693000.0, 1e300], [np.nan, 0.0]])], "2 of 3 coordinates"),
        ([good, np.zeros((1, 2))], "do not fit together"),
        ([good, None, [4]], "do not fit together"),
        ([good, None, [1.5]], "not finite whole numbers"),
    ):
        assert len(refuses(expected, cvact_of(tmp_path, *content).pairs, "train")) < 600
