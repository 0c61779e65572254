"""Some hundred damaged files: each is refused by name, or read as what it is; none crashes, hangs or half-loads."""
import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from mutations import mutated

from errors import UserError
from image_files import ImageError, image_size, read_image
from input_data import CVACT, CVUSA

PHOTO = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8), (320, 160),
                   interpolation=cv2.INTER_CUBIC)


def test_a_damaged_png_is_refused(tmp_path):
    path = str(tmp_path / "a.png")
    whole = cv2.imencode(".png", PHOTO)[1].tobytes()
    refused = 0
    for number in range(210):
        _, damaged = mutated(whole, number)
        with open(path, "wb") as file:
            file.write(damaged)
        try:
            image = read_image(path)
        except ImageError as error:
            refused += 1
            assert "a.png" in str(error)
        else:
            np.testing.assert_array_equal(image, PHOTO, err_msg=str(number))
    assert refused > 200  # a byte may have been replaced by itself


@pytest.mark.parametrize("options", [(cv2.IMWRITE_JPEG_QUALITY, 92), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_a_damaged_jpeg_is_refused_or_whole(tmp_path, options):
    path = str(tmp_path / "a.jpg")
    whole = cv2.imencode(".jpg", PHOTO, options)[1].tobytes()
    refused = {}
    for number in range(210):
        kind, damaged = mutated(whole, number)
        with open(path, "wb") as file:
            file.write(damaged)
        try:
            image = read_image(path)
        except ImageError as error:
            refused[kind] = refused.get(kind, 0) + 1
            assert "a.jpg" in str(error)
        else:  # JPEG has no checksums: other colours can be as valid. But every block was decoded.
            assert image.dtype == np.uint8 and image.shape == (*image_size(path), 3)
    assert refused["cut"] == 30
    assert refused["noise"] >= 25 and refused["insert"] >= 25 and sum(refused.values()) > 110


def test_a_jpeg_that_lost_its_end_is_refused_wherever_it_was_cut(tmp_path):
    path = str(tmp_path / "a.jpg")
    whole = cv2.imencode(".jpg", PHOTO)[1].tobytes()
    for length in range(1, len(whole) - 2, len(whole) // 100):
        for ending in (b"", b"\xff\xd9"):  # as it is, or closed again by a repairing program
            with open(path, "wb") as file:
                file.write(whole[:length] + ending)
            with pytest.raises(ImageError, match="a.jpg"):
                read_image(path)


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


def test_a_damaged_list_is_refused_or_read(own_towns):
    path = own_towns / "Data/CVUSA/splits/train-19zl.csv"
    for pairs in pairs_of_damaged(path, CVUSA(str(own_towns / "Data")), 210):
        assert 0 < len(pairs) == len(pairs.sat_paths) == len(pairs.grd_paths) and all(pairs.ids)


def mat_7_3(path, ids, utm, train, val, as_cells):
    """Write a file as MATLAB writes version 7.3: HDF5 behind a header, arrays transposed, texts as codes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        codes = [np.frombuffer(name.encode("utf-16-le"), "<u2") for name in ids]
        if as_cells:
            cells = [file.create_dataset(f"#refs#/{number}", data=each[:, None]).ref
                     for number, each in enumerate(codes)]
            file.create_dataset("panoIds", data=np.array([cells], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        else:
            file.create_dataset("panoIds", data=np.stack(codes).T)
        file.create_dataset("utm", data=utm.T)
        for struct, field, rows in (("trainSet", "trainInd", train), ("valSet", "valInd", val)):
            file.create_dataset(f"{struct}/{field}", data=np.array([rows], np.float64))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("as_cells", [True, False])
def test_a_mat_file_of_version_7_3_holds_the_same_pairs(own_towns, as_cells):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    content = scipy.io.loadmat(path)
    expected = [CVACT(str(own_towns / "Data")).pairs(split) for split in ("train", "val")]
    mat_7_3(path, [str(np.asarray(name).item()) for name in content["panoIds"]], content["utm"],
            content["trainSet"]["trainInd"][0, 0].ravel(),
            content["valSet"]["valInd"][0, 0].ravel(), as_cells)
    for before, split in zip(expected, ("train", "val"), strict=True):
        pairs = CVACT(str(own_towns / "Data")).pairs(split)
        assert pairs.ids == before.ids and pairs.sat_paths == before.sat_paths
        np.testing.assert_array_equal(pairs.utm, before.utm)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_damaged_mat_file_is_refused_or_read(own_towns, version):
    path = own_towns / "Data/ANU_data_small/ACT_data.mat"
    if version == "7.3":
        content = scipy.io.loadmat(path)
        mat_7_3(path, [f"id{number:020}" for number in range(len(content["utm"]))], content["utm"],
                content["trainSet"]["trainInd"][0, 0].ravel(), content["valSet"]["valInd"][0, 0].ravel(), True)
    for pairs in pairs_of_damaged(path, CVACT(str(own_towns / "Data")), 105):
        assert len(pairs) == len(pairs.utm) == len(pairs.sat_paths) and np.isfinite(pairs.utm).all()
