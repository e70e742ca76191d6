import gc

import pytest

from models.collector import collector_paused


def test_the_collector_rests_inside_and_works_again_afterwards() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError), collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer block is not over"
        raise ValueError
    assert gc.isenabled()
    gc.unfreeze()


def test_what_was_made_inside_is_left_out_of_collections() -> None:
    before = gc.get_freeze_count()
    with collector_paused():
        kept = [[] for _ in range(100)]
    assert gc.get_freeze_count() >= before + len(kept)
    gc.unfreeze()
