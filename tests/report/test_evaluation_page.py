import base64
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.report.audio import PAGE_BUDGET_BYTES
from pipelines.report.evaluation import render_evaluation
from pipelines.report.plots import evaluation_plots
from pipelines.report.selection import worst_recordings
from tests.report.factory import make_evaluation, make_metric, make_score, make_scores, make_wavs
from tests.report.html_page import Page

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def render(folder: Path) -> str:
    scores = make_scores()
    evaluation = make_evaluation(scores)
    audio = make_wavs(folder, [s.id for s in scores])
    return render_evaluation(evaluation, scores, audio, evaluation_plots(evaluation, scores))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_the_page_asks_nothing_of_the_network(source: str, page: Page) -> None:
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster"):
            value = element.attributes.get(name, "")
            assert value == "" or value.startswith(("#", "data:audio/")), f"<{element.tag} {name}={value[:60]}>"
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)
    assert page.all("link") == []
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    assert "default-src 'none'" in policy.attributes["content"]


def test_the_script_is_the_one_that_the_policy_allows(page: Page) -> None:
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    assert f"'sha256-{digest}'" in policy.attributes["content"]


def test_it_opens_with_the_number_and_what_was_left_out(page: Page) -> None:
    assert page.all("h1")[0].text == "whisper-tiny-en"
    headline = " ".join(page.all("p", class_="headline")[0].text.split())
    assert re.fullmatch(r"Word error rate \d+\.\d% \[\d+\.\d, \d+\.\d\] 95% interval", headline)
    assert "3 left out: 1 quarantined; 2 in languages the model does not claim (de)" in page.text
    assert "utt-99.wav has 0 samples; record it again." in page.text
    assert "2 recordings in de" in page.text


def test_nothing_left_out_is_said_and_not_shouted() -> None:
    scores = make_scores(6)
    text = render_evaluation(make_evaluation(scores, quarantined=(), unsupported={}), scores, {})
    assert 'class="callout"' not in text
    assert "every recording selected was evaluated" in text


def test_a_part_of_the_data_is_named() -> None:
    scores = make_scores(6)
    text = Page(render_evaluation(make_evaluation(scores, selection={"limit": "6"}), scores, {})).text
    assert "A part of the data: only limit 6." in text


def test_what_was_not_measured_is_said_with_its_reason(page: Page) -> None:
    (row,) = [e for e in page.all("tr") if e.text.startswith("Load time")]
    assert "not measured" in row.text
    assert "the model was not loaded in this run" in row.text


def test_the_level_of_the_intervals_is_the_one_that_was_asked_for() -> None:
    scores = make_scores(6)
    metrics = {"wer": make_metric(0.1, level=0.9)}
    text = Page(render_evaluation(make_evaluation(scores, metrics=metrics), scores, {})).text
    assert "90% interval" in text
    assert "95%" not in text


def test_headings_are_in_order_and_tables_have_captions(page: Page) -> None:
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = {e.attributes["href"][1:] for e in page.all("a")}
    assert links <= set(ids)


def test_the_worst_recordings_are_there_in_order_with_players(page: Page) -> None:
    cards = [e for e in page.all("article") if e.attributes.get("id", "").startswith("worst-")]
    expected = worst_recordings(make_scores())
    assert len(cards) == len(expected) == 12
    for card, score in zip(cards, expected, strict=True):
        assert score.id in card.text
        assert f"{score.words.substitutions} substitution" in card.text
    errors = [score.words.errors for score in expected]
    assert errors == sorted(errors, reverse=True)
    assert len(page.all("audio")) >= 12


def test_invented_words_and_suspects_are_listed(page: Page) -> None:
    (card,) = [e for e in page.all("article") if e.attributes.get("id", "").startswith("invented-")]
    assert "demo/utt-14" in card.text
    assert "+thank" in card.text
    assert "the small dog" in page.text


def test_the_same_input_gives_the_same_page(source: str, tmp_path: Path) -> None:
    assert render(tmp_path) == source


def test_hostile_text_stays_text() -> None:
    scores = [
        make_score(HOSTILE, HOSTILE, f"{HOSTILE} more", speaker=HOSTILE, language=HOSTILE, tags={HOSTILE: HOSTILE}),
        make_score("b", "", HOSTILE, tags={"domain": HOSTILE}),
    ]
    evaluation = make_evaluation(
        scores,
        model=HOSTILE,
        run_id=HOSTILE,
        data_version=HOSTILE,
        corpora=(HOSTILE,),
        selection={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        model_fingerprint={HOSTILE: {HOSTILE: HOSTILE}},
        unsupported={HOSTILE: 1},
        slices={f"{HOSTILE}={HOSTILE}": {HOSTILE: make_metric(0.5, HOSTILE, note=HOSTILE)}},
        metrics={HOSTILE: make_metric(0.5, HOSTILE, note=HOSTILE), "wer": make_metric(0.5)},
        quarantined=({"id": HOSTILE, "audio_filepath": HOSTILE, "reason": HOSTILE},),
        suspect_references=({"id": HOSTILE, "reference": HOSTILE, "likely": HOSTILE, "score": 0.5, "models": (HOSTILE,)},),
        created_at=HOSTILE,
    )
    source = render_evaluation(evaluation, scores, {HOSTILE: Path(f"{HOSTILE}.wav")})
    page = Page(source)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]
    assert HOSTILE not in source


def test_missing_audio_does_not_break_the_page(tmp_path: Path) -> None:
    scores = make_scores(8)
    page = Page(render_evaluation(make_evaluation(scores), scores, {s.id: tmp_path / "audio" / "gone.wav" for s in scores}))
    assert page.all("audio") == []
    assert "Audio not embedded: the file cannot be read (No such file or directory). File: audio/gone.wav" in page.text
    assert str(tmp_path) not in page.source


def test_the_pages_audio_stays_within_its_budget(tmp_path: Path) -> None:
    scores = make_scores()
    # 30 s at 16 kHz and 16 bit: 1.3 MB each as encoded, so a few fill the budget.
    paths = make_wavs(tmp_path, [s.id for s in scores[:1]], seconds=30.0)
    source = render_evaluation(make_evaluation(scores), scores, {s.id: paths[scores[0].id] for s in scores})
    page = Page(source)
    assert 0 < sum(len(e.attributes["src"]) for e in page.all("audio")) <= PAGE_BUDGET_BYTES
    assert "room for audio is used up" in page.text


def test_an_evaluation_without_scores_or_slices_has_a_page() -> None:
    page = Page(render_evaluation(make_evaluation([], metrics={}, slices={}, suspect_references=()), [], {}))
    assert "The data has no slices" in page.text
    assert "No recordings with speech were scored" in page.text
    assert page.all("svg") == []
