import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.report.audio import PAGE_BUDGET_BYTES, Budget
from pipelines.report.cards import PromptCards
from pipelines.report.evaluation import render_evaluation
from pipelines.report.plots import evaluation_plots
from pipelines.report.selection import worst_prompts
from pipelines.report.side import Prompted, Side
from tests.report.factory import make_metric
from tests.report.html_page import Element, Page
from tests.report.voice_factory import (
    REFUSAL,
    TEXTS,
    make_candidate,
    make_candidate_scores,
    make_prompts,
    make_spoken,
    make_syntheses,
    make_voice_evaluation,
)

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def render(side: Side) -> str:
    plots = evaluation_plots(side.evaluation, side.scores)
    return render_evaluation(side.evaluation, side.scores, side.audio, plots, side.prompts)


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return make_candidate(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def source(side: Side) -> str:
    return render(side)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def cards(page: Page, prefix: str = "worst-") -> list[Element]:
    return [e for e in page.all("article") if e.attributes.get("id", "").startswith(prefix)]


def test_it_opens_with_what_was_understood_and_how_it_sounds(page: Page) -> None:
    first, second = (" ".join(e.text.split()) for e in page.all("p", class_="headline"))
    assert re.fullmatch(r"Round-trip word error rate \d+\.\d% \[\d+\.\d, \d+\.\d\] 95% interval", first)
    assert re.fullmatch(r"DNSMOS overall 3\.21 MOS \[2\.14, 4\.28\] 95% interval", second)


def test_it_speaks_of_prompts(page: Page) -> None:
    text = page.text + " ".join(e.attributes.get("aria-label", "") for e in page.elements)
    assert not re.search(r"recordings?\b|inferences?\b|non-speech", text, re.IGNORECASE)
    assert "5 1 of them without words" in text and "resampled by prompt" in text
    assert "Suspect references" not in text
    assert "40 new 20 reused" in text and "Syntheses" in text


def test_slices_are_judged_by_the_round_trip(page: Page) -> None:
    (table,) = [e for e in page.all("table") if "nothing to measure in that slice" in e.text]
    assert "Round-trip WER" in table.text
    (row,) = [e for e in page.all("tr") if e.text.startswith("kind numbers")]
    assert "40.0%" in row.text
    assert "Round-trip WER by slice" in page.text


def test_the_worst_prompts_are_there_by_errors_then_by_sound(page: Page) -> None:
    shown = cards(page)
    assert [e.text.split()[0] for e in shown] == ["say/b", "say/d", "say/a"], "the refused and the empty one are elsewhere"
    assert "3 of 3 prompts with words that were said" in page.text
    worst = shown[0]
    assert "Given It costs $42. Should be heard It costs forty two dollars." in " ".join(
        re.sub(r"(Given|Should be heard|\$42\.)", r" \1 ", worst.text).split()
    )
    assert "costs heard as cost" in worst.text and "two missed" in worst.text
    assert "1 substitution, 1 deletion, 0 insertions" in worst.text
    assert "Should be heard" not in shown[1].text.split("Texts before")[0], "what is given is what should be heard"
    for name, value in (("DNSMOS overall", "3.30 MOS"), ("Silence before", "0.250 s"), ("Rate", "151 words/min")):
        assert re.search(rf"{name}\s*{re.escape(value)}", worst.text)


def test_prompts_are_ranked_by_errors_then_rate_then_quality() -> None:
    ranked = worst_prompts(
        [
            make_spoken("say/a", "the dog ran.", 4.0),
            make_spoken("say/b", "it costs forty two.", 3.0),
            make_spoken("say/d", "small figures.", 3.9),
            replace(make_spoken("say/a", "the dog ran.", None), id="unmeasured"),
            replace(make_spoken("say/a", "the dog ran.", 2.0), id="harsh"),
        ]
    )
    assert [score.id for score in ranked] == ["say/d", "say/b", "harsh", "say/a", "unmeasured"]


def test_each_synthesis_is_heard_and_seen(side: Side, page: Page) -> None:
    players = page.all("audio")
    assert len(players) == 4, "three of the worst, and the one out of nothing"
    assert all(e.attributes["src"].startswith("data:audio/flac;base64,") for e in players)
    assert players[0].attributes["aria-label"] == "say/b as said by hibari"
    waves, levels = page.all("svg", class_="wave"), [e for e in page.all("svg", class_="levels") if "role" in e.attributes]
    assert len(waves) == len(levels) == 4
    assert waves[0].attributes["aria-label"] == "Waveform, 1.50 s, peak 0.100 of full scale"
    assert levels[0].attributes["aria-label"] == "Spectrogram, 0 to 12 kHz"
    assert page.text.count("1.50 s, sampled at 24 kHz") == 4


def test_what_was_refused_is_listed_with_its_reason(page: Page) -> None:
    (row,) = [e for e in page.all("tr") if e.text.startswith("say/c")]
    assert TEXTS["say/c"] in row.text and REFUSAL in row.text
    (fact,) = [e for e in page.all("div", class_="fact alarming") if "Refused" in e.text]
    assert "1" in fact.text and "as if nothing was said" in fact.text


def test_a_voice_that_refuses_nothing_is_not_accused() -> None:
    scores = make_candidate_scores()
    page = Page(render_evaluation(make_voice_evaluation(scores), scores, {}, (), make_prompts()))
    assert not page.all("div", class_="fact alarming")
    assert len(cards(page)) == 4
    assert "Audio not embedded: the voice gave no audio." in page.text


def test_words_out_of_nothing_are_listed(page: Page) -> None:
    (card,) = cards(page, "invented-")
    assert card.text.split()[0] == "say/e"
    assert "(nothing)" in card.text and "+hello" in card.text
    assert "On 1 of 1 prompts that ask for no words, faster-whisper-base heard some." in page.text


def test_it_says_who_listened_and_how_the_voice_repeats_itself(page: Page) -> None:
    assert "faster-whisper-base 562c49. Its own errors are part of every round trip." in page.text
    assert "7+speechmos-0.0.1.1" in page.text
    assert "Its seed is 0" in page.text
    (row,) = [e for e in page.all("tr") if e.text.startswith("noise_w_scale0.0")]
    assert "Noise in how long each phoneme lasts" in row.text
    assert "no spread between two readings of one prompt" in page.text


def test_it_asks_nothing_of_the_network_and_needs_no_more_rights_than_before(source: str, page: Page) -> None:
    for element in page.elements:
        for name in ("src", "href", "xlink:href"):
            value = element.attributes.get(name, "")
            assert value == "" or value.startswith(("#", "data:audio/")), f"<{element.tag} {name}={value[:60]}>"
    assert page.all("img") == [] and not re.search(r"url\((?!#)", source)
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; media-src data:; script-src 'sha256-[^']+'; "
        r"base-uri 'none'; form-action 'none'",
        policy.attributes["content"],
    )


def test_headings_are_in_order_and_tables_have_captions(page: Page) -> None:
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert {e.attributes["href"][1:] for e in page.all("a")} <= set(ids)


def test_the_same_input_gives_the_same_page(side: Side, source: str) -> None:
    assert render(side) == source


def test_sound_and_pictures_stay_within_the_pages_budget(tmp_path: Path) -> None:
    # 30 s of noise do not compress: 1.3 MB each as encoded, so a few fill the budget.
    scores = [replace(make_spoken("say/a", "the dog", 3.0), id=f"say/{number}") for number in range(12)]
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 16_000 * 30)
    soundfile.write(tmp_path / "noise.flac", noise, 16_000, format="FLAC", subtype="PCM_16")
    paths = {score.id: tmp_path / "noise.flac" for score in scores}
    source = render_evaluation(make_voice_evaluation(scores), scores, paths)
    page = Page(source)
    drawn = sum(map(len, re.findall(r'<figure class="sound">.*?</figure>', source, re.DOTALL)))
    heard = sum(len(e.attributes["src"].partition(",")[2]) for e in page.all("audio"))
    assert drawn and heard and drawn + heard <= PAGE_BUDGET_BYTES
    assert "room for audio is used up" in page.text


def test_a_synthesis_that_is_gone_leaves_a_reason_and_no_picture(tmp_path: Path) -> None:
    scores = make_candidate_scores()
    paths = {name: tmp_path / "audio" / path.name for name, path in make_syntheses(tmp_path, scores).items()}
    page = Page(render_evaluation(make_voice_evaluation(scores), scores, paths, (), make_prompts()))
    assert page.all("audio") == [] and page.all("figure", class_="sound") == []
    assert "the file cannot be read" in page.text
    assert str(tmp_path) not in page.source


def test_hostile_text_stays_text() -> None:
    score = replace(
        make_spoken("say/a", f"{HOSTILE} more", 3.0, said=HOSTILE), id=HOSTILE, tags={HOSTILE: HOSTILE}, language=HOSTILE
    )
    refused = replace(make_spoken("say/c", "", None), id="refused")
    evaluation = make_voice_evaluation(
        [score, refused],
        model=HOSTILE,
        model_fingerprint={"engine": HOSTILE, "decoding": {HOSTILE: HOSTILE, "seed": HOSTILE}},
        slices={f"{HOSTILE}={HOSTILE}": {"roundtrip_wer": make_metric(0.5, note=HOSTILE)}},
        quarantined=({"id": HOSTILE, "audio_filepath": "", "reason": HOSTILE},),
    )
    odd = replace(score, measures={HOSTILE: 1.0})
    prompts = {HOSTILE: Prompted(HOSTILE), "refused": Prompted(HOSTILE, HOSTILE)}
    source = render_evaluation(evaluation, [odd, refused], {HOSTILE: Path(f"{HOSTILE}.flac")}, (), prompts)
    page = Page(source)
    assert HOSTILE not in source
    assert len(page.all("script")) == 1 and page.all("img") == []
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]


def test_an_evaluation_without_scores_has_a_page() -> None:
    page = Page(render_evaluation(make_voice_evaluation([], metrics={}, slices={}), [], {}))
    assert "No prompts with words were said." in page.text
    assert "Every prompt asks for words" in page.text


def test_pictures_take_from_the_same_room_as_sound(side: Side) -> None:
    score = side.scores[0]
    (spoken,) = PromptCards((side,), everything := Budget()).card("x", (score,)).spoken
    assert spoken.picture is not None and spoken.clip.uri is not None
    assert everything.spent_bytes == len(spoken.picture) + len(spoken.clip.uri.partition(",")[2])
    (spoken,) = PromptCards((side,), Budget(len(spoken.picture))).card("x", (score,)).spoken
    assert spoken.picture is not None and spoken.clip.uri is None
    (spoken,) = PromptCards((side,), Budget(len(spoken.picture) - 1)).card("x", (score,)).spoken
    assert spoken.picture is None
