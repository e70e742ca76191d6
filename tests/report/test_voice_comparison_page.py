import base64
import re
from pathlib import Path

import pytest

from pipelines.report.comparison import render_comparison
from pipelines.report.comparison_plots import comparison_plots
from pipelines.report.selection import most_different_prompts, paired
from pipelines.report.side import Prompted, Side
from tests.report.html_page import Element, Page
from tests.report.voice_factory import (
    REFUSAL,
    make_baseline,
    make_candidate,
    make_spoken,
    make_voice_comparison,
    make_voice_evaluation,
)

HOSTILE = "<script>alert('x')</script>"


def render(ours: Side, theirs: Side) -> str:
    comparison = make_voice_comparison()
    plots = comparison_plots(comparison, ours.evaluation, theirs.evaluation, ours.scores, theirs.scores)
    return render_comparison(comparison, ours, theirs, plots)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    folder = tmp_path_factory.mktemp("voices")
    return make_candidate(folder), make_baseline(folder)


@pytest.fixture(scope="module")
def source(sides: tuple[Side, Side]) -> str:
    return render(*sides)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def card(page: Page, name: str) -> Element:
    (found,) = [e for e in page.all("article", class_="recording") if e.text.split()[0] == name]
    return found


def test_it_speaks_of_prompts(page: Page) -> None:
    text = page.text + " ".join(e.attributes.get("aria-label", "") for e in page.elements)
    assert not re.search(r"recordings?\b|inferences?\b", text, re.IGNORECASE)
    assert "Paired prompts" in text and "Prompt by prompt" in text


def test_it_says_how_much_each_said_and_refused(page: Page) -> None:
    (audio,) = [e for e in page.all("div", class_="fact") if "Audio" in e.text]
    assert "6.00 s" in audio.text and "by the candidate; 6.00 s by the baseline" in audio.text
    (refused,) = [e for e in page.all("div", class_="fact alarming") if "Refused" in e.text]
    assert "by the candidate; 0 by the baseline" in refused.text


def test_a_baseline_that_refuses_more_is_no_alarm(sides: tuple[Side, Side]) -> None:
    page = Page(render(sides[1], sides[0]))
    assert not [e for e in page.all("div", class_="fact alarming") if "Refused" in e.text]


def test_prompts_are_ranked_by_errors_then_by_sound(sides: tuple[Side, Side], page: Page) -> None:
    shown = [e.text.split()[0] for e in page.all("article", class_="recording")]
    assert shown == ["say/b", "say/e", "say/c", "say/d", "say/a"], "one that only one says comes before what both say"
    pairs = paired(sides[0].scores, sides[1].scores)
    assert [pair.candidate.id for pair in most_different_prompts(pairs, limit=2)] == shown[:2]


def test_equal_prompts_are_left_out() -> None:
    scores = [make_spoken("say/a", "the dog ran.", 3.0)]
    side = Side(make_voice_evaluation(scores), scores, {})
    assert (
        "Both make the same number of errors on every prompt they share, and are rated alike."
        in Page(render(side, side)).text
    )


def test_both_voices_are_heard_seen_and_aligned(sides: tuple[Side, Side], source: str, page: Page) -> None:
    shown = card(page, "say/b")
    assert "2 more errors by the candidate" in shown.text
    assert "Candidate: hibari" in shown.text and "Baseline: piper-joe" in shown.text
    assert "costs heard as cost" in shown.text
    players = [e for e in page.all("audio") if e.attributes["aria-label"].startswith("say/b")]
    assert [e.attributes["aria-label"] for e in players] == ["say/b as said by hibari", "say/b as said by piper-joe"]
    for player, side in zip(players, sides, strict=True):
        assert base64.b64decode(player.attributes["src"].partition(",")[2]) == side.audio["say/b"].read_bytes()
    assert "3 fewer errors" not in shown.text and "DNSMOS" in shown.text
    assert "DNSMOS \N{MINUS SIGN}0.900" in card(page, "say/d").text


def test_the_two_are_drawn_on_the_same_scales(source: str) -> None:
    article = source[source.index(">say/b<") :].partition("</article>")[0]
    scales = re.findall(r'<div class="(hertz|seconds)" aria-hidden="true">(.*?)</div>', article)
    assert [name for name, _ in scales] == ["hertz", "seconds"] * 2
    assert scales[:2] == scales[2:]
    assert "12 kHz" in scales[0][1] and ">3 s<" in scales[1][1]
    waves = re.findall(r'<svg class="wave".*?<path d="([^"]*)"', article)
    ends = [float(re.findall(r"M([\d.]+) ", wave)[-1]) for wave in waves]
    assert ends == [159.5, 319.5], "1.5 s of 3 s take half the width"
    labels = re.findall(r"<figcaption>(.*?)</figcaption>", article)
    assert labels == ["1.50 s, sampled at 24 kHz", "3.00 s, sampled at 16 kHz"]


def test_what_one_refused_stands_beside_what_the_other_said(page: Page) -> None:
    shown = card(page, "say/c")
    assert f"The voice refused: {REFUSAL}" in shown.text
    assert "refused by the candidate" in shown.text
    players = [e.attributes["aria-label"] for e in page.all("audio") if e.attributes["aria-label"].startswith("say/c")]
    assert players == ["say/c as said by piper-joe"]


def test_a_voice_that_says_nothing_of_itself_is_told_from_one_that_refuses(page: Page) -> None:
    shown = card(page, "say/e")
    assert "no audio from the baseline, 1 more error by the candidate" in shown.text and "refused" not in shown.text
    assert "the voice gave no audio" in shown.text


def test_what_both_refused_is_left_out(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    both = Side(theirs.evaluation, theirs.scores, theirs.audio, {"say/c": Prompted("й", REFUSAL)})
    assert "say/c" not in [e.text.split()[0] for e in Page(render(ours, both)).all("article", class_="recording")]


def test_it_says_how_both_repeat_themselves(page: Page) -> None:
    assert "Who listened" in page.text and "faster-whisper-base 562c49" in page.text
    assert page.text.count("Its seed is 0; what that covers is said below.") == 2
    assert len([e for e in page.all("table") if "every setting, and what its engine says" in e.text]) == 2


def test_the_same_input_gives_the_same_page_with_unique_ids(sides: tuple[Side, Side], source: str, page: Page) -> None:
    assert render(*sides) == source
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert page.all("img") == [] and len(page.all("script")) == 1


def test_hostile_text_stays_text() -> None:
    scores = [make_spoken("say/a", f"{HOSTILE} ran", 3.0, said=HOSTILE)]
    quiet = [make_spoken("say/a", "", None, said=HOSTILE)]
    prompts = {"say/a": Prompted(HOSTILE, None)}
    ours = Side(make_voice_evaluation(scores, HOSTILE), scores, {"say/a": Path(f"{HOSTILE}.flac")}, prompts)
    theirs = Side(make_voice_evaluation(quiet, HOSTILE), quiet, {}, {"say/a": Prompted(HOSTILE, HOSTILE)})
    source = render(ours, theirs)
    assert HOSTILE not in source
    assert len(Page(source).all("script")) == 1
