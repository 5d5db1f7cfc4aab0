"""The work of `extract` in one process: decodes unfinished videos, runs the trunk, and writes part files."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from attnrec.datasets.dataset import Dataset
from attnrec.errors import VideoError
from attnrec.features.extractor import CubeExtractor, Cubes, frame_reader
from attnrec.features.pack import stored_sources
from attnrec.features.parts import FeatureSource, PartsWriter, file_sha256, part_fingerprint, part_path, read_part
from attnrec.features.store import FeatureStore
from attnrec.runtime import OnProgress, Progress
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary
from attnrec.video.prefetch import DecodeAhead, FrameBatch

BATCHES_AHEAD = 1  # submitted to a CUDA device before the cubes of one are awaited
_BATCHES = 4  # that are filled, computed and used again


@dataclass
class Outcome:
    """What is known of videos so far, by relative path; plain values, which processes can exchange."""

    content: dict[Path, str] = field(default_factory=dict)  # SHA-256 of each readable video
    missing: list[Path] = field(default_factory=list)  # videos whose features have to be computed
    failed: dict[Path, tuple[str, str]] = field(default_factory=dict)  # reason and message of each video left out
    num_frames: int = 0  # frames that are stored already

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.content | other.content,
            self.missing + other.missing,
            self.failed | other.failed,
            self.num_frames + other.num_frames,
        )


@dataclass(frozen=True)
class Extraction:
    """The extraction of a store, as seen by each of the processes that share its videos."""

    data: Dataset
    out: Path  # path of the store
    config: ExtractConfig
    specs: Sequence[FeatureSpec]  # specification of each layer's features
    jobs: int  # number of videos checked or decoded at once
    earlier: FeatureStore | None  # the store that is replaced
    on_progress: OnProgress  # called for every video

    @functools.cached_property
    def _stored(self) -> Mapping[str, FeatureSource]:
        """The videos of the earlier store, by part fingerprint."""
        return {} if self.earlier is None else stored_sources(self.earlier)

    def source(self, path: Path, content: str) -> FeatureSource | None:
        """Where a video's features are; None if there are none for its content and the settings."""
        fingerprint = part_fingerprint(content, self.specs)
        return self._stored.get(fingerprint) or read_part(part_path(self.out, path), fingerprint, self.specs)

    def check(self, paths: Sequence[Path]) -> Outcome:
        """Check every video, and find which already have features.

        Raises:
            VideoError: A video cannot be read and `config.on_error` is `fail`.
        """
        findings = Outcome()
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="check") as pool:
            for done, (path, content) in enumerate(zip(paths, pool.map(self._content, paths), strict=True)):
                self.on_progress(Progress("check", done, len(paths), str(path)))
                if isinstance(content, VideoError):
                    findings.failed[path] = self._left_out(content)
                    continue
                findings.content[path] = content
                source = self.source(path, content)
                if source is None:
                    findings.missing.append(path)
                elif isinstance(outcome := self._judged(path, source.summary), VideoError):
                    findings.failed[path] = self._left_out(outcome)
                else:
                    findings.num_frames += source.num_frames
        self.on_progress(Progress("check", len(paths), len(paths)))
        return findings

    def compute(self, findings: Outcome, extractor: CubeExtractor, expected_frames: int) -> Outcome:
        """Compute the features of the missing videos into parts, and return which videos failed.

        Raises:
            VideoError: A video cannot be decoded and `config.on_error` is `fail`.
            AttnrecError: A part cannot be written.
        """
        failed = {}
        paths, parts = findings.missing, [part_path(self.out, path) for path in findings.missing]
        readers = [frame_reader(self.data.root / path, self.specs[0]) for path in paths]
        meter = _Meter(len(paths), expected_frames, self.on_progress)
        memory = extractor.batches(_BATCHES)
        with DecodeAhead(readers, memory, jobs=self.jobs) as batches, PartsWriter(self.specs) as writer:
            for batch, cubes in _computed(batches, extractor):
                for video, rows, pts in batch.pieces:
                    writer.append(parts[video], {layer: cube[rows] for layer, cube in cubes.items()}, pts)
                meter.add_frames(batch.num_frames)
                for video, decoding in batch.ended:
                    path, outcome = paths[video], self._judged(paths[video], decoding)
                    if isinstance(outcome, VideoError):
                        writer.discard(parts[video])
                        failed[path] = self._left_out(outcome)
                    else:
                        fingerprint = part_fingerprint(findings.content[path], self.specs)
                        writer.commit(parts[video], fingerprint, outcome)
                    meter.finish_video(path)
        return Outcome(failed=failed)

    def _content(self, path: Path) -> str | VideoError:
        full = self.data.root / path
        try:
            frame_reader(full, self.specs[0]).check()
            return file_sha256(full)
        except VideoError as error:
            return error
        except OSError as error:
            return VideoError("unreadable", f"{full}: unreadable: {error.strerror}")

    def _judged(self, path: Path, outcome: DecodeSummary | VideoError) -> DecodeSummary | VideoError:
        """How a video's decoding ended; under `config.strict` damage counts as failure."""
        if isinstance(outcome, VideoError) or outcome.status == "ok" or not self.config.strict:
            return outcome
        what = f"{outcome.status}: {outcome.num_decoded} frames could be decoded"
        return VideoError(outcome.status, f"{self.data.root / path}: {what}")

    def _left_out(self, error: VideoError) -> tuple[str, str]:
        if self.config.on_error == "fail":
            raise error
        self.on_progress(Progress("extract", message=f"skipped {error}"))
        return error.reason, str(error)


def _computed(batches: DecodeAhead, extractor: CubeExtractor) -> Iterator[tuple[FrameBatch, Cubes]]:
    """Each batch with its cubes; on CUDA the next batch is submitted before the cubes of one are awaited.

    The frames of a batch are gone by then.
    """
    pending: deque[tuple[FrameBatch, Callable[[], Cubes]]] = deque()
    batches_ahead = BATCHES_AHEAD if extractor.device.type == "cuda" else 0

    def next_done() -> tuple[FrameBatch, Cubes]:
        batch, wait = pending.popleft()
        cubes = wait()
        batches.release(batch)
        return batch, cubes

    for batch in batches:
        pending.append((batch, extractor.submit(batch.frames, batch.num_frames) if batch.num_frames else dict))
        if len(pending) > batches_ahead:
            yield next_done()
    while pending:
        yield next_done()


class _Meter:
    """Counts frames and videos, and reports how fast they go."""

    def __init__(self, num_videos: int, expected_frames: int, on_progress: OnProgress) -> None:
        self._num_videos = num_videos
        self._expected_frames = expected_frames
        self._on_progress = on_progress
        self._videos = self._frames = 0
        self._started = time.monotonic()

    def add_frames(self, count: int) -> None:
        self._frames += count
        self._report("")

    def finish_video(self, path: Path) -> None:
        self._videos += 1
        self._report(f", {path}")

    def _report(self, finished: str) -> None:
        speed = self._frames / (time.monotonic() - self._started)
        expected = max(self._frames, self._expected_frames)
        detail = f"{speed:.0f} frames/s, {self._frames} of about {expected} frames{finished}"
        self._on_progress(Progress("extract", self._videos, self._num_videos, detail))
