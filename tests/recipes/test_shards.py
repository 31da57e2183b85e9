"""Work in shards: what is there is not made again, and the result is the same."""

from __future__ import annotations

import pytest

from sentence_transformers.recipes.shards import read_lines, write_in_shards


def test_rows_of_all_shards_become_one_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_in_shards(
        path, list("abcde"), 2, lambda shard, start: [{"of": one, "from": start} for one in shard], quiet=True
    )
    assert read_lines(path) == [{"of": one, "from": place // 2 * 2} for place, one in enumerate("abcde")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_has_lost_its_last_shard_only(tmp_path):
    path, asked = tmp_path / "rows.jsonl", []

    def work(shard, start):
        asked.append(start)
        if asked.count(4) == 1 and start == 4:
            raise KeyboardInterrupt
        return [{"of": one} for one in shard]

    with pytest.raises(KeyboardInterrupt):
        write_in_shards(path, list("abcdef"), 2, work, quiet=True)
    assert not path.exists()
    write_in_shards(path, list("abcdef"), 2, work, quiet=True)
    assert asked == [0, 2, 4, 4]
    assert [row["of"] for row in read_lines(path)] == list("abcdef")


def test_a_line_separator_within_a_text_breaks_no_row(tmp_path):
    text = "one\u2028two\x85three\nfour\rfive"
    write_in_shards(tmp_path / "rows.jsonl", [text], 1, lambda shard, start: [{"text": shard[0]}], quiet=True)
    assert read_lines(tmp_path / "rows.jsonl") == [{"text": text}]


def test_an_order_may_be_given(tmp_path):
    write_in_shards(
        tmp_path / "rows.jsonl",
        [3, 1, 2],
        1,
        lambda shard, start: [{"number": shard[0]}],
        quiet=True,
        order=lambda row: row["number"],
    )
    assert [row["number"] for row in read_lines(tmp_path / "rows.jsonl")] == [1, 2, 3]


def test_a_file_that_is_there_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"of": "a"}\n', encoding="utf-8")
    # Left by a process that was killed while it removed its shards.
    (tmp_path / "rows-000000000.jsonl").write_text('{"of": "a"}\n', encoding="utf-8")
    write_in_shards(path, ["a"], 1, lambda shard, start: pytest.fail("made again"), quiet=True)
    assert list(tmp_path.iterdir()) == [path]
