import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import visit
from looks import predicting
from pages import HOSTILE, Page, assert_self_contained, assert_usable
from PIL import Image

from attnrec.drawing.light import attended_frame, upsample
from attnrec.drawing.outlines import outlined, outlined_cells
from attnrec.pictures.look import Look
from attnrec.pictures.page import clip_page
from attnrec.settings import PictureConfig

# In a frame of 330 px the page shows a picture of this width as it is.
K, S, WIDTH, HEIGHT = 5, 6, 272, 204
TIMES = np.array([0, 0.1, 0.2, 0.5, 0.6, 0.9])


def made_look(**changes) -> Look:
    """A crop of the middle: the network sees three quarters of the width."""
    rng = np.random.default_rng(0)
    look = Look(
        clip="videos/v_jump_g01_c01.mp4",
        run="runs/attention-1",
        label="",
        prediction=predicting("jump"),
        truth="jump",
        correct=True,
        classes=("jump", "run"),
        sample_fps=30.0,
        frames=np.arange(S),
        times=TIMES,
        end=1.0,
        attention=rng.dirichlet(np.full(K * K, 0.3), S).reshape(S, K, K).astype(np.float32),
        frame_probs=rng.dirichlet(np.ones(2), S).astype(np.float32),
        entropy=np.linspace(0.5, 0.9, S),
        size=(WIDTH, HEIGHT),
        region=(0.125, 0.0, 0.875, 1.0),
    )
    return dataclasses.replace(look, **changes)


def made_frames() -> list[np.ndarray]:
    """The first of one grey, the others smooth and coloured."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    coloured = np.stack([x / 2 + 40, y + 20, 200 - x / 3], axis=2)
    return [np.full((HEIGHT, WIDTH, 3), 110, np.uint8)] + [(coloured + 4 * s).astype(np.uint8) for s in range(1, S)]


def page_of(look: Look, frames: list[np.ndarray] | None = None, **settings) -> str:
    return clip_page(look, made_frames() if frames is None else frames, PictureConfig(**settings))


def test_a_page_holds_all_it_shows():
    page = Page(page_of(made_look()))
    assert_self_contained(page)
    assert_usable(page)
    data = page.data()
    assert data["times"] == TIMES.tolist()
    np.testing.assert_allclose(np.reshape(data["attention"], (S, K, K)), made_look().attention, atol=1e-6)
    np.testing.assert_allclose(data["probs"], made_look().frame_probs, atol=1e-5)
    for address, frame in zip(data["frames"], made_frames(), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
        assert np.abs(np.asarray(picture).astype(int) - frame).max() <= 4
    assert "jump 93%" in page.text
    assert "jump 93%, right" in page.text
    page = Page(page_of(made_look(), style="grid", scale="fixed"))
    checked = [has["value"] for has, _ in page.all("input", type="radio") if "checked" in has]
    assert checked == ["grid", "fixed"]
    assert len(page.all("td")) == K * K


def test_the_cells_weights_are_those_of_the_drawn_pictures():
    data = Page(page_of(made_look())).data()
    rows, columns = np.reshape(data["rows"], (-1, K)), np.reshape(data["columns"], (-1, K))
    attention = made_look().attention[3]
    expected = upsample(attention, HEIGHT, WIDTH, made_look().region_in(WIDTH, HEIGHT))
    np.testing.assert_allclose(rows @ attention @ columns.T, expected, atol=1e-4)


def test_points_of_the_curves():
    page = Page(page_of(made_look(frame_probs=np.linspace([0.2, 0.8], [1, 0], S).astype(np.float32))))
    lines = [attributes["points"] for attributes, _ in page.all("polyline")]
    points = np.array([[float(x) for x in point.split(",")] for point in lines[0].split()])
    np.testing.assert_allclose(points[:, 0], TIMES / 0.9 * 1000, atol=0.05)
    np.testing.assert_allclose(points[:, 1], np.linspace(80, 0, S), atol=0.01)
    assert len(lines) == 3  # two classes and the entropy


def test_of_many_classes_the_likely_ones_and_the_true_one_are_shown():
    probs = np.tile(np.linspace(0.2, 0, 9, dtype=np.float32), (S, 1))
    look = made_look(classes=tuple(f"class{i}" for i in range(9)), frame_probs=probs, truth="class8", correct=False)
    page = Page(page_of(look))
    shown = [text for _, text in page.all("span", **{"class": "name"})]
    assert shown == ["class0", "class1", "class2", "class3", "class4", "class8 (true class)"]
    assert "The 3 least probable classes are left out" in page.text
    assert "wrong: is class8" in page.text


@pytest.mark.parametrize("num_samples", [1, 2])
def test_clips_of_a_step_or_two_have_a_page(num_samples):
    whole = made_look()
    parts = {name: getattr(whole, name)[:num_samples] for name in ("times", "attention", "frame_probs", "entropy")}
    html = page_of(dataclasses.replace(whole, **parts), made_frames()[:num_samples])
    page = Page(html)
    drawn = [str(attributes["points"]) for attributes, _ in page.all("polyline")]
    assert np.isfinite([float(number) for points in drawn for number in points.replace(",", " ").split()]).all()
    assert "NaN" not in re.sub('"data:[^"]*"', "", html)
    assert len(page.data()["frames"]) == num_samples


def test_names_are_text_whatever_they_say():
    look = made_look(
        clip=f"videos/{HOSTILE.replace('/', '')}",
        run=HOSTILE,
        truth=HOSTILE,
        correct=False,
        prediction=predicting(HOSTILE),
        classes=(HOSTILE, "run"),
    )
    html = page_of(look)
    html.encode("utf-8")
    page, plain = Page(html), Page(page_of(made_look(correct=False)))
    assert [tag for tag, _, _ in page.elements] == [tag for tag, _, _ in plain.elements]
    assert_self_contained(page)
    shown = HOSTILE.replace("\n", "?").replace("\udcff", "?")
    assert page.all("h1")[0][1] == shown.replace("/", "")
    assert page.data()["classes"] == [shown, "run"]
    assert "<script>alert" not in html


def test_what_must_be_said_of_the_attention_stands_above():
    words = "it looks nowhere"
    page = Page(page_of(made_look(note=words)))
    assert_usable(page)
    assert "It looks nowhere." in page.text
    assert "It looks nowhere" not in Page(page_of(made_look())).text


def test_boxes_can_be_switched_off_where_there_are_any():
    half = made_look(size=(WIDTH // 2, HEIGHT // 2), boxes={2: [(10, 5, 30, 50), (-4, 0, 9, 9)]})
    page = Page(page_of(half))
    assert_usable(page)
    boxes = page.data()["boxes"]
    assert boxes == [[], [], [[20, 10, 59, 99], [0, 0, 17, 17]], [], [], []]
    ((switch, _),) = page.all("input", id="boxes")
    assert "checked" in switch
    assert not Page(page_of(made_look())).all("input", id="boxes")


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="5 frames for 6 samples"):
        page_of(made_look(), made_frames()[:-1])


def test_a_browser_shows_the_step_that_is_asked_for(tmp_path):
    (tmp_path / "clip.html").write_text(
        page_of(made_look(prediction=predicting(HOSTILE), classes=(HOSTILE, "run"))), encoding="utf-8"
    )
    seen = visit(f"file://{tmp_path}/clip.html#t=0.55&style=grid&scale=fixed", tmp_path)
    assert seen.console == []
    assert seen.fetched == []
    page = Page(seen.dom)
    assert page.all("html")[0][0]["data-drawn"] == "3 grid fixed"
    assert page.all("input", id="step")[0][0]["aria-valuetext"] == "0.50 s, step 4 of 6"
    attention = made_look().attention[3].ravel()
    for (_, text), weight in zip(page.all("td"), attention, strict=True):
        assert float(text) == pytest.approx(100 * weight, abs=0.51 if weight > 0.0995 else 0.051)
    row, column = divmod(int(attention.argmax()), K)
    assert (
        page.all("dd", id="peak")[0][1] == f"{attention.max() * K**2:.1f} x uniform, row {row + 1}, column {column + 1}"
    )
    assert page.all("dd", id="entropy")[0][1] == f"{made_look().entropy[3]:.3f} of uniform"


def layered_look(share: float = 0.75) -> Look:
    """A look whose attention a 5 x 5 layer got this share of, all in its second cell; the rest a 2 x 2 one, evenly."""
    fine, coarse = np.zeros((S, K, K), np.float32), np.full((S, 2, 2), (1 - share) / 4, np.float32)
    fine[:, 0, 1] = share
    return made_look(layers={"Mixed_5b": fine, "<last>": coarse}, note="attention by layer: Mixed_5b 75%")


def test_a_browser_shows_layers_apart(tmp_path):
    (tmp_path / "clip.html").write_text(page_of(layered_look()), encoding="utf-8")
    seen = visit(f"file://{tmp_path}/clip.html", tmp_path)
    assert seen.console == []
    page = Page(seen.dom)
    assert [text for _, text in page.all("figcaption")] == ["Mixed_5b, 5 x 5: ", "<last>, 2 x 2: "]
    assert [text for _, text in page.all("span", **{"class": "share"})] == ["75.0 %", "25.0 %"]
    drawn = worked(page_of(layered_look()), LAYERS_DRAWN, tmp_path)
    # The strongest for its area is full; the other layer's cells are 4 * 0.25 / 4 against 25 * 0.75.
    strengths = [np.zeros(25), np.full(4, 255 * 0.25 / (25 * 0.75))]
    strengths[0][1] = 255
    for actual, expected in zip(drawn, strengths, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1)


def test_one_layer_is_not_shown_apart():
    page = page_of(made_look())
    assert "Layer by layer" not in page
    assert "Layer by layer" in page_of(layered_look())
    assert "Attention by layer: Mixed_5b 75%." in page_of(layered_look())


def test_a_browser_draws_what_other_pictures_show(tmp_path):
    """Pages of all styles side by side, against the pictures that Python makes."""
    looked_at = np.zeros((S, K, K), bool)
    looked_at[2, 3, 1] = True
    look = made_look(boxes={2: [(100, 50, 180, 150)]}, looked_at=looked_at)
    (tmp_path / "clip.html").write_text(page_of(look), encoding="utf-8")
    step, styles = 2, ("paper", "grid")
    places = ["#t=0&style=none", *(f"#t=0.2&scale=clip&style={style}" for style in styles)]
    columns = "".join(f"<iframe src='clip.html{place}'></iframe>" for place in places)
    layout = "body{margin:0;display:flex}iframe{border:0;flex:none;width:330px;height:500px}"
    (tmp_path / "all.html").write_text(f"<!DOCTYPE html><style>{layout}</style>{columns}")
    seen = visit(f"file://{tmp_path}/all.html", tmp_path, size=(990, 500), picture=True)
    assert seen.console == []
    assert seen.picture is not None
    bare, *drawn = np.split(seen.picture.astype(int), 3, axis=1)
    # The bare frame is of one grey that the page has nowhere else: it shows where pictures stand.
    inside = (np.abs(bare - 110) <= 2).all(axis=2)
    rows, columns = (np.flatnonzero(inside.mean(axis=axis) > 0.15) for axis in (1, 0))
    assert (len(rows), len(columns)) == (HEIGHT, WIDTH)
    for style, picture in zip(styles, drawn, strict=True):
        expected = attended_frame(
            made_frames()[step],
            look.attention[step],
            style=style,
            full=float(look.full(style, "clip")[step]),
            region=look.region_in(WIDTH, HEIGHT),
        )
        expected = outlined_cells(expected, look.cells_in(step, WIDTH, HEIGHT))
        expected = outlined(expected, look.boxes_in(step, WIDTH, HEIGHT))
        error = np.abs(picture[np.ix_(rows, columns)] - expected).max(axis=2)[6:-6, 6:-6]  # corners are round
        # JPEG and lines' ends aside; the weights on the cells of `grid` are in another font.
        assert np.quantile(error, 0.75 if style == "grid" else 0.999) <= 6, style


# What a script has seen goes into the page.
SEEN = """
const seen = [];
function done() {
  const out = document.createElement("script");
  out.type = "text/plain";
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
}
"""

# A browser whose time is virtual draws no frames to wait for: timers stand for them.
ACTIONS = """
window.requestAnimationFrame = (tick) => setTimeout(() => tick(performance.now()), 20);
const find = (id) => document.getElementById(id);
const text = (id) => find(id).textContent;
const note = (what) => seen.push([what, Number(find("step").value) + 1, text("play"), text("announce")]);
const press = (key, target = document.body) => {
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  note(key);
};
for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", " ", " "]) press(key);
press("ArrowRight", document.querySelector("input[name=style]"));
find("step").value = 4;
find("step").dispatchEvent(new Event("input"));
note("slider");
const plot = document.querySelector("[data-seeks]"), box = plot.getBoundingClientRect();
plot.dispatchEvent(new MouseEvent("click", { clientX: box.left + 0.6 * box.width, bubbles: true }));
note("plot");
document.querySelector("input[value=grid]").click();
note(text("legend"));
find("loop").click();
find("play").click();
const before = performance.now();
(function wait() {
  // To the end of the clip and no further, or far longer than it should take.
  if (text("play") === "Pause" && performance.now() < before + 4000) return setTimeout(wait, 50);
  note("played");
  done();
})();
"""

# Steps on, waits until the address has it, goes elsewhere, and comes back by the address.
REMEMBERED = """
(async () => {
  const slider = document.getElementById("step"), places = [];
  const goTo = (step) => {
    slider.value = step;
    slider.dispatchEvent(new Event("input"));
  };
  for (let step = 1; step <= Number(slider.max); step++) {
    goTo(step);
    await new Promise((resume) => setTimeout(resume, 500));
    const hash = location.hash;
    goTo(0);
    window.dispatchEvent(new Event("hashchange"));
    seen.push([hash, step, Number(slider.value)]);
  }
  done();
})();
"""


LAYERS_DRAWN = """
const canvases = document.querySelectorAll("#layers canvas");
for (const canvas of canvases) {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  seen.push(Array.from(pixels).filter((_, i) => i % 4 === 3));
}
done();
"""


def worked(html: str, script: str, folder: Path) -> Any:
    """What a script has seen that works a page."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', html)
    assert policy is not None
    html = html.replace(policy[0], "").replace("</body>", f"<script>{SEEN}{script}</script></body>")
    (folder / "clip.html").write_text(html, encoding="utf-8")
    seen = visit(f"file://{folder}/clip.html", folder)
    assert seen.console == []
    return json.loads(Page(seen.dom).all("script", id="seen")[0][1])


def test_the_address_keeps_the_step(tmp_path):
    places = worked(page_of(made_look(times=np.arange(S) / 30, end=S / 30)), REMEMBERED, tmp_path)
    assert [step for _, step, _ in places] == list(range(1, S))
    assert [back for _, _, back in places] == list(range(1, S))
    assert places[1][0] == "#t=0.066667&style=paper&scale=clip"


def test_a_page_can_be_worked_by_keys_pointer_and_play(tmp_path):
    noted = worked(page_of(made_look()), ACTIONS, tmp_path)
    moves = [(what, step, button) for what, step, button, _ in noted[:11]]
    assert moves == [
        ("ArrowRight", 2, "Play"),
        ("ArrowRight", 3, "Play"),
        ("ArrowLeft", 2, "Play"),
        ("End", 6, "Play"),
        ("ArrowRight", 6, "Play"),
        ("Home", 1, "Play"),
        (" ", 1, "Pause"),
        (" ", 1, "Play"),
        ("ArrowRight", 1, "Play"),  # that key is the switch's own there
        ("slider", 5, "Play"),
        ("plot", 4, "Play"),  # 0.6 of 0.9 s is 0.54 s
    ]
    assert noted[3][3].startswith("0.90 s, step 6 of 6: ")
    assert noted[11][0].startswith("From no attention to ")
    assert noted[12][:3] == ["played", 6, "Play"]
