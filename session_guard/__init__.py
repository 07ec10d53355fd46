"""session-guard keeps SQLAlchemy async sessions behind a connection pooler to one standard."""

__version__ = "0.1.0"
