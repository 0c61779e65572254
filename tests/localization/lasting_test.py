"""Queries that last, rough positions, and how far answers may be off, on an index of random waves."""

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import tracemalloc

import cv2
import numpy as np
import pytest
import synthetic_index as made
from conftest import complains, contents, refuses, rows_of, run, succeeds
from forked_scripts import no_file_grows_beyond

from safa.localization import Index, JoinedIndex, index_files
from safa.localization.gpx_track import TrackConfig, along_track
from safa.localization.panorama import Panorama, asked_panorama, read_canvas
from safa.localization.photo_geometry import PhotoGeometry
from safa.localization.places import QueryConfig
from safa.localization.rough_position import RoughPosition
from safa.runtime.errors import ROOT
from tests.localization.photo_geometry_test import photo

PROGRAM = "tests/programs/synthetic/localize.py"


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "_ground", property(lambda self: made.ground))
    return Index(made.write_index(tmp_path / "index"))


def panoramas(numbers, rough=None):
    """Panoramas of places with their true locations; `rough`: a function from a number to a RoughPosition."""
    places = zip(numbers, map(tuple, made.FRAME.locations(made.TRUTHS[numbers]).tolist()), strict=True)
    given = {"heading": 0.0, "heading_source": "given"}
    return [Panorama(str(n), **given, location=at, rough=rough and rough(n), image=made.photo(n)) for n, at in places]


def errors(answers):
    return np.array([answer.metres_off for answer in answers])


def test_a_query_of_damaged_photos_that_is_killed_twice_ends_as_if_it_had_never_been(index, tmp_path):
    made.write_photos(tmp_path / "photos" / "deep", range(60))
    damaged = tmp_path / "photos" / "deep" / "0013.png"
    damaged.write_bytes(damaged.read_bytes()[:150])
    outputs, others = ({name: f"{each}.{name}" for name in ("csv", "jsonl", "json", "geojson")} for each in "ab")
    whole = run(PROGRAM, 0, "query", "index", "photos", **others, cwd=tmp_path)
    assert whole.returncode == 1 and "1 of 60 panoramas could not be used" in whole.stderr and "0013.png" in whole.stderr
    for done in (20, 40):
        assert run(PROGRAM, 20, "query", "index", "photos", **outputs, cwd=tmp_path).returncode == -signal.SIGKILL
        assert len({row["panorama"] for row in rows_of(tmp_path / "a.csv")}) in (done - 1, done)
    assert "answers of a query with other" in complains(PROGRAM, 0, "query", "index", "photos", **outputs, top=3, cwd=tmp_path)
    last = run(PROGRAM, 0, "query", "index", "photos", **outputs, cwd=tmp_path)
    assert last.returncode == 1 and "40 of 60 panoramas were answered before" in last.stdout
    for found, expected in zip(rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv"), strict=True):
        assert all(found[name] == expected[name] for name in ("panorama", "rank", "tile", "problem"))
        assert found["problem"] or abs(float(found["similarity"]) - float(expected["similarity"])) < 1e-5  # batches differ
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "a.json").read_text())["answers"] == rows
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == len(rows_of(tmp_path / "a.csv")) == 59 * 5 + 1
    assert [row["problem"] is None for row in rows].count(False) == 1 and "0013.png" in rows[13]["problem"]
    assert all(row["known"] is None for row in rows) and not (tmp_path / "a.csv.progress").exists()


@pytest.mark.parametrize("indexes", [["index"], ["other", "index"]])
def test_a_stopped_query_goes_on_with_the_index_that_it_began_with_and_no_updated_one(tmp_path, indexes):
    for folder in indexes:
        made.write_index(tmp_path / folder)
    made.write_photos(tmp_path / "photos", range(9))
    asked = "query", *indexes, "photos", "--csv", "a.csv"
    assert run(PROGRAM, 5, *asked, cwd=tmp_path).returncode == -signal.SIGKILL
    shutil.rmtree(tmp_path / "index")
    made.write_index(tmp_path / "index", shift=60.0)
    assert "updated index" in complains(PROGRAM, 0, *asked, cwd=tmp_path)


@pytest.mark.parametrize("full", ["html 100000 a.html", "csv 7000 a.csv", "csv 1000 a.csv.progress/answers.jsonl"])
def test_a_query_names_the_file_for_which_the_disk_is_full(index, tmp_path, full):
    flag, size, path = full.split()
    made.write_photos(tmp_path / ("p" * 240), range(6))  # a CSV's rows name it, so that these grow faster than the kept answers
    asked, before = ("query", "index", "p" * 240, f"--{flag}", f"a.{flag}"), functools.partial(no_file_grows_beyond, int(size))
    assert f"error: {path}: File too large" in complains(PROGRAM, 0, *asked, before=before, cwd=tmp_path)
    succeeds(PROGRAM, 0, *asked, cwd=tmp_path)


def test_a_query_writes_over_nothing_but_its_own_output(index, tmp_path):
    made.write_photos(tmp_path / "photos", range(3))
    (tmp_path / "own.csv").write_text("panorama,mine\n1,2\n")
    (tmp_path / "own.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "own.html").write_text("<html><title>Where panoramas were taken</title>")
    before = contents(tmp_path)
    for words in (
        "csv photos/list.csv, json index/index.json, jsonl photos/0001.png, csv own.csv, geojson own.geojson, quality own.html"
    ).split(", "):
        flag, path = words.split()
        assert f"--{flag} {path}" in complains(PROGRAM, 0, "query", "index", "photos/list.csv", **{flag: path}, cwd=tmp_path)
    assert contents(tmp_path) == before


def test_a_quality_page_is_written_where_no_panorama_of_known_location_can_be_used(index, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "list.csv").write_text("path,longitude,latitude\na.png,149.1,-35.3\n")
    said = complains(PROGRAM, 0, "query", "index", "list.csv", quality="a.html", cwd=tmp_path)
    assert "1 of 1 panoramas could not be used" in said and "0 panoramas of known location" in (tmp_path / "a.html").read_text()


def test_an_estimate_lies_between_tiles_and_its_radii_hold_as_many_truths_as_they_say(index):
    other = Index(index.folder)
    index.calibrate(panoramas(range(200)), wrong_share=0.2)
    other.calibrate(panoramas(range(40)), 0.3, radius=10.0)
    assert len(Index(index.folder).calibrations) == 2  # two calibrations at once are both kept
    answers = list(index.found(panoramas(range(200, 400)), QueryConfig()))
    centres = made.FRAME.metres([(each.places[0].longitude, each.places[0].latitude) for each in answers])
    off = errors(answers)
    assert np.median(off) < 0.9 * np.median(np.linalg.norm(centres - made.TRUTHS[200:400], axis=1))
    for share in (68, 95):
        radii = [getattr(each.estimate, f"radius_{share}") for each in answers]
        held = np.mean(off <= np.array([np.inf if radius is None else radius for radius in radii]))
        assert abs(held - share / 100) < 0.09, (share, held)
    east, both, north = answers[0].estimate.covariance
    assert east > 0 and north > 0 and both**2 < east * north


def test_a_rough_position_decides_between_alike_places_and_only_tiles_within_reach_are_compared(index, monkeypatch):
    rng, compared, names = np.random.default_rng(1), [], index.found.__globals__
    search = names["similarities"]
    monkeypatch.setitem(names, "similarities", lambda *given: compared.append(search(*given)) or compared[-1])

    def gps(number):
        return RoughPosition(*made.FRAME.locations(made.TRUTHS[number] + rng.normal(0, 5, 2))[0].tolist(), 5.0, np.inf, ", GPS")

    alone = errors(index.found(panoramas(range(200)), QueryConfig()))
    near = errors(index.found(panoramas(range(200), gps), QueryConfig()))
    assert np.mean(near < 5) > np.mean(alone < 5) + 0.05 and near.max() < 40 < alone.max()
    tiles = [found.shape[1] for found, _ in compared]
    assert max(tiles[-200:]) < 160 < len(index) == tiles[0]
    far = RoughPosition(10.0, 50.0, None, 30.0, "")
    refuses("no photo's tags say its position", index.calibrate, panoramas(range(20)), near=50.0)
    (answer,) = index.found(panoramas([0], lambda number: far), QueryConfig())
    assert "no tile within 30 m of its rough position 50.000000, 10.000000" in answer.problem and not answer.places


def test_a_rough_position_of_far_reach_reads_its_tiles_block_by_block(index, monkeypatch):
    read, own = [], np.memmap.__getitem__
    monkeypatch.setattr(np.memmap, "__getitem__", lambda *given: read.append(own(*given)) or read[-1])
    monkeypatch.setattr("safa.localization.tile_search.BLOCK_BYTES", 4 * made.VALUES * 100)
    list(index.found(panoramas([7], lambda number: RoughPosition(149.1, -35.3, None, 1e5, "")), QueryConfig()))
    assert max(map(len, read)) == 100
    assert sum(map(len, read)) == len(index)


def test_rough_positions_come_from_the_list_or_the_photo_and_are_not_taken_for_the_truth(tmp_path):
    path = photo(tmp_path / "a.jpg", gps={1: "S", 2: (35.0, 18.0, 0.0), 3: "E", 4: (149.0, 6.0, 0.0)})
    listed, tagged = (150.0, -36.0), (pytest.approx(149.1), pytest.approx(-35.3))
    for settings, source, rough, truth in (
        ({"near": 50.0}, "list", listed, None),
        ({"gps_sigma": 5.0}, "photo", tagged, listed),
        ({"near": 50.0, "truth": "exif"}, "list", listed, tagged),
        ({}, "list", None, listed),
    ):
        found = asked_panorama(path, QueryConfig(**settings, gps_from=source), 0.0, listed)
        assert (found.location, found.rough and (found.rough.longitude, found.rough.latitude)) == (truth, rough)
    assert asked_panorama(path, QueryConfig(), 0.0, listed, 4.0).rough.reach(5.0) == 29.0  # a list's accuracy suffices
    assert asked_panorama(path, QueryConfig(near=9.0)).rough.reach(5.0) == 9.0


def test_a_drive_is_as_sure_as_it_is_right_and_goes_on_over_a_damaged_photo(index, tmp_path):
    drive = range(made.PLACES, len(made.TRUTHS))
    asked = panoramas(drive)
    asked[5] = Panorama("broken.jpg", None, "unknown", problem="broken.jpg: damaged")
    config = QueryConfig(sequence=made.SPACING)
    answers = index.finished(list(index.found(asked, config)), config)
    assert answers[5].problem and answers[4].known is None
    off = errors(answers[:5] + answers[6:])
    assert np.mean(off < 10) > np.mean(errors(index.found(asked[6:], QueryConfig())) < 10) and np.median(off) < 5
    calibration, *_ = index.calibrate(asked, 0.3, sequence=made.SPACING)
    again = index.finished(list(index.found(asked, config)), config)
    assert abs(np.mean([each.confidence for each in again if each.places]) - calibration.right / 27) < 0.05
    assert again[0].known is not None and again[0].estimate.radius_68 is not None
    asked[6] = dataclasses.replace(asked[6], photo=PhotoGeometry(fov=359.4))  # of another view than what was calibrated
    known = [each.known for each in index.finished(list(index.found(asked, config)), config)]
    assert known[6] is None and None not in known[:5] + known[7:]


def test_what_whole_panoramas_taught_says_nothing_of_cropped_ones(index, monkeypatch):
    index.calibrate(panoramas(range(40)), 0.3)
    whole, cropped = panoramas([0, 1])
    cropped = dataclasses.replace(cropped, photo=PhotoGeometry(fov=270.3))
    assert index.calibration(QueryConfig(), whole) and index.calibration(QueryConfig(), cropped) is None
    refuses("several views .*fov 270, .*fov 360", index.calibrate, [whole, cropped] * 20)
    refuses("1 panoramas are named more than once: .*/0;", index.calibrate, [dataclasses.replace(whole, image=None)] * 40)
    monkeypatch.setattr("os.access", lambda *_: False)
    refuses(f"{index.folder}: may not be written", index.calibrate, [whole] * 40)  # before a photo is read


def test_a_calibration_counts_in_its_own_index_and_updates_of_it_and_in_no_other(index, tmp_path):
    index.calibrate(panoramas(range(40)), 0.3)
    updated, other = made.write_index(tmp_path / "new", shift=5.0), made.write_index(tmp_path / "other", dtype=np.float32)
    for folder in updated, other:
        shutil.copy(f"{index.folder}/calibration.json", folder)
    assert Index(updated).calibrations == index.calibrations
    refuses("other/calibration.json: is of another index; delete it", Index, other)


def test_an_update_of_an_index_that_is_being_opened_or_is_open_mixes_nothing(index, tmp_path, monkeypatch):
    folder, newer = (made.write_index(tmp_path / str(shift), shift, approximate=True) for shift in (0.0, 60.0))
    expected, check = index.query([made.photo(7)])[0].places, index_files.check_files

    def then_updated(*given):
        check(*given)
        for name in os.listdir(newer):
            os.replace(f"{newer}/{name}", f"{folder}/{name}")

    monkeypatch.setattr(index_files, "check_files", then_updated)
    opened = Index(folder)
    assert opened.query([made.photo(7)])[0].places == expected
    refuses("approximate.faiss: .*open the index again", opened.query, [made.photo(7)], approximate=True)
    assert Index(folder).query([made.photo(7)], approximate=True)[0].places != expected


def test_the_network_is_loaded_before_threads_need_its_mean_colour(index, monkeypatch):
    order, read = [], read_canvas
    monkeypatch.setattr(made.ground, "fill", (1.0, 0.0, 3.0))
    monkeypatch.setattr(Index, "_ground", property(lambda self: order.append("network") or made.ground))
    monkeypatch.setattr("safa.localization.index.read_canvas", lambda *given: order.append(given[-1]) or read(*given))
    list(index.found(panoramas([0, 1]), QueryConfig()))
    assert order == ["network", *2 * [made.ground.fill]]


def test_a_panorama_s_turns_are_in_memory_a_batch_at_a_time(index):
    tracemalloc.start()
    index.query([made.photo(7)], unknown_heading=True, turns=360)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 180 * made.photo(7).nbytes


def test_the_library_takes_paths_bytes_and_arrays_and_refuses_what_no_flag_could_say(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("safa.runtime.progress.LINE_SECONDS", 0.0)
    list(index.found(panoramas(range(40)), QueryConfig()))
    assert "16 of 40 panoramas, " in capsys.readouterr().err  # without a terminal
    made.write_photos(tmp_path, [7])
    path = tmp_path / "0007.png"
    asked = [path, str(path), path.read_bytes(), made.photo(7)]
    found = index.query(asked, top=np.int64(1), heading=np.float32(0.1))
    assert len({answer.places[0].tile for answer in found}) == 1
    exact = made.write_index(tmp_path / "exact", dtype=np.float32)
    held = [Index(folder, dtype="float32") for folder in (index.folder, exact)]
    np.load(f"{exact}/{index_files.DESCRIPTORS}", mmap_mode="r+")[:] = 0  # neither reads its file any more
    assert {own.query(asked[:1])[0].places[0].tile for own in held} == {found[0].places[0].tile}
    for settings in ({"top": 0}, {"top": "x"}, {"fov": np.nan}, {"tpo": 3}, {"heading": 3.0, "unknown_heading": True}):
        refuses(".", index.query, [path], **settings)
    for name in ("gps_sigma", "near", "radius", "merge_metres", "sequence", "heading", "fov", "vertical_fov", "horizon"):
        for value in (1e200, np.nan, np.inf, -1e3):
            refuses(name, index.query, [path], **{name: value})
    for wrong in (b"", 7, None, tmp_path, np.zeros((4, 4)), "gone.jpg"):
        refuses(".", index.query, [wrong])
    for alone in (path, str(path), path.read_bytes(), *panoramas([7])):
        refuses("put it into a list", index.query, alone)
    refuses("no photo's tags say its position", index.query, asked, near=50)
    refuses("array: no known location", index.calibrate, 20 * asked[3:])


def test_the_service_of_the_documentation_answers(index, tmp_path, monkeypatch):
    testclient = pytest.importorskip("fastapi.testclient")
    with open(os.path.join(ROOT, "docs", "localisation.md"), encoding="utf-8") as file:
        (code,) = [block for block in re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL) if "FastAPI" in block]
    monkeypatch.setenv("SAFA_INDEX", index.folder)
    service = {}
    exec(code, service)
    client = testclient.TestClient(service["app"])
    found = client.post("/locate?top=2", content=cv2.imencode(".png", made.photo(7))[1].tobytes())
    assert len(found.json()["places"]) == 2 and found.json()["known"] is None
    assert client.post("/locate", content=b"nothing").status_code == 422


def test_a_quality_page_says_how_far_answers_are_off_and_how_sure_they_were(index, tmp_path):
    listed = made.write_photos(tmp_path / "photos", range(60))
    succeeds(PROGRAM, 0, "calibrate", "index", listed, quality="q.html", wrong_share=0.3, cwd=tmp_path)
    text = (tmp_path / "q.html").read_text()
    assert text.count("<img") == 3 and "hold the known location" in text and "68 % radius" in text
    os.mkfifo(tmp_path / "pipe.jpg")
    asked = PROGRAM, 0, "query", "index"
    assert "no such panorama" in complains(*asked, "pipe.jpg", cwd=tmp_path)
    assert "--quality: no panorama's location" in complains(*asked, "photos", quality="r.html", cwd=tmp_path)


def test_several_indexes_answer_as_one_of_all_their_tiles(index, tmp_path):
    east = Index(made.write_index(tmp_path / "east", shift=made.SIDE + made.SPACING, dtype=np.float32))
    both = JoinedIndex([index.folder, east.folder])
    assert len(both) == 2 * len(index)
    for asked in (panoramas(range(9)), panoramas(range(9), lambda number: RoughPosition(149.101, -35.299, None, 500.0, ""))):
        apart, together = ([list(each.found(asked, QueryConfig())) for each in own] for own in ((index, east), (both,)))
        for one, other, joined in zip(*apart, *together, strict=True):
            best = max((one, other), key=lambda answer: answer.places[0].similarity)
            assert (joined.places[0].tile, joined.places[0].longitude) == (best.places[0].tile, best.places[0].longitude)
    (lost,) = both.found(panoramas([0], lambda number: RoughPosition(9.0, 50.0, None, 50.0, "")), QueryConfig())
    assert "no tile within 50 m" in lost.problem
    made.write_photos(tmp_path / "photos", range(3))
    said = succeeds(PROGRAM, 0, "query", "index", "east", "photos", html="a", cwd=tmp_path) + (tmp_path / "a").read_text()
    assert all(text in said for text in ("0000.png", "not calibrated", ">margin<")) and not re.search(">confidence<|68 %", said)
    assert "name them after the indexes" in complains(PROGRAM, 0, "query", "index", "east", cwd=tmp_path)
    refuses("no index to ask", JoinedIndex, [])


def test_hidden_files_of_a_folder_are_no_photos_and_other_images_and_linked_folders_are_said(index, tmp_path):
    made.write_photos(tmp_path / "photos" / "deep", range(2))
    for name in ("@eaDir/a.png", ".thumbnails/a.png", "._a.png", "b.HEIC", "c.heic", "d.webp", "notes.txt", "../other/e.insp"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    os.symlink("deep", tmp_path / "photos" / "link")
    said = succeeds(PROGRAM, 0, "query", "index", "photos", cwd=tmp_path)
    assert "photos: skipped 2 .heic, 1 .webp, 1 linked folders; convert" in said and "2 photos say no heading" in said
    said = complains(PROGRAM, 0, "query", "index", "other", cwd=tmp_path)
    assert "other: no .jpg, .jpeg, .png in this folder (skipped 1 .insp" in said


def write_track(path, *segments):
    """A GPX track: for each of its segments second: metres east and north."""
    text = ""
    for segment in segments:
        text += "</trkseg><trkseg>" * bool(text)
        for (x, y), s in zip(made.FRAME.locations(list(segment.values())), segment, strict=True):
            text += f'<trkpt lon="{x:.9f}" lat="{y:.9f}"><time>2026-05-01T10:0{s // 60}:{s % 60:02}Z</time></trkpt>'
    path.write_text(f'<gpx version="1.1" creator="t"><trk><trkseg>{text}</trkseg></trk></gpx>')
    return str(path)


def taken(path, time, gps=None):
    exif = {} if time is None else {0x9003: f"2026:05:01 {time[:8]}", 0x9011: time[8:] or "+02:00"}
    return asked_panorama(photo(path, gps=gps, exif=exif), QueryConfig())


def test_a_track_gives_headings_positions_and_order(tmp_path):
    """Of a car that goes east, waits, and turns north; the camera looks to its right."""
    track = write_track(tmp_path / "a.gpx", {0: (0, 0), 10: (100, 0), 190: (100, 0), 200: (100, 100)})
    times = "12:03:15", "12:00:05", "12:00:40", "12:09:00", None
    asked = [taken(tmp_path / f"{number}.jpg", time) for number, time in enumerate(times)]
    found = along_track(asked, TrackConfig(track, 90.0), QueryConfig(near=20.0))
    assert [os.path.basename(each.path)[0] for each in found] == ["1", "2", "0", "3", "4"]
    assert [each.heading for each in found[:3]] == pytest.approx([180, 135, 90], abs=0.1)
    np.testing.assert_allclose(made.FRAME.metres([each.track for each in found[:3]]), [(50, 0), (100, 0), (100, 50)], atol=0.05)
    listed = dataclasses.replace(asked[2], rough=RoughPosition(149.0, -35.0, 4.0, np.inf, ""))  # by its column accuracy
    assert along_track([listed], TrackConfig(track), QueryConfig())[0].rough == listed.rough
    assert found[0].rough.near == 20 and "outside the times" in found[3].problem and "no time" in found[4].problem
    far = made.FRAME.metres([(149.1, -35.3), (159.1, -35.3), (159.1, -35.299)])  # 900 km to the east, then north
    long = write_track(tmp_path / "far.gpx", dict(zip((0, 190, 200), map(tuple, far.tolist()), strict=True)))
    assert along_track([asked[0]], TrackConfig(long), QueryConfig())[0].heading == pytest.approx(0, abs=0.01)


def test_a_track_tells_no_place_in_its_gaps_and_no_course_where_it_stands(tmp_path, index, capsys):
    """Of a car that waits, drives into a tunnel for a minute and a half, and is loaded on a ferry."""
    parts = {0: (0, 0), 10: (1, 0), 20: (0, 0)}, {25: (0, 0), 30: (50, 0), 120: (50, 90), 130: (50, 140)}, {140: (150, 140)}
    track = write_track(tmp_path / "a.gpx", *parts)
    times = "12:00:05", "12:00:22", "12:00:29", "12:01:00", "12:02:10", "12:02:15", "12:02:20"
    asked = [taken(tmp_path / f"{number}.jpg", time, {17: 200.0}) for number, time in enumerate(times)]
    found, config = along_track(asked, TrackConfig(track), QueryConfig(near=20.0)), QueryConfig(sequence=30.0)
    assert [each.track and round(each.heading) % 360 for each in found] == [200, None, 90, None, 0, None, 200]
    assert {each.heading_source for each in found if each.heading == 200} == {"photo"} and not any(e.problem for e in found)
    assert "3 photos were taken in gaps of the track" in (said := capsys.readouterr().out) and "time zone" not in said
    (there,) = along_track([taken(tmp_path / "utc.jpg", "10:00:29 ")], TrackConfig(track), QueryConfig())
    assert there.track == found[2].track and "1 photos' times name no time zone" in capsys.readouterr().out
    assert not any(answer.problem for answer in index.finished(list(index.found(found, config)), config))


def test_a_wrong_track_is_named_with_its_point(tmp_path):
    wrong = {"lat": "not a GPX file", 'lat="nan"': "10:00:01.* not finite", 'lat="95"': "10:00:01.* latitude 95"}
    for text, said in wrong.items():
        path = write_track(tmp_path / "a.gpx", {0: (0, 0), 1: (0, 1), 2: (0, 2)})
        first, second, rest = (tmp_path / "a.gpx").read_text().split("<trkpt", 2)
        (tmp_path / "a.gpx").write_text("<trkpt".join([first, second, re.sub('lat="[^"]*"', text, rest, count=1)]))
        refuses(f"a.gpx: .*{said}", along_track, [], TrackConfig(path), QueryConfig())
