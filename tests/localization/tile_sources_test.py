"""Tiles from lists, rasters and map tiles show the right ground, north up, at the right location."""

import functools
import itertools
import os
import sys

import cv2
import numpy as np
import pyproj
import pytest
import rasterio
from conftest import refuses

from safa.localization import raster_file
from safa.localization.coordinates import LocalFrame, mercator_locations, mercator_pixels, mercator_resolution, wgs84_of
from safa.localization.open_tiles import open_tile_source
from safa.localization.tile_source import Cut

UTM = 32755
CORNER = (693000.0, 6090000.0)  # a grid's north is 1.2 degrees from true north there
METRES_A_PIXEL = 0.5
FRAME = LocalFrame(*wgs84_of([CORNER[0] + 150], [CORNER[1] - 150], UTM)[0])


def painted(locations):
    """A picture painted on the ground: blue grows to the east, green to the north, red is a wave. (..., 2) -> (..., 3) BGR."""
    east, north = FRAME.metres(locations.reshape(-1, 2)).T
    colours = np.stack([128 + east / 4, 128 + north / 4, 128 + 100 * np.sin(east / 15) * np.sin(north / 15)], axis=1)
    return colours.clip(0, 255).round().astype(np.uint8).reshape(*locations.shape[:-1], 3)


def shows(tile, centre, metres, tolerance=3.0):
    """Whether a tile shows the ground north up around a location."""
    steps = ((np.arange(len(tile)) + 0.5) / len(tile) - 0.5) * metres
    locations = LocalFrame(*centre).locations(np.stack(np.meshgrid(steps, -steps), axis=-1)).reshape(*tile.shape[:2], 2)
    return np.abs(tile.astype(float) - painted(locations))[2:-2, 2:-2].mean() < tolerance


@functools.cache
def whole_ground():
    x, y = np.meshgrid(np.arange(600) + 0.5, np.arange(600) + 0.5)
    x, y = CORNER[0] + x.ravel() * METRES_A_PIXEL, CORNER[1] - y.ravel() * METRES_A_PIXEL
    return painted(wgs84_of(x, y, UTM).reshape(600, 600, 2))


def write_bands(path, bands, tags=None, left=0, mask=None, **profile):
    """A GeoTIFF of (H, W) bands, `left` pixels from CORNER, tagged as colours."""
    (height, width), dtype = bands[0].shape, profile.pop("dtype", "uint8")
    transform = rasterio.Affine(METRES_A_PIXEL, 0, CORNER[0] + left * METRES_A_PIXEL, 0, -METRES_A_PIXEL, CORNER[1])
    profile = {"driver": "GTiff", "crs": f"EPSG:{UTM}", "transform": transform, "dtype": dtype} | profile
    with rasterio.open(path, "w", count=len(bands), height=height, width=width, **profile) as file:
        if tags is not None:
            file.colorinterp = [rasterio.enums.ColorInterp[tag] for tag in tags.split()]
        file.write(np.stack(bands).astype(dtype))
        if mask is not None:
            file.write_mask(mask)
    return str(path)


def write_raster(path, left=0, width=600, height=600, **profile):
    """A GeoTIFF of the painted ground."""
    bands = np.moveaxis(whole_ground()[:height, left : left + width, ::-1], 2, 0)
    return write_bands(path, bands, left=left, **profile)


@functools.cache
def map_tile(zoom, column, row):
    pixels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1) + 0.5
    return painted(mercator_locations(pixels + (column * 256, row * 256), zoom).reshape(256, 256, 2))


def write_map_tiles(folder, zoom, tms=False):
    """Web Mercator tiles of the painted ground around FRAME's centre."""
    centre = mercator_pixels(FRAME.locations([(0, 0)]), zoom, 1)[0].astype(int)
    for column, row in itertools.product(*(range(middle - 2, middle + 3) for middle in centre)):
        name = folder / str(zoom) / str(column) / f"{2**zoom - 1 - row if tms else row}.png"
        os.makedirs(name.parent, exist_ok=True)
        cv2.imwrite(str(name), map_tile(zoom, column, row))
    return str(folder)


def test_mercator_pixels_are_those_of_epsg_3857_and_a_local_frame_has_true_metres_also_across_the_180th_meridian():
    locations = np.array([[149.1, -35.3], [-179.9, 84.0], [0.0, 0.0], [7.5, 51.2]])
    transformer = pyproj.Transformer.from_crs(4326, 3857, always_xy=True)
    x, y = transformer.transform(*locations.T)
    metres_a_pixel = 2 * np.pi * 6378137 / 256 / 2**19
    pixels = mercator_pixels(locations, 19)
    np.testing.assert_allclose((pixels[:, 0] - 2**26) * metres_a_pixel, x, atol=1e-5)
    np.testing.assert_allclose((2**26 - pixels[:, 1]) * metres_a_pixel, y, atol=1e-5)
    np.testing.assert_allclose(mercator_locations(pixels, 19), locations, atol=1e-11)
    assert mercator_resolution(0, 0) == pytest.approx(156543.03)
    assert mercator_resolution(60, 19) == pytest.approx(156543.03 / 2**20)
    places = (179.999, -17.0), (-179.999, -17.0)
    metres = LocalFrame.around(places).metres(places)
    length = pyproj.Geod(ellps="WGS84").inv(*places[0], *places[1])[2]
    assert abs(np.hypot(*(metres[1] - metres[0])) - length) < 0.001


def test_an_orthophoto_is_cut_north_up_on_a_grid_and_averaged_where_it_is_finer(tmp_path):
    path = write_raster(tmp_path / "ortho.tif")
    source = open_tile_source([path], Cut(metres=60, spacing=40, pixels=90))
    assert len(source) == 36  # seven by seven would touch the edge, which is 1.2 degrees from north
    metres = FRAME.metres(source.locations)
    assert np.abs(np.diff(np.unique(np.round(metres[:, 0], 2)))).min() == pytest.approx(40, abs=0.01)
    for row in (0, 17, 35):
        assert shows(source.tile(row), source.locations[row], 60)
        assert not shows(np.rot90(source.tile(row)), source.locations[row], 60)
    with rasterio.open(path, "r+") as file:
        file.write(np.random.default_rng(0).integers(0, 2, (3, 600, 600), dtype=np.uint8) * 255)
    tile = open_tile_source([path], Cut(metres=200, spacing=40, pixels=40)).tile(0)
    assert tile.std() < 15  # 127 / 10 of an average over ten by ten pixels; single pixels of black and white have 127


def test_sheets_are_one_mosaic_and_few_of_them_are_open_at_a_time(tmp_path, monkeypatch):
    cut, folder = Cut(60, 40, 90), tmp_path / "sheets"
    whole = open_tile_source([write_raster(tmp_path / "whole.tif")], cut)
    folder.mkdir()
    for left in range(0, 600, 43):
        write_raster(folder / f"{left}.tif", left, 43)
    mosaic, before = open_tile_source([str(folder)], cut), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(raster_file, "_opened", functools.lru_cache(4)(raster_file._opened.__wrapped__))
    np.testing.assert_allclose(mosaic.locations, whole.locations, atol=1e-6)
    for row in range(0, len(whole), 3):
        assert np.abs(mosaic.tile(row).astype(int) - whole.tile(row)).mean() < 1.5
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_small_rasters_are_tiles_themselves(tmp_path):
    paths = [write_raster(tmp_path / f"{left}.tif", left, 120, 120) for left in (0, 100, 300)]
    source = open_tile_source(paths, Cut(60, 10, 90))
    assert source.names == ["0.tif", "100.tif", "300.tif"]
    np.testing.assert_allclose(source.metres, 60, rtol=2e-3)
    for row in range(3):
        assert shows(source.tile(row), source.locations[row], 60, tolerance=6)
    east, north = pyproj.Transformer.from_crs(4326, UTM, always_xy=True).transform(*source.locations.T)
    np.testing.assert_allclose(east, CORNER[0] + np.array([0, 100, 300]) * METRES_A_PIXEL + 30, atol=0.01)
    np.testing.assert_allclose(north, CORNER[1] - 30, atol=0.01)
    (tmp_path / "._0.tif").write_bytes(b"\0\5\26\7")  # of macOS
    assert open_tile_source([str(tmp_path)], Cut(60, 10, 90)).names == sorted(source.names)
    refuses("a folder or a CSV list is named alone", open_tile_source, [str(tmp_path)] * 2, Cut(60, 10, 90))


@pytest.mark.parametrize("counted", ["from the north", "as --tms says", "as tilemapresource.xml says"])
def test_map_tiles_are_cut_to_their_ground_size_wherever_rows_are_counted_from(tmp_path, counted):
    cut, folder, flags = Cut(100, 60, 80), write_map_tiles(tmp_path, 18, "north" not in counted), {"tms": "tms" in counted}
    if "xml" in counted:
        (tmp_path / "tilemapresource.xml").write_text('<TileMap><TileSets profile="mercator"></TileSets></TileMap>')
    source = open_tile_source([folder], cut, **flags)
    assert len(source) > 20 and f"zoom 18: {mercator_resolution(-35.3, 18):.3f} m a pixel" in source.notes[0]
    assert "north" in counted or counted in source.notes[0]
    for row in (0, len(source) // 2, len(source) - 1):
        assert source.tile(row).shape == (80, 80, 3) and shows(source.tile(row), source.locations[row], 100, tolerance=4)
    refuses("--zoom 17: .* has 18", open_tile_source, [folder], cut, zoom=17)
    coarse = Cut(100, 0.4, 80, (149.1249, -35.3157, 149.125, -35.3156))
    refuses("its zoom 18 has 0.487 m a pixel, more than --spacing 0.4", open_tile_source, [folder], coarse, **flags)
    (tmp_path / "tilemapresource.xml").write_text('<TileMap><TileSets profile="geodetic"></TileSets></TileMap>')
    refuses("tilemapresource.xml: tiles of the profile geodetic", open_tile_source, [folder], cut)


def test_a_region_bounds_the_centres_and_a_missing_package_is_named_with_what_installs_it(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "ortho.tif")
    west, south, east, north = *FRAME.locations([(-50, -50)])[0], *FRAME.locations([(50, 50)])[0]
    source = open_tile_source([path], Cut(60, 20, 60, (west, south, east, north)))
    assert 16 <= len(source) <= 36 and np.abs(FRAME.metres(source.locations)).max() < 50.1
    whole = open_tile_source([path], Cut(60, 7.3, 60))
    part = open_tile_source([path], Cut(60, 7.3, 60, (west, south, east, north), whole.record.cut.grid))
    assert set(map(tuple, part.locations)) < set(map(tuple, whole.locations))
    refuses("--region", open_tile_source, [path], Cut(60, 20, 60, (0.0, 0.0, 1.0, 1.0)))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "tiles.csv").write_text(f"path,longitude,latitude\na.png,{west},{south}\n")
    for name in "tiles.csv", "ortho.tif":
        cut = Cut(300, 20, 60, (west, south, east, north))
        refuses(f"--region: .*{name} holds tiles that are not cut", open_tile_source, [str(tmp_path / name)], cut)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    refuses("package rasterio; pip install -r requirements-localize.txt", open_tile_source, [path], Cut(60, 40, 60))
