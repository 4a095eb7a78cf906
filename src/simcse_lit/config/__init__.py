"""The typed schema of `conf/`, its resolvers, and validation with messages. Imports nothing heavier than OmegaConf."""
