"""The use cases: what vodsync does, without Celery, Starlette, SQL or environment variables."""
