from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from ssn_edge_runtime.errors import ConfigError, ListenError
from ssn_edge_runtime.server import ListenAddress, parse_listen
from ssn_edge_runtime.server.address import BoundSocket, bind


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("unix:/run/ssn-edge.sock", "unix:/run/ssn-edge.sock"),
        ("127.0.0.1:8090", "127.0.0.1:8090"),
        ("127.0.0.9:0", "127.0.0.9:0"),
        ("localhost:80", "127.0.0.1:80"),
        ("[::1]:8090", "[::1]:8090"),
    ],
)
def test_a_socket_file_and_loopback_may_be_listened_on(text: str, written: str) -> None:
    assert str(parse_listen(text)) == written


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:8090", "[::]:8090", "192.168.1.5:8090", "8.8.8.8:80", "[fe80::1]:8090"],
)
def test_an_address_that_other_machines_reach_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="other machines could reach") as caught:
        parse_listen(text)
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "unix:/run/", ":8090", "8090", "localhost", "example.com:80", "127.0.0.1:65536",
     "127.0.0.1:-1", "127.0.0.1:\u0664", "unix:/" + "x" * 107, "/run/ssn-edge.sock", "[::1:80"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_told_how_one_looks(text: str) -> None:
    with pytest.raises(ConfigError, match=r"unix:/run/ssn-edge.sock or 127.0.0.1:8090 is wanted"):
        parse_listen(text)


def test_the_socket_file_is_for_owner_and_group_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bound = bind(ListenAddress(path=tmp_path / "s.sock"))
    finally:
        os.umask(before)
    mode = (tmp_path / "s.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert [each.name for each in tmp_path.iterdir()] == ["s.sock"]
    bound.close()
    assert list(tmp_path.iterdir()) == []


def test_a_path_as_long_as_the_kernel_takes_works(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (107 - len(os.fsencode(tmp_path)) - 1))
    assert len(os.fsencode(path)) == 107
    bound = bind(parse_listen(f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()


def test_the_file_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    bound = bind(ListenAddress(path=path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bound.close()


def test_a_server_that_runs_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = bind(ListenAddress(path=path))
    with pytest.raises(ListenError, match="a server that runs listens there") as caught:
        bind(ListenAddress(path=path))
    assert caught.value.exit_code == 5
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    first.close()


def test_a_server_whose_backlog_is_full_counts_as_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(ListenError, match="a server that runs listens there"):
            bind(ListenAddress(path=path))


@pytest.mark.parametrize("kind", ["to a socket", "to nothing", "to a file"])
def test_a_symbolic_link_is_neither_followed_nor_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "to a file":
        target.write_text("kept")
    elif kind == "to a socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(target))
    link = tmp_path / "s.sock"
    link.symlink_to(target)
    with pytest.raises(ListenError, match="symbolic link"):
        bind(ListenAddress(path=link))
    assert link.is_symlink()
    assert target.exists() == (kind != "to nothing")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.sock"
    if kind == "file":
        path.write_text("kept")
    else:
        path.mkdir()
    with pytest.raises(ListenError, match="is no socket"):
        bind(ListenAddress(path=path))
    assert path.exists()


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="its folder must be there"):
        bind(ListenAddress(path=tmp_path / "none" / "s.sock"))


def test_a_file_that_another_server_put_there_since_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = bind(ListenAddress(path=path))
    path.unlink()
    second = bind(ListenAddress(path=path))
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.close()
    assert not path.exists()


def test_of_servers_that_start_at_once_over_a_dead_one_exactly_one_listens(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    start = threading.Barrier(8)
    bound: list[BoundSocket] = []
    refused: list[ListenError] = []

    def begin() -> None:
        start.wait()
        try:
            bound.append(bind(ListenAddress(path=path)))
        except ListenError as error:
            refused.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(bound), len(refused)) == (1, 7)
    bound[0].close()
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said_so() -> None:
    first = bind(parse_listen("127.0.0.1:0"))
    with pytest.raises(ListenError, match="take another port"):
        bind(first.address)
    first.close()
