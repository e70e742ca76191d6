import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import CorpusError
from models.types import Transcript
from pipelines.align import align, score_all, score_utterance, scorer_version
from pipelines.scores import AlignmentChunk, ErrorCounts
from pipelines.types import Prediction, Timing, Utterance
from tests.pipelines.factories import make_score

# Few words, some sharing letters, so that alignments have ties.
TEXT = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "ü", "don't"]), max_size=14).map(" ".join)


def counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(output.hits, output.substitutions, output.deletions, output.insertions)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", ErrorCounts(3, 0, 0, 0)),
        ("a b c", "a x c", ErrorCounts(2, 1, 0, 0)),
        ("a b c", "a c", ErrorCounts(2, 0, 1, 0)),
        ("a b c", "a b b c", ErrorCounts(3, 0, 0, 1)),
        ("fire fox", "firefox", ErrorCounts(0, 1, 1, 0)),
        ("a  b", " a b ", ErrorCounts(2, 0, 0, 0)),
        ("a", "x y z", ErrorCounts(0, 1, 0, 2)),
    ],
)
def test_word_counts(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert align(reference, hypothesis).words == expected


@given(TEXT, TEXT)
def test_counts_and_alignment_equal_jiwers(reference: str, hypothesis: str) -> None:
    ours, theirs = align(reference, hypothesis), jiwer.process_words(reference, hypothesis)
    assert ours.words == counts(theirs)
    assert ours.characters == counts(jiwer.process_characters(reference, hypothesis))
    assert ours.alignment == tuple(
        AlignmentChunk(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx) for c in theirs.alignments[0]
    )


@given(TEXT, TEXT)
def test_counts_add_up(reference: str, hypothesis: str) -> None:
    aligned = align(reference, hypothesis)
    assert aligned.words.reference_length == len(reference.split())
    assert aligned.words.hypothesis_length == len(hypothesis.split())
    assert aligned.characters.reference_length == len(reference)
    assert aligned.characters.hypothesis_length == len(hypothesis)


@given(TEXT, TEXT)
def test_chunks_cover_both_texts_in_order(reference: str, hypothesis: str) -> None:
    ref_done = hyp_done = 0
    for chunk in align(reference, hypothesis).alignment:
        assert (chunk.ref_start, chunk.hyp_start) == (ref_done, hyp_done)
        ref_done, hyp_done = chunk.ref_end, chunk.hyp_end
    assert (ref_done, hyp_done) == (len(reference.split()), len(hypothesis.split()))


@given(st.text(max_size=40))
def test_a_text_has_no_errors_against_itself(text: str) -> None:
    aligned = align(text, text)
    assert aligned.words.errors == aligned.characters.errors == 0


def test_texts_are_normalised_when_scored_and_kept_raw() -> None:
    score = make_score("Three, ONE one.", "311", normalizer="digits")
    assert (score.reference, score.hypothesis) == ("Three, ONE one.", "311")
    assert score.normalized_reference == score.normalized_hypothesis == "three one one"
    assert score.words.errors == 0


def test_a_stored_time_is_dropped() -> None:
    assert make_score(inference_s=0.5).inference_s == 0.5
    assert make_score(inference_s=None).inference_s is None


def test_score_all_keeps_order_and_says_which_are_fresh() -> None:
    def utterance(name: str) -> Utterance:
        return Utterance(id=name, audio_filepath=f"{name}.wav", duration=1.0, text="same words")

    prediction = Prediction(
        audio_sha256="0",
        model_fingerprint="m",
        task="asr",
        language=None,
        audio_s=1.25,
        transcript=Transcript(text="same word", confidence=0.5),
        timing=Timing(inference_s=0.25, decode_s=0.0),
    )
    scores = score_all([(utterance(name), prediction) for name in "cab"], "basic", fresh={"a"})
    assert [(s.id, s.inference_s) for s in scores] == [("c", None), ("a", 0.25), ("b", None)]
    assert scores[0].audio_s == 1.25
    assert scores[0].confidence == 0.5
    assert scores[1] == score_utterance(utterance("a"), prediction, "basic", fresh=True)


def test_unknown_normalizer_is_refused() -> None:
    with pytest.raises(CorpusError, match="Did you mean 'basic'"):
        make_score(normalizer="basics")


def test_scorer_version_names_the_aligner() -> None:
    assert scorer_version().startswith("1+rapidfuzz-")
