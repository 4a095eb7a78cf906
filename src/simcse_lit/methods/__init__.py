"""Successors of SimCSE: a file each, with its `conf/loss/NAME.yaml`. Nothing else imports from here."""
