import re
from pathlib import Path

import pytest

from pipelines.decision import Comparison, Verdict
from pipelines.report.comparison import render_comparison
from pipelines.report.comparison_plots import comparison_plots
from pipelines.report.selection import most_different, paired
from pipelines.report.side import Side
from tests.report.factory import make_comparison, make_evaluation, make_rule, make_score, make_scores, make_wavs
from tests.report.html_page import Page

CANDIDATE = make_scores(error_rate=0.1)
BASELINE = make_scores(error_rate=0.25)
HOSTILE = "<script>alert('x')</script>"


def render(comparison: Comparison, audio: dict[str, Path] | None = None) -> str:
    ours = Side(make_evaluation(CANDIDATE, "whisper-base"), CANDIDATE, audio or {})
    theirs = Side(make_evaluation(BASELINE, "whisper-tiny-en"), BASELINE, audio or {})
    plots = comparison_plots(comparison, ours.evaluation, theirs.evaluation, CANDIDATE, BASELINE)
    return render_comparison(comparison, ours, theirs, plots)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("pass", "Pass whisper-base may replace whisper-tiny-en."),
        ("fail", "Fail whisper-base must not replace whisper-tiny-en."),
        ("inconclusive", "Inconclusive whisper-base has not been shown fit to replace whisper-tiny-en."),
    ],
)
def test_the_verdict_is_in_words(verdict: Verdict, words: str) -> None:
    page = Page(render(make_comparison(verdict)))
    (banner,) = page.all("div", class_=f"banner {verdict}")
    assert words in " ".join(banner.text.replace("✓", "").replace("✕", "").replace("?", "").split())


def test_one_sentence_says_why() -> None:
    (why,) = Page(render(make_comparison("fail"))).all("p", class_="why")
    assert why.text == "1 of 4 rules failed, first “fast enough”: 1.41 [1.33, 1.52] times the baseline, beyond 1.2."
    (why,) = Page(render(make_comparison("inconclusive"))).all("p", class_="why")
    assert "could not be decided, first “no domain harmed” on domain=crowd: 8 utterances" in why.text
    (why,) = Page(render(make_comparison("pass", [make_rule("pass", "r", "fine")]))).all("p", class_="why")
    assert why.text == "1 of 1 rule held, on up to 56 recordings."


def test_a_verdict_without_rules_has_a_page() -> None:
    comparison = make_comparison("inconclusive").model_copy(update={"rules": ()})
    page = Page(render(comparison))
    assert "No rule was applied" in page.text
    assert "The policy has no rules." in page.text


def test_every_rule_is_there_with_its_reason_what_decided_first() -> None:
    comparison = make_comparison("fail")
    page = Page(render(comparison))
    rows = page.all("tbody", class_="rule")
    assert len(rows) == len(comparison.rules)
    for rule in comparison.rules:
        (row,) = [row for row in rows if rule.reason in row.text]
        assert rule.rule in row.text
        assert rule.verdict in row.text
    assert [re.findall("fail|inconclusive|pass", row.text)[0] for row in rows] == ["fail", "inconclusive", "pass", "pass"]


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("no worse overall", ["11.2%", "10.4%", "+0.8 points", "[\N{MINUS SIGN}0.4, 1.9]", "less than 2.0 points worse"]),
        ("no domain harmed: domain=crowd", ["not measured", "less than 5.0 points worse"]),
        ("fast enough", ["0.114 \N{MULTIPLICATION SIGN} real time", "1.41 times", "[1.33, 1.52]", "1.20 times"]),
        ("usable", ["11.2%", "[9.0, 14.0]", "at most 25.0%"]),
    ],
)
def test_a_rule_is_written_in_the_unit_of_what_it_judges(rule: str, shown: list[str]) -> None:
    page = Page(render(make_comparison()))
    (row,) = [row for row in page.all("tbody", class_="rule") if rule in row.text]
    for text in shown:
        assert text in row.text


def test_a_condition_of_the_comparison_has_no_numbers_to_miss() -> None:
    condition = make_rule(
        "inconclusive",
        "same data",
        "The data differ.",
        kind="precondition",
        metric="utterances",
        candidate=None,
        baseline=None,
        delta=None,
        ci_low=None,
        ci_high=None,
        margin=None,
    )
    (row,) = Page(render(make_comparison("inconclusive", [condition]))).all("tbody", class_="rule")
    assert "not measured" not in row.text
    assert "The data differ." in row.text


def test_a_superiority_rule_asks_for_better_than_nothing() -> None:
    rule = make_rule("fail", "better", "It is not.", kind="superiority", margin=0.0)
    assert "better than 0" in Page(render(make_comparison("fail", [rule]))).text


def test_the_recordings_that_differ_most_show_both_alignments(tmp_path: Path) -> None:
    page = Page(render(make_comparison(), make_wavs(tmp_path, [s.id for s in CANDIDATE])))
    cards = page.all("article", class_="recording")
    expected = most_different(paired(CANDIDATE, BASELINE))
    assert len(cards) == len(expected) == 12
    for card, pair in zip(cards, expected, strict=True):
        assert pair.candidate.id in card.text
        assert "Candidate: whisper-base" in card.text
        assert "Baseline: whisper-tiny-en" in card.text
        assert f"{abs(pair.errors_delta)} {'more' if pair.errors_delta > 0 else 'fewer'} error" in card.text
    assert len(page.all("div", class_="alignment")) == 24
    assert len(page.all("audio")) == 12


def test_metrics_and_settings_stand_side_by_side() -> None:
    page = Page(render(make_comparison()))
    (row,) = [e for e in page.all("tr") if e.text.startswith("Word error rate")]
    assert "candidate better" in row.text
    (row,) = [e for e in page.all("tr", class_="changed") if e.text.startswith("weights")]
    assert "whisper-base" in row.text
    assert "differs" in row.text
    assert "2 recordings in de are left out" in page.text


def test_recordings_without_a_partner_are_counted() -> None:
    ours = [make_score("a", "one", "one"), make_score("b", "one", "two")]
    theirs = [make_score("b", "one", "one"), make_score("c", "one", "one")]
    sides = (Side(make_evaluation(scores), scores, {}) for scores in (ours, theirs))
    page = Page(render_comparison(make_comparison(), *sides))
    (fact,) = [e for e in page.all("div", class_="fact alarming") if "Paired recordings" in e.text]
    assert "2 without a partner" in fact.text


def test_hostile_text_stays_text() -> None:
    rule = make_rule("fail", HOSTILE, HOSTILE, slice=f"domain={HOSTILE}", metric=HOSTILE)
    comparison = make_comparison("fail", [rule]).model_copy(
        update={"candidate": HOSTILE, "baseline": HOSTILE, "notes": (HOSTILE,), "data_version": HOSTILE, "run_id": HOSTILE}
    )
    source = render(comparison)
    assert HOSTILE not in source
    assert len(Page(source).all("script")) == 1


def test_the_same_input_gives_the_same_page_and_no_external_address() -> None:
    source = render(make_comparison())
    assert source == render(make_comparison())
    assert not re.search(r"""(?:src|href)=["']?https?:""", source)
    ids = [e.attributes["id"] for e in Page(source).elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
