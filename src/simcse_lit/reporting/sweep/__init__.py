"""A sweep: its runs, their comparison, tables, figures and page."""
