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

from safa.localization.coordinates import LocalFrame, mercator_locations, mercator_pixels, mercator_resolution, wgs84_of
from safa.localization.located_files import read_located_files
from safa.localization.open_tiles import open_tile_source
from safa.localization.tile_source import Cut
from safa.runtime.errors import UserError

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


def write_raster(path, left=0, width=600, height=600, crs=f"EPSG:{UTM}", dtype="uint8", nodata=None, hole=None):
    """A GeoTIFF of the painted ground, `left` pixels from CORNER."""
    image = whole_ground()[:height, left : left + width]
    if nodata is not None:
        image = np.maximum(image, 1)
    if hole is not None:
        image[hole] = nodata
    transform = rasterio.Affine(METRES_A_PIXEL, 0, CORNER[0] + left * METRES_A_PIXEL, 0, -METRES_A_PIXEL, CORNER[1])
    profile = {"driver": "GTiff", "count": 3, "dtype": dtype, "crs": crs, "height": height, "width": width, "nodata": nodata}
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(image[..., ::-1].transpose(2, 0, 1).astype(dtype))
    return str(path)


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


def test_mercator_pixels_are_those_of_epsg_3857_and_shrink_with_the_latitude():
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


def test_a_local_frame_has_true_metres_also_across_the_180th_meridian():
    frame = LocalFrame.around([(179.999, -17.0), (-179.999, -17.0)])
    metres = frame.metres([(179.999, -17.0), (-179.999, -17.0)])
    length = pyproj.Geod(ellps="WGS84").inv(179.999, -17.0, -179.999, -17.0)[2]
    assert abs(np.hypot(*(metres[1] - metres[0])) - length) < 0.001


def test_an_orthophoto_is_cut_north_up_on_a_grid(tmp_path):
    source = open_tile_source([write_raster(tmp_path / "ortho.tif")], Cut(metres=60, spacing=40, pixels=90))
    assert len(source) == 36  # seven by seven would touch the edge, which is 1.2 degrees from north
    metres = FRAME.metres(source.locations)
    assert np.abs(np.diff(np.unique(np.round(metres[:, 0], 2)))).min() == pytest.approx(40, abs=0.01)
    for row in (0, 17, 35):
        assert shows(source.tile(row), source.locations[row], 60)
        assert not shows(np.rot90(source.tile(row)), source.locations[row], 60)


def test_finer_imagery_is_averaged(tmp_path):
    path = write_raster(tmp_path / "ortho.tif")
    with rasterio.open(path, "r+") as file:
        file.write(np.random.default_rng(0).integers(0, 2, (3, 600, 600), dtype=np.uint8) * 255)
    tile = open_tile_source([path], Cut(metres=200, spacing=40, pixels=40)).tile(0)
    assert tile.std() < 15  # 127 / 10 of an average over ten by ten pixels; single pixels of black and white have 127


def test_two_sheets_are_one_mosaic(tmp_path):
    whole = open_tile_source([write_raster(tmp_path / "whole.tif")], Cut(60, 40, 90))
    (tmp_path / "sheets").mkdir()
    for left, width in ((0, 301), (301, 299)):
        write_raster(tmp_path / "sheets" / f"{left}.tif", left, width)
    mosaic = open_tile_source([str(tmp_path / "sheets")], Cut(60, 40, 90))
    np.testing.assert_allclose(mosaic.locations, whole.locations, atol=1e-6)
    for row in range(len(whole)):
        assert np.abs(mosaic.tile(row).astype(int) - whole.tile(row)).mean() < 1.5


def test_tiles_lie_on_imagery_only(tmp_path):
    path = write_raster(tmp_path / "ortho.tif", nodata=0, hole=(slice(200, 400), slice(200, 400)))
    cut = Cut(60, 20, 60)
    holed, whole = open_tile_source([path], cut), open_tile_source([write_raster(tmp_path / "whole.tif")], cut)
    assert 0 < len(holed) < len(whole)
    assert all((holed.tile(row) > 0).any(axis=2).all() for row in range(len(holed)))


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


@pytest.mark.parametrize("tms", [False, True])
def test_map_tiles_are_cut_to_their_ground_size(tmp_path, tms):
    folder = write_map_tiles(tmp_path, 18, tms)
    with pytest.raises(UserError, match="--zoom 17: .* has 18"):
        open_tile_source([folder], Cut(100, 60, 80), zoom=17)
    source = open_tile_source([folder], Cut(100, 60, 80), tms=tms)
    assert len(source) > 20 and f"zoom 18: {mercator_resolution(-35.3, 18):.3f} m a pixel" in " ".join(source.notes)
    for row in (0, len(source) // 2, len(source) - 1):
        assert source.tile(row).shape == (80, 80, 3) and shows(source.tile(row), source.locations[row], 100, tolerance=4)


def test_a_region_bounds_the_centres(tmp_path):
    path = write_raster(tmp_path / "ortho.tif")
    west, south, east, north = *FRAME.locations([(-50, -50)])[0], *FRAME.locations([(50, 50)])[0]
    source = open_tile_source([path], Cut(60, 20, 60, (west, south, east, north)))
    assert 16 <= len(source) <= 36 and np.abs(FRAME.metres(source.locations)).max() < 50.1
    with pytest.raises(UserError, match="--region"):
        open_tile_source([path], Cut(60, 20, 60, (0.0, 0.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("a.tif", {"crs": None}, "in no reference system, .* --epsg"),
        ("a.tif", {"dtype": "uint16"}, "8 bits"),
        ("a.tif", {"height": 60}, "no tile of 100 m lies wholly on imagery"),
        ("text.tif", None, "cannot be read as a raster"),
        ("empty", None, "neither rasters"),
        ("nothing", None, "does not exist"),
    ],
)
def test_what_is_no_imagery_is_named(tmp_path, name, settings, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tif").write_text("not a raster")
    if settings is not None:
        write_raster(tmp_path / name, **settings)
    with pytest.raises(UserError, match=said):
        open_tile_source([str(tmp_path / name)], Cut(100, 20, 60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,latitude,longitude\na.png,1,2\n", "no column 'path'"),
        ("path,heading\na.png,1\n", "has no coordinates"),
        ("path,easting,northing,epsg\na.png,1,2,999999\n", "EPSG:999999: no reference system"),
        ("path,latitude,longitude\na.png,149.1,-35.3\n", "line 2 has latitude 149.1, .* may be swapped"),
        ("path,latitude,longitude\na.png,nan,2\n", "line 2: latitude 'nan' is not a number"),
        ("path,latitude,longitude\na.png,1\n", "line 2: 2 values under 3 columns"),
        ("path,latitude,longitude\n", "has no rows"),
        ("path,path\na,b\n", "two columns"),
        ("path,latitude,longitude,tile_metres\na.png,1,2,0\n", "tile_metres is not more than 0"),
    ],
)
def test_a_wrong_list_is_named_with_its_line(tmp_path, text, said):
    path = tmp_path / "tiles.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_located_files(str(path), needs_locations=True)


def test_a_list_may_mix_reference_systems_and_order_its_columns_freely(tmp_path):
    path = tmp_path / "tiles.csv"
    path.write_text(
        "\ufeffEPSG, northing ,easting,path,heading\n32755,6090000,693000,a.png,90\nEPSG:3857,-4200000,16600000,b.png,\n"
    )
    listed = read_located_files(str(path), needs_locations=True)
    assert listed.paths == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert listed.headings[0] == 90 and np.isnan(listed.headings[1])
    np.testing.assert_allclose(listed.locations[1], wgs84_of([16600000.0], [-4200000.0], 3857)[0])


def test_a_missing_package_is_named_with_what_installs_it(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "ortho.tif")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UserError, match="package rasterio; pip install -r requirements-localize.txt"):
        open_tile_source([path], Cut(60, 40, 60))
