"""Self-contained HTML: one file with its styles, scripts and pictures inside, which needs no network."""

import base64
import functools
import hashlib
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from attnrec.drawing.text import printable


def document(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Fill a template of `drawing/web/`. Values are escaped, including data for scripts.

    The page's content security policy allows only its own styles and scripts, by their hashes, and embedded pictures;
    nothing else is loaded or run, so even a mistake in escaping could not execute what a file name says.

    Args:
        template: Name of the template, which extends `base.html`.
        styles: Names of the style sheets, in order, after `base.css`.
        scripts: Names of the scripts, in order.
        **values: Values that the template shows.

    Returns:
        The page, pure ASCII if the values are.
    """
    style_texts = [_inline(name) for name in ("base.css", *styles)]
    script_texts = [_inline(name) for name in scripts]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_source_hash, script_texts))}",
            f"style-src {' '.join(map(_source_hash, style_texts))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    page = _environment().get_template(template)
    return page.render(policy=policy, styles=style_texts, scripts=script_texts, **values)


def data_uri(content: bytes, kind: str) -> str:
    """A picture as a data URI; `kind` is its media type, such as `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def still_of(gif: bytes) -> str:
    """The middle frame of a GIF as a data URI, for readers who want no motion."""
    with Image.open(io.BytesIO(gif)) as picture:
        picture.seek(getattr(picture, "n_frames", 1) // 2)
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="JPEG", quality=85)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


@functools.cache
def _inline(name: str) -> Markup:
    return Markup(files("attnrec").joinpath("drawing", "web", name).read_text(encoding="utf-8"))


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: str(_inline(name))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
