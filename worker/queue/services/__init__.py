"""Services that run on threads of their own beside the Celery pool, in each worker."""
