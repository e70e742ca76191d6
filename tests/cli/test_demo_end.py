"""How the demo ends, in words: which model is packaged, and what came of asking it."""

from __future__ import annotations

import pytest

from modellab.commands.ship import show_shipped, show_winner, winner_of
from serving.parity import Difference, ParityReport
from serving.ship import Request, Shipped
from tests.report.factory import make_comparison

PARITY = ParityReport(model="m", url="http://127.0.0.1:1", fingerprint="ab", task="asr", checked=("a", "b"), different=())
OTHERWISE = Difference(id="a", expected="one", found="two")
FAILED = PARITY.model_copy(update={"different": (OTHERWISE,)})
ASKED = Request(id="a", answer="one", seconds=0.5, different=None)
SHIPPED = Shipped(model="m", tag="m:1", reused=False, parity=PARITY, request=ASKED, command="modellab serve m")


@pytest.mark.parametrize(
    ("verdict", "told"), [("pass", "passed"), ("fail", "failed"), ("inconclusive", "inconclusive is no pass")]
)
def test_only_what_passed_replaces_what_is_in_production(
    verdict: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = make_comparison(verdict)
    winner = comparison.candidate if verdict == "pass" else comparison.baseline
    assert winner_of(comparison) == winner
    show_winner(comparison, comparison.baseline)
    said = capsys.readouterr().out
    assert told in said
    assert ("stays in production" in said) == (verdict != "pass")
    show_winner(comparison, "another")
    assert "in production" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ("parity passed: 2 of 2", "package: m:1", "'one', as it was tested", "To serve it for real: modellab serve m")),
        ({"reused": True, "parity": None}, ("package: m:1, which passed its parity check when it was made",)),
        ({"request": ASKED.model_copy(update={"different": OTHERWISE})}, ("expected 'one'",)),
        ({"request": None, "parity": FAILED}, ("parity failed: 1 of 2", "Not packaged")),
    ],
)  # fmt: skip
def test_what_came_of_it(change: dict[str, object], told: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    shipped = SHIPPED.model_copy(update=change)
    show_shipped(shipped)
    output = capsys.readouterr()
    for words in told:
        assert words in output.out + output.err
    assert shipped.passed == (not change or "reused" in change)
