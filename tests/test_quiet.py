"""What a user sees: the run's own lines, no warning that nobody can act upon, no file elsewhere."""

import os
import pty
import re
import subprocess
import sys
import termios

from helpers import ROOT, TESTS, command, tiny_options


def test_a_run_of_halfcheetah_is_quiet(script, tmp_path):
    """MuJoCo 4 warns once for each HalfCheetah and leaves MUJOCO_LOG.TXT, if one lets it."""
    options = [*tiny_options(script, num_envs=4), "--env-id", "HalfCheetah-v4", "--run-dir", "run"]
    line = command(script, *options)
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    first, *modes = done.stdout.splitlines()
    assert first == f"{script} on HalfCheetah-v4, seed 1: run"
    scores = [re.fullmatch(r"(\w+): -?[\d.]+ ± [\d.]+", mode).group(1) for mode in modes]
    assert scores in (["deterministic", "sampled"], ["deterministic"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    names = {path.name.split(".")[0] for path in (tmp_path / "run").iterdir()}
    assert names == {"args", "checkpoint", "events", "result"}


def test_an_unstable_simulation_still_warns(script, tmp_path):
    program = TESTS / "programs" / "unstable.py"
    line = [sys.executable, program, ROOT, script]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == ""
    assert "Nan, Inf or huge value in Q" in done.stderr and "settotalmass" not in done.stderr


def test_lines_of_progress_where_there_is_no_terminal(script, tmp_path):
    steps = {"total_timesteps": 120_000, "num_steps": 1000, "minibatch_size": 2000}
    if script == "ddpg":
        steps = {"total_timesteps": 120_000, "learning_starts": 120_000}
    options = [*tiny_options(script, **steps), "--env-id", "envs:Scalar-v0", "--run-dir", "run"]
    line = command(script, *options)
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    pattern = r"(?m)^([\d,]+) steps, [\d,]+ steps/s, return 50.0$"
    seen = [int(x.replace(",", "")) for x in re.findall(pattern, done.stdout)]
    assert [x // 50_000 for x in seen] == [1, 2] and all(x % 50_000 < 3000 for x in seen)
    assert len(done.stdout.splitlines()) <= 5


def test_a_terminal_shows_a_bar_and_an_error_has_its_own_line(script, tmp_path):
    env_id = "envs:LateNaN-v0"
    options = [*tiny_options(script, total_timesteps=2_000), "--env-id", env_id, "--run-dir", "run"]
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 100))
    process = subprocess.Popen(command(script, *options), cwd=tmp_path, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        shown += part
    assert process.wait(60) == 1
    lines = re.split(r"[\r\n]+", shown.decode())
    assert any("steps/s" in line for line in lines)  # DDPG writes a return every 1,000 steps
    assert script == "ddpg" or any("return 50.0" in line for line in lines)
    assert any(line.startswith("error: rewards is not finite at step") for line in lines)
