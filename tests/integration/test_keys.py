"""Keys and the files that hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mplite_tasks_transport.errors import InvalidKey
from mplite_tasks_transport.keys import MAX_KEY_BYTES, MIN_KEY_BYTES, load_key, new_key, read_key_file

KEY = "sixteen-bytes-of-key"


def key_file(directory: Path, content: str = KEY + "\n", mode: int = 0o600) -> Path:
    path = directory / "key"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_new_keys_differ_and_can_stand_in_a_url() -> None:
    keys = {new_key() for _ in range(10)}

    assert len(keys) == 10
    assert all(load_key(key) == key.encode() for key in keys)
    assert all(key.replace("-", "").replace("_", "").isalnum() for key in keys)


def test_without_any_source_there_is_no_key() -> None:
    assert load_key(environ={}) is None


def test_the_key_comes_from_the_first_source_that_has_one(tmp_path: Path) -> None:
    file = key_file(tmp_path, "key-of-the-option-file")
    other = tmp_path / "other"
    other.mkdir()
    env = {"MPLITE_KEY": "key-of-the-environment", "MPLITE_KEY_FILE": str(key_file(other, "key-of-the-env-file"))}

    assert load_key("an-explicit-key-here", file, environ=env) == b"an-explicit-key-here"
    assert load_key(None, file, environ=env) == b"key-of-the-option-file"
    assert load_key(environ=env) == b"key-of-the-environment"
    assert load_key(environ={**env, "MPLITE_KEY": ""}) == b"key-of-the-env-file"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_newline_at_the_end_of_a_key_file_is_not_part_of_the_key(tmp_path: Path, ending: str) -> None:
    assert read_key_file(key_file(tmp_path, KEY + ending)) == KEY.encode()


def test_only_one_newline_is_taken_off(tmp_path: Path) -> None:
    assert read_key_file(key_file(tmp_path, KEY + "\n\n")) == f"{KEY}\n".encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_file_that_others_can_open_is_refused_with_the_command_to_run(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, mode=mode)

    with pytest.raises(InvalidKey, match=f"chmod 600 {file}"):
        read_key_file(file)


def test_a_key_file_that_is_not_there_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match=r"No such file.*umask 077"):
        load_key(key_file=tmp_path / "none")


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="directory"):
        read_key_file(tmp_path)


@pytest.mark.parametrize("size", [0, MIN_KEY_BYTES - 1, MAX_KEY_BYTES + 1])
def test_a_key_of_the_wrong_size_is_refused_and_not_shown(tmp_path: Path, size: int) -> None:
    key = "k" * size

    with pytest.raises(InvalidKey) as explicit:
        load_key(key)
    with pytest.raises(InvalidKey) as from_file:
        read_key_file(key_file(tmp_path, key))

    assert "kkkk" not in f"{explicit.value}{from_file.value}"
