"""The programs in `examples/` run as a user would run them."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cross_encoder_cases import tiny_classifier
from tiny import tiny_clip

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments: str, folder: Path) -> str:
    """What an example prints."""
    finished = finished_run(*arguments, folder=folder)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def failure(*arguments: str, folder: Path) -> str:
    """What an example says when it gives up."""
    finished = finished_run(*arguments, folder=folder)
    assert finished.returncode != 0, finished.stdout
    return finished.stderr


def finished_run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, check=False, timeout=300
    )


def test_the_quickstart_prints_the_known_similarities(minilm_path, tmp_path):
    del minilm_path
    printed = run(str(EXAMPLES / "quickstart.py"), folder=tmp_path)
    assert "(3, 384)" in printed
    assert [value in printed for value in ("1.0000", "0.6660", "0.1046", "0.1411")] == [True] * 4


def test_the_demo_finds_passages_and_draws_a_picture(minilm_path, tmp_path):
    del minilm_path
    printed = run(str(EXAMPLES / "demo.py"), "--texts", "40", "--out", "pictures", folder=tmp_path)
    assert len(re.findall(r"^  0\.\d{4}  ", printed, re.M)) == 9
    assert re.search(r"Reached [\d,]+ texts/s and [\d,]+ tokens/s", printed)
    assert (tmp_path / "pictures" / "similarity.png").read_bytes().startswith(b"\x89PNG")


def test_the_sample_is_small_and_says_where_it_is_from():
    sample = EXAMPLES / "data" / "medquad-sample.tsv.gz"
    assert sample.stat().st_size < 300_000
    lines = gzip.decompress(sample.read_bytes()).decode("utf-8").splitlines()
    assert lines[0].split("\t") == ["question", "answer", "type", "source"]
    assert len(lines) == 481
    assert "CC BY 4.0" in (EXAMPLES / "data" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["softmax", "ranking", "gist"])
def test_the_inference_example_trains_and_reports(method, minilm_path, shared_data, tmp_path):
    del minilm_path
    data = tmp_path / "data"
    for name in ("nli/train", "stsb/en/dev", "stsb/en/test"):
        rows = gzip.decompress((shared_data / f"{name}.tsv.gz").read_bytes()).decode("utf-8").splitlines(True)
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / f"{name}.tsv.gz").write_bytes(gzip.compress("".join(rows[:400]).encode("utf-8")))
    run(
        str(EXAMPLES / "nli" / "train_nli.py"), method, "--start", "reduced", "--rows", "32", "--batch-size", "16",
        "--data", str(data), "--out", "trained", "--quiet", folder=tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / "trained" / "report.json").read_text(encoding="utf-8"))
    assert report["rows"] <= 32
    assert -100 <= report["stsb_test_after"] <= 100
    assert (tmp_path / "trained" / "model" / "modules.json").is_file()


@pytest.mark.parametrize(
    ("kind", "has_data"), [("symmetric", False), ("symmetric", True), ("asymmetric", False)]
)
def test_texts_that_belong_to_a_query_are_found(kind, has_data, minilm_path, request, tmp_path):
    del minilm_path
    data = ["--data", str(request.getfixturevalue("shared_data"))] if has_data else []
    program = str(EXAMPLES / "semantic_search" / "search_texts.py")
    printed = run(program, kind, "--limit", "60", *data, folder=tmp_path)
    assert len(re.findall(r"^  -?\d\.\d{4}  ", printed, re.M)) == 9
    first, among_ten = map(float, re.findall(r"first(?: 10)?: ([\d.]+)%", printed))
    assert 50 < first <= among_ten <= 100


@pytest.mark.parametrize(
    ("package", "program"), [("faiss", "ann_faiss"), ("usearch", "ann_usearch"), ("hnswlib", "ann_hnswlib")]
)
def test_an_index_finds_nearly_all_that_exact_search_finds(package, program, minilm_path, tmp_path):
    del minilm_path
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    printed = run(str(EXAMPLES / "semantic_search" / f"{program}.py"), "--limit", "300", folder=tmp_path)
    recall = float(re.search(r"recall +([\d.]+)% of what exact search finds", printed)[1])
    assert 80 < recall <= 100


def test_a_database_inside_the_program_finds_what_exact_search_finds(minilm_path, tmp_path):
    del minilm_path
    pytest.importorskip("qdrant_client")
    program = str(EXAMPLES / "vector_databases" / "search_qdrant.py")
    printed = run(program, "--limit", "60", "--source", "NIHSeniorHealth", folder=tmp_path)
    assert "Stored 60 passages with embeddings of 384 numbers." in printed
    sources = re.findall(r"^  0\.\d{4}  (\w+):", printed, re.M)
    assert sources == ["NIHSeniorHealth"] * 9
    assert "60 questions: the database finds 100.0% of the 10 nearest." in printed


@pytest.mark.parametrize(
    ("package", "program", "image"),
    [
        ("elasticsearch", "search_elasticsearch", "docker.elastic.co/elasticsearch/elasticsearch"),
        ("opensearchpy", "search_opensearch", "opensearchproject/opensearch"),
    ],
)
def test_a_server_that_does_not_answer_is_named_with_the_command_that_starts_one(
    package, program, image, tmp_path
):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    # Port 9 discards what it is sent where it is open at all.
    program = str(EXAMPLES / "vector_databases" / f"{program}.py")
    said = failure(program, "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert "answers at http://127.0.0.1:9. Pass --url, or start one: docker run" in said
    assert image in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("program", "has_data"),
    [("kmeans", False), ("kmeans", True), ("agglomerative", True), ("fast_clustering", True)],
)
def test_clusters_agree_with_labels(program, has_data, minilm_path, request, tmp_path):
    del minilm_path
    data = ["--data", str(request.getfixturevalue("shared_data"))] if has_data else []
    printed = run(str(EXAMPLES / "clustering" / f"{program}.py"), "--limit", "250", *data, folder=tmp_path)
    agreement = float(re.search(r"normalised mutual information +([\d.]+)", printed)[1])
    # The labels of the sample say what is asked for, while clusters gather around diseases.
    assert agreement > (0.6 if has_data else 0)


def test_topics_are_named_by_their_words(minilm_path, shared_data, tmp_path):
    del minilm_path
    program = str(EXAMPLES / "clustering" / "topics.py")
    printed = run(program, "--limit", "400", "--topics", "8", "--data", str(shared_data), folder=tmp_path)
    topics = re.findall(r"^ *(\d+) texts  (.*)$", printed, re.M)
    assert sum(int(size) for size, _ in topics) == 400
    assert [len(words.split(", ")) for _, words in topics] == [5] * 8
    assert any("card" in words for _, words in topics)


def test_paraphrases_are_mined_and_judged(minilm_path, shared_data, tmp_path):
    del minilm_path
    program = str(EXAMPLES / "paraphrase_mining" / "mine_paraphrases.py")
    printed = run(program, "--limit", "900", "--data", str(shared_data), folder=tmp_path)
    precisions = [float(value) for value in re.findall(r"precision ([\d.]+)%", printed)]
    assert len(precisions) == 3
    assert precisions[0] > 50


def test_translations_are_mined_from_two_texts(minilm_path, tmp_path):
    del minilm_path
    (tmp_path / "a.txt").write_text("The cat sleeps.\n\nMy house is red.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("My house is red!\nA cat is asleep.\n", encoding="utf-8")
    program = str(EXAMPLES / "translated_sentence_mining" / "mine_translations.py")
    run(program, "--source", "a.txt", "--target", "b.txt", "--out", "pairs.tsv", folder=tmp_path)
    lines = (tmp_path / "pairs.tsv").read_text(encoding="utf-8").splitlines()
    assert {tuple(line.split("\t")[1:]) for line in lines} == {
        ("The cat sleeps.", "A cat is asleep."),
        ("My house is red.", "My house is red!"),
    }
    assert "say what to mine" in failure(program, folder=tmp_path)


def test_mined_translations_are_judged(minilm_path, shared_data, tmp_path):
    del minilm_path
    program = str(EXAMPLES / "translated_sentence_mining" / "mine_translations.py")
    printed = run(program, "--limit", "90", "--data", str(shared_data), folder=tmp_path)
    assert "60 and 60 sentences" in printed
    assert re.search(r"\d+ of the 30 true pairs are among them", printed)
    assert re.search(r"F1 [\d.]+%, precision [\d.]+%, recall [\d.]+%", printed)


def test_images_are_searched_with_words_and_with_an_image(shared_data, tmp_path):
    pytest.importorskip("PIL")
    from sentence_transformers import SentenceTransformer, models

    model = SentenceTransformer(modules=[models.CLIPModel(str(tiny_clip(tmp_path / "clip")))])
    model.save_pretrained(str(tmp_path / "model"))
    program = str(EXAMPLES / "image_search" / "search_images.py")
    images = ["--images", str(shared_data / "images"), "--limit", "20"]
    printed = run(program, "--model", str(tmp_path / "model"), *images, folder=tmp_path)
    assert len(re.findall(r"^  -?\d\.\d{4}  \w+_\d\d\.jpg$", printed, re.M)) == 9
    assert "20 images, 20 captions" in printed
    assert len(re.findall(r"among the first \d: [\d.]+%", printed)) == 2


def test_quantised_embeddings_are_measured(minilm_path, tmp_path):
    del minilm_path
    program = str(EXAMPLES / "embedding_quantization" / "quantization_demo.py")
    printed = run(program, "--repeats", "1", folder=tmp_path)
    kept = dict(re.findall(r"^\| ([^|]+?) \|.* ([\d.]+) % \|", printed, re.M))
    assert len(kept) == 7
    assert float(kept["int8"]) >= 99
    assert float(kept["binary, rescored"]) >= 95
    assert "| binary | 48 |" in printed


def test_candidates_are_re_ranked(minilm_path, tmp_path):
    del minilm_path
    reranker = str(tiny_classifier("bert", tmp_path / "reranker", 1))
    program = str(EXAMPLES / "retrieve_rerank" / "retrieve_and_rerank.py")
    printed = run(program, "--reranker", reranker, "--limit", "20", "--candidates", "5", folder=tmp_path)
    assert "examples/data: 20 queries, 480 documents" in printed
    found = dict(re.findall(r"nDCG@10 ([a-z-]+): ([\d.]+)", printed))
    # A ranker that was never trained puts good candidates out of order.
    assert float(found["retrieved"]) > float(found["re-ranked"]) > 0


def test_every_example_is_in_the_table():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    programs = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert len(programs) > 10
    assert not {program for program in programs if f"`{program}`" not in table}
