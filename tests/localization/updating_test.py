"""A finished index notices that its imagery, its tiles or its own files changed, and an update computes only new tiles."""

import os
import shutil
import signal
import sys

import numpy as np
import pytest
import rasterio
from conftest import NETWORK, refuses

from safa import parts
from safa.localization.building import IndexConfig, TileComputer, _spacing, build_index
from safa.localization.index_files import DescriptorRecipe, check_files, earlier_manifest
from safa.localization.open_tiles import open_tile_source
from safa.localization.rasters import RasterTiles
from safa.localization.tile_source import Cut
from safa.runtime.distribution import Distribution
from safa.settings import NetworkConfig
from safa.training.variables import weights_digest
from tests.localization.tile_sources_test import write_raster


@pytest.fixture(scope="module")
def computer():
    config = NetworkConfig(network_type="SAFA_2", **NETWORK)
    network = parts.build_network(config, seed=1)
    recipe = DescriptorRecipe(config, weights_digest(network), "float32", None, True, 60.0, 65.45)
    return TileComputer(recipe, network, Distribution(None, "float32"), 8)


def built(computer, folder, tiles, earlier=None, **settings):
    """What a build of imagery returns, its source, and the rows of the tiles that it reads."""
    source, read = open_tile_source(list(map(str, np.ravel(tiles))), Cut(60, 30, 64), earlier=earlier), []
    tile = source.tile
    source.tile = lambda row: read.append(row) or tile(row)
    manifest, note = build_index(str(folder), source, computer, IndexConfig(**settings))
    source.tile = tile
    return manifest, note, source, read


def arrays(folder):
    """Those of an index, its tiles from west to east: an update puts those that it keeps first."""
    order = np.lexsort(np.load(folder / "locations.npy").T)
    return {name: np.load(folder / f"{name}.npy")[order] for name in ("descriptors", "locations", "thumbnails", "tiles")}


@pytest.fixture(scope="module")
def sheets(computer, tmp_path_factory):
    """A folder with two sheets, and a finished index of them. Not to be changed."""
    folder = tmp_path_factory.mktemp("updated")
    (folder / "sheets").mkdir()
    for left in (0, 200):
        write_raster(folder / "sheets" / f"{left}.tif", left, 200, 300)
    built(computer, folder / "index", folder / "sheets", dtype="float32")
    return folder


@pytest.fixture
def own(sheets, tmp_path):
    """An index that may be changed, of sheets that may be, and a build of it."""
    os.rename(sheets / "sheets", sheets / "kept")  # the same paths, so that it is the same imagery
    shutil.copytree(sheets / "kept", sheets / "sheets", copy_function=shutil.copy2)
    shutil.copytree(sheets / "index", tmp_path / "index")
    yield sheets / "sheets", tmp_path / "index"
    shutil.rmtree(sheets / "sheets")
    os.rename(sheets / "kept", sheets / "sheets")


def updated(computer, own, **settings):
    tiles, index = own
    return built(computer, index, tiles, earlier_manifest(index).source, **{"dtype": "float32"} | settings)


def blacken(path):
    """Change a corner of a sheet."""
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((3, 200, 200), np.uint8), window=((0, 200), (0, 200)))


def test_a_finished_index_costs_nothing_and_a_touched_file_no_descriptor(computer, own):
    _, note, _, read = updated(computer, own)
    assert "finished before" in note and not read
    os.utime(own[0] / "0.tif", ns=(1, 1))
    manifest, note, _, read = updated(computer, own)
    assert f"{manifest.tiles} tiles kept, 0 computed, 0 removed" in note and 0 < len(read) < manifest.tiles
    assert "finished before" in updated(computer, own)[1]
    os.truncate(own[1] / "descriptors.npy", 1000)
    refuses("descriptors.npy: missing, cut off or damaged", updated, computer, own)


def test_new_changed_and_removed_tiles_cost_only_themselves_and_end_as_a_new_build(computer, own, tmp_path):
    tiles, index = own
    before = arrays(index)["locations"]
    write_raster(tiles / "400.tif", 400, 200, 300)
    blacken(tiles / "0.tif")
    manifest, note, source, _ = updated(computer, own)
    after = arrays(index)["locations"]
    assert {place.tobytes() for place in before} < {place.tobytes() for place in after}
    changed = sum((source.tile(row) == 0).all(axis=2).any() for row in range(len(source)))
    computed = len(after) - len(before) + changed
    assert _spacing(np.repeat(after, 2, axis=0)) == manifest.spacing == 30  # as with imagery of two years
    assert changed and manifest.one_colour > 0 and f"{len(after) - computed} tiles kept, {computed} computed" in note
    built(computer, tmp_path / "new", tiles, manifest.source, dtype="float32")
    for name, array in arrays(tmp_path / "new").items():
        np.testing.assert_allclose(arrays(index)[name], array, atol=1e-6, err_msg=name)
    os.unlink(tiles / "400.tif")
    manifest, note, *_ = updated(computer, own)
    assert f"{len(before)} tiles kept, 0 computed, {len(after) - len(before)} removed" in note
    check_files(str(index), manifest)
    for sheet in "0.tif", "200.tif":
        with rasterio.open(tiles / sheet, "r+") as file:
            a, b, c, *others = file.transform[:6]
            file.transform = rasterio.Affine(a, b, c + 9000 * a, *others)
    refuses("none of its places is among these", updated, computer, own)


def test_rasters_may_be_added_to_those_that_the_command_named(computer, tmp_path):
    named, index = [tmp_path / "200.tif", tmp_path / "0.tif"], tmp_path / "index"
    for path in named:
        write_raster(path, int(path.stem), 200, 300)
    first, *_ = built(computer, index, named[:1])
    manifest, note, *_ = built(computer, index, named[::-1], first.source)
    assert f" {first.tiles} tiles kept, {manifest.tiles - first.tiles} computed, 0 removed" in note
    assert "finished before" in built(computer, index, named, manifest.source)[1]
    refuses("of other tiles", built, computer, index, named[1:], manifest.source)


def test_copies_of_a_tile_are_counted_each(computer, tmp_path):
    index, tiles = tmp_path / "index", tmp_path / "tiles"
    tiles.mkdir()
    for name, left in (("a", 0), ("b", 0), ("c", 100)):
        write_raster(tiles / f"{name}.tif", left, 120, 120)
    built(computer, index, tiles)
    os.utime(tiles / "a.tif", ns=(1, 1))
    assert "3 tiles kept, 0 computed, 0 removed" in built(computer, index, tiles)[1]
    (tiles / "a.tif").unlink()
    assert "2 tiles kept, 0 computed, 1 removed" in built(computer, index, tiles)[1]


def test_thumbnails_and_digests_are_on_disk_before_their_rows_are_finished(computer, sheets, tmp_path, monkeypatch):
    order, flush = [], np.memmap.flush
    monkeypatch.setattr(np.memmap, "flush", lambda array: order.append(os.path.basename(array.filename)) or flush(array))
    monkeypatch.setattr("safa.retrieval.resumable_rows.write_json", lambda *_: order.append("finished"))
    built(computer, tmp_path / "index", sheets / "sheets", dtype="float32")
    assert {"descriptors.npy", "thumbnails.npy", "tiles.npy"} <= set(order[: order.index("finished")])


def test_a_missing_faiss_is_named_before_descriptors_are_computed(computer, sheets, tmp_path, monkeypatch):
    monkeypatch.setattr("safa.localization.building.LEAST_TILES", 1)
    monkeypatch.setitem(sys.modules, "faiss", None)
    refuses("pip install faiss-cpu", built, computer, tmp_path / "index", sheets / "sheets", approximate=True)
    assert not (tmp_path / "index").exists()


def test_a_shortened_index_is_updated_in_its_own_directions(computer, own):
    tiles, index = own
    shutil.rmtree(index)
    built(computer, index, tiles, pca=8)
    before, directions = arrays(index), (index / "projection.npy").read_bytes()
    blacken(tiles / "0.tif")
    assert "updated" in updated(computer, own, dtype="float16", pca=8)[1]
    assert (index / "projection.npy").read_bytes() == directions
    after = arrays(index)
    same = (after["tiles"] == before["tiles"]).all(axis=1)
    np.testing.assert_array_equal(after["descriptors"][same], before["descriptors"][same])


# Content of a file that a power cut left.
@pytest.mark.parametrize(("name", "content"), [("tiles", b""), ("tiles", b"PK\3\4"), ("thumbnails", b"")])
def test_a_stopped_build_with_a_damaged_file_begins_again(computer, sheets, tmp_path, monkeypatch, name, content):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("safa.localization.building.IndexManifest", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
        built(computer, tmp_path / "index", sheets / "sheets", dtype="float32")
    (tmp_path / f"index/index.unfinished/{name}.npy").write_bytes(content)
    _, _, source, read = built(computer, tmp_path / "index", sheets / "sheets", dtype="float32")
    assert len(read) >= len(source)
    for name, array in arrays(tmp_path / "index").items():
        np.testing.assert_array_equal(arrays(sheets / "index")[name], array)


@pytest.mark.parametrize("place", ["0.tif", "tiles.json", "locations.npy"])  # computing descriptors, or exchanging files
def test_an_update_that_was_stopped_goes_on(computer, own, monkeypatch, place):
    blacken(own[0] / "0.tif")
    replace, read = os.replace, RasterTiles.tile

    def stopped(source, target):
        if str(source).endswith(f"index.unfinished/{place}"):
            raise KeyboardInterrupt
        replace(source, target)

    def unreadable(self, row):
        if not read(self, row).all() and os.path.exists(own[1] / "index.unfinished/descriptors.npy"):
            raise KeyboardInterrupt
        return read(self, row)

    monkeypatch.setattr(os, "replace", stopped)
    if place == "0.tif":
        monkeypatch.setattr(RasterTiles, "tile", unreadable)
    with pytest.raises(KeyboardInterrupt):
        updated(computer, own)
    monkeypatch.undo()
    assert (own[1] / "index.json").exists() == (place == "0.tif")
    manifest, note, _, read = updated(computer, own)
    assert not (own[1] / "index.unfinished").exists()
    assert "updated" in note if place == "0.tif" else "finished before" in note and not read
    check_files(str(own[1]), manifest)
