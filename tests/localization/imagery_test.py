"""Rasters, map tiles and lists that say more than their pixels: bands, masks, transparency, where rows begin, odd systems."""

import functools
import os
import struct
import time
import zipfile

import cv2
import numpy as np
import pytest
import rasterio

from safa.datasets.image_files import PNG_END, PNG_START, image_size
from safa.localization import raster_file
from safa.localization.coordinates import mercator_locations
from safa.localization.located_files import read_located_files
from safa.localization.open_tiles import open_tile_source
from safa.localization.tile_images import THUMBNAIL_BYTES, decoded_thumbnail
from safa.localization.tile_source import Cut
from safa.runtime.errors import UserError
from tests.localization.tile_sources_test import CORNER, METRES_A_PIXEL, UTM, shows, whole_ground, write_map_tiles, write_raster

CUT = Cut(60, 40, 90)
INTERPRETATIONS = rasterio.enums.ColorInterp


def write_bands(path, bands, tags=None, crs=f"EPSG:{UTM}", transform=None, mask=None, **profile):
    """A GeoTIFF of (H, W) bands at CORNER, tagged as colours."""
    height, width = bands[0].shape
    transform = transform or rasterio.Affine(METRES_A_PIXEL, 0, CORNER[0], 0, -METRES_A_PIXEL, CORNER[1])
    profile |= {"count": len(bands), "height": height, "width": width, "dtype": "uint8", "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        if tags is not None:
            file.colorinterp = [INTERPRETATIONS[tag] for tag in tags.split()]
        file.write(np.stack(bands))
        if mask is not None:
            file.write_mask(mask)
    return str(path)


@pytest.mark.parametrize("tags", ["blue green red", "nir red green blue", "alpha red green blue", "undefined blue red green"])
def test_bands_are_taken_by_their_colours_in_whatever_order(tmp_path, tags):
    colours = dict(zip(("blue", "green", "red"), np.moveaxis(whole_ground(), 2, 0), strict=True))
    bands = [colours.get(tag, np.full((600, 600), 255, np.uint8)) for tag in tags.split()]
    source = open_tile_source([write_bands(tmp_path / "a.tif", bands, tags)], CUT)
    assert len(source) == 36 and shows(source.tile(17), source.locations[17], 60)


def test_a_grey_raster_whose_zero_is_white_is_inverted(tmp_path):
    grey = whole_ground()[..., 2]
    (plain, inverted) = (
        open_tile_source([write_bands(tmp_path / f"{name}.tif", [band], photometric=name)], CUT).tile(17)
        for name, band in (("MINISBLACK", grey), ("MINISWHITE", ~grey))
    )
    assert np.abs(plain.astype(int) - inverted).mean() < 1 and plain.std() > 20


@pytest.mark.parametrize("kind", ["mask", "alpha", "nodata"])
def test_tiles_lie_where_a_mask_has_imagery(tmp_path, kind):
    there = np.zeros((600, 600), np.uint8)
    there[:, :300] = 255
    bands = list(np.moveaxis(np.maximum(whole_ground()[..., ::-1], 1), 2, 0))
    path = {
        "mask": lambda: write_bands(tmp_path / "a.tif", bands, mask=there),
        "alpha": lambda: write_bands(tmp_path / "a.tif", [*bands, there], "red green blue alpha"),
        "nodata": lambda: write_bands(tmp_path / "a.tif", [np.where(there, band, 0) for band in bands], nodata=0),
    }[kind]()
    source = open_tile_source([path], CUT)
    assert 12 <= len(source) <= 18 and all((source.tile(row) > 0).any(axis=2).all() for row in range(len(source)))


def write_at(path, crs, east, north, metres_a_pixel, **more):
    return write_bands(
        path,
        [np.full((400, 400), 99, np.uint8)] * 3,
        crs=crs,
        transform=rasterio.Affine(metres_a_pixel, 0, east, 0, -metres_a_pixel, north),
        **more,
    )


DEGREE = 1e-5  # a metre or so
POINTS = [rasterio.control.GroundControlPoint(*each) for each in ((0, 0, 149, -35), (0, 90, 149.01, -35), (90, 0, 149, -35.01))]
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "east", "north", "step", "said"),
    [
        ("EPSG:4326", 693000, 6090000, 1, "lies outside its reference system"),
        ("EPSG:4326", 179.998, -17, DEGREE, "reaches beyond the 180th meridian; cut it there"),
        ("EPSG:3857", 20037408, -1900000, 1, "reaches beyond its reference system's edge; cut it there"),
        ("EPSG:3413", -200, 200, 1, "covers a pole"),
        ("EPSG:4978", 693000, 6090000, 1, "WGS 84 .Geocentric CRS. has no place on a map; assign"),
        (LOCAL, 693000, 6090000, 1, "site .Engineering CRS. has no place on a map; assign"),
        (None, 693000, 6090000, 1, "in no reference system, .* --epsg"),
    ],
)
def test_a_georeference_that_cannot_be_used_is_a_line_within_a_second(tmp_path, crs, east, north, step, said):
    path, begin = write_at(tmp_path / "a.tif", crs, east, north, step), time.monotonic()
    with pytest.raises(UserError, match=f"a.tif: .*{said}") as error:
        open_tile_source([path], CUT)
    assert time.monotonic() - begin < 1 and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("transform", "change", "said"),
    [
        (rasterio.Affine(1, 1, 693000, 1, 1, 6090000), {}, "determinant 0"),
        (rasterio.Affine.identity(), {"gcps": POINTS}, "control points only; warp it"),
        (None, {"NBITS": 4}, "4 bits a colour instead of 8"),
    ],
)
def test_what_is_odd_in_a_raster_is_a_line(tmp_path, transform, change, said):
    path = write_bands(tmp_path / "a.tif", [np.ones((90, 90), np.uint8)] * 3, transform=transform, **change)
    with pytest.raises(UserError, match=said):
        open_tile_source([path], CUT)


def test_imagery_on_both_sides_of_the_180th_meridian_is_one_mosaic(tmp_path):
    sheets = [write_at(tmp_path / f"{n}.tif", "EPSG:4326", east, -17, DEGREE) for n, east in ((0, 179.996), (1, -180.0))]
    across = write_at(tmp_path / "utm.tif", "EPSG:32760", 819250, 8120000, 1)
    for paths in sheets, [across]:
        source = open_tile_source(paths, Cut(60, 30, 32))
        assert (source.locations[:, 0] > 0).any() and (source.locations[:, 0] < 0).any()
        assert 80 < len(source) < 400 and all((source.tile(row) == 99).all() for row in range(0, len(source), 7))
        assert "west 179.99" in source.extent and "east 180.00" in source.extent


def test_a_missing_system_is_named_and_names_of_gdal_are_passed_on_to_it(tmp_path):
    path = write_bands(tmp_path / "a.tif", list(np.moveaxis(whole_ground()[..., ::-1], 2, 0)), crs=None)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    for name in path, f"/vsizip/{tmp_path}/a.zip/a.tif":
        source = open_tile_source([name], CUT, epsg=UTM)
        assert shows(source.tile(17), source.locations[17], 60) and source.record.paths == (name,)
    with pytest.raises(UserError, match="/vsizip/nothing.zip/a.tif: cannot be read as a raster"):
        open_tile_source(["/vsizip/nothing.zip/a.tif"], CUT)


def test_a_missing_datum_grid_is_said(tmp_path):
    (note,) = open_tile_source([write_at(tmp_path / "a.tif", "EPSG:27700", 400000, 300000, 1)], CUT).notes
    assert "without the datum grid uk_os_OSTN15_NTv2_OSGBtoETRS.tif" in note and "off by about 2 m" in note


def test_few_files_are_open_at_a_time(tmp_path, monkeypatch):
    for left in range(0, 600, 40):
        write_raster(tmp_path / f"{left}.tif", left, 40)
    source, before = open_tile_source([str(tmp_path)], CUT), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(raster_file, "_opened", functools.lru_cache(4)(raster_file._opened.__wrapped__))
    assert all(shows(source.tile(row), source.locations[row], 60) for row in range(0, len(source), 5))
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_map_tiles_of_gdal2tiles_are_counted_from_the_south_by_themselves(tmp_path):
    folder = write_map_tiles(tmp_path, 18, tms=True)
    (tmp_path / "tilemapresource.xml").write_text('<TileMap><TileSets profile="mercator"></TileSets></TileMap>')
    source = open_tile_source([folder], Cut(100, 60, 80))
    assert shows(source.tile(0), source.locations[0], 100, tolerance=4) and "counted from the south" in source.notes[0]
    (tmp_path / "tilemapresource.xml").write_text('<TileMap><TileSets profile="geodetic"></TileSets></TileMap>')
    with pytest.raises(UserError, match="tilemapresource.xml: tiles of the profile geodetic"):
        open_tile_source([folder], Cut(100, 60, 80))


def test_transparent_map_tiles_are_not_imagery(tmp_path):
    whole = open_tile_source([write_map_tiles(tmp_path, 18)], Cut(100, 60, 80))
    paths = sorted(tmp_path.glob("18/*/*.png"))
    for number, path in enumerate(paths):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2BGRA)
        if number < 5:  # the first column, and the left half of the second one
            image[:] = 0
        elif number < 10:
            image[:, :128] = 0
        cv2.imwrite(str(path), image)
    source = open_tile_source([str(tmp_path)], Cut(100, 60, 80))
    assert 0 < len(source) < len(whole)
    for row in range(len(source)):
        assert shows(source.tile(row), source.locations[row], 100, tolerance=4)


def test_map_tiles_may_be_webp_or_of_two_pixel_ratios_and_broken_ones_are_found_before_the_build(tmp_path):
    write_map_tiles(tmp_path, 18)
    paths = sorted(tmp_path.glob("18/*/*.png"))
    for path in paths:
        cv2.imwrite(str(path.with_name(f"{path.stem}@2x.webp")), cv2.imread(str(path)), [cv2.IMWRITE_WEBP_QUALITY, 100])
        path.unlink()
    source = open_tile_source([str(tmp_path)], Cut(100, 60, 80))
    assert shows(source.tile(0), source.locations[0], 100, tolerance=4)
    broken = paths[0].with_name(f"{paths[0].stem}@2x.webp")
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=f"1 of 25 map tiles cannot be used: .*{broken.name}"):
        open_tile_source([str(tmp_path)], Cut(100, 60, 80))
    fewer = open_tile_source([str(tmp_path)], Cut(100, 60, 80), skip_missing=True)
    assert len(fewer) < len(source) and "1 map tiles cannot be read" in fewer.notes[1]
    broken.with_suffix(".png").write_bytes(b"")
    with pytest.raises(UserError, match="is the same map tile"):
        open_tile_source([str(tmp_path)], Cut(100, 60, 80))


def test_map_tiles_on_both_sides_of_the_180th_meridian_are_one_region(tmp_path):
    for column in (0, 1, 2**15 - 2, 2**15 - 1):
        (tmp_path / f"15/{column}").mkdir(parents=True)
        for row in (17950, 17951):
            cv2.imwrite(str(tmp_path / f"15/{column}/{row}.png"), np.full((256, 256, 3), 99, np.uint8))
    source = open_tile_source([str(tmp_path)], Cut(400, 200, 32))
    assert (source.locations[:, 0] > 0).any() and (source.locations[:, 0] < 0).any()
    assert all((source.tile(row) == 99).all() for row in range(len(source)))
    assert mercator_locations([(0, 17951)], 15, 1)[0, 1] == pytest.approx(source.locations[:, 1].mean(), abs=0.01)


def test_an_mbtiles_file_is_a_raster(tmp_path):
    profile = {"driver": "MBTiles", "count": 3, "height": 512, "width": 512, "dtype": "uint8", "crs": "EPSG:3857"}
    transform = rasterio.Affine(1.194328566955879, 0, 16590000, 0, -1.194328566955879, -4200000)
    with rasterio.open(tmp_path / "a.mbtiles", "w", transform=transform, **profile) as file:
        file.write(np.full((3, 512, 512), 99, np.uint8))
    source = open_tile_source([str(tmp_path)], CUT)
    assert len(source) > 50 and (source.tile(0) == 99).all()


def test_a_list_is_read_as_spreadsheets_and_windows_write_it(tmp_path):
    path = tmp_path / "panoramas.csv"
    path.write_text("Filename;Lat;Lng;Bearing\nphotos\\a.png;52,5;13,25;-90\nb.png;;;\n")
    listed = read_located_files(str(path), needs_locations=False)
    assert listed.paths == [str(tmp_path / "photos/a.png"), str(tmp_path / "b.png")]
    np.testing.assert_array_equal(listed.locations, [(13.25, 52.5), (np.nan, np.nan)])
    np.testing.assert_array_equal(listed.headings, [270, np.nan])
    path.write_text('path,easting,northing,epsg\na.png,693000,6090000,"32,755"\nb.png,,,\n')
    assert np.isnan(read_located_files(str(path), needs_locations=False).locations).tolist() == [[False] * 2, [True] * 2]
    for text, said in (
        ("path,easting,northing,epsg\na.png,6090000,693000,32755\n", "look swapped, by EPSG:32755's area of use"),
        ("path,latitude,longitude\na.png,,\n", "line 2 has coordinates that are not finite"),
        ("path,latitude,longitude\na,b.png,1,2\n", "4 values under 3 columns.*quotes"),
        ("name,lat,lon\na.png,1,2\n", "no column 'path' .name, latitude, longitude."),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_located_files(str(path), needs_locations=True)


def test_street_view_s_largest_panorama_may_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG_START + struct.pack(">II", 16384, 8192) + PNG_END)
    assert image_size(str(tmp_path / "a.png")) == (8192, 16384)


@pytest.mark.parametrize("name", ["a.tif", "18/1/1.png", "18/1/1.webp"])
def test_a_pipe_in_the_place_of_imagery_keeps_nobody_waiting(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="pipe or device"):
        open_tile_source([str(tmp_path)], CUT)


def test_a_thumbnail_of_another_size_is_not_decoded():
    for image in (np.zeros((65500, 16, 3), np.uint8), None):
        place = np.zeros(THUMBNAIL_BYTES, np.uint8)
        content = b"\xff\xd8nothing" if image is None else cv2.imencode(".jpg", image)[1].tobytes()
        place[: len(content)] = np.frombuffer(content[:THUMBNAIL_BYTES], np.uint8)
        assert decoded_thumbnail(place) is None
