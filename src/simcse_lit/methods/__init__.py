"""Successors of SimCSE, one file each, with an option `conf/loss/NAME.yaml`. No other package imports from here."""
