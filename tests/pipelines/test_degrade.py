"""Degraded variants on real recordings: what was asked for is what is measured, and the same bytes come out again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from scipy.signal import correlate, welch

from models.audio import decode, file_sha256
from models.errors import AudioError, CorpusError, LabError, PolicyError
from pipelines.corpus import find_corpus, list_corpora, read_corpus
from pipelines.degrade import build as building
from pipelines.degrade.codecs import transcode
from pipelines.degrade.effects import Means, Sound, degrade
from pipelines.degrade.level import HANGOVER_S, MARGIN_DB, TIME_CONSTANT_S, Samples, power_db, speech_level
from pipelines.degrade.order import degrade_corpus
from pipelines.degrade.recipe import read_variant
from pipelines.degrade.sounds import find_sounds
from pipelines.degrade.steps import DegradeParams, read_degrade
from pipelines.lab import Lab, Layout

RATE = 16_000
IDS = ("harvard-spk1-snt1", "digits-theo-0", "cv-22058267", "nonspeech-silence")


@pytest.fixture(scope="module")
def sounds(repository: Path) -> Means:
    folder = repository / "data" / "degrade"
    return Means(1729, find_sounds(folder / "noise", "noise", "--noise"), find_sounds(folder / "rooms", "rooms", "--rooms"))


@pytest.fixture(scope="module")
def speech(starter: Path) -> Samples:
    """A sentence that somebody reads."""
    return recording(starter, "harvard-spk1-snt1")


def rows_of(starter: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())}


def recording(starter: Path, name: str) -> Samples:
    return decode(starter / rows_of(starter)[name]["audio_filepath"]).samples.astype(np.float64)


def through(samples: Samples, means: Means, *steps: dict[str, Any], utterance: str = "u") -> Sound:
    params = DegradeParams.model_validate({"variants": {"v": list(steps)}})
    return degrade(samples, params.find("v"), utterance, means)


def level(samples: Samples, rate: int = RATE) -> float:
    found = speech_level(samples, rate)
    assert found is not None
    return found.active_db


# The level of speech (ITU-T P.56)


def test_a_signal_without_pauses_is_as_loud_as_its_power() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 10 * RATE)
    found = speech_level(noise, RATE)
    assert found is not None
    assert found.active_db == pytest.approx(power_db(noise), abs=0.1) and found.activity > 0.98


def test_pauses_change_the_power_and_not_the_active_level(speech: Samples) -> None:
    silence = np.zeros(5 * RATE)
    padded = np.concatenate([silence, speech, silence])
    assert power_db(padded) < power_db(speech) - 5
    assert level(padded) == pytest.approx(level(speech), abs=0.5)


def test_the_activity_is_the_share_of_speech() -> None:
    """Bursts of half a second with pauses of one: each is active for its length, the envelope's decay and the hangover."""
    rng = np.random.default_rng(1)
    burst, pause = rng.normal(0, 0.1, RATE // 2), np.zeros(RATE)
    found = speech_level(np.concatenate([burst, pause] * 8), RATE)
    assert found is not None
    assert found.activity == pytest.approx((0.5 + 2.5 * TIME_CONSTANT_S + HANGOVER_S) / 1.5, abs=0.02)


@pytest.mark.parametrize("gain_db", [-30, -6, 6])
def test_a_gain_moves_the_level_by_itself(speech: Samples, gain_db: float) -> None:
    assert level(speech * 10 ** (gain_db / 20)) == pytest.approx(level(speech) + gain_db, abs=0.3)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), np.full(RATE, 1e-9)], ids=["none", "zeros", "below a bit"])
def test_silence_has_no_level(samples: Samples) -> None:
    assert speech_level(samples, RATE) is None and MARGIN_DB > 0


# The steps


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0])
@pytest.mark.parametrize("name", ["harvard-spk1-snt1", "digits-theo-0"])
def test_noise_lies_below_the_speech_by_the_ratio(starter: Path, sounds: Means, name: str, snr_db: float) -> None:
    clean = recording(starter, name)
    noisy = through(clean, sounds, {"kind": "noise", "snr_db": snr_db}, utterance=name)
    gain = 10 ** (float(noisy.facts.get("turned_down_db", "0")) / 20)
    noise = noisy.samples / gain - clean
    assert level(clean) - power_db(noise) == pytest.approx(snr_db, abs=0.05)
    assert noisy.facts["noise"] in {"noise1.wav", "noise3.wav"} and len(noisy.samples) == len(clean)


def test_padding_first_does_not_change_how_much_noise_there_is(speech: Samples, sounds: Means) -> None:
    padding = {"kind": "padding", "lead_s": 3, "tail_s": 3}
    noisy = through(speech, sounds, padding, {"kind": "noise", "snr_db": 10})
    noise = noisy.samples - through(speech, sounds, padding).samples
    assert level(speech) - power_db(noise) == pytest.approx(10, abs=0.6)


def test_levels_of_noise_share_the_noise(speech: Samples, sounds: Means) -> None:
    """So that 0 dB and 20 dB can be compared with each other, recording by recording."""
    loud, soft = (through(speech, sounds, {"kind": "noise", "snr_db": snr}, utterance="a") for snr in (0, 20))
    scale = 10 ** (float(loud.facts.get("turned_down_db", "0")) / 20)
    np.testing.assert_allclose(loud.samples / scale - speech, 10 * (soft.samples - speech), atol=1e-9)
    drawn = {
        tuple(sorted(through(speech, sounds, {"kind": "noise", "snr_db": 9}, utterance=str(i)).facts.items()))
        for i in range(8)
    }
    assert len(drawn) == 8, "and other recordings have other noise"


def test_a_recording_without_speech_gets_noise_by_the_nominal_level(sounds: Means) -> None:
    noisy = through(np.zeros(2 * RATE), sounds, {"kind": "noise", "snr_db": 10})
    assert power_db(noisy.samples) == pytest.approx(-36, abs=0.01)


@pytest.mark.parametrize("room", ["rir1.wav", "rir2", "rir3.wav", "rir4.wav"])
def test_a_room_smears_and_neither_delays_nor_changes_the_level(speech: Samples, sounds: Means, room: str) -> None:
    wet = through(speech, sounds, {"kind": "room", "file": room})
    assert level(wet.samples) - float(wet.facts.get("turned_down_db", "0")) == pytest.approx(level(speech), abs=0.1)
    assert 0 <= lag(speech, wet.samples) < RATE / 1000, "early reflections may lead the correlation, by less than 1 ms"
    click = np.zeros(RATE)
    click[RATE // 4] = 0.5
    heard = through(click, sounds, {"kind": "room", "file": room}).samples
    assert np.abs(heard[: RATE // 4]).max() < 1e-9 and np.count_nonzero(np.abs(heard) > 1e-4) > 100, "it rings on"


@pytest.mark.parametrize("law", ["a-law", "mu-law", "none"])
def test_a_telephone_passes_300_to_3400_hz(sounds: Means, law: str) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 8 * RATE)
    heard = through(noise, sounds, {"kind": "telephone", "law": law})
    assert heard.rate_hz == 8000 and len(heard.samples) == 4 * RATE and heard.tags == {"bandwidth": "narrow"}
    frequencies, power = welch(heard.samples, 8000, nperseg=1024, detrend=False)
    _, before = welch(noise, RATE, nperseg=2048, detrend=False)
    change_db = 10 * np.log10(power / before[: len(power)])
    assert abs(change_db[(frequencies > 330) & (frequencies < 3350)]).max() < 2
    floor = -35 if law == "none" else -25  # companding adds noise of its own, 38 dB below what is there
    assert change_db[(frequencies < 140) | (frequencies > 3880)].max() < floor


@pytest.mark.parametrize(
    ("codec", "kbps", "alike"), [("mp3", 16, 0.95), ("mp3", 64, 0.99), ("opus", 8, 0.85), ("opus", 32, 0.98)]
)
def test_a_codec_keeps_time_and_its_bit_rate(speech: Samples, codec: Any, kbps: float, alike: float) -> None:
    back, measured = transcode(speech, RATE, codec, kbps)
    assert len(back) == len(speech) and abs(lag(speech, back)) <= 2
    assert alike < correlation(speech, back) < 0.9999
    assert measured == pytest.approx(kbps, rel=0.1 if codec == "mp3" else 0.4)
    np.testing.assert_array_equal(back, transcode(speech, RATE, codec, kbps)[0])


@pytest.mark.parametrize(("rate", "codec", "kbps"), [(16_000, "mp3", 12), (8_000, "mp3", 160), (11_025, "opus", 8)])
def test_a_bit_rate_that_a_codec_lacks_is_refused(rate: int, codec: Any, kbps: float) -> None:
    with pytest.raises(AudioError, match=r"has no|takes no"):
        transcode(np.zeros(rate), rate, codec, kbps)


def test_clipping_cuts_what_lies_beyond_full_scale(speech: Samples, sounds: Means) -> None:
    cut = through(speech, sounds, {"kind": "clipping", "over_db": 12})
    whole = speech / np.abs(speech).max() * 10 ** (12 / 20)
    assert np.abs(cut.samples).max() == 1 and cut.clipped == int((np.abs(whole) > 1).sum()) > 100
    np.testing.assert_allclose(cut.samples, np.clip(whole, -1, 1))


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_speed_changes_length_and_pitch(sounds: Means, factor: float) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    heard = through(tone, sounds, {"kind": "speed", "factor": factor}).samples
    assert len(heard) / RATE == pytest.approx(2 / factor, abs=0.001)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert spectrum.argmax() * RATE / len(heard) == pytest.approx(440 * factor, abs=1)


def test_gain_and_padding(speech: Samples, sounds: Means) -> None:
    quiet = through(speech, sounds, {"kind": "gain", "gain_db": -30})
    assert power_db(quiet.samples) == pytest.approx(power_db(speech) - 30, abs=1e-6) and not quiet.clipped
    assert through(speech, sounds, {"kind": "gain", "gain_db": 40}).clipped > 0
    padded = through(speech, sounds, {"kind": "padding", "lead_s": 1, "tail_s": 0.5}).samples
    assert len(padded) == len(speech) + 1.5 * RATE
    assert not padded[:RATE].any() and not padded[-RATE // 2 :].any()
    np.testing.assert_array_equal(padded[RATE : RATE + len(speech)], speech)


def lag(before: Samples, after: Samples) -> int:
    return int(correlate(after, before, mode="full", method="fft").argmax()) - (len(before) - 1)


def correlation(before: Samples, after: Samples) -> float:
    return float(before @ after / np.sqrt((before @ before) * (after @ after)))


# Variants of a corpus


@pytest.fixture
def lab(tmp_path: Path, starter: Path, repository: Path) -> Lab:
    """A project with four recordings of the starter corpus, and the shipped policy and sounds."""
    corpus = tmp_path / "data" / "mini"
    (corpus / "audio").mkdir(parents=True)
    known = rows_of(starter)
    for name in IDS:
        shutil.copyfile(starter / known[name]["audio_filepath"], corpus / known[name]["audio_filepath"])
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(known[name]) + "\n" for name in IDS))
    shutil.copyfile(starter / "corpus.yaml", corpus / "corpus.yaml")
    (corpus / "corpus.yaml").write_text((corpus / "corpus.yaml").read_text().replace("name: starter", "name: mini"))
    shutil.copytree(repository / "data" / "degrade", tmp_path / "data" / "degrade")
    shutil.copyfile(repository / "params.yaml", tmp_path / "params.yaml")
    return Lab(project=tmp_path, home_folder=tmp_path / "home", layout=Layout(workers=2, threads=1))


def bytes_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_shipped_variant_is_a_corpus_that_pairs_with_its_source(lab: Lab) -> None:
    reports = degrade_corpus(lab, "mini")
    variants = read_degrade(lab.params).variants
    assert [report.variant for report in reports] == list(variants) and len(variants) >= 8
    assert {step.kind for steps in variants.values() for step in steps} == {
        "noise", "room", "telephone", "codec", "clipping", "speed", "gain", "padding",
    }  # fmt: skip
    assert list_corpora(lab.data) == ["mini"], "an evaluation of everything does not grow by them"
    source = find_corpus("mini", lab.data)
    for report in reports:
        corpus = find_corpus(f"mini-{report.variant}", lab.data)
        assert corpus.folder == report.folder == lab.project / "results" / "corpora" / corpus.name
        assert corpus.config.normalizers == source.config.normalizers
        for before, after in zip(source.utterances, corpus.utterances, strict=True):
            assert after.variant_of == f"mini/{before.id}" and after.tags["variant"] == report.variant
            assert (after.id, after.text, after.speaker, after.license) == (
                before.id, before.text, before.speaker, before.license,
            )  # fmt: skip
            info = soundfile.info(corpus.audio_path(after))
            assert info.duration == pytest.approx(after.duration, abs=0.001) and info.format == "FLAC"
            assert file_sha256(corpus.audio_path(after)) != file_sha256(source.audio_path(before)) or not before.text
    phone = {u.id: u.tags["bandwidth"] for u in find_corpus("mini-telephone", lab.data).utterances}
    assert set(phone.values()) == {"narrow"}, "what the source says of its band is not true of a telephone"


def test_a_rerun_gives_the_same_bytes_and_makes_nothing_anew(lab: Lab, tmp_path: Path) -> None:
    names = ("noise-10db", "opus-8k")
    first = degrade_corpus(lab, "mini", names)
    again = degrade_corpus(lab, "mini", names)
    assert [report.made for report in first] == [4, 4] and [report.made for report in again] == [0, 0]
    before = bytes_of(lab.derived)
    shutil.rmtree(lab.derived)
    degrade_corpus(lab.model_copy(update={"layout": Layout(workers=1, threads=1)}), "mini", names)
    assert bytes_of(lab.derived) == before, "whatever ran beside it"


def test_a_new_recording_costs_one_and_a_new_recipe_all(lab: Lab, starter: Path) -> None:
    degrade_corpus(lab, "mini", ["noise-10db"])
    row = rows_of(starter)["digits-jackson-0"]
    shutil.copyfile(starter / row["audio_filepath"], lab.data / "mini" / row["audio_filepath"])
    manifest = lab.data / "mini" / "manifest.jsonl"
    manifest.write_text(manifest.read_text() + json.dumps(row) + "\n")
    (report,) = degrade_corpus(lab, "mini", ["noise-10db"])
    assert (report.recordings, report.made) == (5, 1)
    manifest.write_text("".join(line + "\n" for line in manifest.read_text().splitlines()[1:]))
    (report,) = degrade_corpus(lab, "mini", ["noise-10db"])
    assert (report.recordings, report.made) == (4, 0)
    assert len(list((report.folder / "audio").iterdir())) == 4, "what is not in the corpus any more is gone"
    params = yaml.safe_load(lab.params.read_text())
    params["degrade"]["seed"] = 1
    lab.params.write_text(yaml.safe_dump(params))
    (report,) = degrade_corpus(lab, "mini", ["noise-10db"])
    assert report.made == 4


def test_a_kill_keeps_what_was_finished(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def dies(samples: Samples, steps: Any, utterance: str, means: Means) -> Sound:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(utterance)
        return degrade(samples, steps, utterance, means)

    one = lab.model_copy(update={"layout": Layout(workers=1, threads=1)})
    monkeypatch.setattr(building, "degrade", dies)
    with pytest.raises(KeyboardInterrupt):
        degrade_corpus(one, "mini", ["noise-10db"])
    assert not (lab.derived / "mini-noise-10db").exists(), "half a corpus is none"
    monkeypatch.undo()
    (report,) = degrade_corpus(one, "mini", ["noise-10db"])
    assert report.made == 2 and report.recordings == 4


def test_a_users_own_noise_and_rooms(lab: Lab, tmp_path: Path) -> None:
    hum = tmp_path / "mine" / "hum.wav"
    hum.parent.mkdir()
    soundfile.write(hum, 0.1 * np.sin(np.arange(44_100) / 20), 44_100)
    shutil.rmtree(lab.data / "degrade")
    (report,) = degrade_corpus(lab, "mini", ["noise-10db"], noise=hum, into=tmp_path / "elsewhere")
    assert report.folder == tmp_path / "elsewhere" / "mini-noise-10db"
    variant = read_variant(report.folder)
    assert variant is not None and list(variant.recipe.sounds) == ["noise/hum.wav"]
    assert {made.facts["noise"] for made in variant.recordings} == {"hum.wav"}
    assert len(read_corpus(report.folder).utterances) == 4


def no_sounds(lab: Lab) -> None:
    shutil.rmtree(lab.data / "degrade" / "noise")


def lost_recording(lab: Lab) -> None:
    next((lab.data / "mini" / "audio").iterdir()).unlink()


def text_file(lab: Lab) -> None:
    next((lab.data / "mini" / "audio").iterdir()).write_text("this is no audio")


def taken(lab: Lab) -> None:
    (lab.derived / "mini-noise-10db").mkdir(parents=True)
    (lab.derived / "mini-noise-10db" / "thesis.txt").write_text("mine")


def silent_noise(lab: Lab) -> None:
    for path in (lab.data / "degrade" / "noise").iterdir():
        soundfile.write(path, np.zeros(RATE), RATE)


def bad_params(lab: Lab) -> None:
    lab.params.write_text("degrade: {variants: {noise-10db: [{kind: nose}]}}")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (no_sounds, "does not exist"),
        (lost_recording, "cannot be degraded"),
        (text_file, "cannot be degraded"),
        (taken, "it is not overwritten"),
        (silent_noise, "is silent"),
        (bad_params, "degrade.variants.noise-10db"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_done_is_said(lab: Lab, harm: Callable[[Lab], None], told: str) -> None:
    harm(lab)
    with pytest.raises(LabError, match=told) as error:
        degrade_corpus(lab, "mini", ["noise-10db"])
    assert error.value.remedy
    assert list_corpora(lab.derived) == []


def test_unknown_names_and_variants_of_variants_are_refused(lab: Lab) -> None:
    with pytest.raises(PolicyError, match="Did you mean 'noise-10db'"):
        degrade_corpus(lab, "mini", ["noise-10dB"])
    degrade_corpus(lab, "mini", ["padded"])
    with pytest.raises(CorpusError, match="is a variant already"):
        degrade_corpus(lab, "mini-padded", ["noise-10db"])
