import dataclasses
import math
import os
import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.errors import FeatureStoreError
from attnrec.features.hdf5 import decoded, encoded
from attnrec.features.pack import pack_store, stored_sources
from attnrec.features.parts import (
    FeatureSource,
    PartFile,
    file_sha256,
    part_fingerprint,
    parts_dir,
    read_part,
    video_id,
)
from attnrec.features.store import FeatureStore, find_store, is_store
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary

SPEC = FeatureSpec("googlenet", "inception5b", "random-0", "ab" * 32, 3, 4, 224, "crop", 29.97, "bf16")
FEATURES = f"features/{SPEC.layer}"
NAMES = ["run/plain.mp4", "run/two\nlines.avi", os.fsdecode(b"jump/caf\xe9.mkv"), "動画.mp4"]
LENGTHS, LABELS, GROUPS = (5, 1, 300, 7), (1, 1, 0, -1), ["g01", "two\nlines", os.fsdecode(b"\xe9"), "g02"]
SUMMARIES = [
    DecodeSummary("ok", 10, 0.5, 20.0, 19.5, True),
    DecodeSummary("damaged", 1, 1 / 30, float("nan"), 30.0, False),
    DecodeSummary("truncated", 600, 10.0, 60.0, 60.0, False),
    DecodeSummary("ok", 7, 0.7, 10.0, 10.0, True),
]
SPLITS = {
    "default": np.array([TRAIN, VALIDATION, TEST, UNUSED], np.uint8),
    "cv3-1": np.array([TEST, TRAIN, TRAIN, TRAIN], np.uint8),
}
BACKBONE = {
    "conv.weight": np.random.default_rng(9).normal(size=(3, 2, 1, 1)).astype(np.float32),
    "norm.num_batches_tracked": np.array(7),
}


def cubes_of(video: int, spec: FeatureSpec = SPEC) -> NDArray[np.float16]:
    shape = (LENGTHS[video], *spec.cube_shape)
    return np.random.default_rng(video).normal(size=shape).astype(np.float16)


def times_of(video: int) -> NDArray[np.float64]:
    return np.arange(LENGTHS[video]) / 29.97 + video / 7


def write_part(out: Path, video: int, *specs: FeatureSpec) -> FeatureSource:
    specs = specs or (SPEC,)
    parts_dir(out).mkdir(exist_ok=True)
    path, fingerprint = parts_dir(out) / f"{video}.part", part_fingerprint(f"{video:064x}", specs)
    cubes, times = {spec.layer: cubes_of(video, spec) for spec in specs}, times_of(video).tolist()
    part = PartFile(path, specs)
    for start in range(0, len(times), 32):
        rows = slice(start, start + 32)
        part.append({layer: cube[rows] for layer, cube in cubes.items()}, times[rows])
    part.commit(fingerprint, SUMMARIES[video])
    source = read_part(path, fingerprint, specs)
    assert source is not None
    return source


def dataset(label_matrix: NDArray[np.uint8] | None = None) -> Dataset:
    classes, entries = ("jump", "rûn"), []
    for video, name in enumerate(NAMES):
        applies = [i == LABELS[video] for i in range(2)] if label_matrix is None else label_matrix[video]
        labels = tuple(name for name, is_so in zip(classes, applies, strict=True) if is_so)
        entries.append(VideoEntry(Path(name), labels, GROUPS[video]))
    root = Path(os.fsdecode(b"/videos/caf\xe9"))
    return Dataset("dataset", "made", root, tuple(entries), classes, label_matrix is not None, SPLITS, ())


def pack(
    out: Path, sources: list[FeatureSource], *specs: FeatureSpec, label_matrix: NDArray[np.uint8] | None = None
) -> Path:
    pack_store(
        out,
        specs or (SPEC,),
        dataset(label_matrix),
        {Path(name): f"{video:064x}" for video, name in enumerate(NAMES)},
        sources,
        skipped=[("bad\nname.mp4", "empty-file"), (os.fsdecode(b"\xff.mp4"), "truncated")],
        backbone_state=BACKBONE,
        program_version="1.2.3",
    )
    return out


def make_store(out: Path) -> Path:
    return pack(out, [write_part(out, video) for video in range(len(NAMES))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("whole") / "out.h5")


@pytest.fixture
def path(whole, tmp_path) -> Path:
    """A copy of a good store, to be spoilt."""
    copy = tmp_path / "copy.h5"
    copy.write_bytes(whole.read_bytes())
    return copy


# Round trip


def test_columns_come_back(whole):
    store = FeatureStore(whole)
    assert store.spec == SPEC
    assert store.classes == ["jump", "rûn"]
    assert (store.dataset, store.program_version) == ("dataset", "1.2.3")
    assert os.fsencode(store.videos_dir) == b"/videos/caf\xe9"
    assert [store.path_of(video) for video in range(4)] == NAMES
    assert store.groups == GROUPS
    assert store.videos.label.tolist() == list(LABELS)
    assert store.videos.num_frames.tolist() == list(LENGTHS)
    assert store.videos.first_frame.tolist() == [0, 5, 6, 306]
    assert [decoded(status) for status in store.videos.status] == [summary.status for summary in SUMMARIES]
    for column, field in (
        ("duration", "duration_seconds"),
        ("declared_fps", "declared_fps"),
        ("effective_fps",) * 2,
        ("is_variable_rate",) * 2,
    ):
        expected = [getattr(summary, field) for summary in SUMMARIES]
        np.testing.assert_array_equal(getattr(store.videos, column), expected)
    assert [decoded(value) for value in store.videos.id] == [video_id(Path(name)) for name in NAMES]
    assert [decoded(value) for value in store.videos.fingerprint] == [f"{video:064x}" for video in range(4)]
    assert store.skipped == [("bad\nname.mp4", "empty-file"), (os.fsdecode(b"\xff.mp4"), "truncated")]
    assert len(store.videos) == 4


def test_features_and_times_come_back(whole):
    store = FeatureStore(whole)
    features = store.features()
    assert (store.num_frames, 3, 3, 4) == features.shape == (sum(LENGTHS), 3, 3, 4)
    assert features.dtype == np.float16
    for video, first in enumerate(store.videos.first_frame):
        np.testing.assert_array_equal(features[first : first + LENGTHS[video]], cubes_of(video))
        np.testing.assert_array_equal(store.pts_of(video), times_of(video))


def test_the_map_equals_what_h5py_reads(whole):
    store = FeatureStore(whole)
    features = store.features()
    assert isinstance(features, np.memmap)
    with h5py.File(whole) as file:
        dataset = file[FEATURES]
        np.testing.assert_array_equal(features, dataset[:])
        assert dataset.chunks is None
        assert dataset.id.get_offset() % 4096 == 0
        assert features.offset == dataset.id.get_offset()


def test_several_layers_are_read_in_the_order_asked_for(tmp_path):
    other = dataclasses.replace(SPEC, layer="inception4e", grid_size=5, feature_dim=2, weights_sha256="cd" * 32)
    sources = [write_part(tmp_path / "out.h5", video, SPEC, other) for video in range(len(NAMES))]
    path = pack(tmp_path / "out.h5", sources, SPEC, other)
    store = FeatureStore(path, "inception4e+inception5b")
    first, second = store.layer_features()
    for video, start in enumerate(store.videos.first_frame):
        rows = slice(start, start + LENGTHS[video])
        np.testing.assert_array_equal(first[rows], cubes_of(video, other))
        np.testing.assert_array_equal(second[rows], cubes_of(video))
    assert store.spec.grids == (("inception4e", 5, 2), ("inception5b", 3, 4))
    assert (store.spec.layer, store.spec.grid_size, store.spec.feature_dim) == ("inception4e+inception5b", 5, 4)
    assert store.spec.weights_sha256 == "cd" * 32 + "+" + "ab" * 32
    assert (store.spec.num_locations, store.spec.layer_sizes) == (25 + 9, ((25, 2), (9, 4)))
    assert FeatureStore(path).spec == FeatureStore(path, "inception5b").spec == SPEC
    assert (SPEC.layer_sizes, SPEC.grids) == ((), (("inception5b", 3, 4),))
    for wrong, message in {
        "inception5b+conv1": "no layer 'conv1'; it has inception5b, inception4e",
        "inception5b+": "no layer ''; it has inception5b, inception4e",
        "inception5b+inception5b": r"layers must differ, got inception5b\+inception5b",
    }.items():
        with pytest.raises(FeatureStoreError, match=rf"out\.h5: {message}$"):
            FeatureStore(path, wrong)


def test_features_that_are_not_finite_are_named_whichever_layer_has_them(tmp_path):
    other = dataclasses.replace(SPEC, layer="inception4e", feature_dim=2)
    sources = [write_part(tmp_path / "out.h5", video, SPEC, other) for video in range(len(NAMES))]
    path = pack(tmp_path / "out.h5", sources, SPEC, other)
    with h5py.File(path, "r+") as file:
        file["features/inception4e"][LENGTHS[0], 1, 1, 1] = np.nan
    rows = np.arange(sum(LENGTHS))
    FeatureStore(path).require_finite(rows)
    with pytest.raises(FeatureStoreError, match="two"):
        FeatureStore(path, "inception5b+inception4e").require_finite(rows)


def test_writing_to_the_map_does_not_reach_the_file(whole):
    before = file_sha256(whole)
    features = FeatureStore(whole).features()
    features[:] = 0
    features.flush()
    del features
    assert file_sha256(whole) == before
    assert FeatureStore(whole).features().any()


def test_splits_come_back(whole):
    store = FeatureStore(whole)
    assert sorted(store.split_names) == ["cv3-1", "default"]
    for name, codes in SPLITS.items():
        np.testing.assert_array_equal(store.split(name), codes)
    assert store.split_members("default", "train").tolist() == [0]
    assert store.split_members("default", "unused").tolist() == []
    assert store.split_members("cv3-1", "train").tolist() == [1, 2]  # the last one has no label
    with pytest.raises(FeatureStoreError, match=r"out\.h5: no split 'mine'; it has cv3-1, default"):
        store.split("mine")


def test_split_hash_tells_splits_apart(whole):
    store = FeatureStore(whole)
    hashes = {store.split_sha256(name) for name in SPLITS}
    assert len(hashes) == 2
    assert all(len(value) == 64 for value in hashes)
    assert store.split_sha256("default") == FeatureStore(whole).split_sha256("default")


def test_backbone_comes_back(whole):
    state = FeatureStore(whole).backbone_state()
    assert state.keys() == BACKBONE.keys()
    for name, weight in BACKBONE.items():
        np.testing.assert_array_equal(state[name], weight)
        assert state[name].dtype == weight.dtype


def test_no_rate_limit_comes_back_as_none(tmp_path):
    out, spec = tmp_path / "out.h5", dataclasses.replace(SPEC, sample_fps=None)
    pack(out, [write_part(out, video, spec) for video in range(4)], spec)
    assert FeatureStore(out).spec == spec


def test_packing_removes_the_parts_and_leaves_one_file(tmp_path):
    out = make_store(tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == [out]
    assert not parts_dir(out).exists()


def test_a_damaged_part_is_removed_and_told(tmp_path):
    out = tmp_path / "out.h5"
    sources = [write_part(out, video) for video in range(len(NAMES))]
    with sources[2].path.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with pytest.raises(FeatureStoreError, match=r"2\.part: was damaged and is removed; run `attnrec extract` again"):
        pack(out, sources)
    assert sorted(path.name for path in parts_dir(out).iterdir()) == ["0.part", "1.part", "3.part"]
    sources[2] = write_part(out, 2)
    np.testing.assert_array_equal(FeatureStore(pack(out, sources)).features()[6:306], cubes_of(2))


def test_the_same_input_gives_the_same_fingerprint(tmp_path, whole):
    assert FeatureStore(make_store(tmp_path / "again.h5")).fingerprint == FeatureStore(whole).fingerprint


def test_an_earlier_store_serves_as_a_source(tmp_path, whole):
    sources = stored_sources(FeatureStore(whole))
    fingerprints = [part_fingerprint(f"{video:064x}", [SPEC]) for video in range(4)]
    assert sorted(sources) == sorted(fingerprints)
    again = FeatureStore(pack(tmp_path / "again.h5", [sources[fingerprint] for fingerprint in fingerprints]))
    np.testing.assert_array_equal(again.features(), FeatureStore(whole).features())
    np.testing.assert_array_equal(again.pts, FeatureStore(whole).pts)
    np.testing.assert_array_equal(again.videos.declared_fps, FeatureStore(whole).videos.declared_fps)
    assert again.videos.status.tolist() == FeatureStore(whole).videos.status.tolist()


def test_a_store_can_be_packed_over_itself(path):
    before = FeatureStore(path)
    expected = np.array(before.features())
    sources = stored_sources(before)
    pack(path, [sources[part_fingerprint(f"{video:064x}", [SPEC])] for video in range(4)])
    np.testing.assert_array_equal(FeatureStore(path).features(), expected)


def test_packing_nothing_is_refused(tmp_path):
    with pytest.raises(FeatureStoreError, match="no video could be decoded"):
        pack_store(tmp_path / "out.h5", [SPEC], dataset(), {}, [], skipped=[], backbone_state={}, program_version="")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["plain", "two\nlines", "動画", os.fsdecode(b"\xff\xfe"), ""])
def test_file_system_text_survives(text):
    assert decoded(encoded(text)) == text


# What is refused


def refused(path: Path, message: str) -> None:
    with pytest.raises(FeatureStoreError, match=message) as caught:
        FeatureStore(path)
    assert str(caught.value).startswith(f"{path}: ")


def replaced(path: Path, name: str, **dataset) -> None:
    """Put another dataset in the place of one of the store's."""
    with h5py.File(path, "a") as file:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, **dataset).attrs.update(attributes)


def test_a_missing_store(tmp_path):
    refused(tmp_path / "out.h5", "no such feature store; make one with `attnrec extract VIDEOS")
    refused(tmp_path, "not a regular file")


@pytest.mark.parametrize("content", [b"", b"not HDF5\n" * 50, b"\x89HDF\r\n\x1a\n"])
def test_other_files(tmp_path, content):
    path = tmp_path / "out.h5"
    path.write_bytes(content)
    refused(path, "not a usable feature store .*run `attnrec extract` again")
    assert not is_store(path)


def test_another_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros(3)
    refused(tmp_path / "other.h5", "not a feature store of attnrec")
    assert not is_store(tmp_path / "other.h5")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version(path, version):
    with h5py.File(path, "a") as file:
        file.attrs["version"] = version
    refused(path, f"format version {version}, this attnrec reads 1; install the attnrec that made it")


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 0.9999])
def test_a_truncated_store(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "not a usable feature store")


@pytest.mark.parametrize(
    "name", [FEATURES, "frames/pts", "videos/label", "videos/path", "classes", "skipped/path", "splits", "videos"]
)
def test_a_missing_part_is_named(path, name):
    with h5py.File(path, "a") as file:
        del file[name]
    refused(path, name.split("/")[-1])


@pytest.mark.parametrize("name", ["dataset", "fingerprint", "layers", "version"])
def test_a_missing_attribute_is_named(path, name):
    with h5py.File(path, "a") as file:
        del file.attrs[name]
    refused(path, f"not a usable feature store .*{name}")


@pytest.mark.parametrize("name", ["layer", "grid_size", "sample_fps", "precision", "weights_sha256"])
def test_a_missing_attribute_of_the_features_is_named(path, name):
    with h5py.File(path, "a") as file:
        del file[FEATURES].attrs[name]
    refused(path, f"not a usable feature store .*{name}")


@pytest.mark.parametrize("layers", ["[]", "{}", "7", "[7]", "not JSON", '["inception5b", "absent"]', '["../classes"]'])
def test_a_spoilt_list_of_layers(path, layers):
    with h5py.File(path, "a") as file:
        file.attrs["layers"] = layers
    refused(path, "not a usable feature store")


@pytest.mark.parametrize(
    "name", [FEATURES, "frames/pts", "videos/label", "classes", "splits/default", "skipped/reason"]
)
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_are_not_followed(path, whole, name, kind):
    with h5py.File(path, "a") as file:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere") if kind == "soft" else h5py.ExternalLink(str(whole), name)
    refused(path, f"{name} is missing or a link")


@pytest.mark.parametrize("name", ["features", "frames", "videos", "skipped"])
def test_linked_groups_are_not_followed(path, whole, name):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(whole), name)
    refused(path, f"{name}/.* is missing or a link")


def test_a_backbone_that_is_a_link_is_not_followed(path, whole):
    with h5py.File(path, "a") as file:
        del file["backbone/conv.weight"]
        file["backbone/conv.weight"] = h5py.ExternalLink(str(whole), "backbone/conv.weight")
    with pytest.raises(FeatureStoreError, match=r"backbone/conv\.weight is missing or a link"):
        FeatureStore(path).backbone_state()


@pytest.mark.parametrize("name", [FEATURES, "frames/pts", "videos/num_frames"])
def test_external_storage_is_not_read(path, tmp_path, name):
    with h5py.File(path) as file:
        shape, dtype, data = file[name].shape, file[name].dtype, file[name][:].tobytes()
    (tmp_path / "secret").write_bytes(data)
    replaced(path, name, shape=shape, dtype=dtype, external=[(str(tmp_path / "secret"), 0, len(data))])
    refused(path, f"{name} is not stored in the file itself")


@pytest.mark.parametrize("name", [FEATURES, "frames/pts", "videos/label"])
def test_virtual_datasets_are_not_read(path, whole, name):
    with h5py.File(path, "a") as file:
        shape, dtype = file[name].shape, file[name].dtype
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(str(whole), name, shape, dtype)
        del file[name]
        file.create_virtual_dataset(name, layout)
    refused(path, f"{name} is not stored in the file itself")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        (FEATURES, {"shape": (313, 3, 3, 10**12), "dtype": "<f2"}),
        (FEATURES, {"shape": (10**9, 3, 3, 4), "dtype": "<f2"}),
        ("frames/pts", {"shape": (10**13,), "dtype": "<f8"}),
        ("classes", {"shape": (10**12,), "dtype": "S9"}),
        ("classes", {"shape": (2,), "dtype": "S1000000000"}),
    ],
)
def test_absurd_sizes_are_not_believed(path, name, dataset):
    replaced(path, name, **dataset)
    refused(path, f"{name} claims more than the file holds")


def test_chunked_data_is_refused(path):
    replaced(path, "frames/pts", shape=(10**12,), dtype="<f8", chunks=(1000,))
    refused(path, "frames/pts is chunked")
    replaced(path, "frames/pts", data=np.concatenate([times_of(video) for video in range(4)]), compression="gzip")
    refused(path, "frames/pts is chunked")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (FEATURES, np.zeros((313, 3, 3, 4), np.float32), "not one contiguous float16 array"),
        (FEATURES, np.zeros((313, 3, 3, 4), ">f2"), "not one contiguous float16 array"),
        (FEATURES, np.zeros((313, 3, 3, 5), np.float16), "for a 3 x 3 x 4 cube"),
        (FEATURES, np.zeros((313, 3, 12), np.float16), f"{FEATURES} has type float16 and rank 3"),
        (FEATURES, np.zeros((300, 3, 3, 4), np.float16), "videos and frames do not agree"),
        ("frames/pts", np.zeros(312), "videos and frames do not agree"),
        ("frames/pts", np.zeros(313, int), "frames/pts has type int64 and rank 1"),
        ("videos/num_frames", np.array([5, 1, 300, 6]), "videos and frames do not agree"),
        ("videos/num_frames", np.array([6, 0, 300, 7]), "videos do not follow one another"),
        ("videos/first_frame", np.array([0, 5, 7, 306]), "videos do not follow one another"),
        ("videos/first_frame", np.array([0, 5, 6, -306]), "videos do not follow one another"),
        ("videos/label", np.array([0, 1, 2, 0], np.int32), "a label without a class"),
        ("videos/label", np.array([0, 1, -2, 0], np.int32), "a label without a class"),
        ("videos/group", np.array([b"a", b"b"]), "columns of different lengths"),
        ("splits/default", np.zeros(5, np.uint8), "columns of different lengths"),
        ("splits/default", np.zeros(4, np.int32), "splits/default has type int32"),
    ],
)
def test_tables_that_do_not_agree(path, name, data, message):
    replaced(path, name, data=data)
    refused(path, message)


@pytest.mark.parametrize("name", ["format", "version", "dataset", "layers", "fingerprint"])
@pytest.mark.parametrize("value", [np.arange(3), np.array([b"a"] * 9), h5py.Empty("S1")])
def test_attributes_that_are_arrays(path, name, value):
    with h5py.File(path, "a") as file:
        del file.attrs[name]
        file.attrs[name] = value
    refused(path, "not a (usable )?feature store")
    assert is_store(path) == (name != "format")


@pytest.mark.parametrize("name", [b"format", b"dataset"])
def test_attributes_that_are_times(path, name):
    with h5py.File(path, "a") as file:
        h5py.h5a.delete(file.id, name)
        h5py.h5a.create(file.id, name, h5py.h5t.UNIX_D32LE, h5py.h5s.create(h5py.h5s.SCALAR))
    refused(path, "not a (usable )?feature store")
    assert is_store(path) == (name != b"format")


def test_texts_that_share_one_object_are_not_read(path):
    length, count = 300_000, 4_000  # 1.2 GB, were each read
    with h5py.File(path, "a") as file:
        del file.attrs["dataset"]
        file.attrs.create("dataset", ["a" * length, *["b"] * (count - 1)], dtype=h5py.string_dtype())
    data = bytearray(path.read_bytes())
    references = re.search(re.escape(struct.pack("<I", length)) + rb".{12}(?:\x01\0\0\0.{12}){3}", data, re.DOTALL)
    assert references is not None
    at = references.start()
    data[at : at + 16 * count] = data[at : at + 16] * count
    path.write_bytes(data)
    assert memory_taken(lambda: refused(path, "attribute dataset is an array")) < 2e8


@pytest.mark.parametrize(("group", "kind"), [("splits", np.uint8), ("backbone", np.int8)])
def test_many_names_of_one_array_are_not_read(path, group, kind):
    with h5py.File(path, "a") as file:
        file["bytes"] = np.zeros(10**7, kind)
        for i in range(300):
            file[f"{group}/{i}"] = file["bytes"]
    with pytest.raises(FeatureStoreError, match="claim more than a file of this size can hold"):
        FeatureStore(path).backbone_state()


def memory_taken(work: Callable[[], None]) -> float:
    """Bytes by which the most that the process ever held grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_a_group_of_a_hundred_thousand_names(path):
    with h5py.File(path, "a") as file:
        for i in range(10_001):
            file[f"splits/{i}"] = h5py.SoftLink("/x")
    refused(path, "splits has 10003 names")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (7, math.nan, "times that are no times"),
        (0, math.inf, "times that are no times"),
        (312, 1e300, "times that are no times"),
        (3, 0.0, r"times that fall within run/plain\.mp4"),
        (312, 0.0, "times that fall within 動画"),
        (305, 0.0, "times that fall within jump/caf"),
    ],
)
def test_times_that_are_none_or_fall(path, at, value, message):
    with h5py.File(path, "a") as file:
        file["frames/pts"][at] = value
    refused(path, message)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
def test_rates_that_are_none(path, rate):
    with h5py.File(path, "a") as file:
        file["videos/effective_fps"][1] = rate
    refused(path, "rates that are no rates")


def test_counts_whose_sum_runs_over(path):
    counts = np.array([2**62, 2**62, 2**62, 2**62 + 313])
    replaced(path, "videos/num_frames", data=counts)
    replaced(path, "videos/first_frame", data=np.cumsum(counts) - counts)
    refused(path, "videos and frames do not agree")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "device.h5").symlink_to("/dev/zero")
    for path in tmp_path.iterdir():
        refused(path, "not a regular file")
        assert not is_store(path)


def test_features_that_are_no_numbers_are_named(path):
    with h5py.File(path, "a") as file:
        file[FEATURES][5, 1, 1, 1] = np.nan
        file[FEATURES][310] = np.inf
    store = FeatureStore(path)
    store.require_finite(np.arange(5))
    store.require_finite(np.arange(6, 300).reshape(2, -1))
    with pytest.raises(FeatureStoreError, match=r"features of 動画\.mp4 are NaN or infinite; run `attnrec extract`"):
        store.require_finite(np.arange(306, 313))
    with pytest.raises(FeatureStoreError, match=r"features of run/two\nlines\.avi, 動画\.mp4 are NaN"):
        store.require_finite(np.arange(313))


# Several labels a video


SEVERAL = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], np.uint8)


@pytest.fixture
def several(tmp_path) -> Path:
    """A store whose videos have none, one or two labels."""
    return pack(
        tmp_path / "several.h5",
        [write_part(tmp_path / "several.h5", video) for video in range(len(NAMES))],
        label_matrix=SEVERAL,
    )


def test_several_labels_come_back(several):
    store = FeatureStore(several)
    assert store.multilabel
    np.testing.assert_array_equal(store.label_matrix, SEVERAL)
    assert store.videos.label.tolist() == [-1] * 4
    assert store.targets.dtype == np.float32
    np.testing.assert_array_equal(store.targets, SEVERAL)
    assert [store.labels_of(video) for video in range(4)] == [["jump", "rûn"], ["rûn"], [], ["jump"]]


def test_a_video_without_labels_counts_where_videos_may_have_several(several):
    assert FeatureStore(several).split_members("default", "test").tolist() == [2]
    assert FeatureStore(several).split_members("cv3-1", "train").tolist() == [1, 2, 3]


def test_single_labels_make_a_matrix_too(whole):
    store = FeatureStore(whole)
    assert not store.multilabel
    assert store.label_matrix.tolist() == [[0, 1], [0, 1], [1, 0], [0, 0]]
    assert store.targets.tolist() == list(LABELS)
    assert [store.labels_of(video) for video in range(4)] == [["rûn"], ["rûn"], ["jump"], []]


def test_labels_are_part_of_the_fingerprint(several, tmp_path, whole):
    again = tmp_path / "again.h5"
    pack(again, [write_part(again, video) for video in range(4)], label_matrix=1 - SEVERAL)
    fingerprints = {FeatureStore(path).fingerprint for path in (several, again, whole)}
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 2), np.uint8), "labels that are no table of videos and classes"),
        (np.zeros((4, 3), np.uint8), "labels that are no table of videos and classes"),
        (np.full((4, 2), 2, np.uint8), "labels that are no table of videos and classes"),
        (np.zeros((4, 2), np.int8), "videos/labels has type int8"),
        (np.zeros(4, np.uint8), "videos/labels has type uint8 and rank 1"),
    ],
)
def test_labels_that_are_no_table(several, data, message):
    replaced(several, "videos/labels", data=data)
    refused(several, message)


def test_single_labels_beside_several(several):
    replaced(several, "videos/label", data=np.array([0, -1, -1, -1], np.int32))
    refused(several, "videos of several labels with a single one")


def test_labels_in_another_file(several, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["labels"] = SEVERAL
    with h5py.File(several, "a") as file:
        del file["videos/labels"]
        file["videos/labels"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "labels")
    refused(several, "videos/labels is missing or a link")


@pytest.mark.parametrize(("name", "value"), [("grid_size", 0), ("grid_size", 65), ("feature_dim", 10**6)])
def test_impossible_cubes(path, name, value):
    with h5py.File(path, "a") as file:
        file[FEATURES].attrs[name] = value
    refused(path, "cube")


# Several layers

LOWER = dataclasses.replace(SPEC, layer="inception4e", weights_sha256="cd" * 32, grid_size=5, feature_dim=2)


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("layers") / "out.h5"
    return pack(out, [write_part(out, video, SPEC, LOWER) for video in range(4)], SPEC, LOWER)


@pytest.mark.parametrize("spec", [SPEC, LOWER])
def test_each_layer_comes_back(two_layers, spec):
    store = FeatureStore(two_layers, spec.layer)
    assert (store.spec, store.specs, store.layers) == (spec, [SPEC, LOWER], ["inception5b", "inception4e"])
    for video, first in enumerate(store.videos.first_frame):
        np.testing.assert_array_equal(store.features()[first : first + LENGTHS[video]], cubes_of(video, spec))
        np.testing.assert_array_equal(store.pts_of(video), times_of(video))


def test_the_first_layer_is_the_one_to_read(two_layers):
    assert FeatureStore(two_layers).spec == SPEC
    with pytest.raises(FeatureStoreError, match=r"no layer 'conv1'; it has inception5b, inception4e"):
        FeatureStore(two_layers, "conv1")


def test_features_of_two_layers_are_found_for_the_next_store(two_layers, tmp_path):
    found = stored_sources(FeatureStore(two_layers))
    again = pack(
        tmp_path / "again.h5",
        [found[part_fingerprint(f"{video:064x}", [SPEC, LOWER])] for video in range(4)],
        SPEC,
        LOWER,
    )
    np.testing.assert_array_equal(
        FeatureStore(again, "inception4e").features(), FeatureStore(two_layers, "inception4e").features()
    )


# Finding one


def test_the_only_store_of_a_folder_is_found(tmp_path, whole):
    with pytest.raises(FeatureStoreError, match="no feature store here; make one with"):
        find_store(tmp_path)
    (tmp_path / "text.h5").write_text("text")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(FeatureStoreError, match="no feature store here"):
        find_store(tmp_path)
    (tmp_path / "b.h5").write_bytes(whole.read_bytes())
    assert find_store(tmp_path) == tmp_path / "b.h5"
    (tmp_path / "a.h5").write_bytes(whole.read_bytes())
    with pytest.raises(FeatureStoreError, match=r"several feature stores here, name one of a\.h5, b\.h5"):
        find_store(tmp_path)


def test_what_cannot_be_used_beside_the_only_store_is_named(tmp_path, whole):
    (tmp_path / "good.h5").write_bytes(whole.read_bytes())
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[:5000])
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "device.h5").symlink_to("/dev/zero")
    (tmp_path / "gone.h5").symlink_to("nowhere")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "odd.h5").write_bytes(whole.read_bytes())
    with h5py.File(tmp_path / "odd.h5", "a") as file:
        file["frames/pts"][0] = math.nan  # says that it is a store, and cannot be used
    said = []
    assert find_store(tmp_path, lambda event: said.append(event.message)) == tmp_path / "good.h5"
    names = ("cut", "device", "fifo", "folder", "gone", "odd")
    assert [line.split(": ")[:2] for line in said] == [["left out", str(tmp_path / f"{name}.h5")] for name in names]
