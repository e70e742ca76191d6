"""Any common file becomes mono float32 at 16 kHz; whatever is wrong with one is said, and costs no more than it must."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from models.audio import BLOCK_S, SAMPLE_RATE_HZ, Audio, AudioLimits, decode, duration_fault, file_sha256
from models.errors import AudioError

FORMATS = {
    "WAV/PCM_16": "wav",
    "WAV/PCM_24": "wav",
    "WAV/FLOAT": "wav",
    "WAV/ULAW": "wav",
    "FLAC/PCM_16": "flac",
    "MP3/MPEG_LAYER_III": "mp3",
    "OGG/VORBIS": "ogg",
    "OGG/OPUS": "opus",
}
RATES_HZ = (8_000, 16_000, 22_050, 44_100, 48_000)
OPUS_RATES_HZ = (8_000, 16_000, 48_000)
"""The codec knows no others of ours."""
TONE_HZ = 441.0
LOUD = 0.6


def tone(rate_hz: int, seconds: float = 1.0, frequency_hz: float = TONE_HZ) -> NDArray[np.float64]:
    return LOUD * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def noise(seconds: float, rate_hz: int = SAMPLE_RATE_HZ) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(0).standard_normal(round(rate_hz * seconds))


def write(path: Path, samples: NDArray[np.floating], rate_hz: int, encoding: str = "WAV/PCM_16") -> Path:
    container, subtype = encoding.split("/")
    soundfile.write(path, samples, rate_hz, format=container, subtype=subtype)
    return path


def peak_of(audio: Audio) -> tuple[float, float]:
    """Frequency in Hz and amplitude of the strongest tone, the edges (an encoder's padding) left out."""
    middle = audio.samples[len(audio.samples) // 8 : -len(audio.samples) // 8]
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window, 10 * audio.sample_rate_hz))
    return float(np.argmax(spectrum)) / 10, float(2 * spectrum.max() / window.sum())


def header(data_bytes: int, *, channels: int = 1, rate_hz: int = 16_000, held_s: float = 1.0) -> bytes:
    """A WAV file of 16 bits whose header says what it is told to, over silence that is really there."""
    frame = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame, 16)
    riff = b"RIFF" + struct.pack("<I", min(36 + data_bytes, 0xFFFFFFFF)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return riff + b"data" + struct.pack("<I", data_bytes) + bytes(int(32_000 * held_s))


CASES = [
    (encoding, rate_hz, channels)
    for encoding in FORMATS
    for rate_hz in (OPUS_RATES_HZ if encoding == "OGG/OPUS" else RATES_HZ)
    for channels in (1, 2)
]


@pytest.mark.parametrize(("encoding", "rate_hz", "channels"), CASES)
def test_every_format_rate_and_layout_decodes(tmp_path: Path, encoding: str, rate_hz: int, channels: int) -> None:
    samples = tone(rate_hz)
    if channels == 2:
        # One side alone: taking the left, the right, or the sum would each give another loudness than the mean.
        samples = np.stack([samples, np.zeros_like(samples)], axis=1)
    audio = decode(write(tmp_path / f"tone.{FORMATS[encoding]}", samples, rate_hz, encoding))
    assert audio.sample_rate_hz == 16_000
    assert audio.samples.dtype == np.float32 and audio.samples.ndim == 1
    assert len(audio.samples) == pytest.approx(16_000, abs=2) and audio.duration_s == pytest.approx(1, abs=2e-4)
    frequency, loudness = peak_of(audio)
    assert frequency == pytest.approx(TONE_HZ, abs=0.5)
    assert loudness == pytest.approx(LOUD / channels, rel=0.05)
    assert (audio.source_format, audio.source_rate_hz, audio.source_channels) == (encoding, rate_hz, channels)


def test_both_sides_of_a_stereo_file_are_heard(tmp_path: Path) -> None:
    left, right = tone(16_000), tone(16_000, frequency_hz=2 * TONE_HZ) / 2
    audio = decode(write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000, "WAV/FLOAT"))
    np.testing.assert_allclose(audio.samples, (left + right) / 2, atol=1e-6)


def test_the_rate_of_the_result_can_be_chosen(tmp_path: Path) -> None:
    audio = decode(write(tmp_path / "tone.wav", tone(16_000), 16_000), sample_rate_hz=24_000)
    assert (audio.sample_rate_hz, len(audio.samples)) == (24_000, 24_000)
    assert peak_of(audio)[0] == pytest.approx(TONE_HZ, abs=0.5)


def test_what_16_khz_cannot_hold_is_filtered_and_not_folded_back(tmp_path: Path) -> None:
    audio = decode(write(tmp_path / "high.wav", tone(48_000, frequency_hz=11_000), 48_000, "WAV/FLOAT"))
    assert np.abs(audio.samples[1_000:-1_000]).max() < 1e-4


def test_blocks_join_without_a_seam(tmp_path: Path) -> None:
    seconds = 2 * BLOCK_S + 1.5
    audio = decode(write(tmp_path / "long.wav", tone(8_000, seconds), 8_000, "WAV/FLOAT"))
    assert len(audio.samples) == pytest.approx(16_000 * seconds, abs=2)
    wanted = tone(16_000, seconds)[1_000:-1_000]
    np.testing.assert_allclose(audio.samples[1_000 : 1_000 + len(wanted)], wanted, atol=1e-3)


def test_a_file_at_its_limits_is_read_and_beyond_them_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.wav", np.zeros((16_000, 2)), 16_000)
    exact = AudioLimits(
        max_bytes=path.stat().st_size,
        max_duration_s=1.0,
        max_channels=2,
        min_sample_rate_hz=16_000,
        max_sample_rate_hz=16_000,
    )
    assert decode(path, limits=exact).duration_s == 1.0


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (AudioLimits(max_bytes=1 << 15), r"clip\.wav has 0 MiB; at most 0 MiB are read\. Split"),
        (AudioLimits(max_duration_s=0.9), r"clip\.wav is at least 1 s long; at most 1 s are read\. Split"),
        (AudioLimits(max_channels=1), r"clip\.wav declares 2 channels; 1 to 1 are read"),
        (AudioLimits(min_sample_rate_hz=22_050), r"clip\.wav declares 16000 Hz; 22050 to 384000 Hz are read"),
        (AudioLimits(max_sample_rate_hz=8_000), r"clip\.wav declares 16000 Hz; 4000 to 8000 Hz are read"),
    ],
)
def test_beyond_a_limit_the_file_is_refused_by_name(tmp_path: Path, limits: AudioLimits, told: str) -> None:
    path = write(tmp_path / "clip.wav", np.zeros((16_000, 2)), 16_000)
    with pytest.raises(AudioError, match=told):
        decode(path, limits=limits)


def test_the_length_that_counts_is_the_decoded_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header may say less than a file gives that cannot be wound; decoding stops at the limit all the same."""
    path = write(tmp_path / "sly.wav", np.zeros(16_000 * 3 * BLOCK_S), 16_000)
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda self: 16_000))
    monkeypatch.setattr(soundfile.SoundFile, "seekable", lambda self: False)
    with pytest.raises(AudioError, match=rf"sly\.wav is at least {2 * BLOCK_S} s long; at most 45 s"):
        decode(path, limits=AudioLimits(max_duration_s=45))


def test_a_header_of_ten_hours_over_one_second_costs_one_second(tmp_path: Path) -> None:
    """libsndfile holds the header against the file's size; nothing is allocated for what is not there."""
    path = tmp_path / "liar.wav"
    path.write_bytes(header(10 * 3600 * 32_000))
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"liar\.wav is cut short: its header declares 36000\.00 s and 1\.00 s are there"):
        decode(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20, "ten hours would be 2 GiB, one block of 30 s is 2 MiB"


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF], ids=hex)
def test_a_wav_that_was_written_into_a_pipe_is_as_long_as_it_is(tmp_path: Path, size: int) -> None:
    path = tmp_path / "piped.wav"
    path.write_bytes(header(size))
    assert decode(path).duration_s == 1.0


def test_a_header_of_ten_hours_that_cannot_be_held_against_a_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "liar.wav", np.zeros(16_000), 16_000)
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda self: 10 * 3600 * 16_000))
    with pytest.raises(AudioError, match=r"liar\.wav is at least 36000 s long"):
        decode(path)
    with pytest.raises(AudioError, match=r"liar\.wav is cut short: its header declares 36000\.00 s and 1\.00 s are there"):
        decode(path, limits=AudioLimits(max_duration_s=40_000))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(32_000, channels=99), "declares 99 channels"),
        (header(32_000, channels=0), "is not audio that can be read"),
        (header(32_000, rate_hz=1), "declares 1 Hz"),
        (header(32_000, rate_hz=2_000_000_000), "declares 2000000000 Hz"),
        (header(0, held_s=0), "holds no samples"),
        (b"", r"is an empty file \(0 bytes\)"),
        (b"this is no audio\n" * 50, r"is not audio that can be read .*expected WAV, FLAC, MP3"),
        (header(32_000)[:30], "is not audio that can be read"),
    ],
    ids=["99 channels", "no channel", "1 Hz", "2 GHz", "zero length", "empty file", "text", "half a header"],
)
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"^odd\.wav {told}") as refused:
        decode(path)
    assert refused.value.remedy


def test_a_missing_file_is_said_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav is missing \(looked for .*dvc pull") as refused:
        decode(tmp_path / "gone.wav")
    assert str(tmp_path / "gone.wav") in str(refused.value)
    with pytest.raises(AudioError, match="is missing"):
        decode(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at_s", [0.25, BLOCK_S + 5.0])
def test_values_that_are_not_finite_are_refused_with_their_time(tmp_path: Path, bad: float, at_s: float) -> None:
    samples = np.zeros(round((at_s + 1) * 8_000), dtype=np.float32)
    samples[round(at_s * 8_000)] = bad
    path = write(tmp_path / "nan.wav", samples, 8_000, "WAV/FLOAT")
    with pytest.raises(AudioError, match=rf"nan\.wav holds NaN or infinite samples \(first at {at_s:.3f} s\)"):
        decode(path)


@pytest.mark.parametrize(
    ("encoding", "told"), [("FLAC/PCM_16", "cannot be decoded to its end"), ("MP3/MPEG_LAYER_III", "cut short")]
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_half_a_file_is_refused_and_not_scored_as_if_whole(tmp_path: Path, encoding: str, told: str, kept: float) -> None:
    path = write(tmp_path / f"cut.{FORMATS[encoding]}", noise(12), 16_000, encoding)
    assert decode(path).duration_s == pytest.approx(12, abs=0.01)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(AudioError, match=rf"^{path.name} .*{told}"):
        decode(path)


@pytest.mark.parametrize("encoding", ["OGG/VORBIS", "OGG/OPUS"])
def test_where_no_header_tells_the_length_the_manifest_does(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / f"cut.{FORMATS[encoding]}", noise(12), 16_000, encoding)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert duration_fault(path.name, 12, decode(path).duration_s)


def test_a_short_end_that_encoders_make_is_no_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "padded.wav", np.zeros(16_000), 16_000)
    for declared_s, refused in ((1.0, False), (1.49, False), (1.52, True)):
        monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda self, d=declared_s: round(d * 16_000)))
        if refused:
            with pytest.raises(AudioError, match="cut short"):
                decode(path)
        else:
            assert decode(path).duration_s == 1.0


def test_a_byte_that_changed_inside_a_flac_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "hit.flac", noise(5), 16_000, "FLAC/PCM_16")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path.write_bytes(bytes(content))
    with pytest.raises(AudioError, match=r"^hit\.flac"):
        decode(path)


@pytest.mark.parametrize(
    ("declared_s", "actual_s", "fault"),
    [
        (1.0, 1.0, False),
        (1.0, 1.14, False),  # an MP3's padding
        (1.0, 0.86, False),
        (1.0, 1.16, True),
        (1.0, 0.84, True),
        (40.0, 40.7, False),  # 2%
        (40.0, 39.3, False),
        (40.0, 40.9, True),
        (40.0, 39.1, True),
        (3600.0, 3599.1, False),  # written in whole seconds
        (3600.0, 3598.9, True),
        (9.0, 1.0, True),
        (0.05, 0.15, False),
    ],
)
def test_a_declared_duration_is_held_to_a_slack_of_a_second_at_most(declared_s: float, actual_s: float, fault: bool) -> None:
    told = duration_fault("clip.wav", declared_s, actual_s)
    assert (told is not None) == fault
    if told:
        assert f"clip.wav lasts {actual_s:.2f} s and its manifest declares {declared_s:.2f} s" in told


def test_a_digest_is_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "big"
    content = np.random.default_rng(1).bytes((1 << 20) + 7)
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_flac_of_unknown_length_is_refused_in_words(tmp_path: Path) -> None:
    path = write(tmp_path / "piped.flac", np.random.default_rng(1).uniform(-0.3, 0.3, 48_000), 16_000, "FLAC/PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits: 0 is "not known"
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"piped\.flac declares no length"):
        decode(path)


def test_channels_and_rate_do_not_change_what_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (48_000, 6))
    path = write(tmp_path / "six.wav", noise, 48_000)
    whole = decode(path).samples
    monkeypatch.setattr("models.audio.BLOCK_VALUES", 6 * 1000)
    assert np.array_equal(decode(path).samples, whole)
