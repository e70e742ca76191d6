import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from pipelines.report.comparison_plots import comparison_plots, paired_deltas, plot_differences
from pipelines.report.figures import _PLACEHOLDERS, Plot, drawing_of
from pipelines.report.plots import evaluation_plots, plot_rate_against, plot_slices, plot_speed
from pipelines.report.rows import whole_numbers
from pipelines.report.selection import paired, slice_groups
from tests.report.factory import make_comparison, make_evaluation, make_metric, make_rule, make_score, make_scores
from tests.report.html_page import Page

SCORES = make_scores()
BASELINE = make_scores(error_rate=0.25)


def all_plots() -> list[Plot]:
    candidate, baseline = make_evaluation(SCORES), make_evaluation(BASELINE)
    return [
        *evaluation_plots(candidate, SCORES),
        *comparison_plots(make_comparison(), candidate, baseline, SCORES, BASELINE),
    ]


@pytest.mark.parametrize("plot", all_plots(), ids=lambda plot: plot.name)
def test_a_plot_is_a_labelled_svg_in_the_pages_colours(plot: Plot) -> None:
    svg = plot.svg()
    page = Page(f"<body>{svg}</body>")
    (root,) = page.all("svg")
    assert root.attributes["role"] == "img"
    assert root.attributes["aria-label"] == plot.alt
    assert "var(--" in svg
    assert "#fe01" not in svg, "a placeholder colour is left"
    assert not re.search(r"#(?!000000|ffffff)[0-9a-f]{6}\b(?=[;\"])", svg), "a colour does not follow the theme"
    assert re.search(r"\((%|s|count|words|rank|percentage points|0 to 1|\u00d7 real time)\)", page.text), (
        "no unit on an axis"
    )


@pytest.mark.parametrize("plot", all_plots(), ids=lambda plot: plot.name)
def test_a_plots_file_stands_alone(plot: Plot) -> None:
    text = plot.file()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.attrib["viewBox"]
    assert "var(--" not in text and "#fe01" not in text and "background: #ffffff" in text
    assert "".join(root.itertext()).split() == Page(f"<body>{plot.svg()}</body>").text.split(), "and says the same"


def test_a_plot_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    plot = Plot("p", "", "", "", 1.0, lambda axes, palette: drawn.append(palette))
    assert plot.svg() and plot.file() and len(drawn) == 1


def test_a_plot_drawn_in_another_process_is_the_same() -> None:
    plots, kept = all_plots(), all_plots()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for plot, drawing in zip(kept, pool.map(drawing_of, plots), strict=True):
            plot.keep(drawing)
    assert [plot.svg() for plot in kept] == [plot.svg() for plot in plots]


def test_who_draws_imports_no_page_and_no_statistics() -> None:
    """Idle workers draw: what they import for it stands between the last recording and the report."""
    code = "import sys, pipelines.report.plots; print({'scipy', 'jinja2', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_names_are_unique_and_ids_do_not_collide_on_a_page() -> None:
    plots = all_plots()
    assert len({plot.name for plot in plots}) == len(plots)
    ids = [found for plot in plots for found in re.findall(r'\sid="([^"]+)"', plot.svg())]
    assert len(ids) == len(set(ids))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert [plot.svg() for plot in all_plots()] == [plot.svg() for plot in all_plots()]


def test_hostile_slices_are_text_in_the_picture() -> None:
    tags = {"domain": "<script>alert(1)</script>"}
    scores = [make_score("a", "one two", "one", tags=tags), make_score("b", "one two", "two", tags={"domain": r"$\bad$"})]
    for plot in evaluation_plots(make_evaluation(scores), scores):
        assert "<script" not in plot.svg()
    drawn = plot_slices(make_evaluation(scores))
    assert drawn is not None
    assert r"$\bad$" in drawn.svg()


def test_what_has_no_data_is_not_drawn() -> None:
    stored = [make_score(f"u{i}", "one", "one", inference_s=None, confidence=None) for i in range(5)]
    assert plot_speed(stored) is None
    assert plot_rate_against(stored, "confidence") is None
    assert plot_rate_against(stored, "duration") is not None
    empty = make_evaluation([], metrics={}, slices={})
    assert evaluation_plots(empty, []) == ()
    assert comparison_plots(make_comparison(), empty, empty, [], []) == ()


def test_perfect_scores_are_drawn() -> None:
    scores = [make_score(f"u{i}", "one", "one") for i in range(5)]
    for plot in evaluation_plots(make_evaluation(scores), scores):
        plot.svg()


def test_many_speakers_are_cut_to_the_worst_and_the_caption_says_so() -> None:
    slices = {f"speaker=s{i:02d}": {"wer": make_metric(i / 100)} for i in range(30)}
    (group,) = slice_groups(slices, "wer")
    assert group.names[0] == "speaker=s29"
    assert group.left_out == 20
    plot = plot_slices(make_evaluation(SCORES, slices=slices))
    assert plot is not None
    assert "20 better of speaker" in plot.caption


def test_deltas_take_intervals_from_rules_and_points_from_evaluations() -> None:
    candidate, baseline = make_evaluation(SCORES), make_evaluation(BASELINE)
    deltas = paired_deltas(make_comparison(rules=[make_rule("pass", "r", "why")]), candidate, baseline, "wer")
    assert deltas["all"] == (0.008, -0.004, 0.019)
    ours, theirs = candidate.slices["domain=read"]["wer"].value, baseline.slices["domain=read"]["wer"].value
    assert ours is not None
    assert theirs is not None
    assert deltas["domain=read"] == (pytest.approx(ours - theirs), None, None)
    assert "domain=nonspeech" not in deltas


def test_a_value_beyond_every_interval_is_inside_the_axis() -> None:
    """A slice of one speaker has a point and no interval; the axis reaches as far as the widest interval, or that point."""
    evaluation = make_evaluation(SCORES)
    slices = {
        "speaker=far": {"wer": make_metric(1.0, ci_low=None, ci_high=None)},
        "speaker=near": {"wer": make_metric(0.1, ci_low=0.05, ci_high=0.2)},
    }
    plot = plot_slices(evaluation.model_copy(update={"slices": slices}))
    assert plot is not None
    axes = Figure().add_subplot()
    plot.draw(axes, _PLACEHOLDERS)
    assert axes.get_xlim()[1] > 1.0


def test_words_invented_without_speech_do_not_hide_the_errors_in_speech() -> None:
    noise = make_score("noise", "", " ".join(["you"] * 150))
    quiet = make_score("noise", "", "")
    pairs = [*paired(SCORES, BASELINE), *paired([quiet], [noise])]
    told = plot_differences(pairs)
    assert told is not None and told.caption == plot_differences(paired(SCORES, BASELINE)).caption  # type: ignore[union-attr]


def test_an_axis_of_whole_numbers_has_no_others_even_where_there_is_one_bar() -> None:
    axes = Figure().subplots()
    axes.set_xlim(0.3, 1.7)
    whole_numbers(axes, "x")
    assert [tick for tick in axes.get_xticks() if 0.3 <= tick <= 1.7] == [1.0]
