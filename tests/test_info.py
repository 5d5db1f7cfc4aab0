import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_store import write_store

from attnrec.errors import DataError, FeatureStoreError, VideoError
from attnrec.evaluation.evaluate import evaluate
from attnrec.features.networks import backbone_names
from attnrec.features.store import FeatureStore
from attnrec.files import json_safe
from attnrec.info import describe, describe_backbones
from attnrec.video.encode import write_video


def test_a_store_is_described(tiny_store):
    document, store = describe(tiny_store), FeatureStore(tiny_store)
    assert document["kind"] == "store"
    assert (document["num_videos"], document["num_frames"], document["num_groups"]) == (24, 24 * 12, 8)
    assert document["classes"] == {"bend": 8, "jack": 8, "wave": 8}
    assert document["num_unlabelled"] == 0
    assert document["features"]["features"]["grid_size"] == 2
    assert document["fingerprint"] == store.fingerprint
    assert document["size_bytes"] == tiny_store.stat().st_size
    assert document["status"] == {"ok": 24}
    assert set(document["splits"]) == {"default", "cv3-1", "cv3-2", "cv3-3"}
    for split in document["splits"].values():
        assert split["train"] + split["validation"] + split["test"] == 24
        assert split["unused"] == 0
        assert split["leaking_groups"] == []


def test_a_run_is_described(tiny_run):
    document = describe(tiny_run)
    assert (document["kind"], document["finished"], document["accuracy"]) == ("run", True, {})
    report = evaluate(tiny_run)
    document = describe(tiny_run)
    assert document["accuracy"] == {"test": report.accuracy}
    assert document["training"]["fps"] == 10.0
    assert document["classes"] == ["bend", "jack", "wave"]


def test_a_video_is_described(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, iter(np.zeros((12, 48, 64, 3), np.uint8)), 6.0)
    document = describe(path)
    assert document.pop("duration_seconds") == pytest.approx(2.0, abs=0.02)
    assert document == {"kind": "video", "path": str(path), "width": 64, "height": 48, "fps": 6.0, "codec": "h264"}


def test_the_machine_is_described():
    document = describe()
    assert document["kind"] == "machine"
    assert document["cores"] >= 1
    assert {"python", "attnrec", "torch", "numpy"} <= document["versions"].keys()
    assert Path(document["ffmpeg"]["path"]).is_file()


@pytest.mark.slow
def test_the_networks_are_described():
    events = []
    backbones = {each.pop("name"): each for each in describe_backbones(events.append)["backbones"]}
    assert list(backbones) == backbone_names()
    assert [event.done for event in events] == list(range(len(backbones)))
    assert backbones["vit_b_16"] == {
        "layer": "encoder",
        "map": (14, 14, 768),
        "cube": (7, 7, 768),
        "num_params": 86567656,
        "weights": "ViT_B_16_Weights.IMAGENET1K_V1",
        "weights_megabytes": 330.285,
    }
    caffe = backbones["bvlc_googlenet"]
    assert (caffe["num_params"], caffe["weights"]) == (6998552, "bvlc_googlenet.caffemodel")
    assert caffe["weights_megabytes"] is None
    assert backbones["alexnet"]["cube"] == (6, 6, 256)


def test_every_document_is_json(tiny_store, tiny_run):
    for path in (None, tiny_store, tiny_run):
        json.dumps(json_safe(describe(path)), allow_nan=False)


def test_what_it_cannot_describe_is_refused(tmp_path, tiny_store):
    with pytest.raises(DataError, match="no such file or folder"):
        describe(tmp_path / "absent")
    with pytest.raises(DataError, match=r"not a run; for a folder of videos see `attnrec extract .* --dry-run`"):
        describe(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("not a video\n" * 100)
    with pytest.raises(VideoError, match="not-a-video"):
        describe(text)
    cut = tmp_path / "cut.h5"
    shutil.copy(tiny_store, cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    with pytest.raises(FeatureStoreError, match=r"cut\.h5: not a usable feature store .*; run `attnrec extract` again"):
        describe(cut)


def test_damage_is_listed(tmp_path):
    path = write_store(tmp_path / "out.h5", num_groups=2, status={1: "truncated", 4: "damaged"})
    document = describe(path)
    assert document["status"] == {"ok": 4, "truncated": 1, "damaged": 1}
    store = FeatureStore(path)
    assert document["damaged"] == [(store.path_of(1), "truncated"), (store.path_of(4), "damaged")]
