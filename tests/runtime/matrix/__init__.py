"""Every version of asyncpg and SQLAlchemy behind every pooler, with every way to set an engine up.

`scripts/matrix` runs all of it and writes `docs/compatibility.md`; `test_matrix.py` runs a part.
"""
