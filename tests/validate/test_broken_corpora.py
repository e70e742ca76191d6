"""Kinds of broken corpora, each caught by the expectation that is named for it, with words that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

from pipelines.validate.suites import SUITES, expectation_names, read_suite
from tests.validate.conftest import RATE_HZ, Bench, Case, speechlike


@dataclass(frozen=True)
class Broken:
    """How a corpus is broken, and what must be said of it."""

    how: Callable[[Case], object]
    expectation: str
    says: str
    """A part of the sentence: the recording, and what was found."""
    also: tuple[str, ...] = ()
    """What else may be said of the same fault."""


def change(number: int, **keys: object) -> Callable[[Case], object]:
    return lambda case: case.rows[number].update(keys)


def drop(number: int, key: str) -> Callable[[Case], object]:
    return lambda case: case.rows[number].pop(key)


def sound(number: int, make: Callable[[], np.ndarray], **how: object) -> Callable[[Case], object]:
    return lambda case: case.sound(number, make(), **how)


def with_nan() -> np.ndarray:
    samples = speechlike(2, 7)
    samples[100:103] = np.nan
    return samples


def cut_in_half(case: Case) -> None:
    data = case.audio(1).read_bytes()
    case.audio(1).write_bytes(data[: len(data) // 2])


def flac_of(case: Case) -> None:
    """The same samples again, as another file of another format under another id."""
    samples, rate = soundfile.read(case.audio(0), dtype="int16")
    case.rows[1]["audio_filepath"] = "audio/again.flac"
    soundfile.write(case.audio(1), samples, rate)


def other_corpus(case: Case) -> None:
    train = case.bench.case("train")
    train.rows[0]["speaker"] = "s1"
    train.save()
    case.config["apart_from"] = ["train"]


def recording_elsewhere(case: Case) -> None:
    old = case.bench.case("old")
    case.audio(2).write_bytes(old.audio(0).read_bytes())


def a_text_twice(case: Case) -> None:
    case.rows[1]["text"] = "It was"
    case.rows[2] |= {"text": "  It was", "speaker": "s1"}


TABLE = {
    "no JSON": Broken(lambda case: case.broken.append('{"text": "a"'), "lines_readable", "line 5: not JSON"),
    "no text": Broken(drop(1, "text"), "lines_readable", "line 2: text: Field required"),
    "a path that escapes": Broken(change(1, audio_filepath="../../x.wav"), "lines_readable", "leaves the corpus's folder"),
    "two lines of one id": Broken(change(2, id="u0"), "ids_unique", "u0: the same as u0"),
    "no such file": Broken(lambda case: case.audio(2).unlink(), "files_exist", "u2: audio/u2.wav is not there"),
    "no text, no tag": Broken(change(3, tags={}), "text_where_speech", "u3: empty text", also=("speakers_known",)),
    "another alphabet": Broken(change(0, text="打开门"), "script_of_language", "u0: 打 开 门 in a text"),
    "UTF-8 read as Latin-1": Broken(change(0, text="il Ã©tait une fois", language="fr"), "script_of_language", "u0: Ã ©"),
    "a letter too many": Broken(change(0, text="die gro\u00dfe T\u00fcr"), "letters_of_language", "u0: ß"),
    "too fast": Broken(change(0, text="word " * 40), "speaking_rate_plausible", "u0: 20.00 words per second"),
    "a text twice": Broken(a_text_twice, "texts_unique", "u1: the same as u2"),
    "no licence": Broken(lambda case: case.config.pop("licence"), "licence_present", "u0: no licence"),
    "a licence not allowed": Broken(change(1, license="CC-BY-NC-4.0"), "licence_allowed", "u1: CC-BY-NC-4.0"),
    "a speaker of the training data": Broken(other_corpus, "speakers_apart", "u1: s1 is also in train"),
    "nobody speaks": Broken(change(1, speaker="unknown"), "speakers_known", "u1: no speaker"),
    "no audio": Broken(lambda case: case.audio(1).write_bytes(b"RIFFnonsense"), "audio_decodes", "u1: u1.wav is not audio"),
    "an empty file": Broken(lambda case: case.audio(1).write_bytes(b""), "audio_decodes", "u1: u1.wav is an empty file"),
    "cut in half": Broken(cut_in_half, "audio_decodes", "u1: u1.wav is cut short"),
    "NaN": Broken(sound(1, with_nan, subtype="FLOAT"), "samples_finite", "u1: 3 samples are NaN"),
    "a wrong duration": Broken(change(1, duration=5.0), "duration_as_declared", "u1: u1.wav lasts 2.00 s"),
    "a wrong rate": Broken(change(1, sample_rate=8000), "rate_as_declared", "u1: u1.wav has 16000 Hz"),
    "silence": Broken(sound(1, lambda: np.zeros(2 * RATE_HZ, "float32")), "speech_not_silent", "u1: -120 dBFS",
                      also=("speech_fills_recording",)),
    "mostly silence": Broken(
        sound(1, lambda: np.concatenate([speechlike(0.1, 3), np.zeros(4 * RATE_HZ, "float32")])),
        "speech_fills_recording", "u1: 98% of it is silent", also=("duration_as_declared",),
    ),
    "clipped": Broken(sound(1, lambda: np.clip(5 * speechlike(2, 5), -1, 1)), "not_clipped", "of its samples are at full"),
    "an offset": Broken(sound(1, lambda: speechlike(2, 6) + 0.2), "no_dc_offset", "u1: its mean is 0.199 of full scale"),
    "too short": Broken(sound(1, lambda: speechlike(0.1, 5)), "duration_in_range", "u1: 0.10 s", ("duration_as_declared",)),
    "one recording twice": Broken(flac_of, "audio_unique", "u0: the same as u1"),
    "a recording of another corpus": Broken(recording_elsewhere, "audio_in_one_corpus", "u2: also old/u0"),
}  # fmt: skip


def test_a_corpus_that_is_as_it_should_be_is_valid(bench: Bench) -> None:
    bench.case()
    validation = bench.validate()
    assert validation.valid and not validation.failed
    assert [result.name for result in validation.expectations] == list(expectation_names())
    assert (validation.utterances, validation.speakers, validation.measured) == (4, 4, 4)


@pytest.mark.parametrize("kind", TABLE)
def test_each_kind_is_caught_by_its_expectation(kind: str, bench: Bench) -> None:
    broken = TABLE[kind]
    case = bench.case()
    broken.how(case)
    case.save()
    validation = bench.validate()
    failed = {result.name: result for result in validation.failed}
    assert broken.expectation in failed, f"found only {sorted(failed)}"
    result = failed[broken.expectation]
    assert broken.says in result.sentence and result.remedy in result.sentence
    assert set(failed) <= {broken.expectation, *broken.also}
    assert validation.valid == all(other.severity == "warning" for other in failed.values())


def test_every_expectation_has_a_corpus_that_breaks_it() -> None:
    assert len(TABLE) >= 20
    assert {broken.expectation for broken in TABLE.values()} == set(expectation_names())


def test_every_expectation_says_what_to_do() -> None:
    for name in SUITES:
        for expectation in read_suite(name).expectations:
            assert expectation.remedy.endswith(".") and expectation.description.endswith(".")
