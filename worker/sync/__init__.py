"""What vodsync does, without Celery, Starlette or environment: it reads like the specification."""
