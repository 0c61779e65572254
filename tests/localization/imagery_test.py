"""Rasters, map tiles and lists that say more than their pixels: bands, masks, transparency, where rows begin, odd systems."""

import itertools
import os
import struct
import subprocess
import sys
import zipfile

import cv2
import msgspec
import numpy as np
import pytest
import rasterio
from conftest import ROOT, refuses

from safa.datasets.image_files import PNG_END, PNG_START, image_size
from safa.localization.coordinates import mercator_locations, wgs84_of
from safa.localization.located_files import read_located_files
from safa.localization.open_tiles import open_tile_source
from safa.localization.tile_images import THUMBNAIL_BYTES, decoded_thumbnail
from safa.localization.tile_source import Cut
from tests.localization.tile_sources_test import UTM, shows, whole_ground, write_bands, write_map_tiles, write_raster

CUT = Cut(60, 40, 90)


def test_bands_are_taken_by_their_colours_in_whatever_order_and_grey_may_be_inverted(tmp_path):
    colours = dict(zip(("blue", "green", "red"), np.moveaxis(whole_ground(), 2, 0), strict=True))
    for tags in "blue green red", "nir red green blue", "alpha red green blue", "undefined blue red green":
        bands = [colours.get(tag, np.full((600, 600), 255, np.uint8)) for tag in tags.split()]
        source = open_tile_source([write_bands(tmp_path / f"{tags}.tif", bands, tags)], CUT)
        assert len(source) == 36 and shows(source.tile(17), source.locations[17], 60), tags
    plain, inverted = (
        open_tile_source([write_bands(tmp_path / f"{name}.tif", [band], photometric=name)], CUT).tile(17)
        for name, band in (("MINISBLACK", colours["red"]), ("MINISWHITE", ~colours["red"]))
    )
    assert np.abs(plain.astype(int) - inverted).mean() < 1 and plain.std() > 20


def test_tiles_lie_where_there_is_imagery(tmp_path):
    there = np.full((600, 600), 255, np.uint8)
    there[200:400, 200:400] = 0
    bands = list(np.moveaxis(np.maximum(whole_ground()[..., ::-1], 1), 2, 0))
    for number, (own, more) in enumerate(
        (
            (bands, {"mask": there}),
            ([*bands, there], {"tags": "red green blue alpha"}),
            ([np.where(there, band, 0) for band in bands], {"nodata": 0}),
        )
    ):
        source = open_tile_source([write_bands(tmp_path / f"{number}.tif", own, **more)], CUT)
        assert 12 <= len(source) <= 24 and all((source.tile(row) > 0).any(axis=2).all() for row in range(len(source)))


def grey_at(crs, east, north, step=1):
    """What writes a grey raster at a place: its bands, and settings of `write_bands`."""
    transform = rasterio.Affine(step, 0, east, 0, -step, north)
    return {"bands": [np.full((400, 400), 99, np.uint8)] * 3, "crs": crs, "transform": transform}


DEGREE = 1e-5  # a metre or so
POINTS = [rasterio.control.GroundControlPoint(*each) for each in ((0, 0, 149, -35), (0, 90, 149.01, -35), (90, 0, 149, -35.01))]
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
PLAIN = {"bands": [np.ones((90, 90), np.uint8)] * 3}
UNUSABLE = (
    (grey_at("EPSG:4326", 693000, 6090000), "lies outside its reference system"),
    (grey_at("EPSG:4326", 179.998, -17, DEGREE), "reaches beyond the 180th meridian; cut it there"),
    (grey_at("EPSG:3857", 20037408, -1900000), "reaches beyond its reference system's edge; cut it there"),
    (grey_at("EPSG:3413", -200, 200), "covers a pole"),
    (grey_at("EPSG:4978", 693000, 6090000), "WGS 84 .Geocentric CRS. has no place on a map; assign"),
    (grey_at(LOCAL, 693000, 6090000), "site .Engineering CRS. has no place on a map; assign"),
    (PLAIN | {"crs": None}, "in no reference system, .* --epsg"),
    (PLAIN | {"transform": rasterio.Affine(1, 1, 693000, 1, 1, 6090000)}, "determinant 0"),
    (PLAIN | {"transform": rasterio.Affine.identity(), "gcps": POINTS}, "control points only; warp it"),
    (PLAIN | {"NBITS": 4}, "colours of 4 bits instead of 8"),
    (PLAIN | {"dtype": "uint16"}, "colours of uint16 instead of 8"),
    ({"bands": PLAIN["bands"] + [np.full((90, 90), 255)], "tags": "red green blue alpha", "nodata": 255}, "-unsetnodata"),
    (PLAIN | {"tags": "red nir blue"}, "its bands are red, nir, blue"),
    ({"bands": [np.ones((60, 600), np.uint8)] * 3}, "no tile of 60 m lies wholly on imagery"),
)


def test_a_raster_that_cannot_be_used_is_a_line_and_keeps_nobody_waiting(tmp_path, monkeypatch, in_time):
    for number, (written, said) in enumerate(UNUSABLE):
        path = write_bands(tmp_path / f"{number}.tif", **written)
        refuses(f"{number}.tif: .*{said}", open_tile_source, [path], CUT)
    monkeypatch.setenv("PROJ_LIB", str(tmp_path))  # as QGIS and conda set it for all programs
    refuses("or unset PROJ_DATA and PROJ_LIB", open_tile_source, [str(tmp_path / "5.tif")], CUT)


def test_a_process_that_has_read_a_raster_ends_without_a_word(tmp_path):
    """As Python 3.13 ends, rasterio's open files print errors."""
    path = write_bands(tmp_path / "a.tif", **PLAIN)
    program = "import sys; from safa.localization.raster_file import RasterFile; found = RasterFile(sys.argv[1], None); "
    command = [sys.executable, "-c", program + "found.read(found.centre, 10, 10)", path]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr == ""


def test_what_is_no_imagery_is_named_and_keeps_nobody_waiting(tmp_path, in_time):
    for folder in ("empty", "pipes", "piped map tiles/18/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "text.tif").write_text("not a raster")
    (tmp_path / "deep.csv").write_text("path,latitude,longitude\ndeep.png,1,2\ngone.png,1,2\n")
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((9, 9, 3), np.uint16))
    for pipe in ("pipes/a.tif", "piped map tiles/18/1/1.png", "piped map tiles/18/1/2.webp"):
        os.mkfifo(tmp_path / pipe)
    for name, said in (
        ("text.tif", "cannot be read as a raster"),
        ("empty", "neither rasters"),
        ("deep.csv", "1 of 2 .*deep.png: colours of 16 bits instead of 8; convert it; replace them$"),
        ("nothing", "does not exist"),
        ("pipes", "pipe or device"),
        ("piped map tiles", "pipe or device.*; replace them$"),
    ):
        refuses(said, open_tile_source, [str(tmp_path / name)], CUT, skip_missing=True)  # which is not proposed then


def is_one_across_the_180th_meridian(source, step=1):
    tiles = map(source.tile, range(0, len(source), step))
    return set(np.sign(source.locations[:, 0])) == {1, -1} and all((tile == 99).all() for tile in tiles)


def test_names_that_are_not_utf_8_end_in_no_traceback(tmp_path, monkeypatch):
    (folder := tmp_path / "\udcff").mkdir()
    monkeypatch.chdir(folder)
    cv2.imwrite("a.png", np.zeros((9, 9, 3), np.uint8))
    (folder / "tiles.csv").write_text("path,latitude,longitude\na.png,1,2\n")
    (folder / "a.tif").write_bytes(b"")
    assert msgspec.json.encode(open_tile_source(["tiles.csv"], CUT).record)
    refuses("a.tif: cannot be read as a raster", open_tile_source, [str(folder)], CUT)


def test_imagery_on_both_sides_of_the_180th_meridian_is_one_mosaic(tmp_path):
    places = grey_at("EPSG:4326", 179.996, -17, DEGREE), grey_at("EPSG:4326", -180, -17, DEGREE)
    sheets = [write_bands(tmp_path / f"{number}.tif", **place) for number, place in enumerate(places)]
    across = write_bands(tmp_path / "utm.tif", **grey_at("EPSG:32760", 819250, 8120000))
    for paths in sheets, [across]:
        source = open_tile_source(paths, Cut(60, 30, 32))
        assert 80 < len(source) < 400 and is_one_across_the_180th_meridian(source, step=7)
        assert len(open_tile_source(paths, Cut(60, 30, 32, (-180.0, -20.0, 180.0, 0.0)))) == len(source)
        assert "west 179.99" in source.extent and "east 180.00" in source.extent
    for column, row in itertools.product((0, 1, 2**15 - 2, 2**15 - 1), (17950, 17951)):
        (tmp_path / f"map/15/{column}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"map/15/{column}/{row}.png"), np.full((256, 256, 3), 99, np.uint8))
    source = open_tile_source([str(tmp_path / "map")], Cut(400, 200, 32))
    assert is_one_across_the_180th_meridian(source)
    assert mercator_locations([(0, 17951)], 15, 1)[0, 1] == pytest.approx(source.locations[:, 1].mean(), abs=0.01)


def test_a_missing_datum_grid_or_system_is_named_and_names_of_gdal_are_passed_on_to_it(tmp_path):
    (note,) = open_tile_source([write_bands(tmp_path / "b.tif", **grey_at("EPSG:27700", 400000, 300000))], CUT).notes
    assert "without the datum grid uk_os_OSTN15_NTv2_OSGBtoETRS.tif" in note and "off by about 2 m" in note
    path = write_raster(tmp_path / "a.tif", crs=None)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.tif")
    for name in path, f"/vsizip/{tmp_path}/a.zip/a.tif":
        source = open_tile_source([name], CUT, epsg=UTM)
        assert shows(source.tile(17), source.locations[17], 60) and source.record.paths == (name,) and not source.notes
    assert any("lie outside EPSG:2193's area of use" in note for note in open_tile_source([path], CUT, epsg=2193).notes)
    refuses("/vsizip/nothing.zip/a.tif: cannot be read as a raster", open_tile_source, ["/vsizip/nothing.zip/a.tif"], CUT)
    # An MBTiles file is a raster.
    place = grey_at("EPSG:3857", 16590000, -4200000, 1.194328566955879)
    source = open_tile_source([write_bands(tmp_path / "a.mbtiles", driver="MBTiles", **place)], CUT)
    assert len(source) > 50 and (source.tile(0) == 99).all()


def test_transparent_map_tiles_are_not_imagery(tmp_path):
    whole = open_tile_source([write_map_tiles(tmp_path, 18)], Cut(100, 60, 80))
    paths = sorted(tmp_path.glob("18/*/*.png"))
    for number, path in enumerate(paths):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2BGRA)
        image[:, : (256, 128, 0)[min(number // 5, 2)]] = 0  # the first column, and the left half of the second one
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
    middle = len(source) // 2
    assert shows(source.tile(middle), source.locations[middle], 100, tolerance=4)
    broken = paths[0].with_name(f"{paths[0].stem}@2x.webp")
    cv2.imwrite(str(broken), np.zeros((128, 256, 3), np.uint8))
    refuses("128x256 pixels instead of 256x256; replace the file", lambda: list(map(source.tile, range(len(source)))))
    broken.write_bytes(b"")
    refuses(f"1 of 25 map tiles cannot be used: .*{broken.name}", open_tile_source, [str(tmp_path)], Cut(100, 60, 80))
    fewer = open_tile_source([str(tmp_path)], Cut(100, 60, 80), skip_missing=True)
    assert len(fewer) < len(source) and "1 map tiles cannot be read" in fewer.notes[1]
    broken.with_suffix(".png").write_bytes(b"")
    refuses("is the same map tile", open_tile_source, [str(tmp_path)], Cut(100, 60, 80))


def test_a_list_is_read_as_spreadsheets_and_windows_write_it_with_mixed_reference_systems_and_columns(tmp_path):
    path = tmp_path / "panoramas.csv"
    path.write_text("Filename;Lat;Lng;Bearing\nphotos\\a.png;52,5;13,25;-90\nb.png;;;\n")
    listed = read_located_files(str(path), needs_locations=False)
    assert listed.paths == [str(tmp_path / "photos/a.png"), str(tmp_path / "b.png")]
    np.testing.assert_array_equal(listed.locations, [(13.25, 52.5), (np.nan, np.nan)])
    np.testing.assert_array_equal(listed.headings, [270, np.nan])
    path.write_text("path;lat;lon;;\na.png;52,5;13,25;;\n;;;;\n")  # columns that were cleared
    np.testing.assert_array_equal(read_located_files(str(path), needs_locations=True).locations, [(13.25, 52.5)])
    path.write_text('path,easting,northing,epsg\na.png,693000,6090000,"32,755"\nb.png,,,\n')
    assert np.isnan(read_located_files(str(path), needs_locations=False).locations).tolist() == [[False] * 2, [True] * 2]
    columns = "\ufeffEPSG, northing ,easting,path,heading"
    path.write_text(f"{columns}\n32755,6090000,693000,a.png,90\nEPSG:3857,-4200000,16600000,b.png,\n")
    listed = read_located_files(str(path), needs_locations=True)
    assert listed.paths == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    np.testing.assert_array_equal(listed.headings, [90, np.nan])
    np.testing.assert_allclose(listed.locations[1], wgs84_of([16600000.0], [-4200000.0], 3857)[0])


def test_a_wrong_list_is_named_with_its_line(tmp_path):
    for text, said in (
        ("name,lat,lon\na.png,1,2\n", "no column 'path' .name, latitude, longitude."),
        ("path,heading\na.png,1\n", "has no coordinates"),
        ("path,easting,northing,epsg\na.png,1,2,999999\n", "EPSG:999999: no reference system"),
        ("path,latitude,longitude\na.png,149.1,-35.3\n", "line 2 has latitude 149.1, .* may be swapped"),
        ("path,latitude,longitude\na.png,nan,2\n", "line 2: latitude 'nan' is not a number"),
        ("path,latitude,longitude\na.png,1,14_9\n", "line 2: longitude '14_9' is not a number"),  # as Python takes it
        ("path,latitude,GPSLatitudeRef,longitude\na.png,35.3,South,149\n", "35.3 with gpslatituderef South; write -35.3"),
        ("path,latitude,longitude\na.png,1\n", "line 2: 2 values under 3 columns"),
        ("path,latitude,longitude\n", "has no rows"),
        ("path,path\na,b\n", "two columns"),
        ("path,easting,northing,epsg\na.png,6090000,693000,32755\n", "look swapped, by EPSG:32755's area of use"),
        ("path,easting,northing,epsg\na.png,1,2,4978\n", "EPSG:4978: no reference system"),
        ("path,latitude,longitude,epsg\na.png,1,2,4326\nb.png,1,2,4267\n", "EPSG:4326, and epsg says another one"),
        ("path,latitude,longitude\na.png,,\n", "line 2 has coordinates that are not finite"),
        ("path,latitude,longitude\na,b.png,1,2\n", "4 values under 3 columns.*quotes"),
        ("path,latitude,longitude,tile_metres\na.png,1,2,0\n", "line 2: tile_metres '0' is not between 0.001"),
        ("path,latitude,longitude,accuracy\na.png,1,2,1e200\n", "line 2: accuracy '1e200' is not between 0.001 and 1e.06"),
        ("path,latitude,longitude,heading\na.png,1,2,1e200\n", "line 2: heading '1e200' is not between -360 and 360"),
    ):
        (tmp_path / "tiles.csv").write_text(text)
        refuses(said, read_located_files, str(tmp_path / "tiles.csv"), needs_locations=True)


def test_street_view_s_largest_panorama_may_be_read_and_a_thumbnail_of_another_size_is_not_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG_START + struct.pack(">II", 16384, 8192) + PNG_END)
    assert image_size(str(tmp_path / "a.png")) == (8192, 16384)
    for content in cv2.imencode(".jpg", np.zeros((65500, 16, 3), np.uint8))[1].tobytes(), b"\xff\xd8nothing":
        place = content[:THUMBNAIL_BYTES].ljust(THUMBNAIL_BYTES, b"\0")
        assert decoded_thumbnail(np.frombuffer(place, np.uint8)) is None
