"""The work of `extract` in one process: videos that are not done yet, decoded, sent through the trunk, into parts."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from attnrec.datasets.dataset import VideoEntry
from attnrec.errors import VideoError
from attnrec.features.extractor import BATCH_FRAMES, CubeExtractor, Cubes, frame_reader
from attnrec.features.parts import FeatureSource, PartsWriter, file_sha256, part_fingerprint, part_path, read_part
from attnrec.runtime import OnProgress, Progress
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary
from attnrec.video.prefetch import DecodeAhead, FrameBatch, VideoEnd, gathered

_ESTIMATE_BATCHES = 4


@dataclass
class Findings:
    """What is known of the videos so far; plain values, so that processes can tell each other.

    Attributes:
        content: SHA-256 of each readable video, by its relative path.
        missing: Paths of videos whose features have to be computed.
        failed: Reason and message of each video that is left out, by path.
        num_frames: Frames that are there already.
    """

    content: dict[Path, str] = field(default_factory=dict)
    missing: list[Path] = field(default_factory=list)
    failed: dict[Path, tuple[str, str]] = field(default_factory=dict)
    num_frames: int = 0

    def merge(self, other: "Findings") -> None:
        """Add what another process found."""
        self.content |= other.content
        self.missing += other.missing
        self.failed |= other.failed
        self.num_frames += other.num_frames


class Extraction:
    """A share of the videos of a store that is being made.

    Args:
        root: Folder that the videos' paths are relative to.
        out: The store.
        specs: Settings of each layer's features.
        config: Settings.
        stored: Videos of an earlier store, by part fingerprint.
        on_progress: Told of every video.
    """

    def __init__(
        self,
        root: Path,
        out: Path,
        specs: Sequence[FeatureSpec],
        config: ExtractConfig,
        stored: dict[str, FeatureSource],
        on_progress: OnProgress,
    ) -> None:
        self._root = root
        self._out = out
        self._specs = specs
        self._config = config
        self._stored = stored
        self._on_progress = on_progress

    def source(self, path: Path, content: str) -> FeatureSource | None:
        """Where a video's features are, if they are there and fit its content and the settings."""
        fingerprint = part_fingerprint(content, self._specs)
        return self._stored.get(fingerprint) or read_part(part_path(self._out, path), fingerprint)

    def check(self, entries: Sequence[VideoEntry], jobs: int) -> Findings:
        """Look at every file, and tell what is done from what is not.

        Raises:
            VideoError: One cannot be read and `config.on_error` is `fail`.
        """
        findings = Findings()
        with ThreadPoolExecutor(jobs, thread_name_prefix="check") as pool:
            contents = pool.map(self._content, [entry.path for entry in entries])
            for done, (entry, content) in enumerate(zip(entries, contents, strict=True)):
                self._on_progress(Progress("check", done, len(entries), str(entry.path)))
                if isinstance(content, VideoError):
                    self._leave_out(entry.path, content, findings)
                    continue
                findings.content[entry.path] = content
                source = self.source(entry.path, content)
                if source is None:
                    findings.missing.append(entry.path)
                elif self._config.strict and source.summary.status != "ok":
                    self._leave_out(entry.path, self._damage(entry.path, source.summary), findings)
                else:
                    findings.num_frames += source.num_frames
        self._on_progress(Progress("check", len(entries), len(entries)))
        return findings

    def run(self, findings: Findings, extractor: CubeExtractor, jobs: int, expected_frames: int) -> None:
        """Compute the features of the missing videos into parts; `findings` is told of those that fail.

        Raises:
            VideoError: One cannot be decoded and `config.on_error` is `fail`.
            AttnrecError: A part cannot be written.
        """
        paths = findings.missing
        readers = [frame_reader(self._root / path, self._specs[0]) for path in paths]
        meter = _Meter(len(paths), expected_frames, self._on_progress)
        pending: deque[tuple[FrameBatch, Callable[[], Cubes]]] = deque()
        batches_ahead = 1 if extractor.device.type == "cuda" else 0
        with DecodeAhead(readers, jobs=jobs) as decoded, PartsWriter(self._specs) as writer:
            store = partial(self._store, findings, writer, meter)
            for batch in gathered(decoded, BATCH_FRAMES):
                pending.append((batch, extractor.submit(batch.frames) if len(batch.frames) else dict))
                if len(pending) > batches_ahead:
                    store(*pending.popleft())
            while pending:
                store(*pending.popleft())

    def _store(
        self,
        findings: Findings,
        writer: PartsWriter,
        meter: "_Meter",
        batch: FrameBatch,
        wait: Callable[[], Cubes],
    ) -> None:
        """Hand a batch's cubes to the writer, and finish the videos that end with it."""
        cubes = wait()
        for video, rows, pts in batch.pieces:
            rows_of = {layer: cube[rows] for layer, cube in cubes.items()}
            writer.append(part_path(self._out, findings.missing[video]), rows_of, pts)
        meter.add_frames(len(batch.frames))
        for end in batch.ended:
            self._finish(findings, writer, meter, end)

    def _finish(self, findings: Findings, writer: PartsWriter, meter: "_Meter", end: VideoEnd) -> None:
        path, outcome = findings.missing[end.video], end.outcome
        target = part_path(self._out, path)
        if isinstance(outcome, DecodeSummary) and outcome.status != "ok" and self._config.strict:
            outcome = self._damage(path, outcome)
        if isinstance(outcome, VideoError):
            writer.discard(target)
            self._leave_out(path, outcome, findings)
        else:
            writer.commit(target, part_fingerprint(findings.content[path], self._specs), outcome)
        meter.finish_video(path)

    def _content(self, path: Path) -> str | VideoError:
        full = self._root / path
        try:
            frame_reader(full, self._specs[0]).check()
            return file_sha256(full)
        except VideoError as error:
            return error
        except OSError as error:
            return VideoError("unreadable", f"{full}: unreadable: {error.strerror}")

    def _damage(self, path: Path, summary: DecodeSummary) -> VideoError:
        full = self._root / path
        return VideoError(summary.status, f"{full}: {summary.status}: {summary.num_decoded} frames could be decoded")

    def _leave_out(self, path: Path, error: VideoError, findings: Findings) -> None:
        if self._config.on_error == "fail":
            raise error
        findings.failed[path] = (error.reason, str(error))
        self._on_progress(Progress("extract", message=f"skipped {error}"))


class _Meter:
    """Counts what is done and says, once it can tell, how long the rest will take."""

    def __init__(self, num_videos: int, expected_frames: int, on_progress: OnProgress) -> None:
        self._num_videos = num_videos
        self._expected_frames = expected_frames
        self._on_progress = on_progress
        self._videos = self._frames = self._batches = 0
        self._started = time.monotonic()

    @property
    def _frames_per_second(self) -> float:
        return self._frames / (time.monotonic() - self._started)

    def add_frames(self, count: int) -> None:
        self._frames += count
        self._batches += 1
        left = self._expected_frames - self._frames
        if self._batches == _ESTIMATE_BATCHES and left > 0:
            minutes = left / self._frames_per_second / 60
            self._on_progress(
                Progress("extract", message=f"{self._frames_per_second:.0f} frames/s, about {minutes:.1f} min to go")
            )

    def finish_video(self, path: Path) -> None:
        self._videos += 1
        detail = f"{self._frames_per_second:.0f} frames/s  {path}"
        self._on_progress(Progress("extract", self._videos, self._num_videos, detail))
