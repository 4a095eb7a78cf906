"""Tables of scores: tasks in the paper's order, each family under its metric, any text escaped."""

from simcse_lit.tables import by_family, latex_table, markdown_table, score_cells, score_table

ROWS = [
    ("before", {"own": 1.0, "SICK-R": 3.0, "STS12": 2.0}),
    ("after", {"STS12": 4.0, "MR": 80.125, "Avg. transfer": 81.0}),
]


def test_cells_have_the_papers_order_two_decimals_and_blanks() -> None:
    assert score_cells(ROWS, "encoder") == [
        ["encoder", "STS12", "SICK-R", "MR", "Avg. transfer", "own"],
        ["before", "2.00", "3.00", "", "", "1.00"],
        ["after", "4.00", "", "80.12", "81.00", ""],
    ]


def test_text_has_sts_transfer_and_others_below_each_other() -> None:
    assert score_table(ROWS).split("\n\n") == [
        "         STS12  SICK-R\nbefore    2.00    3.00\nafter     4.00",
        "            MR    Avg.\nafter    80.12   81.00",
        "           own\nbefore    1.00",
    ]


def test_a_family_is_what_the_task_says_or_the_paper() -> None:
    assert by_family(ROWS, {"own": "transfer"}) == {
        "sts": [("before", {"SICK-R": 3.0, "STS12": 2.0}), ("after", {"STS12": 4.0})],
        "transfer": [("before", {"own": 1.0}), ("after", {"MR": 80.125, "Avg. transfer": 81.0})],
    }
    assert list(by_family(ROWS, {})) == ["sts", "transfer", "other"]
    assert list(by_family(ROWS, {"own": "retrieval"})) == ["sts", "transfer", "retrieval"]


def test_heads_and_cells_are_escaped() -> None:
    table = [["my_key", "p"], ["a|b", "<0.001 ± 50 %"]]
    assert markdown_table(table) == "| my\\_key | p |\n|---|---|\n| a\\|b | &lt;0.001 ± 50 % |"
    assert latex_table(table).splitlines() == [
        "\\begin{tabular}{lc}",
        "my\\_key & p \\\\",
        "\\hline",
        "a|b & $<$0.001 $\\pm$ 50 \\% \\\\",
        "\\end{tabular}",
    ]
