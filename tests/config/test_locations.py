"""What a location is, by its form alone: a path, a file of the Hub, another URL, or a sentence."""

import pytest

from simcse_lit.cli.tasks import asks_hub
from simcse_lit.config.network import needs_hub
from simcse_lit.config.resolvers import is_hub, is_remote, means_file, suffixes
from tests.conftest import evaluate_config


@pytest.mark.parametrize(
    ("location", "remote", "on_hub"),
    [
        ("hf://datasets/some/texts/a.txt", True, True),
        ("s3://bucket/a.csv", True, False),
        ("https://example.com/a.csv", True, False),
        ("zip://a.csv::https://example.com/a.zip", True, False),
        ("pkg://simcse_lit/a.txt", False, False),
        ("a.txt", False, False),
        ("/a/b.txt", False, False),
        ("./odd:name.txt", False, False),
        ("folder/hf://a.txt", False, False),
    ],
)
def test_a_location_is_remote_by_its_scheme(location: str, remote: bool, on_hub: bool) -> None:
    assert (is_remote(location), is_hub(location), needs_hub([], [location])) == (remote, on_hub, on_hub)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("a.txt", (".txt", "")),
        ("/folder.d/a.b.csv.gz", (".csv", ".gz")),
        ("s3://bucket/a.jsonl.zst", (".jsonl", ".zst")),
        ("https://example.com/a.csv?signed=x/y.z", (".csv", "")),
        ("zip://a.tsv::https://example.com/a.zip", (".tsv", "")),
        ("what?.csv", (".csv", "")),
        ("plain", ("", "")),
        ("a.gz", ("", ".gz")),
    ],
)
def test_the_format_of_a_file_and_its_compression_stand_in_its_name(location: str, expected: tuple[str, str]) -> None:
    assert suffixes(location) == expected


def test_a_sentence_that_holds_a_url_is_no_file() -> None:
    assert means_file("https://example.com/a.txt") and means_file("s3://bucket/a.txt")
    assert not means_file("https://example.com is a page.")
    assert not means_file("See https://example.com")


def test_an_evaluation_that_fits_on_text_of_the_hub_needs_it() -> None:
    here = ("checkpoint=./here", "senteval.from_hub=false", "postprocess=center")
    assert asks_hub("evaluate", evaluate_config(*here, "postprocess.fit_on=hf://datasets/some/texts/a.txt"))
    assert not asks_hub("evaluate", evaluate_config(*here, "postprocess.fit_on=s3://bucket/a.txt"))
