"""Turns a job into processes: one for each job of a multirun, one for each device. Imports nothing heavier than Hydra."""
