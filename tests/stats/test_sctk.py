"""MAPSSWE and error totals against NIST's sclite and sc_stats, on stored results and, where SCTK is installed, afresh."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rapidfuzz.distance import Levenshtein

from pipelines.stats.matched_pairs import ErrorSlots, mapsswe

GOLDEN = Path(__file__).parent / "golden"
SYSTEMS = ("int8_greedy", "float32_beam5")
SCTK = ["sctk"] if shutil.which("sctk") else []  # Debian's front end; upstream installs the programs themselves
needs_sctk = [
    pytest.mark.sctk,
    pytest.mark.skipif(not (SCTK or shutil.which("sclite")), reason="install Debian's sctk: apt-get install sctk"),
]


def read_sgml(text):
    """Read sclite's alignments: {utterance: [(C|S|D|I, reference word, hypothesis word), ...]}."""
    paths = re.findall(r'<PATH id="\((.+?)\)".*?>\n(.*?)</PATH>', text, flags=re.DOTALL)
    word = re.compile(r'([CSDI]),(?:"([^"]*)")?,(?:"([^"]*)")?')
    return {name: word.findall(body) for name, body in paths}


def slots(words):
    wrong, insertions = [], [0]
    for kind, _, _ in words:
        if kind == "I":
            insertions[-1] += 1
        else:
            wrong.append(kind != "C")
            insertions.append(0)
    return ErrorSlots.of(wrong, insertions)


def read_trn(system):
    lines = (GOLDEN / f"{system}.trn").read_text().splitlines()
    return {name: text.split() for text, name in (re.fullmatch(r"(.*) \((.+)\)", line).groups() for line in lines)}


def read_mapsswe(text):
    number = r"\s*(-?[\d.]+)"
    found = re.search(rf"# segs:{number}.*mean:{number}\) \(std dev:{number}\) \(Z Stat:{number}\) \(Stat Diff: (\w+)", text)
    totals = re.search(rf"Totals{number}{number}{number}", text)
    segments, mean, deviation, z, different = found.groups()
    return {
        "segments": int(segments),
        "mean": float(mean),
        "std_dev": float(deviation),
        "z": float(z),
        "different": different == "Yes",
        "errors": (int(totals[2]), int(totals[3])),
    }


def alignments():
    return [read_sgml((GOLDEN / f"{system}.sgml").read_text()) for system in SYSTEMS]


def assert_agrees(ours, theirs):
    assert ours.segments == theirs["segments"]
    assert (ours.errors_a, ours.errors_b) == theirs["errors"]
    assert ours.mean == pytest.approx(theirs["mean"], abs=5.1e-4)
    assert ours.std_dev == pytest.approx(theirs["std_dev"], abs=5.1e-4)
    assert ours.z == pytest.approx(theirs["z"], abs=5.1e-4)
    assert (ours.p_value < 0.05) == theirs["different"]


@pytest.mark.parametrize(("golden", "ending"), [("all", ""), ("clean", "clean")])
def test_mapsswe_equals_sc_stats_on_its_own_alignments(golden, ending):
    a, b = alignments()
    names = [name for name in a if name.endswith(ending)]
    ours = mapsswe([slots(a[name]) for name in names], [slots(b[name]) for name in names])
    assert_agrees(ours, read_mapsswe((GOLDEN / f"{golden}.mapsswe.txt").read_text()))


def test_the_p_value_equals_sc_stats_to_its_table():
    a, b = alignments()
    names = [name for name in a if name.endswith("clean")]
    ours = mapsswe([slots(a[name]) for name in names], [slots(b[name]) for name in names])
    printed = re.search(r"MP\s+\|\|.*?(\d\.\d{3})", (GOLDEN / "clean.unified.txt").read_text())
    # The table's next entry is never below the exact value, and close to it.
    assert ours.p_value == pytest.approx(float(printed[1]), abs=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
def test_sclite_and_levenshtein_totals_agree_up_to_their_weights(system):
    aligned = read_sgml((GOLDEN / f"{system}.sgml").read_text())
    reference, hypothesis = read_trn("reference"), read_trn(system)
    assert aligned.keys() == reference.keys() == hypothesis.keys()
    ours_total = theirs_total = differing = 0
    for name, words in aligned.items():
        kinds = [kind for kind, _, _ in words]
        theirs = len(kinds) - kinds.count("C")
        ours = Levenshtein.distance(reference[name], hypothesis[name])
        # NIST's costs: insertion 3, deletion 3, substitution 4. sclite's alignment is the cheapest by them.
        cost = 3 * kinds.count("I") + 3 * kinds.count("D") + 4 * kinds.count("S")
        assert cost == Levenshtein.distance(reference[name], hypothesis[name], weights=(3, 3, 4)), name
        assert ours <= theirs, name
        ours_total, theirs_total, differing = ours_total + ours, theirs_total + theirs, differing + (ours != theirs)
    print(f"{system}: sclite {theirs_total} errors, Levenshtein {ours_total}, {differing} utterances differ")
    assert theirs_total == ours_total  # on these texts; in general sclite's may be more


class TestRerun:
    pytestmark = needs_sctk

    @pytest.fixture(scope="class")
    def fresh(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("sctk")
        for trn in GOLDEN.glob("*.trn"):
            shutil.copy(trn, folder)
        for system in SYSTEMS:
            hypothesis = ["-h", f"{system}.trn", "trn", system]
            options = ["-i", "rm", "-o", "sgml", "-O", ".", "-n", system, "-f", "0"]
            subprocess.run([*SCTK, "sclite", "-r", "reference.trn", "trn", *hypothesis, *options], cwd=folder, check=True)
        return folder

    def test_sclite_aligns_as_stored(self, fresh):
        for system, stored in zip(SYSTEMS, alignments(), strict=True):
            assert read_sgml((fresh / f"{system}.sgml").read_text()) == stored

    def test_sc_stats_agrees(self, fresh):
        both = "".join((fresh / f"{system}.sgml").read_text() for system in SYSTEMS)
        command = [*SCTK, "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-"]
        printed = subprocess.run(command, cwd=fresh, input=both, capture_output=True, text=True, check=True).stdout
        a, b = (read_sgml((fresh / f"{system}.sgml").read_text()) for system in SYSTEMS)
        assert_agrees(mapsswe([slots(w) for w in a.values()], [slots(b[name]) for name in a]), read_mapsswe(printed))
