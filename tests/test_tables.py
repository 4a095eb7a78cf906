"""Tables of scores: tasks in the paper's order, each family under its metric, any text escaped."""

from simcse_lit.families import STS, TRANSFER, Family
from simcse_lit.tables import OTHER, by_family, latex_table, markdown_table, score_cells, score_table

ROWS = [
    ("before", {"own": 1.0, "SICK-R": 3.0, "STS12": 2.0}),
    ("after", {"STS12": 4.0, "MR": 80.125, "Avg. transfer": 81.0}),
]


def test_cells_have_the_papers_order_two_decimals_and_blanks() -> None:
    assert score_cells(ROWS, {}, "encoder") == [
        ["encoder", "STS12", "SICK-R", "MR", "Avg. transfer", "own"],
        ["before", "2.00", "3.00", "", "", "1.00"],
        ["after", "4.00", "", "80.12", "81.00", ""],
    ]


def test_text_has_sts_transfer_and_others_below_each_other() -> None:
    assert score_table(ROWS, {}).split("\n\n") == [
        "         STS12  SICK-R\nbefore    2.00    3.00\nafter     4.00",
        "            MR    Avg.\nafter    80.12   81.00",
        "           own\nbefore    1.00",
    ]


def test_a_family_is_what_the_task_says_or_the_paper() -> None:
    assert by_family(ROWS, {"own": TRANSFER}) == {
        STS: [("before", {"SICK-R": 3.0, "STS12": 2.0}), ("after", {"STS12": 4.0})],
        TRANSFER: [("before", {"own": 1.0}), ("after", {"MR": 80.125, "Avg. transfer": 81.0})],
    }
    assert list(by_family(ROWS, {})) == [STS, TRANSFER, OTHER]
    retrieval = Family("retrieval", "nDCG@10 x 100")
    assert list(by_family(ROWS, {"own": retrieval})) == [STS, TRANSFER, retrieval]


def test_a_family_of_ones_own_has_its_tasks_by_name_and_then_its_average() -> None:
    retrieval = Family("retrieval", "nDCG@10 x 100", average="Avg. retrieval")
    families = dict.fromkeys(("sought", "found"), retrieval)
    rows = [("mine", {"Avg. retrieval": 4.0, "sought": 5.0, "found": 3.0, "Avg.": 7.0, "STS12": 7.0})]
    assert score_cells(rows, families)[0] == ["", "STS12", "Avg.", "found", "sought", "Avg. retrieval"]
    assert score_table(rows, families).split("\n\n") == [
        "       STS12    Avg.\nmine    7.00    7.00",
        "       found  sought    Avg.\nmine    3.00    5.00    4.00",
    ]
    listed = Family("retrieval", "nDCG@10 x 100", average="Avg. retrieval", columns=("sought", "Avg. retrieval"))
    assert score_cells(rows, dict.fromkeys(families, listed))[0][3:] == ["sought", "Avg. retrieval", "found"]


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
