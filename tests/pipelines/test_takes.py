"""A voice that draws at random is asked again for some prompts; one that does not is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.card import read_cards
from models.engine import is_repeatable
from pipelines.lab import Lab
from pipelines.listen import gather_speech
from pipelines.report.repeatability import takes_text
from pipelines.speech_store import audio_path
from pipelines.takes import TAKE_PROMPTS, chosen_prompts, prepare_takes, say_takes, take_spread
from pipelines.types import TakeSpread
from pipelines.workers import WorkerPool
from tests.pipelines.factories import make_score
from tests.pipelines.test_voices import lab, prepare, write_prompts
from tests.pipelines.toy_engine import ToyVoice, notes

__all__ = ["lab"]

CARDS = read_cards()


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy voice says that it draws at random."""
    monkeypatch.setattr(ToyVoice, "repeatable", classmethod(lambda cls, decoding: False), raising=False)


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if "tts" in card.tasks])
def test_of_the_shipped_voices_only_a_servers_may_differ_from_itself(name: str) -> None:
    assert is_repeatable(CARDS[name]) is (name != "openai-compatible")


@pytest.mark.parametrize(
    ("decoding", "repeatable"),
    [({}, True), ({"seed": 3}, True), ({"noise_scale": 0.1}, False), ({"noise_w_scale": None}, False)],
    ids=str,
)
def test_piper_with_noise_is_no_longer_repeatable(decoding: dict[str, Any], repeatable: bool) -> None:
    assert is_repeatable(CARDS["piper-joe"].model_copy(update={"decoding": decoding})) is repeatable


def test_a_voice_that_repeats_itself_is_not_asked_again(lab: Lab) -> None:
    assert prepare_takes(lab, prepare(lab)) is None


def test_the_takes_of_a_prompt_follow_one_another_and_are_kept_apart(lab: Lab, drawing: None) -> None:
    takes = prepare_takes(lab, prepare(lab))
    assert takes is not None and [item.prompt.id for item in takes.prepared.items] == ["a", "b", "c", "e"], "empty: nothing"
    with WorkerPool(takes.prepared.spec, 1) as pool:
        for shard in takes.shards:
            say_takes(pool, takes.stores, shard)
    texts = [note["text"] for note in notes(lab.project / "voice", "spoken")]
    assert texts[1:] == ["good day"] * 3 + ["Dr. No"] * 3 + ["room 7"] * 3, "after a warm-up"
    said = takes.said()
    assert [set(gather_speech(one, []).syntheses) for one in said] == [{"say/a", "say/b", "say/c", "say/e"}] * 3
    assert all(
        audio_path(one.store.audio, s.audio_sha256).is_file() for one in said for s in one.known.values() if s.audio_s
    )
    assert not prepare(lab).known, "they are not the evaluation's own take"
    again = prepare_takes(lab, prepare(lab))
    assert again is not None and not again.shards, "what was said is kept"


def test_a_killed_run_goes_on_with_the_prompts_that_lack_a_take(lab: Lab, drawing: None) -> None:
    takes = prepare_takes(lab, prepare(lab))
    assert takes is not None and [len(shard) for shard in takes.shards] == [6, 3]
    with WorkerPool(takes.prepared.spec, 1) as pool:
        say_takes(pool, takes.stores, takes.shards[0])
    rest = prepare_takes(lab, prepare(lab))
    assert rest is not None and [[job.text for job in shard] for shard in rest.shards] == [["room 7"] * 3]
    assert [len(one.items) for one in takes.said()] == [3, 3, 3], "and what is there can be heard"


def test_prompts_are_chosen_evenly(lab: Lab, drawing: None) -> None:
    write_prompts(lab.project, [{"id": str(n), "text": f"{'word ' * n}x"} for n in range(29)])
    assert [item.prompt.id for item in chosen_prompts(prepare(lab).items)] == ["0", "4", "8", "12", "16", "20", "24", "28"]
    assert TAKE_PROMPTS == 8
    write_prompts(lab.project, [{"id": "silent", "text": " "}])
    assert prepare_takes(lab, prepare(lab)) is None


def take(errors: int, mos: float | None, audio_s: float) -> list[Any]:
    score = make_score(id="say/a", reference="one two three four", hypothesis=" ".join(["x"] * errors + ["four"]))
    return [replace(score, audio_s=audio_s, measures={} if mos is None else {"dnsmos_overall": mos})]


def test_the_spread_is_the_deviation_within_a_prompt() -> None:
    first, second = (
        [replace(score, id=f"say/{n}", audio_s=length) for n, score in enumerate(take(0, mos, 1.0))]
        for mos, length in ((3.0, 2.0), (3.2, 2.2))
    )
    found = take_spread([[*first, make_score(id="say/only-once")], second])
    assert (found.takes, found.prompts) == (2, 1)
    assert found.dnsmos_overall == pytest.approx(np.std([3.0, 3.2], ddof=1))
    assert found.duration == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert found.word_error_rate == 0.0


def test_prompts_do_not_add_to_the_spread_and_silence_leaves_it() -> None:
    """Two prompts far apart, each said alike; and one that was answered with nothing once."""
    takes = [[*take(0, 2.0, 1.0), *(replace(s, id="say/b") for s in take(0, 4.0, 9.0)), *silent] for silent in ([], [], [])]
    assert take_spread(takes).dnsmos_overall == 0.0 and take_spread(takes).duration == 0.0
    mute = take_spread([take(0, None, 0.0), take(0, 3.0, 1.0)])
    assert (mute.dnsmos_overall, mute.duration) == (None, None), "not measured is not 0"


def test_it_is_told_in_one_sentence() -> None:
    spread = TakeSpread(takes=3, prompts=8, word_error_rate=0.021, dnsmos_overall=0.043, duration=0.0312)
    assert takes_text(spread) == (
        "It may say a text otherwise the next time. 8 prompts were said 3 times each; standard deviation within a prompt: "
        "round-trip word error rate 2.1%, DNSMOS overall 0.04, duration 3.1%."
    )
    assert takes_text(None) == ""
