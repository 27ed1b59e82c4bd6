"""Requests to stop: when they take effect, and that every long loop of the project obeys them."""

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from builders import model, text, text_batch
from toy_environment import rolled

from mmtx.acting import video
from mmtx.data.audio import spoken_digits
from mmtx.data.episodes import babyai_demonstrations, rollouts
from mmtx.data.episodes.babyai_level import Level
from mmtx.data.episodes.gym_environment import GymEnvironment
from mmtx.data.episodes.key_to_door import KeyToDoorEnvironment, random_walks
from mmtx.data.files import duplicates, public_file
from mmtx.decoding.beam_search import beam_search
from mmtx.decoding.generate import generate
from mmtx.decoding.history import History
from mmtx.decoding.text_decoder import TextDecoder
from mmtx.objectives import film
from mmtx.process import progress, stopping
from mmtx.process.stopping import Interrupted, Obey, check, handling_signals, obeyed, track
from mmtx.training.interruptible_loader import InterruptibleLoader


@pytest.fixture
def signals():
    with handling_signals(), obeyed(Obey.LATER):
        yield


def test_a_signal_raises_at_once_where_there_is_nothing_to_save():
    before = signal.getsignal(signal.SIGTERM)
    with handling_signals():
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("went on")
        assert stop.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before and stopping.requested() == 0


def test_signals_have_their_usual_effect_on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    before = signal.getsignal(signal.SIGTERM)
    with handling_signals():
        assert signal.getsignal(signal.SIGTERM) is before


def test_it_waits_where_something_must_become_whole_and_is_not_forgotten(signals):
    signal.raise_signal(signal.SIGHUP)
    assert list(track(range(3), "counting")) == [0, 1, 2]
    check()
    with pytest.raises(Interrupted, match="SIGHUP"), obeyed(Obey.AT_CHECKS):
        check()
    with pytest.raises(Interrupted), obeyed(Obey.AT_ONCE):
        raise AssertionError("went on")


def test_what_goes_on_after_any_error_does_not_go_on_after_it(signals):
    """As a callback from C does, whose exceptions are printed and lost; and as plugins do."""
    done = 0
    with pytest.raises(Interrupted), obeyed(Obey.AT_CHECKS):
        for number in track(range(100), "counting"):
            done = number
            try:
                if number == 3:
                    signal.raise_signal(signal.SIGTERM)
                check()
            except BaseException:
                continue
    assert done == 3


def test_a_request_to_another_rank_is_obeyed(signals, monkeypatch):
    monkeypatch.setattr(stopping, "SHARED_SECONDS", 0.0)
    sent, there = [], []
    stopping.share(sent.append, lambda: there[0] if there else 0)
    with obeyed(Obey.AT_CHECKS):
        check()
        there.append(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            check()
    assert not sent  # it was not to this process


def test_a_request_to_this_rank_reaches_the_others_at_once(signals):
    sent = []
    stopping.share(sent.append, lambda: 0)
    signal.raise_signal(signal.SIGTERM)
    wait_for(lambda: sent == [signal.SIGTERM])


def test_requests_are_passed_on_each_once(signals, monkeypatch):
    passed, arrived, arrive = [], [], stopping._requests.arrived
    monkeypatch.setattr(stopping._requests, "arrived", lambda number: (arrive(number), arrived.append(number)))
    monkeypatch.setattr(stopping, "ONE_SIGNAL_SECONDS", 1000.0)
    with stopping.passed_on(passed.append):
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # as a terminal and the process above send it together
        wait_for(lambda: len(arrived) == 2)
        assert passed == [signal.SIGHUP]
        monkeypatch.setattr(stopping, "ONE_SIGNAL_SECONDS", 0.0)
        signal.raise_signal(signal.SIGTERM)
        wait_for(lambda: len(arrived) == 3)
    assert passed == [signal.SIGHUP, signal.SIGTERM]


def writer(search):
    whole = model({"text": text()})
    keys = {"beam_size": 2, "length_penalty": 1.0, "end": 10} if search is beam_search else {}
    vectors = whole.tokenizer("text").id_vectors
    return search(whole, lambda hidden: hidden @ vectors.T, text_batch([2, 2]), "text", max_new_tokens=6, **keys)


def level():
    made = Level.__new__(Level)
    made.name = "BabyAI-GoToLocal-v0"
    return made


def environment():
    pytest.importorskip("gymnasium")
    whole = GymEnvironment.__new__(GymEnvironment)
    whole._steps, whole._max_steps, whole._over = 0, 9, torch.zeros(9, dtype=torch.bool)
    whole._seen = [None] * 9
    whole._envs = [Environment() for _ in range(9)]
    return whole


class Environment:
    action_space = type("Discrete", (), {"n": 2, "start": 0})
    observation_space = None

    def step(self, action):
        return None, 0.0, False, False, {}


LOOPS = {
    "roll-outs": (History, "observe", lambda: rolled()),
    "steps of many environments": (
        GymEnvironment,
        "_vector",
        lambda: environment().step(torch.zeros(9, dtype=torch.long)),
    ),
    "texts that are written": (TextDecoder, "append", lambda: writer(generate)),
    "texts that are searched for": (TextDecoder, "append", lambda: writer(beam_search)),
    "a film": (film, "picture_of", lambda: video.write_gif(Path("film.gif"), [[torch.zeros(3, 4, 4)] * 9])),
    "spoken digits": (
        spoken_digits._Draw,
        "clip",
        lambda: spoken_digits._Draw(1, 2, 8000, 0).clips("train", 9),
    ),
    "demonstrations": (
        babyai_demonstrations,
        "_solved",
        lambda: babyai_demonstrations.demonstrations(level(), "train", 9, 0),
    ),
    "episodes of a data set": (
        rollouts._Generator,
        "_episode",
        lambda: rollouts._Generator("CartPole-v1", {"random": 1.0}, 9, 0).generate(9),
    ),
    "random walks": (KeyToDoorEnvironment, "step", lambda: random_walks(3, [3, 3, 3], 2, 0)),
}
STANDS_IN = {
    "steps of many environments": torch.zeros(2),
    "spoken digits": torch.zeros(8, dtype=torch.int16),
    "demonstrations": None,
    "episodes of a data set": {},
}
"""For what takes long, or is not installed."""


@pytest.mark.parametrize("name", LOOPS)
def test_a_long_loop_stops_before_its_next_item(name, signals, tmp_path, monkeypatch):
    owner, attribute, call = LOOPS[name]
    original, done = getattr(owner, attribute), 0

    def item(*arguments):
        nonlocal done
        done += 1
        if done == 2:
            signal.raise_signal(signal.SIGTERM)
        return STANDS_IN[name] if name in STANDS_IN else original(*arguments)

    monkeypatch.setattr(owner, attribute, item)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted), obeyed(Obey.AT_CHECKS):
        call()
    assert done == 2


def test_files_that_are_compared_in_threads_are_not_read_to_the_end(signals, tmp_path, monkeypatch):
    files, read = [tmp_path / str(number) for number in range(9)], []
    for file in files:
        file.write_bytes(b"as long as the others")

    def sample(file):
        read.append(file)
        stopping._requests.number = signal.SIGTERM
        return b""

    monkeypatch.setattr(duplicates, "_sample", sample)
    with pytest.raises(Interrupted), obeyed(Obey.AT_CHECKS):
        duplicates.first_copies(files)
    assert read == files[:1]


def test_a_download_shows_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr(public_file, "open_address", lambda *_: Answer(b"x" * (5 << 19)))
    assert public_file._download("https://a.b/c", "c", 1.0) == b"x" * (5 << 19)
    assert capsys.readouterr().err.splitlines()[-1] == "mmtx: downloading c, MiB 3/3"


class Answer(io.BytesIO):
    length = 5 << 19


def batches(made):
    """A loader that is requested to stop while it makes the third."""
    for number in range(9):
        made.append(number)
        if number == 2:
            signal.raise_signal(signal.SIGTERM)
        yield [number]


class Loader(list):
    def __iter__(self):
        return batches(self)


def test_nobody_waits_for_a_batch_that_is_being_made(signals):
    alone, together = Loader(), Loader()
    given = []
    with pytest.raises(Interrupted):
        given += InterruptibleLoader(alone)
    assert alone == [0, 1, 2]
    stopping._requests.has_raised, stopping._requests.number = False, 0
    assert list(InterruptibleLoader(together, "testing, batch", at_the_end=[])) == [[0], [1], []]
    assert together == [0, 1, 2]


CHILD = """
import hashlib, os, signal, threading, time
from mmtx.process.stopping import *

def send(*numbers):
    for number in numbers:
        time.sleep(1.2)
        os.kill(os.getpid(), number)

def record(number):
    print("recorded", number, flush=True)

{first}
threading.Thread(target=send, args={numbers}, daemon=True).start()
with handling_signals(), recorded(record):
    {body}
"""
IN_C = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes in which Python runs no handler
ENDS = {
    "a call that does not come back": ("", "(15,)", IN_C, 143, "recorded 15"),
    "a second request": ("", "(2, 15)", f"obey(Obey.LATER); {IN_C}", 143, "recorded 15"),
    "a hangup that was ignored before": (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "(1,)",
        "time.sleep(2); print(repr(signal.getsignal(1)))",
        0,
        "<Handlers.SIG_IGN: 1>",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_process_ends(name):
    first, numbers, body, code, printed = ENDS[name]
    script = CHILD.format(first=first, numbers=numbers, body=body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (code, printed), done.stderr


def test_a_long_loop_shows_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    for _ in track(range(2), "validating, batch"):
        for _ in track(iter("ab"), "writing, token", 5):
            pass
    assert capsys.readouterr().err.splitlines()[-1] == "mmtx: validating, batch 2/2, writing, token 2/5"
    progress.show_progress(False)
    assert list(track(range(3), "counting")) == [0, 1, 2] and not capsys.readouterr().err
    progress.show_progress(True)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
