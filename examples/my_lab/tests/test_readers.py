"""Rows and bad rows of a .lab file, with their lines."""

from pathlib import Path

from my_lab.readers import read

from simcse_lit.text.rows import BadRow


def test_rows_and_a_bad_row(tmp_path: Path) -> None:
    file = tmp_path / "corpus.lab"
    file.write_text("text: It rains.\nlabel: weather\n\nno colon\n\ntext: It snows.\n", encoding="utf-8")
    (first, fields), (second, bad), (third, _) = read(str(file))
    assert (first, second, third) == (1, 4, 6)
    assert fields == {"text": "It rains.", "label": "weather"}
    assert isinstance(bad, BadRow)
    assert next(read(f"lab://{file}")) == (first, fields)
