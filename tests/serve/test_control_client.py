"""The command line's end of the control socket, against real sockets."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.errors import RelayNotRunning
from relay.serve.control_client import call, listen


def answering(state: Path, *answers: bytes) -> Callable[[], list[dict[str, object]]]:
    """Serve one connection for each of `answers`; the result joins the thread and gives the questions."""
    (state / "run").mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(state / "run" / "control.sock"))
    listener.listen()
    questions: list[dict[str, object]] = []

    def serve() -> None:
        with listener:
            for answer in answers:
                peer, _ = listener.accept()
                with peer:
                    questions.append(json.loads(peer.makefile("rb").readline()))
                    peer.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()

    def asked() -> list[dict[str, object]]:
        thread.join(10)
        return questions

    return asked


def test_a_question_left_open_by_one_supervisor_is_put_to_the_next(tmp_path: Path) -> None:
    """A connection that ends without an answer is repeated, and the second answer counts."""
    asked = answering(tmp_path, b"", b'{"ok": true}\n')
    assert call(tmp_path, {"do": "status"}) == {"ok": True}
    assert asked() == [{"do": "status"}, {"do": "status"}]


@pytest.mark.parametrize("answer", [b"[1]\n", b"SSH-2.0-other\n"])
def test_an_answer_that_is_not_an_object_is_not_the_relay(tmp_path: Path, answer: bytes) -> None:
    """Another program behind the socket gives an error, not a traceback."""
    answering(tmp_path, answer)
    with pytest.raises(RelayNotRunning, match="gave no answer"):
        call(tmp_path, {"do": "status"})


def test_without_a_supervisor_the_error_says_how_to_start_it(tmp_path: Path) -> None:
    """No socket: both calls say that no relay answers."""
    with pytest.raises(RelayNotRunning, match="no relay answers"):
        call(tmp_path, {"do": "status"})
    with pytest.raises(RelayNotRunning, match="no relay answers"):
        list(listen(tmp_path, {"do": "list"}))


def test_a_listing_ends_with_its_last_piece(tmp_path: Path) -> None:
    """Pieces arrive in order; what follows the last one is not read."""
    answering(tmp_path, b'{"n": 1}\n{"n": 2, "last": true}\n{"n": 3}\n')
    assert [piece["n"] for piece in listen(tmp_path, {"do": "list"})] == [1, 2]


def test_a_listing_cut_short_is_an_error(tmp_path: Path) -> None:
    """A supervisor that goes before the last piece does not look like a short list."""
    answering(tmp_path, b'{"n": 1}\n')
    with pytest.raises(RelayNotRunning, match="no whole answer"):
        list(listen(tmp_path, {"do": "list"}))
