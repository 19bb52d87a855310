"""A run that is killed and resumed ends with the bytes of one that was not; `python tests/killing.py` does the same more often."""

import pytest
from killing import JOBS, Trial

KILLED_RUNS = 7  # of each job


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_killed_anywhere_and_resumed_a_run_ends_with_the_same_bytes(job, tmp_path):
    trial = Trial(job, tmp_path, seed=1)
    assert trial.moments > 100  # reading, writing, evaluating, drawing: the moments of a run are many
    for i in range(KILLED_RUNS):
        trial.kill_and_resume(f"killed-{i}", (i + 0.5) / KILLED_RUNS)
    assert trial.kills >= KILLED_RUNS
