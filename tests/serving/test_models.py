"""What a service says of itself, and to the lab's own HTTP engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from service import CLIP, HEARER, SPEAKER, Running

from models.audio import decode
from models.card import ModelCard
from models.engine import build_engine, placement_of
from models.fingerprint import model_fingerprint
from serving.served import ServedModel


def test_models_say_what_they_are(service: Running, held: Mapping[str, ServedModel], shared_weights: Path) -> None:
    listed = {model.id: model for model in service.openai().models.list()}
    assert set(listed) == {HEARER, SPEAKER}
    hearer = service.openai().models.retrieve(HEARER)
    assert hearer == listed[HEARER]
    assert (hearer.object, hearer.created) == ("model", 1_700_000_000)
    extra = hearer.model_extra or {}
    card = held[HEARER].card
    weights = held[HEARER].fingerprints["asr"].weights
    assert extra["fingerprint"] == model_fingerprint(card, placement_of(card), weights, "asr").digest
    assert extra["digest"] == held[HEARER].weights_digest != held[SPEAKER].weights_digest


def test_the_labs_http_engine_reads_it(service: Running, held: Mapping[str, ServedModel], audio: Path) -> None:
    card = ModelCard.model_validate(
        {
            "name": "remote",
            "summary": "The service",
            "tasks": ["asr"],
            "engine": "models.engines.openai_http:OpenAICompatible",
            "stage": "experimental",
            "languages": ["en"],
            "licence": "MIT",
            "args": {"base_url": f"{service.url}/v1", "model": HEARER},
            "devices": {"remote": {"compute_type": "remote"}},
        }
    )
    engine = build_engine(card, Path(), placement_of(card))
    samples = decode(audio / CLIP).samples
    own = held[HEARER].engine.transcribe(samples, language="en")
    heard = engine.transcribe(samples, language="en")
    assert heard.text == own.text
    assert [word.text for word in heard.words] == [word.text for word in own.words]  # sent as 16 bits, so probabilities move
    assert model_fingerprint(card, placement_of(card), {}).identity["fingerprint"] == held[HEARER].fingerprint


def test_metrics_and_statistics_count(service: Running, audio: Path) -> None:
    with service.http() as client:
        before = client.get("/v1/statistics").json()["models"].get(HEARER, {"calls": 0, "audio_s": 0})
        service.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER)
        after = client.get("/v1/statistics").json()
        assert after["models"][HEARER]["calls"] == before["calls"] + 1
        assert 5 < after["models"][HEARER]["audio_s"] - before["audio_s"] < 6
        text = client.get("/metrics").text
    assert 'modellab_requests_total{method="POST",route="/v1/audio/transcriptions",status="200"}' in text
    assert f'modellab_engine_seconds_total{{model="{HEARER}",task="asr"}}' in text
    assert "modellab_queue_running 0.0" in text


def test_no_request_of_the_documents_form_breaks_the_service(service: Running) -> None:
    """Schemathesis makes requests from the OpenAPI document; none is answered with 5xx, or an error of another form."""
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    seen: list[int] = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            answer = case.call()
            seen.append(answer.status_code)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        check()
    assert 200 in seen and 400 in seen
