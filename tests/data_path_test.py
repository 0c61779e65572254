"""Data as users have it: other folders, other separators, two runs at once, a full disk, images kept in memory."""

import errno
import io
import os
import shutil

import numpy as np
from conftest import TINY, complains, contents, run, succeeds

from input_data import batches
from safa.datasets import pair_images
from safa.datasets.cvact import CVACT
from safa.datasets.cvusa import CVUSA
from safa.datasets.dataset import AERIAL, POLAR
from safa.datasets.file_checks import check_files
from safa.datasets.pair_images import PairImages
from safa.runtime import files

SHAPES = (32, 128), (32, 128)


class File(io.FileIO):
    """A file on a disk that has room for some bytes more."""

    room = 200_000

    def write(self, content):
        super().write(bytes(content)[: max(0, File.room)])
        File.room -= len(content)
        if File.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_the_disk():
    """The project's own files are written to such a disk by this process."""
    files.open = lambda path, mode="r", **options: File(path, mode) if "w" in mode else open(path, mode, **options)


def test_folders_with_spaces_other_letters_and_links_that_must_not_be_written_to(towns, tmp_path):
    data = tmp_path / "Daten für Zürich 東京"
    shutil.copytree(towns / "Data", data, ignore=shutil.ignore_patterns("polarmap", "CVACT"))
    os.symlink(data, tmp_path / "link")
    before = contents(data)
    folders = [path for path in (data, *data.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        given = {"data_dir": "link", "prepared_dir": "my prepared files", "cwd": tmp_path}
        succeeds("data_preparation.py", dataset="all", **given)
        succeeds("train_cvact.py", **TINY, network_type="SAFA_1", epochs=1, **given)
        succeeds("test_cvact.py", network_type="SAFA_1", **given)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert contents(data) == before
    assert contents(tmp_path / "my prepared files/CVUSA/polarmap") == contents(towns / "Data/CVUSA/polarmap")


def test_lists_as_other_programs_write_them(own_towns):
    dataset = CVUSA(str(own_towns / "Data"))
    before = dataset.pairs("train")
    path = own_towns / "Data/CVUSA/splits/train-19zl.csv"
    text = path.read_text()
    for changed in text.replace("\n", "\r\n"), "\ufeff" + text, text.replace("/", "\\"), text.replace(",", " , "):
        path.write_bytes(changed.encode())
        after = dataset.pairs("train")
        assert (after.ids, after.sat_paths, after.grd_paths) == (before.ids, before.sat_paths, before.grd_paths)


def test_upper_case_extensions_are_found(own_towns):
    for folder in ("CVUSA/bingmap/19", "CVUSA/streetview/panos", "ANU_data_small/satview_polish"):
        for path in (own_towns / "Data" / folder).iterdir():
            path.rename(path.with_suffix(".JPG"))
            assert not path.exists()  # a file system that ignores the case would show nothing
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    assert "34 prepared" in succeeds("data_preparation.py", dataset="cvusa", cwd=own_towns)
    assert contents(polar) == expected
    for kind, reference in ((CVUSA, POLAR), (CVACT, AERIAL)):
        pairs, _ = check_files(kind(str(own_towns / "Data")).pairs("train", reference), SHAPES)
        images = PairImages.of(pairs, SHAPES)
        assert len(pairs) == 24 and images.sat.read(0).any() and images.grd.read(0).any()


def test_a_disk_that_fills_up_leaves_whole_files_and_one_line(own_towns):
    polar = own_towns / "Data/CVUSA/polarmap"
    expected = contents(polar)
    shutil.rmtree(polar)
    process = run("data_preparation.py", dataset="cvusa", workers=1, before=fill_the_disk, cwd=own_towns)
    assert process.returncode == 2, process.stderr
    line = process.stderr.strip().splitlines()[-1]
    assert "No space left on device" in line and ".png" in line and "free some space" in line
    finished = contents(polar)
    assert 0 < len(finished) < len(expected) and all(expected[path] == content for path, content in finished.items())
    succeeds("data_preparation.py", dataset="cvusa", cwd=own_towns)
    assert contents(polar) == expected


def test_images_kept_in_memory_give_the_same_batches_and_are_decoded_once(towns, monkeypatch):
    pairs = CVACT(str(towns / "Data")).pairs("train")
    plain, cached = (PairImages.of(pairs, SHAPES, cached=cached) for cached in (False, True))
    order = np.random.default_rng(0).permutation(24)
    for _ in range(2):
        found, expected = (list(batches(images, order, 5)) for images in (cached, plain))
        assert len(found) == len(expected) == 5
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.sat, other.sat) and np.array_equal(one.grd, other.grd)
    monkeypatch.setattr(pair_images, "read_input", None)  # nothing is decoded again
    assert len(list(batches(cached, order, 5))) == 5


def test_an_empty_folder_name_is_refused(tmp_path):
    assert "--data_dir" in complains("train_cvusa.py", data_dir="", cwd=tmp_path)
    assert run("data_preparation.py", dataset="cvusa", prepared_dir="", cwd=tmp_path).returncode == 2
