"""How a job becomes processes: one a job of a multirun, one a device. Imports nothing heavier than Hydra."""
