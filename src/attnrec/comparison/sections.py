"""The tables of a comparison as text, for the terminal, for Markdown and for notebooks."""

from collections.abc import Sequence

from attnrec.comparison import columns
from attnrec.comparison.columns import PUBLISHED, published_texts
from attnrec.comparison.results import ComparedTable, CompareReport
from attnrec.drawing.tables import TextTable
from attnrec.runtime import counted

_LEVEL = 0.05


def sections(report: CompareReport) -> list[TextTable]:
    """The tables of a comparison as text, each with the columns and rows that have values in it."""
    shown = [each for of in report.tables for each in sections_of(of)]
    if report.published:
        rows = published_texts(report.published)
        shown.append(TextTable(f"Published: {report.published_source}", list(PUBLISHED), rows))
    return shown


def sections_of(of: ComparedTable) -> list[TextTable]:
    """A table split into parts that fit a terminal, each with the columns and rows that have values in it."""
    apart = [] if of.apart is None else [f"A table of its own: {of.apart}."]
    flags = [f"{row.name}: {flag}" for row in of.rows for flag in row.flags]
    unlike = [f"{row.name} differs from the paper's: {'; '.join(row.differs)}" for row in of.rows if row.published]
    pointing = "Does the attention peak in the boxes? In %, with maps that ignore the frame"
    found = [
        _section(of, _title(of), columns.FIGURES, [*apart, *flags]),
        _section(of, f"Differences from {of.against}", columns.DIFFERENCES, _about_differences(of)),
        _section(of, "Training, mean over the runs of a row", columns.TRAINING, unlike),
        _section(of, "Is the attention faithful? In %", columns.FAITHFULNESS, []),
        _section(of, pointing, columns.POINTING, []),
        _section(of, "How much of the attention is in the boxes? In %", columns.MASS, []),
    ]
    return [each for each in found if each.rows]


def _section(of: ComparedTable, title: str, own: Sequence[columns.Column], lines: Sequence[str]) -> TextTable:
    shown = columns.shown_columns(own, of)
    texts = [[row.name, *(column.said(of, row) for column in shown)] for row in of.rows]
    rows = [[text or "-" for text in said] for said in texts if any(said[1:])]
    return TextTable(title, ["row", *(column.headed(of) for column in shown)], rows, notes=lines)


def _title(of: ComparedTable) -> str:
    leaking = ", LEAKING: groups on both sides" if of.leaking else ""
    splits = f"split{'s' if len(of.splits) > 1 else ''} {', '.join(of.splits)}"
    return f"{of.dataset}, {splits}, {of.num_videos} {of.part} videos in {counted(of.num_groups, 'group')}{leaking}"


def _about_differences(of: ComparedTable) -> list[str]:
    groups = counted(of.num_groups, "group")
    lines = [f"Paired bootstrap over {groups} of videos, of the mean over the seeds; p corrected by Holm."]
    if 2 ** (1 - of.num_groups) > _LEVEL:
        lines.append(f"Too few to tell: with {groups} p cannot fall below {2 ** (1 - of.num_groups):g}.")
    return lines
