"""Built tokenizers in the user's cache: used, noticed when damaged, and done without where nothing can be written."""

import making
import pytest

from refmoe import text
from refmoe.vocab import cache, tiktoken


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REFMOE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH", 100)
    return making.write(tmp_path / "model", tiktoken__model=making.rank_file(making.LOW_BYTES))


def stored(tmp_path):
    return list((tmp_path / "cache" / "tokenizers").iterdir())


def never(source):
    raise AssertionError("built again")


def test_the_second_start_builds_nothing(folder, tmp_path, monkeypatch):
    first = text.load(folder, 1000).encode("abc")
    assert len(stored(tmp_path)) == 1
    monkeypatch.setattr(tiktoken, "ranks", never)
    assert text.load(folder, 1000).encode("abc") == first
    for change in ({"tokenizer_config__json": {"x": 1}}, {"tiktoken__model": b"AA== 0\n" * 50}):
        making.write(folder, **change)
        with pytest.raises(AssertionError, match="built again"):
            text.load(folder, 1000)


def test_another_vocabulary_size_is_another_tokenizer(folder, tmp_path):
    assert text.load(folder, 1000).size == 512 and text.load(folder, 300).size == 300
    assert len(stored(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{}", b"cut", b"flip"])
def test_a_damaged_file_is_built_again(folder, tmp_path, damage):
    first = text.load(folder, 1000).encode("abc")
    (path,) = stored(tmp_path)
    whole = path.read_bytes()
    path.write_bytes({b"cut": whole[:-10], b"flip": whole.replace(b"true", b"null", 1)}.get(damage, damage))
    assert text.load(folder, 1000).encode("abc") == first
    assert path.read_bytes() == whole and stored(tmp_path) == [path]


def test_without_a_place_to_write(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("refmoe.places.cache_roots", lambda: iter([tmp_path / "file"]))
    assert text.load(folder, 1000).encode("abc") == [97, 98, 99]


def test_a_full_disk(folder, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert text.load(folder, 1000).encode("abc") == [97, 98, 99] and stored(tmp_path) == []


def test_small_files_are_not_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "WORTH", 1 << 20)
    text.load(folder, 1000)
    assert not (tmp_path / "cache").exists()
