import pytest

from models.card import ModelCard, read_cards
from models.engine import decoding_of
from pipelines.report.repeatability import repeatability
from tests.report.voice_factory import make_voice_evaluation

VOICES = [card for card in read_cards().values() if "tts" in card.tasks]


@pytest.mark.parametrize("card", VOICES, ids=lambda card: card.name)
def test_every_setting_of_every_voice_is_explained_by_its_engine(card: ModelCard) -> None:
    """The page shows these words, so an option without them would be a number that nobody can read."""
    decoding = decoding_of(card).model_dump(mode="json")
    told = repeatability(
        make_voice_evaluation([], card.name, model_fingerprint={"engine": card.engine, "decoding": decoding})
    )
    assert told.summary
    assert [setting.name for setting in told.settings] == list(decoding)
    assert [setting.name for setting in told.settings if not setting.meaning] == []


def test_a_seed_is_named_and_what_it_covers_is_in_the_engines_words() -> None:
    told = repeatability(make_voice_evaluation([]))
    assert told.seed == "0"
    (seed,) = [setting for setting in told.settings if setting.name == "seed"]
    assert "one loading never says a text twice alike. Without noise it changes nothing." in seed.meaning
    assert "`" not in told.summary + seed.meaning


def test_an_engine_without_a_seed_does_not_get_one() -> None:
    fingerprint = {"engine": "models.engines.seamless:Seamless", "decoding": {"num_beams": 1}}
    told = repeatability(make_voice_evaluation([], model_fingerprint=fingerprint))
    assert told.seed is None
    assert "It never samples." in told.summary


@pytest.mark.parametrize("engine", ["models.engines.gone:Gone", "nonsense", None, "models.engines.piper:REQUIREMENT"])
def test_an_engine_that_is_not_there_leaves_the_settings_without_words(engine: str | None) -> None:
    told = repeatability(make_voice_evaluation([], model_fingerprint={"engine": engine, "decoding": {"seed": 3}}))
    assert (told.seed, told.summary, [s.meaning for s in told.settings]) == ("3", "", [""])
