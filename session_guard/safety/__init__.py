"""Whether a session that is opened elsewhere can come from the handler, and behave the same."""
