"""What a person sees of a run."""

from ushape.progress import BarListener, LineListener


def test_lines_come_now_and_then_and_at_the_end(capsys):
    listener = LineListener()
    listener.words("hello")
    for step in (1, 2, 3):
        listener.progress(step, 3, 0.5, 0.25 if step == 2 else None, 61)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "hello",
        "step     1 of 3  loss 0.5000  1:01 left",
        "step     3 of 3  loss 0.5000  validation 0.250  1:01 left",
    ]


def test_the_bar_writes_to_standard_error_only(capsys):
    listener = BarListener()
    listener.words("hello")
    listener.progress(1, 2, 0.5, 0.25, 5)
    listener.progress(2, 2, 0.4, None, 0)
    listener.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "hello" in shown.err


def test_nothing_is_said_of_the_time_left_before_a_step_was_timed(capsys):
    LineListener().progress(1, 100, 0.5, None, float("nan"))
    assert capsys.readouterr().err == "step     1 of 100  loss 0.5000\n"
