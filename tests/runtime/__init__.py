"""Tests of the reference handler against a real PostgreSQL and a real PgBouncer."""
