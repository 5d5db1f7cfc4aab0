"""What the experiment on forms of attention says of its runs, on made-up ones."""

import math

import experiment_forms as experiment
import numpy as np
from experiment_jhmdb import Row
from small_store import quick


def test_every_form_has_a_row_on_each_set_of_layers() -> None:
    rows = experiment.rows()
    assert len({repr(settings) for settings in rows.values()}) == len(rows) == 2 * 2 * 2 + 2
    assert {settings["layer"] for settings in rows.values()} == set(experiment.LAYERS)


def test_steps_are_timed_and_rows_without_attention_have_no_look(layered_store) -> None:
    configs = {name: quick(layer=layer) for name, layer in (("one", "features"), ("both", "finer+features"))}
    seconds = experiment.step_seconds(layered_store, configs)
    assert list(seconds) == ["one", "both"]
    assert all(0 < each < math.inf for each in seconds.values())

    hits = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])  # of two seeds
    looks = {name: np.array([[1.0, 0.0, 1.0, 1.0]] * 2) for name in ("pointing", "pointing_centre")}
    looks |= {f"pointing_{key}": looks["pointing"] for key in experiment.BASELINES}
    looks |= {"entropy": np.array([0.5, 0.7])}
    one = Row("location, soft, inception5b", [], ["a", "a", "b", "c"], hits, looks)
    assert experiment.look_cells(one)[-1] == "0.600"
    assert experiment.look_cells(one._replace(looks={})) == [""] * 4
    assert experiment.grids_table([one]).splitlines()[2].startswith("| inception5b | 75.0 |")
