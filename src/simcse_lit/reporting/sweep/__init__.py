"""The report of a sweep: its runs are read and compared, and written as tables, figures and a page."""
