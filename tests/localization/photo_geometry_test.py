"""What photos say about their geometry: files with tags, as cameras and their attackers write them."""

import datetime
import re
from types import SimpleNamespace

import cv2
import numpy as np
import py360convert
import pytest
from conftest import refuses
from PIL import Image, ImageOps, PngImagePlugin
from scipy.spatial import cKDTree

from docs.photo_worth import tilted
from safa.localization.coordinates import LocalFrame
from safa.localization.panorama import asked_panorama, photo_notes, read_canvas, read_upright
from safa.localization.photo_geometry import PhotoGeometry, photo_geometry
from safa.localization.places import QueryConfig
from VGG import MEAN_BGR

HERE = {1: "S", 2: (35.0, 18.0, 30.0), 3: "E", 4: (149.0, 6.0, 0.0)}
INDEX = SimpleNamespace(frame=LocalFrame(149.1, -35.3), tree=cKDTree([(0, 0)]))


def xmp_of(tags, elements=False, prefix="GPano"):
    form = "<{0}:{1}>{2}</{0}:{1}>" if elements else ' {0}:{1}="{2}"'
    text = "".join(form.format(prefix, name, value) for name, value in tags.items())
    attributes, inside = ("", text) if elements else (text, "")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:{prefix}="http://ns.google.com/photos/1.0/panorama/" {attributes}>'
        f'{inside}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def photo(path, xmp=None, gps=None, exif=None, image=None, compressed=False, codec="utf-8"):
    """Write a photo with tags: `xmp` a packet or GPano's tags, `gps` and `exif` {number: value}."""
    own, exif, chunks, options = Image.Exif(), dict(exif or {}), PngImagePlugin.PngInfo(), {}
    own[0x0112] = exif.pop(0x0112, 1)
    own[0x8825], own[0x8769] = gps or {}, exif
    if xmp is not None:
        packet = xmp_of(xmp) if isinstance(xmp, dict) else xmp
        chunks.add_itxt("XML:com.adobe.xmp", packet, zip=compressed)
        options = {"pnginfo": chunks} if path.suffix == ".png" else {"xmp": packet.encode(codec)}
    image = Image.new("RGB", (64, 32)) if image is None else Image.fromarray(image[..., ::-1])
    image.save(path, exif=own, **options)
    return str(path)


def crop_tags(full, left, top, width, height):
    sides = ("ImageWidth", "ImageHeight", "Left", "Top")
    tags = {f"CroppedArea{name}Pixels": each for name, each in zip(sides, (width, height, left, top), strict=True)}
    return tags | {"FullPanoWidthPixels": full, "FullPanoHeightPixels": full // 2}


def test_photo_sphere_tags_are_read_in_every_form(tmp_path):
    tags = {"PoseHeadingDegrees": "\n271.2500000000000123456 ", "PosePitchDegrees": "-3e0", "ProjectionType": "Equirectangular"}
    paths = [photo(tmp_path / f"{name}.png", xmp_of(tags), compressed=name == "compressed") for name in ("plain", "compressed")]
    forms = {"attributes": xmp_of(tags), "elements": xmp_of(tags, True), "other prefix": xmp_of(tags, prefix="ns7")}
    paths += [photo(tmp_path / f"{name}.jpg", packet) for name, packet in forms.items()]
    content = (tmp_path / "plain.png").read_bytes()
    at, pixels, end = (content.index(name) - 4 for name in (b"iTXt", b"IDAT", b"IEND"))
    assert at < pixels < end
    behind = tmp_path / "behind the pixels.png"
    behind.write_bytes(content[:at] + content[pixels:end] + content[at:pixels] + content[end:])
    paths += [photo(tmp_path / f"u{each}.jpg", xmp_of(tags) + "  \0", codec=f"utf-16{each}") for each in ("", "-le", "-be")]
    for path in (*paths, str(behind)):
        assert photo_geometry(path) == PhotoGeometry(heading=271.25, heading_tag="PoseHeadingDegrees", pitch=-3.0), path


def test_exif_and_xmp_say_where_when_and_which_way(tmp_path):
    taken = {0x9003: "2024:02:29 23:59:58", 0x9291: "25", 0x9011: "+11:00"}
    fix = {29: "2024:02:29", 7: (12.0, 59.0, 57.0), 31: 4.5}
    found = photo_geometry(photo(tmp_path / "a.jpg", gps=HERE | fix | {16: "M", 17: 483.5}, exif=taken))
    assert found.location == pytest.approx((149.1, -35.308333), abs=1e-6) and found.accuracy == 4.5
    assert (found.heading, found.heading_tag, found.magnetic, found.unused) == (123.5, "GPSImgDirection", True, ())
    assert photo_geometry(photo(tmp_path / "d.jpg", gps=HERE | {31: 4e9})).accuracy is None
    zone = datetime.timezone(datetime.timedelta(hours=11))
    assert found.time == datetime.datetime(2024, 2, 29, 23, 59, 58, 250000, zone)
    found = photo_geometry(photo(tmp_path / "b.jpg", gps=fix | {15: 90.0}, exif={0x9003: "2024:02:29 23:59:58"}))
    assert (found.heading, found.heading_tag, found.location) == (90, "GPSTrack", None)
    assert found.time == datetime.datetime(2024, 2, 29, 12, 59, 57, tzinfo=datetime.timezone.utc)
    found = photo_geometry(photo(tmp_path / "c.jpg", gps=fix | {7: (12.0, 59.0, 59.9999)}))
    assert found.time == datetime.datetime(2024, 2, 29, 12, 59, 59, 999900, datetime.timezone.utc)
    for offset, said in (("   :  ", ()), ("+1x", (("OffsetTimeOriginal", "'+1x' cannot be read; the time is taken as UTC"),))):
        found = photo_geometry(photo(tmp_path / "c.jpg", exif=taken | {0x9011: offset}))
        assert (found.time, found.unused) == (datetime.datetime(2024, 2, 29, 23, 59, 58, 250000), said)
    found = photo_geometry(photo(tmp_path / "c.jpg", gps=HERE | {18: "TOKYO"}))
    assert found.location and found.unused == (("GPSMapDatum", "'TOKYO': the place is taken as WGS 84's"),)
    assert photo_geometry(photo(tmp_path / "c.jpg", gps=HERE | {9: "A", 18: "WGS-84 "})).unused == ()
    own = 'exif:GPSLatitude="35,18.5S" exif:GPSLongitude="149,6,0E" exif:GPSImgDirection="2471/20"'
    found = photo_geometry(photo(tmp_path / "c.jpg", xmp_of({}).replace("<rdf:Description", f"<rdf:Description {own}")))
    assert found.location == pytest.approx((149.1, -35.308333), abs=1e-6) and found.heading == pytest.approx(123.55)


@pytest.mark.parametrize("crop", [(0, 0, 720, 250), (0, 90, 720, 270), (180, 100, 300, 160), (500, 0, 220, 360)])
def test_a_crop_of_a_sphere_shows_what_the_sphere_shows_there(tmp_path, crop):
    left, top, width, height = crop
    sphere = cv2.resize(np.random.default_rng(3).integers(0, 255, (12, 24, 3), np.uint8), (720, 360))
    part = np.ascontiguousarray(sphere[top : top + height, left : left + width])
    whole = asked_panorama(photo(tmp_path / "a.png", {"PoseHeadingDegrees": 30}, image=sphere), QueryConfig())
    tags = {"PoseHeadingDegrees": 30} | crop_tags(1440, 2 * left, 2 * top, 2 * width, 2 * height)  # the photo was halved since
    own = asked_panorama(photo(tmp_path / "b.png", tags, image=part), QueryConfig())
    expected, found = (
        np.roll(read_canvas(each, QueryConfig(), 90.0, MEAN_BGR).astype(float), round(each.heading / 360 * 616), axis=1)
        for each in (whole, own)
    )
    seen = (found != np.float32(MEAN_BGR)).any(axis=2)
    rows = np.clip([90 - top / 2 - 45, 90 - (top + height) / 2 - 45], -90, 0)
    assert seen.mean() == pytest.approx((rows[0] - rows[1]) / 90 * width / 720, abs=0.01)
    assert np.abs(found - expected)[seen].mean() < 1.5


def test_a_photo_is_turned_and_mirrored_as_its_tag_says(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (16, 32, 3), np.uint8)
    for orientation in range(1, 9):
        path = photo(tmp_path / "a.png", exif={0x0112: orientation}, image=image)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))[..., ::-1]
        np.testing.assert_array_equal(read_upright(asked_panorama(path, QueryConfig())), expected)


def smooth_sphere():
    noise = np.random.default_rng(1).normal(size=(90, 180, 3))
    smooth = cv2.GaussianBlur(np.concatenate([noise] * 3, axis=1), (0, 0), 6)[:, 180:360]
    return cv2.resize((128 + 1500 * smooth).clip(0, 255).astype(np.uint8), (720, 360), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(("pitch", "roll"), [(10, 0), (-8, 170), (6, -12)])
def test_a_tilted_sphere_is_levelled_by_its_tags_and_else_said_to_be_tilted(tmp_path, pitch, roll):
    sphere, tags = smooth_sphere(), {"PosePitchDegrees": pitch, "PoseRollDegrees": roll, "PoseHeadingDegrees": 40}
    level = asked_panorama(photo(tmp_path / "a.png", image=sphere), QueryConfig())
    own = asked_panorama(photo(tmp_path / "b.png", tags, image=tilted(sphere, pitch, roll)), QueryConfig())
    expected = read_canvas(level, QueryConfig(), 90.0, MEAN_BGR).astype(float)
    found = read_canvas(own, QueryConfig(level=True), 90.0, MEAN_BGR)
    left = np.abs(read_canvas(own, QueryConfig(), 90.0, MEAN_BGR) - expected).mean()
    assert np.abs(found - expected).mean() < 3 < left / 4
    (said,) = [line for line in photo_notes([own], INDEX, QueryConfig()) if "tilted" in line]
    assert f"{own.photo.tilt:.1f} degrees; try --level" in said
    # The camera's own axis, through another's eyes.
    axis = py360convert.e2p(tilted(sphere, pitch, roll), 90, 0, 0, (64, 64)).astype(float)
    same = py360convert.e2p(sphere, 90, 0, pitch, (64, 64), in_rot_deg=roll).astype(float)
    assert np.abs(axis - same).mean() < 1


def test_as_roll_increases_the_horizon_turns_counterclockwise_and_as_pitch_increases_it_sinks():
    """Google's definitions: what `tilted` and so levelling rest on."""
    sphere = np.repeat(np.uint8([[[250]], [[0]]]), 180, axis=0) + np.zeros((1, 720, 3), np.uint8)
    rolled, sunk = ((tilted(sphere, *way)[:, :, 0] > 125).sum(axis=0) for way in ((0, 10), (10, 0)))
    assert [rolled[540], rolled[180], sunk[360]] == pytest.approx([160, 200, 200], abs=1)  # rolled: higher on the right


def test_a_crop_is_levelled_about_its_spheres_centre(tmp_path):
    sphere = smooth_sphere()
    part = np.ascontiguousarray(tilted(sphere, 6, -12)[60:300, 400:640])
    tags = {"PosePitchDegrees": 6, "PoseRollDegrees": -12} | crop_tags(720, 400, 60, 240, 240)
    own = asked_panorama(photo(tmp_path / "b.png", tags, image=part), QueryConfig(level=True))
    found = read_canvas(own, QueryConfig(level=True), 90.0, MEAN_BGR).astype(float)
    level = read_canvas(asked_panorama(photo(tmp_path / "a.png", image=sphere), QueryConfig()), QueryConfig(), 90.0, MEAN_BGR)
    expected = np.roll(level, -round(own.photo.offset / 360 * 616), axis=1).astype(float)
    assert np.abs(found - expected)[20:92, 250:366].mean() < 2
    np.testing.assert_allclose(found[:, 0], np.tile(MEAN_BGR, (112, 1)), atol=0.5)


def test_a_tag_that_is_there_and_cannot_be_used_is_said_and_the_photo_stays(tmp_path):
    all_0 = dict.fromkeys(("PoseHeadingDegrees", "PosePitchDegrees", "PoseRollDegrees"), "0.0")
    for tags, why in (
        ({"xmp": {"PoseHeadingDegrees": "north"}}, "PoseHeadingDegrees.*'north' cannot be read"),
        ({"xmp": {"PoseHeadingDegrees": "1/0"}}, "PoseHeadingDegrees"),
        ({"xmp": {"PosePitchDegrees": "91"}}, "PosePitchDegrees"),
        ({"xmp": all_0}, "PoseHeadingDegrees 0 with"),
        ({"xmp": {"FullPanoWidthPixels": 64}}, "CroppedArea.*not complete"),
        ({"xmp": crop_tags(64, 0, 8, 64, 32)}, "CroppedArea.*outside"),
        ({"xmp": crop_tags(64, 0, 0, 64, 16)}, "CroppedArea.*other proportions than the photo's 64x32"),
        ({"xmp": crop_tags(64, 0, 0, 64, 32) | {"FullPanoHeightPixels": 64}}, "CroppedArea.*twice as wide"),
        ({"gps": HERE | {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}}, "GPSLatitude.*unknown place"),
        ({"gps": HERE | {2: (95.0, 0.0, 0.0)}}, "GPSLatitude.*latitude -95"),
        ({"gps": HERE | {1: "Q"}}, "GPSLatitude"),
        ({"gps": HERE | {2: (35.0, 78.0, 0.0)}}, "GPSLatitude.*cannot be read"),
        ({"gps": HERE | {4: (149.0, 6.0, 61.0)}}, "GPSLongitude.*cannot be read"),
        ({"gps": HERE | {9: "V"}}, "GPSLatitude.*GPSStatus"),
        ({"gps": {29: "2024:02:29", 7: (12.0, 78.0, 0.0)}}, "GPSTimeStamp.*cannot be read"),
        ({"exif": {0x0112: 9}}, "Orientation.*9"),
        ({"exif": {0x9003: "0000:00:00 00:00:00"}}, "DateTimeOriginal"),
        ({"xmp": "<x:xmpmeta GPano:PoseHeadingDegrees='1'/>"}, "XMP.*unbound prefix"),
        ({"xmp": xmp_of({"PoseHeadingDegrees": 1})[:-60]}, "XMP"),
        ({"xmp": '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'}, "XMP.*EntitiesForbidden"),
    ):
        own = asked_panorama(photo(tmp_path / "a.jpg", **tags), QueryConfig())
        assert own == type(own)(own.path, 0.0, "assumed", photo=PhotoGeometry(unused=own.photo.unused))
        (said,) = [line for line in photo_notes([own], INDEX, QueryConfig()) if line.startswith("warning")]
        assert re.search(f"warning: {why}", said.replace(f"of 1 photos is not used; {own.path}: ", "")), said
        assert read_canvas(own, QueryConfig(), 65.45, MEAN_BGR).shape == (112, 616, 3)


def test_another_projection_is_refused_by_its_name_and_no_photo_is_left_to_the_reader_of_pixels(tmp_path):
    own = asked_panorama(photo(tmp_path / "a.jpg", {"ProjectionType": "Cylindrical"}), QueryConfig())
    refuses("a.jpg: its tags say projection cylindrical", read_canvas, own, QueryConfig(), 65.45, MEAN_BGR)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 nothing")
    content = open(photo(tmp_path / "c.jpg", gps=HERE), "rb").read()
    latitude = bytes([0, 2, 0, 5, 0, 0, 0, 3])  # its number, its type, and how many
    assert latitude in content
    (tmp_path / "c.jpg").write_bytes(content.replace(latitude, latitude[:5] + b"\x10\0\3"))
    for name in ("b.jpg", "c.jpg", "gone.jpg", "."):
        assert photo_geometry(str(tmp_path / name)).unused[0][0] == "EXIF"


def test_what_is_given_comes_before_a_list_and_a_list_before_tags(tmp_path):
    path = photo(tmp_path / "a.jpg", crop_tags(64, 0, 8, 64, 16), HERE | {17: 123.5}, image=np.zeros((16, 64, 3), np.uint8))
    assert [asked_panorama(path, QueryConfig(heading=each), heading=7.0).heading for each in (5.0, None)] == [5, 7]
    assert asked_panorama(path, QueryConfig()).heading_source == "photo"
    assert asked_panorama(path, QueryConfig(unknown_heading=True), heading=7.0).true_heading == 7
    rough, true = (asked_panorama(path, QueryConfig(unknown_heading=True, truth=truth)) for truth in ("list", "exif"))
    assert (rough.location, rough.true_heading) == (None, None)
    assert (true.location, true.true_heading) == (true.photo.location, 123.5)
    config = QueryConfig(horizon=1.0, vertical_fov=180.0)
    refuses("around --horizon 1", read_canvas, asked_panorama(path, QueryConfig()), config, 0.1, MEAN_BGR)


def test_photos_of_one_heading_of_none_and_of_far_away_deserve_a_second_look(tmp_path):
    same = asked_panorama(photo(tmp_path / "a.jpg", gps={17: 90.0, 16: "M"}), QueryConfig())
    said = list(photo_notes([same, same], INDEX, QueryConfig()))
    assert said[0] == "tags of 2 photos: 2 headings, 2 of these magnetic, not corrected; flags and lists come first"
    assert "all photos say heading 90" in said[1] and len(said) == 2
    plain = photo(tmp_path / "b.jpg", gps={15: 7.0}), photo(tmp_path / "c.jpg")
    there = (-30.9, 35.3)  # the antipode, up to tenths of a degree
    said = list(photo_notes([asked_panorama(path, QueryConfig(), location=there) for path in plain], INDEX, QueryConfig()))
    assert "1 photos say no heading; north is assumed; --unknown_heading tries all" in said
    assert "1 of these directions of travel (GPSTrack)" in said[0]
    assert "2 known locations lie far outside the index" in said[-1] and re.search(r"b.jpg [12]\d,\d{3} km", said[-1])
