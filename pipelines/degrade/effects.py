"""Each step of a variant, done to one recording."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from models.audio import SAMPLE_RATE_HZ
from pipelines.degrade.codecs import compand, transcode
from pipelines.degrade.level import Samples, power_db, speech_level
from pipelines.degrade.sounds import SOUND_RATE_HZ, SoundFile, draw
from pipelines.degrade.steps import Clipping, Codec, Gain, Noise, Padding, Room, Speed, Step, Telephone

NOMINAL_LEVEL_DB = -26.0
"""Level that speech is tested at in telephony (ITU-T P.830, below overload); stands in where a recording has no speech."""
PEAK = 0.99
"""A sum that would go beyond full scale is turned down as a whole, so that noise is not joined by clipping."""
TELEPHONE_RATE_HZ = 8_000
PASS_HZ, STOP_HZ = (300, 3400), (150, 3850)
"""A telephone channel's pass band, and where it must be shut (as ITU-T G.712)."""
PASS_RIPPLE_DB, STOP_DB = 0.5, 40.0


@dataclass(frozen=True)
class Sound:
    """A recording on its way through the steps."""

    samples: Samples
    """Mono, (n,), full scale at 1."""
    rate_hz: int = SAMPLE_RATE_HZ
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was drawn and done: which noise, from where …"""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags that are not true any more, with what is."""
    clipped: int = 0
    """Samples that were cut off."""


@dataclass(frozen=True)
class Means:
    """What steps draw from."""

    seed: int
    noises: Sequence[SoundFile] = ()
    rooms: Sequence[SoundFile] = ()

    def generator(self, utterance: str, kind: str) -> np.random.Generator:
        """The random numbers of one recording and one kind of step.

        The variant plays no part: a recording has the same stretch of the same noise at 20 dB and at 0 dB, so that
        levels can be compared as well.
        """
        digest = hashlib.sha256(f"{self.seed}\n{kind}\n{utterance}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def degrade(samples: Samples, steps: Sequence[Step], utterance: str, means: Means) -> Sound:
    """Take a recording through the steps, in order.

    Args:
        samples: Mono at 16 kHz, (n,), full scale at 1.
        steps: What to do.
        utterance: The recording's id; decides what is drawn for it.
        means: Noises, rooms, and the seed.

    Raises:
        CorpusError: A noise or room that a step names is not there.
        AudioError: A codec has no such bit rate.
    """
    sound = Sound(np.asarray(samples, dtype=np.float64))
    for step in steps:
        effect: Callable[[Sound, Any, np.random.Generator, Means], Sound] = EFFECTS[type(step)]
        sound = effect(sound, step, means.generator(utterance, step.kind), means)
    return sound


def active_level_db(samples: Samples, rate_hz: int) -> float:
    """Active level of the speech by ITU-T P.56; `NOMINAL_LEVEL_DB` where there is none."""
    found = speech_level(samples, rate_hz)
    return NOMINAL_LEVEL_DB if found is None else found.active_db


def _noise(sound: Sound, step: Noise, rng: np.random.Generator, means: Means) -> Sound:
    source = draw(means.noises, step.file, "noise", lambda n: int(rng.integers(n)))
    noise = _at_rate(source.samples, sound.rate_hz)
    start = int(rng.random() * len(noise))
    part = np.take(noise, np.arange(start, start + len(sound.samples)), mode="wrap")
    level_db = active_level_db(sound.samples, sound.rate_hz)
    # A stretch of digital silence in the noise stays one: there is nothing to bring to a level.
    power = power_db(part)
    gain = 10.0 ** ((level_db - step.snr_db - power) / 20.0) if math.isfinite(power) else 0.0
    facts = {"noise": source.name, "noise_from_s": f"{start / sound.rate_hz:.3f}", "speech_level_db": f"{level_db:.2f}"}
    return _within_scale(replace(sound, samples=sound.samples + gain * part, facts={**sound.facts, **facts}))


def _room(sound: Sound, step: Room, rng: np.random.Generator, means: Means) -> Sound:
    from scipy.signal import fftconvolve

    source = draw(means.rooms, step.file, "room", lambda n: int(rng.integers(n)))
    response = _at_rate(source.samples, sound.rate_hz)
    # From the direct sound on, so that nothing is late; the tail beyond the recording's end is cut.
    response = response[int(np.abs(response).argmax()) :]
    wet = fftconvolve(sound.samples, response)[: len(sound.samples)]
    change_db = _level_db(sound.samples, sound.rate_hz) - _level_db(wet, sound.rate_hz)
    gain = 10.0 ** (change_db / 20.0) if math.isfinite(change_db) else 1.0
    return _within_scale(replace(sound, samples=gain * wet, facts={**sound.facts, "room": source.name}))


def _telephone(sound: Sound, step: Telephone, rng: np.random.Generator, means: Means) -> Sound:
    from scipy.signal import sosfilt

    samples = sosfilt(_telephone_band(), _at_rate(sound.samples, TELEPHONE_RATE_HZ, sound.rate_hz))
    if step.law != "none":
        samples = compand(samples, TELEPHONE_RATE_HZ, step.law)
    return replace(sound, samples=samples, rate_hz=TELEPHONE_RATE_HZ, tags={**sound.tags, "bandwidth": "narrow"})


def _codec(sound: Sound, step: Codec, rng: np.random.Generator, means: Means) -> Sound:
    samples, kbps = transcode(sound.samples, sound.rate_hz, step.codec, step.kbps)
    return replace(sound, samples=samples, facts={**sound.facts, "kbps": f"{kbps:.1f}"})


def _clipping(sound: Sound, step: Clipping, rng: np.random.Generator, means: Means) -> Sound:
    peak = float(np.abs(sound.samples).max(initial=0.0))
    return sound if peak == 0 else _cut(sound, 10.0 ** (step.over_db / 20.0) / peak)


def _gain(sound: Sound, step: Gain, rng: np.random.Generator, means: Means) -> Sound:
    return _cut(sound, 10.0 ** (step.gain_db / 20.0))


def _speed(sound: Sound, step: Speed, rng: np.random.Generator, means: Means) -> Sound:
    # Read as if it had been recorded at another rate, as sox's `speed` does.
    return replace(sound, samples=_at_rate(sound.samples, sound.rate_hz, sound.rate_hz * step.factor))


def _padding(sound: Sound, step: Padding, rng: np.random.Generator, means: Means) -> Sound:
    lead, tail = (round(seconds * sound.rate_hz) for seconds in (step.lead_s, step.tail_s))
    return replace(sound, samples=np.concatenate([np.zeros(lead), sound.samples, np.zeros(tail)]))


EFFECTS: Mapping[type[Any], Callable[[Sound, Any, np.random.Generator, Means], Sound]] = {
    Noise: _noise,
    Room: _room,
    Telephone: _telephone,
    Codec: _codec,
    Clipping: _clipping,
    Speed: _speed,
    Gain: _gain,
    Padding: _padding,
}


def _level_db(samples: Samples, rate_hz: int) -> float:
    found = speech_level(samples, rate_hz)
    return power_db(samples) if found is None else found.active_db


def _at_rate(samples: Samples, rate_hz: float, from_hz: float = SOUND_RATE_HZ) -> Samples:
    import soxr

    if rate_hz == from_hz:
        return samples
    out: Samples = soxr.resample(samples, from_hz, rate_hz)
    return out


def _within_scale(sound: Sound) -> Sound:
    peak = float(np.abs(sound.samples).max(initial=0.0))
    if peak <= PEAK:
        return sound
    told = f"{20 * math.log10(PEAK / peak):.2f}"
    return replace(sound, samples=sound.samples * (PEAK / peak), facts={**sound.facts, "turned_down_db": told})


def _cut(sound: Sound, gain: float) -> Sound:
    louder = sound.samples * gain
    beyond = int((np.abs(louder) > 1.0).sum())
    return replace(sound, samples=np.clip(louder, -1.0, 1.0), clipped=sound.clipped + beyond)


@cache
def _telephone_band() -> Any:
    from scipy.signal import iirdesign

    return iirdesign(PASS_HZ, STOP_HZ, PASS_RIPPLE_DB, STOP_DB, ftype="ellip", output="sos", fs=TELEPHONE_RATE_HZ)
